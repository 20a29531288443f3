from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsify.errors import CorruptError
from sparsify_export.sparse.parity import TOLERANCES, compare

PATH = Path("g.onnx")


def outputs(*values: float) -> list[dict[str, np.ndarray]]:
    return [{"y": np.array(values, np.float32)}]


def test_errors_are_relative_to_the_largest_output_over_all_runs():
    dense = [*outputs(100.0, 1.0), *outputs(1.0, 1.0)]
    sparse = [*outputs(100.0, 1.0), *outputs(1.0, 1.001)]
    (found,) = compare(PATH, dense, sparse, "f32", "made up").outputs
    assert found.largest == pytest.approx(1e-5, rel=1e-3)
    assert found.rms == pytest.approx(0.001 / np.sqrt(100**2 + 3), rel=1e-3)


def test_a_mask_of_minus_infinity_passes_through():
    dense = outputs(1.0, -np.inf)
    assert compare(PATH, dense, dense, "f32", "made up").outputs[0].largest == 0


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    "got",
    [(1.0, 1.2), (1.0, np.nan), (np.nan, 1.0), (1.0, np.inf)],
    ids=["too far", "NaN", "NaN first", "infinite"],
)
def test_what_differs_is_corrupt(precision: str, got: tuple[float, float]):
    with pytest.raises(
        CorruptError, match=r"g.onnx: output 'y': expected the sparse graph within .* it is not written"
    ):
        compare(PATH, outputs(1.0, 1.0), outputs(*got), precision, "made up")


def test_a_run_that_fails_is_not_hidden_by_one_that_does_not():
    with pytest.raises(CorruptError, match="got nan"):
        compare(PATH, [*outputs(1.0), *outputs(1.0)], [*outputs(np.nan), *outputs(1.0)], "f32", "made up")


def test_another_shape_is_corrupt():
    with pytest.raises(
        CorruptError, match=r"expected float32 of shape \(2,\) from the sparse graph, got float32 of \(1,\)"
    ):
        compare(PATH, outputs(1.0, 2.0), outputs(1.0), "f32", "made up")


def test_an_output_of_zeros_admits_no_error():
    assert compare(PATH, outputs(0.0), outputs(0.0), "f32", "made up").outputs[0].largest == 0
    with pytest.raises(CorruptError, match="got inf"):
        compare(PATH, outputs(0.0), outputs(1e-30), "f32", "made up")
