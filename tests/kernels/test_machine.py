"""What is measured of the machine: every documented number, once more at each call, and what costs make of it."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
import sparsify_kernels
from sparsify_kernels import native
from sparsify_kernels.packing import PRECISIONS, Pattern, Precision, pack

try:
    native.library_path()
except native.KernelError as error:
    pytest.skip(str(error), allow_module_level=True)

ANYWHERE = {"fma_gflops", "read_l1_gb_s", "read_l2_gb_s", "read_beyond_l2_gb_s", "stream_gb_s"}
WITH_TILES = {"tile_product_ns", "tile_step_ns"}
AMX = "amx-int8" in native.describe_cpu()


def test_every_documented_number_is_there_positive_and_finite() -> None:
    measured = sparsify_kernels.machine()
    assert set(measured) == (ANYWHERE | WITH_TILES if AMX else ANYWHERE)
    assert all(math.isfinite(speed) and speed > 0 for speed in measured.values()), measured
    documented = sparsify_kernels.machine.__doc__ or ""
    assert all(f"`{name}`" in documented for name in ANYWHERE | WITH_TILES)


@pytest.mark.skipif(not AMX, reason="no AMX")
def test_a_step_takes_longer_than_its_products_could() -> None:
    """Four products, of which a processor does one at a time, and what they read: half of that is left for noise.

    Tiles may be multiplied at one of two speeds, four times apart, and the speed change between the two measurements.
    """
    measured = [sparsify_kernels.machine() for _ in range(5)]
    assert any(one["tile_step_ns"] > 4 * one["tile_product_ns"] / 2 for one in measured), measured


def test_each_call_measures_anew() -> None:
    assert sparsify_kernels.machine() != sparsify_kernels.machine()


@pytest.mark.parametrize("most", ["portable", "avx2", "avx512"])
def test_what_may_not_be_used_is_not_measured(most: str) -> None:
    program = "import sparsify_kernels; print(*sparsify_kernels.machine())"
    environment = os.environ | {"SPARSIFY_KERNELS_ISA": most}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (set(ran.stdout.split()), ran.returncode) == (ANYWHERE, 0), ran.stderr


def test_a_null_pointer_is_an_error_that_says_so() -> None:
    assert native.library().sk_measure_machine(None) != 0
    with pytest.raises(ValueError, match="the machine is a null pointer"):
        native.raise_last_error()


@pytest.mark.parametrize(
    ("precision", "pattern"), [*((p, "unstructured") for p in PRECISIONS), ("i8", "rows_16"), ("i8", "rows_32")]
)
def test_more_work_costs_more(precision: Precision, pattern: Pattern) -> None:
    """Doubling tokens, rows or columns never makes a layer cheaper, and doubling all three makes it dearer."""

    def costs(rows: int, columns: int, n: int) -> dict[str, float]:
        weight = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
        weight[:, ::2] = 0
        return native.linear_costs(pack(weight, precision=precision, pattern=pattern), n=n)

    base, every = costs(64, 128, 64), costs(128, 256, 128)
    for more in (costs(128, 128, 64), costs(64, 256, 64), costs(64, 128, 128)):
        assert all(more[name] >= base[name] for name in base)
    assert all(every[name] > 2 * base[name] for name in base)
