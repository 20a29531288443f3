"""The kernel that multiplies and adds up in half precision, against float64.

The bound, of native/f16_spmm.h: with u = 2^-11 and m nonzeros in a row, (m + 2) u / (1 - (m + 2) u) of the sum of the
products' magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and, of what becomes
subnormal once scaled, (2^-28 + 2^-34 m) of the row's sum |w| times the position's largest |x|; then the fp32 sums,
the activation and its own error as in test_f32.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

native = pytest.importorskip("sparsify_kernels.native", reason="sparsify-kernels is not on the path")
KERNEL = "f16-avx512"

from sparse_graphs import activated  # noqa: E402
from sparsify_kernels.convolution import SparseConv  # noqa: E402
from sparsify_kernels.linear import SparseLinear  # noqa: E402
from sparsify_kernels.packing import pack, unpack  # noqa: E402

try:
    HERE = native.linear_costs(pack(np.ones((1, 1), np.float32), precision="f16"), n=1)
except native.KernelError as missing:
    pytest.skip(f"the kernels are not built: {missing}", allow_module_level=True)
if KERNEL not in HERE:
    pytest.skip("this processor has no AVX512-FP16", allow_module_level=True)

ACTIVATIONS = get_args(native.Activation)
LARGEST_HALF, LARGEST_FLOAT = 65504.0, float(np.finfo(np.float32).max)


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def sparse(rng: np.random.Generator, rows: int, columns: int, sparsity: float) -> np.ndarray:
    w = floats(rng, rows, columns)
    w[rng.random(w.shape) < sparsity] = 0
    return w


def product_bound(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of x [n, columns] times w [rows, columns] transposed, both float64: [n, rows]."""
    w, x = abs(w), abs(x)
    nonzeros = np.count_nonzero(w, axis=1)
    rounded = (nonzeros + 2) * 2.0**-11
    gamma = np.where(rounded < 1, rounded / np.maximum(1 - rounded, 2.0**-11), np.inf)
    subnormal = (2.0**-28 + 2.0**-34 * nonzeros) * w.sum(1) * x.max(1, keepdims=True)
    return gamma * (x @ w.T) + subnormal + 2.0**-147


@dataclass(frozen=True)
class Linear:
    rows: int
    columns: int
    n: int
    sparsity: float
    exponents: tuple[int, int, int]
    one_sign: bool
    activation: str
    bias: bool
    residual: bool
    expected_n: int
    threads: int
    seed: int


LINEARS = st.builds(
    Linear,
    rows=st.integers(1, 100),
    columns=st.one_of(st.integers(1, 40), st.integers(100, 900)),
    n=st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 129, 200, 300])),
    sparsity=st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.97, 1.0]),
    # Powers of two by which tokens, columns and the weights of rows lie apart.
    exponents=st.tuples(st.integers(0, 110), st.integers(0, 40), st.integers(0, 13)),
    one_sign=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
    bias=st.booleans(),
    residual=st.booleans(),
    expected_n=st.sampled_from([0, 1, 128]),
    threads=st.sampled_from([1, 1, 2, 3]),
    seed=st.integers(0, 2**32 - 1),
)


def spread(rng: np.random.Generator, count: int, exponent: int) -> np.ndarray:
    return 2.0 ** rng.integers(-exponent, exponent, count, endpoint=True)


@settings(max_examples=200, deadline=None)
@given(case=LINEARS)
@example(case=Linear(1, 1, 1, 0.0, (0, 0, 0), False, "none", False, False, 1, 1, 0))
@example(case=Linear(70, 900, 130, 0.0, (0, 0, 0), True, "none", True, True, 0, 1, 0))
@example(case=Linear(40, 900, 33, 0.9, (110, 40, 13), False, "gelu", True, True, 0, 1, 0))
def test_linear(case: Linear) -> None:
    rng = np.random.default_rng(case.seed)
    w, x = sparse(rng, case.rows, case.columns, case.sparsity), floats(rng, case.n, case.columns)
    if case.one_sign:
        w, x = abs(w), abs(x)
    tokens, columns, rows = case.exponents
    w *= spread(rng, case.rows, rows)[:, None].astype(np.float32)
    x = (x * spread(rng, case.n, tokens)[:, None] * spread(rng, case.columns, columns)).clip(-1e38, 1e38)
    x = np.where(tokens or columns, x * 1e-10, x).astype(np.float32)
    bias = floats(rng, case.rows) if case.bias else None
    residual = floats(rng, case.n, case.rows) if case.residual else None
    layer = SparseLinear(
        w,
        bias=bias,
        activation=case.activation,
        precision="f16",
        kernel=KERNEL,
        expected_n=case.expected_n,
        threads=case.threads,
    )
    held, exact = unpack(layer.packed).astype(np.float64), x.astype(np.float64)
    product, magnitude = exact @ held.T, abs(exact) @ abs(held).T
    for term in (bias, residual):
        if term is not None:
            product, magnitude = product + term, magnitude + abs(term)
    with np.errstate(over="ignore"):
        want = activated(case.activation, product)
    bound = 1.5 * (product_bound(held, exact) + (case.columns + 4) * 2.0**-24 * magnitude)
    inside = magnitude < 1e12  # past that a polynomial's cube may leave fp32, as in every kernel
    got = layer(x, residual)
    assert np.isfinite(got[magnitude < LARGEST_FLOAT / 2]).all() or case.activation != "none"
    assert (abs(got - want) <= bound + 1.2e-6 * (case.activation != "none") + 4e-7 * abs(want))[inside].all()


