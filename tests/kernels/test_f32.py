"""Float kernels of every instruction set that this machine has, against float64.

The bound: a sum of K products in any order errs by at most (K + 4) 2^-24 of the sum of their magnitudes (Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1); no activation is steeper than 1.5, and its own error is
at most 1.2e-6 + 4e-7 |y| (native/epilogue_loops.h).
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

native = pytest.importorskip("sparsify_kernels.native", reason="sparsify-kernels is not on the path")
try:
    KERNELS = [name for name in native.kernel_names() if name.startswith("f32-")]
except native.KernelError as missing:
    pytest.skip(f"the kernels are not built: {missing}", allow_module_level=True)

from sparse_graphs import activated  # noqa: E402
from sparsify_kernels.convolution import SparseConv  # noqa: E402
from sparsify_kernels.linear import SparseLinear  # noqa: E402
from sparsify_kernels.packing import pack, unpack  # noqa: E402

ONE = pack(np.ones((1, 1), np.float32))
HERE = sorted(set(native.linear_costs(ONE, n=1)) & set(KERNELS))
ANY_LAYOUT = [name for name in HERE if "gemv" not in name]
PLANES = native.Geometry((3, 3), groups=2)
DEPTHWISE = sorted(
    set(native.convolution_costs(pack(np.ones((2, 9), np.float32)), PLANES, height=9, width=9)) - set(ANY_LAYOUT)
)
ACTIVATIONS = get_args(native.Activation)
SPARSITIES = [0.0, 0.5, 0.8, 0.9, 0.97, 1.0]
FLOATS = ["f32", "f16", "bf16"]


def weights(rng: np.random.Generator, rows: int, columns: int, sparsity: float, empty_rows: bool) -> np.ndarray:
    w = rng.standard_normal((rows, columns)).astype(np.float32)
    w[rng.random(w.shape) < sparsity] = 0
    if empty_rows:
        w[rng.random(rows) < 0.5] = 0
    return w


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def product_bound(magnitude: np.ndarray, columns: int, want: np.ndarray) -> np.ndarray:
    return 1.5 * (columns + 4) * 2.0**-24 * magnitude + 1.2e-6 + 4e-7 * abs(want)


@dataclass(frozen=True)
class Linear:
    rows: int
    columns: int
    n: int
    sparsity: float
    precision: str
    activation: str
    bias: bool
    residual: bool
    empty_rows: bool
    expected_n: int
    threads: int
    seed: int


LINEARS = st.builds(
    Linear,
    rows=st.integers(1, 150),
    columns=st.one_of(st.integers(1, 40), st.integers(100, 700)),
    n=st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 128, 129, 200])),
    sparsity=st.sampled_from(SPARSITIES),
    precision=st.sampled_from(FLOATS),
    activation=st.sampled_from(ACTIVATIONS),
    bias=st.booleans(),
    residual=st.booleans(),
    empty_rows=st.booleans(),
    expected_n=st.sampled_from([0, 1, 128]),
    threads=st.sampled_from([1, 1, 2, 3]),
    seed=st.integers(0, 2**32 - 1),
)


@pytest.mark.parametrize("kernel", HERE)
@settings(max_examples=100, deadline=None)
@given(case=LINEARS)
@example(case=Linear(1, 1, 1, 0.0, "f32", "none", False, False, False, 1, 1, 0))
@example(case=Linear(70, 700, 1, 1.0, "f16", "gelu", True, True, False, 1, 1, 0))
@example(case=Linear(33, 700, 1, 0.0, "bf16", "none", False, False, False, 1, 1, 0))
@example(case=Linear(2000, 1500, 300, 0.97, "f32", "relu", True, False, True, 0, 2, 0))
def test_linear(kernel: str, case: Linear) -> None:
    rng = np.random.default_rng(case.seed)
    w, x = weights(rng, case.rows, case.columns, case.sparsity, case.empty_rows), floats(rng, case.n, case.columns)
    bias = floats(rng, case.rows) if case.bias else None
    residual = floats(rng, case.n, case.rows) if case.residual else None
    expected_n = 1 if "gemv" in kernel else case.expected_n
    layer = SparseLinear(
        w,
        bias=bias,
        activation=case.activation,
        precision=case.precision,
        kernel=kernel,
        expected_n=expected_n,
        threads=case.threads,
    )
    got, w = layer(x, residual), unpack(layer.packed)
    product, magnitude = x.astype(np.float64) @ w.T.astype(np.float64), abs(x).astype(np.float64) @ abs(w).T
    for term in (bias, residual):
        if term is not None:
            product, magnitude = product + term, magnitude + abs(term)
    want = activated(case.activation, product)
    assert (abs(got - want) <= product_bound(magnitude, case.columns, want)).all()


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize(("rows", "n"), [(1, 3), (17, 1), (768, 33), (96, 130)])
def test_norm(kernel: str, rows: int, n: int) -> None:
    rng = np.random.default_rng(rows)
    w, x, residual = weights(rng, rows, 64, 0.8, False), floats(rng, n, 64), floats(rng, n, rows) + 100
    scale, offset = floats(rng, rows), floats(rng, rows)
    layer = SparseLinear(w, norm=(scale, offset, 1e-5), kernel=kernel, expected_n=1, threads=2)
    y = x.astype(np.float64) @ w.T.astype(np.float64) + residual
    spread = np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    want = (y - y.mean(-1, keepdims=True)) / spread * scale + offset
    # Values near 100 carry 100 * 2^-24 * a few; it is divided by the spread and scaled.
    error = 100 * 8 * 2.0**-24 / spread * (1 + abs(want)) * (1 + abs(scale))
    assert (abs(layer(x, residual) - want) <= error + 1e-5).all()


@dataclass(frozen=True)
class Conv:
    groups: int
    group_rows: int
    group_channels: int
    size: tuple[int, int]
    kernel_shape: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    batch: int
    sparsity: float
    precision: str
    activation: str
    residual: bool
    know_size: bool
    threads: int
    seed: int

    @property
    def padded(self) -> tuple[int, int]:
        return self.size[0] + self.pads[0] + self.pads[2], self.size[1] + self.pads[1] + self.pads[3]

    @property
    def reach(self) -> tuple[int, int]:
        (ky, kx), (dy, dx) = self.kernel_shape, self.dilations
        return (ky - 1) * dy + 1, (kx - 1) * dx + 1


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def convolutions(**geometry: st.SearchStrategy[Any]) -> st.SearchStrategy[Conv]:
    """Those whose kernel fits into the padded image."""
    return st.builds(
        Conv,
        batch=st.integers(1, 2),
        precision=st.sampled_from(FLOATS),
        activation=st.sampled_from(ACTIVATIONS),
        residual=st.booleans(),
        know_size=st.booleans(),
        threads=st.sampled_from([1, 1, 2]),
        seed=st.integers(0, 2**32 - 1),
        **geometry,
    ).filter(lambda case: case.padded[0] >= case.reach[0] and case.padded[1] >= case.reach[1])


CONVS = convolutions(
    groups=st.sampled_from([1, 1, 2, 3]),
    group_rows=st.integers(1, 40),
    group_channels=st.integers(1, 12),
    size=st.tuples(st.integers(1, 30), st.integers(1, 70)),
    kernel_shape=st.one_of(st.just((3, 3)), pairs(1, 4)),
    strides=st.one_of(st.just((1, 1)), pairs(1, 3)),
    dilations=st.one_of(st.just((1, 1)), pairs(1, 3)),
    pads=st.one_of(st.just((1, 1, 1, 1)), st.tuples(*[st.integers(0, 3)] * 4)),
    sparsity=st.sampled_from(SPARSITIES),
)


def convolved(x: np.ndarray, w: np.ndarray, case: Conv) -> np.ndarray:
    """[batch, rows, out_height, out_width] in float64, from windows over the padded image."""
    top, left, bottom, right = case.pads
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = sliding_window_view(padded, case.reach, axis=(2, 3))
    windows = windows[:, :, :: case.strides[0], :: case.strides[1], :: case.dilations[0], :: case.dilations[1]]
    pieces = zip(np.split(windows, case.groups, axis=1), np.split(w.astype(np.float64), case.groups), strict=True)
    return np.concatenate([np.einsum("bcyxij,rcij->bryx", part, rows) for part, rows in pieces], axis=1)


@pytest.mark.parametrize("kernel", ANY_LAYOUT)
@settings(max_examples=100, deadline=None)
@given(case=CONVS)
@example(
    case=Conv(1, 64, 16, (28, 28), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 1, 0.9, "f16", "relu", True, True, 1, 0),
)
@example(
    case=Conv(1, 33, 40, (14, 14), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 2, 0.9, "bf16", "silu", True, True, 2, 0),
)
@example(case=Conv(1, 8, 8, (1, 5000), (1, 5), (1, 3), (1, 2), (0, 4, 0, 4), 1, 0.5, "f32", "none", False, True, 1, 0))
@example(case=Conv(1, 20, 300, (56, 56), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1, 0.9, "f32", "relu", True, True, 2, 0))
def test_conv(kernel: str, case: Conv) -> None:
    check_conv(kernel, case)


DEPTHWISE_CONVS = convolutions(
    groups=st.integers(2, 9),
    group_rows=st.sampled_from([1, 1, 1, 2, 3]),
    group_channels=st.just(1),
    size=st.tuples(st.integers(1, 40), st.integers(1, 70)),
    kernel_shape=st.one_of(st.just((3, 3)), st.just((5, 5)), pairs(1, 7)),
    strides=st.one_of(st.just((1, 1)), st.just((2, 2)), st.tuples(st.integers(1, 3), st.integers(1, 2))),
    dilations=st.one_of(st.just((1, 1)), pairs(1, 3)),
    pads=st.one_of(st.just((1, 1, 1, 1)), st.just((2, 2, 2, 2)), st.tuples(*[st.integers(0, 6)] * 4)),
    sparsity=st.sampled_from([0.0, 0.0, 0.5, 1.0]),
)


@pytest.mark.parametrize("kernel", DEPTHWISE)
@settings(max_examples=300, deadline=None)
@given(case=DEPTHWISE_CONVS)
@example(case=Conv(2, 1, 1, (300, 5), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 1, 0.0, "f32", "silu", True, True, 1, 0))
@example(case=Conv(2, 1, 1, (5, 3000), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2), 1, 0.0, "f32", "relu6", True, True, 2, 0))
def test_depthwise(kernel: str, case: Conv) -> None:
    check_conv(kernel, case)


@pytest.mark.parametrize("kernel", DEPTHWISE)
@pytest.mark.parametrize("stride", [1, 2])
def test_threads_do_not_change_a_depthwise_convolutions_bits(kernel: str, stride: int) -> None:
    rng = np.random.default_rng(11)
    w, image = floats(rng, 37, 1, 3, 3), floats(rng, 3, 37, 19, 23)
    made = [
        SparseConv(
            w, pads=(1,) * 4, strides=(stride,) * 2, groups=37, kernel=kernel, expected_size=size, threads=threads
        )
        for size in ((0, 0), (19, 23), (300, 300))
        for threads in (1, 2, 5)
    ]
    assert len({layer(image).tobytes() for layer in made}) == 1


def check_conv(kernel: str, case: Conv) -> None:
    """Against windows over the padded image in float64."""
    rng = np.random.default_rng(case.seed)
    rows, taps = case.groups * case.group_rows, case.kernel_shape[0] * case.kernel_shape[1]
    w = weights(rng, rows, case.group_channels * taps, case.sparsity, empty_rows=True)
    w = w.reshape(rows, case.group_channels, *case.kernel_shape)
    x, bias = floats(rng, case.batch, case.groups * case.group_channels, *case.size), floats(rng, rows)
    layer = SparseConv(
        w,
        strides=case.strides,
        pads=case.pads,
        dilations=case.dilations,
        groups=case.groups,
        bias=bias,
        activation=case.activation,
        precision=case.precision,
        kernel=kernel,
        expected_size=case.size if case.know_size else (0, 0),
        threads=case.threads,
    )
    w = unpack(layer.packed).reshape(w.shape)
    product = convolved(x, w, case) + bias[:, None, None]
    magnitude = convolved(abs(x), abs(w), case) + abs(bias[:, None, None])
    residual = floats(rng, *product.shape) if case.residual else None
    if residual is not None:
        product, magnitude = product + residual, magnitude + abs(residual)
    want = activated(case.activation, product)
    got = layer(x, residual)
    assert got.shape == want.shape
    assert (abs(got - want) <= product_bound(magnitude, case.group_channels * taps, want)).all()


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("pattern", ["dense", "unstructured", "block_1x4", "rows_16", "rows_32"])
@pytest.mark.parametrize("precision", FLOATS)
def test_every_pattern_and_float_precision(kernel: str, pattern: str, precision: str) -> None:
    rng = np.random.default_rng(7)
    w, x = weights(rng, 37, 90, 0.9, True), floats(rng, 5, 90)
    layer = SparseLinear(w, precision=precision, pattern=pattern, kernel=kernel, expected_n=1)
    stored = unpack(layer.packed).astype(np.float64)
    want, magnitude = x @ stored.T, abs(x) @ abs(stored).T
    assert (abs(layer(x) - want) <= product_bound(magnitude, 90, want)).all()


EVERY_HALF = np.arange(1 << 16, dtype=np.uint16)
EVERY_NUMBER = {  # of 16 bits; what is not finite is refused
    "f16": EVERY_HALF.view(np.float16).astype(np.float32),
    "bf16": (EVERY_HALF.astype(np.uint32) << 16).view(np.float32),
}


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("precision", EVERY_NUMBER)
def test_sixteen_bits_are_widened_exactly(kernel: str, precision: str) -> None:
    """Times one, every number comes back with the bits that NumPy widens it to."""
    numbers = EVERY_NUMBER[precision]
    numbers = numbers[np.isfinite(numbers)][:, None]
    layer = SparseLinear(numbers, precision=precision, kernel=kernel, expected_n=1)
    np.testing.assert_array_equal(layer(np.ones((1, 1), np.float32))[0], numbers[:, 0])


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("precision", EVERY_NUMBER)
def test_what_is_stored_in_16_bits_gives_the_bits_of_the_same_weights_in_fp32(kernel: str, precision: str) -> None:
    rng = np.random.default_rng(11)
    for n in (1, 3, 40):
        w, x = weights(rng, 83, 310, 0.85, True), floats(rng, n, 310)
        narrow = SparseLinear(w, precision=precision, kernel=kernel, expected_n=1)
        wide = SparseLinear(unpack(narrow.packed), kernel=kernel, expected_n=1)
        assert narrow(x).tobytes() == wide(x).tobytes()
        assert narrow.packed.size < wide.packed.size


def test_a_16_bit_gemv_holds_less_and_is_expected_to_take_less() -> None:
    """Where weights are read once a call, they stay in 16 bits."""
    rng = np.random.default_rng(12)
    w = weights(rng, 512, 512, 0.9, False)
    blobs = {precision: pack(w, precision=precision) for precision in FLOATS}
    for kernel in set(HERE) - set(ANY_LAYOUT):
        held = {p: SparseLinear.from_packed(b, kernel=kernel, expected_n=1).nbytes - b.size for p, b in blobs.items()}
        assert held["f16"] == held["bf16"] < 0.75 * held["f32"]
        costs = {p: native.linear_costs(b, n=1)[kernel] for p, b in blobs.items()}
        assert costs["f16"] == costs["bf16"] < costs["f32"]


@pytest.mark.parametrize("kernel", HERE)
def test_a_token_that_is_not_finite_stays_alone(kernel: str) -> None:
    rng = np.random.default_rng(1)
    w, x = weights(rng, 50, 80, 0.5, True), floats(rng, 20, 80)
    layer = SparseLinear(w, kernel=kernel, expected_n=1)
    clean = layer(x)
    x[3] = np.nan
    assert (np.delete(layer(x), 3, axis=0) == np.delete(clean, 3, axis=0)).all()


@pytest.mark.parametrize("kernel", HERE)
def test_threads_share_the_work(kernel: str) -> None:
    rng = np.random.default_rng(2)
    w, x = weights(rng, 300, 500, 0.9, False), floats(rng, 128, 500)
    one, three = (SparseLinear(w, kernel=kernel, expected_n=1, threads=threads)(x) for threads in (1, 3))
    assert np.allclose(one, three, rtol=0, atol=1e-4)


ONE_LAYER = """
import sys
import numpy as np
from sparsify_kernels.linear import SparseLinear
rng = np.random.default_rng(0)
w, x, residual = (rng.standard_normal(shape).astype(np.float32) for shape in ((70, 90), (21, 90), (21, 70)))
w[rng.random(w.shape) < 0.8] = 0
norm = np.ones(70, np.float32), np.zeros(70, np.float32), 1e-5
layer = SparseLinear(w, activation=sys.argv[1], norm=norm)
sys.stdout.buffer.write(layer(x, residual).tobytes())
sys.stderr.write(layer.kernel)
"""


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("limit", ["portable", "neon", "avx2", "avx512", "no-such-set"])
def test_a_lower_instruction_set_gives_the_same(limit: str, activation: str) -> None:
    def run(environment: dict[str, str]) -> tuple[np.ndarray, str]:
        command = [sys.executable, "-c", ONE_LAYER, activation]
        path = os.pathsep.join(sys.path)
        done = subprocess.run(
            command, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": path, **environment}
        )
        return np.frombuffer(done.stdout, np.float32), done.stderr.decode()

    (best, _), (lower, kernel) = run({}), run({"SPARSIFY_KERNELS_ISA": limit})
    if limit in {"portable", "no-such-set"}:
        assert kernel == "f32-portable"
    assert abs(best - lower).max() < 2e-5


def test_auto_takes_the_cheapest() -> None:
    rng = np.random.default_rng(3)
    blob = pack(weights(rng, 256, 256, 0.9, False))
    for n in (1, 128):
        costs = native.linear_costs(blob, n=n)
        assert set(costs) <= set(native.kernel_names())
        assert all(cost > 0 for cost in costs.values())
        layer = SparseLinear.from_packed(blob, expected_n=n)
        assert layer.kernel == min(costs, key=lambda name: costs[name])


@pytest.mark.parametrize("kernel", ANY_LAYOUT)
def test_how_a_layer_is_cut_does_not_change_bits(kernel: str) -> None:
    """The cut follows from what was measured of the machine, the tokens expected and the threads; the sums do not."""
    rng = np.random.default_rng(5)
    w, image, tokens = weights(rng, 70, 288, 0.8, False), floats(rng, 2, 32, 13, 29), floats(rng, 75, 288)
    residual = floats(rng, 75, 70)
    for activation in ("none", "gelu"):
        results = {
            SparseLinear(w, activation=activation, kernel=kernel, expected_n=n, threads=t)(tokens, residual).tobytes()
            for n in (1, 5, 40, 400, 4000)
            for t in (1, 2, 7)
        }
        assert len(results) == 1
    w = w.reshape(70, 32, 3, 3)
    sizes = ((3, 3), (13, 29), (60, 20), (200, 200))
    made = [SparseConv(w, pads=(1,) * 4, kernel=kernel, expected_size=s, threads=t) for s in sizes for t in (1, 5)]
    assert len({layer(image).tobytes() for layer in made}) == 1


@pytest.mark.parametrize("kernel", ANY_LAYOUT)
@pytest.mark.parametrize(("rows", "sparsity"), [(24, 0.9), (24, 0.99), (200, 0.5)])
def test_a_1x1_convolution_gives_the_bits_of_the_linear_layer(kernel: str, rows: int, sparsity: float) -> None:
    """Tokens are always packed; positions of very sparse layers are read in place, but for a short last tile."""
    rng = np.random.default_rng(13)
    w, bias = weights(rng, rows, 120, sparsity, False), floats(rng, rows)
    for size in ((1, 3), (8, 16), (7, 7), (28, 28), (33, 31)):
        x = floats(rng, 2, 120, *size)
        conv = SparseConv(w[:, :, None, None], bias=bias, activation="relu", kernel=kernel, expected_size=size)
        y = SparseLinear(w, bias=bias, activation="relu", kernel=kernel)(np.moveaxis(x, 1, -1))
        assert conv(x).tobytes() == np.ascontiguousarray(np.moveaxis(y, -1, 1)).tobytes()
