from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from small_graphs import write_identity
from sparsify.errors import UsageError
from sparsify_export.feed import make_feed, shapes_for

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.mark.parametrize(
    ("shape", "batch", "given", "expected"),
    [
        (["n", 3], None, None, (1, 3)),
        (["n", 3], 8, None, (8, 3)),
        ([4, 3], None, None, (4, 3)),
        ([4, 3], 4, None, (4, 3)),
        (["n", "h"], None, (2, 5), (2, 5)),
        (["n", "h"], 8, (2, 5), (8, 5)),
        ([None, None], 8, (2, 5), (8, 5)),
        ([], 8, None, ()),
    ],
)
def test_shapes_come_from_graph_batch_and_flag(tmp_path: Path, shape, batch, given, expected):
    path = write_identity(tmp_path / "g.onnx", {"x": (FLOAT, shape)})
    _, shapes = shapes_for([path], batch, {} if given is None else {"x": given})
    assert shapes == {"x": expected}


@pytest.mark.parametrize(
    ("shape", "batch", "given", "message"),
    [
        (["n", "h"], 1, {}, r"'x': axis 1 \(h\) has no size; give --shape x=NxN"),
        ([4, 3], 8, {}, "--batch 8: .* fixes the first axis of x at 4"),
        (["n", 3], 1, {"x": (1, 3, 1)}, "--shape x=1x3x1: expected 2 axes"),
        (["n", 3], 1, {"x": (1, 4)}, "--shape x: axis 1: expected 3"),
        (["n", 3], 1, {"y": (1, 3)}, r"--shape y=...: expected an input of .*g.onnx \(x\), got 'y'"),
    ],
)
def test_shapes_that_do_not_fit_name_input_and_flag(tmp_path: Path, shape, batch, given, message):
    path = write_identity(tmp_path / "g.onnx", {"x": (FLOAT, shape)})
    with pytest.raises(UsageError, match=message):
        shapes_for([path], batch, given)


@pytest.mark.parametrize(
    "other",
    [{"z": (FLOAT, ["n", 3])}, {"x": (INT64, ["n", 3])}, {"x": (FLOAT, ["n", 4])}, {"x": (FLOAT, ["n"])}],
    ids=["name", "type", "size", "rank"],
)
def test_networks_that_are_fed_differently_are_not_compared(tmp_path: Path, other):
    a = write_identity(tmp_path / "a.onnx", {"x": (FLOAT, ["n", 3])})
    b = write_identity(tmp_path / "b.onnx", other)
    with pytest.raises(UsageError, match="only networks fed alike can be compared"):
        shapes_for([a, b], None, {})


def test_a_fixed_batch_beside_a_dynamic_one_is_the_same_input(tmp_path: Path):
    a = write_identity(tmp_path / "a.onnx", {"x": (FLOAT, ["n", 3])})
    b = write_identity(tmp_path / "b.onnx", {"x": (FLOAT, [8, 3])})
    assert shapes_for([a, b], 8, {})[1] == {"x": (8, 3)}
    with pytest.raises(UsageError, match="fed alike"):
        shapes_for([a, b], 4, {})


def test_values_are_valid_whatever_they_mean_and_the_same_for_a_seed(tmp_path: Path):
    kinds = {"f": FLOAT, "h": TensorProto.FLOAT16, "i": INT64, "u": TensorProto.UINT8, "b": TensorProto.BOOL}
    path = write_identity(tmp_path / "g.onnx", {name: (kind, ["n", 50]) for name, kind in kinds.items()})
    inputs, shapes = shapes_for([path], 2, {})
    feed = make_feed(inputs, shapes, seed=3)
    assert {name: values.dtype for name, values in feed.items()} == {source.name: source.dtype for source in inputs}
    assert all(values.shape == (2, 50) for values in feed.values())
    for name in ("i", "u", "b"):
        assert set(np.unique(feed[name]).tolist()) == {0, 1}
    assert np.abs(feed["f"]).max() > 1
    again = make_feed(inputs, shapes, seed=3)
    assert all(np.array_equal(feed[name], again[name]) for name in feed)
    assert not np.array_equal(feed["f"], make_feed(inputs, shapes, seed=4)["f"])


def test_a_scalar_input_is_an_array(tmp_path: Path):
    inputs, shapes = shapes_for([write_identity(tmp_path / "g.onnx", {"s": (FLOAT, [])})], None, {})
    assert make_feed(inputs, shapes, 0)["s"].shape == ()