@dataclass(frozen=True)
class Pointwise:
    batch: int
    rows: int
    channels: int
    size: tuple[int, int]
    sparsity: float
    activation: str
    residual: bool
    know_size: bool
    threads: int
    seed: int


POINTWISE = st.builds(
    Pointwise,
    batch=st.integers(1, 2),
    rows=st.integers(1, 60),
    channels=st.one_of(st.integers(1, 40), st.integers(100, 500)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    sparsity=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    activation=st.sampled_from(ACTIVATIONS),
    residual=st.booleans(),
    know_size=st.booleans(),
    threads=st.sampled_from([1, 1, 2]),
    seed=st.integers(0, 2**32 - 1),
)


@settings(max_examples=100, deadline=None)
@given(case=POINTWISE)
@example(case=Pointwise(1, 20, 500, (30, 30), 0.9, "relu", True, True, 2, 0))
def test_pointwise_convolution(case: Pointwise) -> None:
    rng = np.random.default_rng(case.seed)
    w, bias = sparse(rng, case.rows, case.channels, case.sparsity), floats(rng, case.rows)
    x = floats(rng, case.batch, case.channels, *case.size) * spread(rng, case.size[1], 20).astype(np.float32)
    layer = SparseConv(
        w[:, :, None, None],
        bias=bias,
        activation=case.activation,
        precision="f16",
        kernel=KERNEL,
        expected_size=case.size if case.know_size else (0, 0),
        threads=case.threads,
    )
    held = unpack(layer.packed).astype(np.float64)
    residual = floats(rng, case.batch, case.rows, *case.size) if case.residual else None
    got = layer(x, residual)
    for image in range(case.batch):
        exact = x[image].reshape(case.channels, -1).T.astype(np.float64)
        product, magnitude = exact @ held.T + bias, abs(exact) @ abs(held).T + abs(bias)
        if residual is not None:
            added = residual[image].reshape(case.rows, -1).T
            product, magnitude = product + added, magnitude + abs(added)
        want = activated(case.activation, product)
        bound = 1.5 * (product_bound(held, exact) + (case.channels + 4) * 2.0**-24 * magnitude)
        error = abs(got[image].reshape(case.rows, -1).T - want)
        assert (error <= bound + 1.2e-6 + 4e-7 * abs(want)).all()


@pytest.mark.parametrize("pattern", ["dense", "unstructured", "block_1x4", "rows_16", "rows_32"])
def test_every_pattern(pattern: str) -> None:
    rng = np.random.default_rng(7)
    w, x = sparse(rng, 37, 90, 0.9), floats(rng, 5, 90)
    layer = SparseLinear(w, precision="f16", pattern=pattern, kernel=KERNEL)
    held, exact = unpack(layer.packed).astype(np.float64), x.astype(np.float64)
    assert (abs(layer(x) - exact @ held.T) <= product_bound(held, exact) + 1e-5).all()


@pytest.mark.parametrize(("columns", "sparsity"), [(768, 0.0), (3072, 0.8), (768, 0.9), (3072, 0.97)])
def test_the_error_stays_near_one_rounding_however_many_columns(columns: int, sparsity: float) -> None:
    """A rounding of 11 bits errs by 2^-11 / sqrt(3) at most in RMS, .00028; sums add to it as far as a chunk goes."""
    rng = np.random.default_rng(columns)
    w, x = sparse(rng, 64, columns, sparsity), floats(rng, 96, columns)
    layer = SparseLinear(w, precision="f16", kernel=KERNEL)
    want = x.astype(np.float64) @ unpack(layer.packed).astype(np.float64).T
    assert np.sqrt(((layer(x) - want) ** 2).mean() / (want**2).mean()) < 0.002


@pytest.mark.parametrize("largest", [LARGEST_HALF, 2.0**-24, 1.0])
@pytest.mark.parametrize("x", [2.0**-149, 1e-40, 1.0, LARGEST_HALF, 1e29])
def test_the_largest_and_smallest_numbers_neither_overflow_nor_vanish(largest: float, x: float) -> None:
    """All of one sign, dense, so that every partial sum is as large as can be."""
    w, tokens = np.full((3, 1600), largest, np.float32), np.full((2, 1600), x, np.float32)
    got = SparseLinear(w, precision="f16", kernel=KERNEL)(tokens)
    want = 1600 * largest * float(tokens[0, 0])
    # Each of seventeen chunks is rounded to what fp32 holds.
    assert abs(got - want).max() <= 0.05 * want + 17 * 2.0**-150


def test_every_half_is_multiplied_exactly() -> None:
    """Times one, every number comes back, also where the scale is another in each row."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    numbers = numbers[np.isfinite(numbers)][:, None]
    for x in (1.0, 2.0**-149, 2.0**100):
        layer = SparseLinear(numbers, precision="f16", kernel=KERNEL)
        want = numbers[:, 0] * np.float32(x)
        np.testing.assert_array_equal(layer(np.full((1, 1), x, np.float32))[0], want)


def test_what_is_not_finite_stays_where_the_f32_kernels_leave_it() -> None:
    rng = np.random.default_rng(1)
    w, x = sparse(rng, 50, 800, 0.9), floats(rng, 70, 800)
    w[:, 2] = 0
    clean = SparseLinear(w, precision="f16", kernel=KERNEL)(x)
    x[3, 5], x[4, 6], x[4, 7], x[5, 1], x[40, 2], x[41] = np.inf, np.inf, -np.inf, np.nan, np.inf, np.nan
    got, wide = (SparseLinear(w, precision="f16", kernel=kernel)(x) for kernel in (KERNEL, "f32-portable"))
    assert not np.isfinite(got).all()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wide))
    np.testing.assert_array_equal(np.isposinf(got), np.isposinf(wide))
    np.testing.assert_array_equal(np.isneginf(got), np.isneginf(wide))
    others = np.setdiff1d(np.arange(70), [3, 4, 5, 40, 41])
    assert (got[others] == clean[others]).all()
    finite = np.isfinite(wide)
    np.testing.assert_allclose(got[finite], wide[finite], rtol=0, atol=0.1)
    image = [
        SparseConv(w[:, :, None, None], precision="f16", kernel=kernel)(x.T.reshape(1, 800, 7, 10))
        for kernel in (KERNEL, "f32-portable")
    ]
    np.testing.assert_array_equal(np.isnan(image[0]), np.isnan(image[1]))
    np.testing.assert_array_equal(np.isinf(image[0]), np.isinf(image[1]))


def test_a_sum_that_no_float_holds_is_infinite() -> None:
    w, x = np.full((1, 64), 4096, np.float32), np.full((2, 64), 2.0**120, np.float32)
    x[1] *= -1
    np.testing.assert_array_equal(SparseLinear(w, precision="f16", kernel=KERNEL)(x), [[np.inf], [-np.inf]])


def test_how_a_layer_is_cut_does_not_change_bits() -> None:
    """Nor do tokens beside each other: each has a scale of its own."""
    rng = np.random.default_rng(5)
    w, image, tokens = sparse(rng, 70, 888, 0.8), floats(rng, 2, 888, 13, 29), floats(rng, 75, 888)
    made = [
        SparseLinear(w, activation="gelu", precision="f16", kernel=KERNEL, expected_n=n, threads=t)
        for n in (1, 5, 40, 400, 4000)
        for t in (1, 2, 7)
    ]
    assert len({layer(tokens).tobytes() for layer in made}) == 1
    assert made[0](tokens[:1]).tobytes() == made[0](tokens)[:1].tobytes()
    sizes = ((3, 3), (13, 29), (200, 200))
    images = [
        SparseConv(w[:, :, None, None], precision="f16", kernel=KERNEL, expected_size=s, threads=t)
        for s in sizes
        for t in (1, 5)
    ]
    assert len({layer(image).tobytes() for layer in images}) == 1


def test_it_serves_f16_and_no_images_and_auto_takes_it_where_there_are_many_tokens() -> None:
    rng = np.random.default_rng(6)
    w = sparse(rng, 768, 768, 0.9)
    for precision in ("f32", "bf16", "i8"):
        assert KERNEL not in native.linear_costs(pack(w, precision=precision), n=128)
    half = pack(w, precision="f16")
    costs = native.linear_costs(half, n=128)
    assert costs[KERNEL] < costs["f32-avx512"]
    assert SparseLinear.from_packed(half, expected_n=128).kernel == KERNEL
    assert "gemv" in SparseLinear.from_packed(half, expected_n=1).kernel
    conv = SparseConv(w[:64].reshape(64, -1, 4, 4), precision="f16", kernel="auto", expected_size=(14, 14))
    assert conv.kernel == "f32-avx512"


ONE_LAYER = """
import numpy as np
from sparsify_kernels.linear import SparseLinear
w = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
print(SparseLinear(w, precision="f16", expected_n=128).kernel)
"""


@pytest.mark.parametrize(("limit", "kernel"), [("avx512-fp16", KERNEL), ("avx512-vnni", "f32-avx512")])
def test_the_environment_switches_it_off(limit: str, kernel: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SPARSIFY_KERNELS_ISA": limit}
    done = subprocess.run([sys.executable, "-c", ONE_LAYER], capture_output=True, check=True, env=environment)
    assert done.stdout.decode().strip() == kernel
