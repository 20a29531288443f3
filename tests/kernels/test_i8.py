"""The int8 kernels against the same quantisation done in whole numbers, and against the product of floats.

All kernels must give the same bits: sums are integers, and one fused multiply-add rounds them. The oracle quantises as
native/quantize.h says, multiplies int64 matrices and works on in float64, so that only rounding to float32 is left.

The bound on quantisation itself: a byte is within step / 2 of its activation, a weight within scale / 2, so
|y - x W^T| <= sum over k of step / 2 |w| + scale / 2 |x| + step scale / 4, with step = absmax(x) / 127.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
from sparsify_kernels import SparseLinear, native
from sparsify_kernels.convolution import SparseConv
from sparsify_kernels.packing import pack, unpack

try:
    native.library_path()
except native.KernelError as error:
    pytest.skip(str(error), allow_module_level=True)

Floats = NDArray[np.float32]
PATTERNS = ("dense", "unstructured", "block_1x4", "rows_16", "rows_32")
KERNELS = [name for name in native.kernel_names() if name.startswith("i8-")]
SERVES: dict[str, Any] = {"i8-amx-dense": "dense", "i8-amx-rows": "rows_16"}
"""A pattern that a kernel serves, where it is not unstructured."""
ROUNDING = 4e-7
"""Of float32, relative to the product's and the bias' magnitudes: half a unit each for the scales and the result."""


def pruned(rng: np.random.Generator, rows: int, columns: int, sparsity: float, pattern: str) -> Floats:
    high, wide = {"block_1x4": (1, 4), "rows_16": (16, 1), "rows_32": (32, 1)}.get(pattern, (1, 1))
    kept = rng.random((-(-rows // high), -(-columns // wide))) >= sparsity
    mask = np.kron(kept, np.ones((high, wide), bool))[:rows, :columns]
    return np.where(mask, rng.standard_normal((rows, columns)), 0).astype(np.float32)


def integers_of(weight: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The stored integers and scales, read back from the file's own bytes."""
    scale = (np.abs(weight).max(1) / np.float32(127)).astype(np.float32)
    stored = unpack(pack(weight, precision="i8"))
    safe = np.where(scale > 0, scale, 1).astype(np.float64)
    return np.rint(stored / safe[:, None]).astype(np.int64), scale.astype(np.float64)


def quantised(x: Floats, absmax: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Activations as whole numbers in [-127, 127] and what one stands for; `absmax` broadcasts over x."""
    there = absmax >= 1e-30
    inverse = np.where(there, np.float32(127) / np.where(there, absmax, 1), 0).astype(np.float32)
    step = np.where(there, absmax / np.float32(127), 0).astype(np.float32)
    return np.rint(x * inverse).astype(np.int64), step.astype(np.float64)


def kernels_that_serve(make: Any) -> dict[str, Any]:
    """A layer for each int8 kernel that can run it on this processor."""
    layers: dict[str, Any] = {}
    for name in KERNELS:
        try:
            layers[name] = make(name)
        except ValueError as error:
            assert "cannot run" in str(error)
    assert "i8-portable" in layers
    return layers


def assert_agree(results: dict[str, Floats], expected: NDArray[np.float64], magnitude: NDArray[np.float64]) -> None:
    reference = results["i8-portable"]
    for name, result in results.items():
        assert np.all(np.abs(result - expected) <= ROUNDING * magnitude), name
        np.testing.assert_array_equal(result.view(np.uint32), reference.view(np.uint32), err_msg=name)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 100),
    columns=st.one_of(st.integers(1, 300), st.integers(380, 1200)),
    n=st.one_of(st.integers(1, 5), st.integers(6, 200)),
    sparsity=st.sampled_from([0.0, 0.5, 0.9, 0.97, 1.0]),
    pattern=st.sampled_from(PATTERNS),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_linear_gives_the_same_integers_in_every_kernel(
    rows: int, columns: int, n: int, sparsity: float, pattern: Any, threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = pruned(rng, rows, columns, sparsity, pattern)
    weight[rng.integers(rows)] = 0
    x = (rng.standard_normal((n, columns)) * 10.0 ** rng.integers(-3, 4, (n, 1))).astype(np.float32)
    x[rng.integers(n)] = 0
    bias = rng.standard_normal(rows).astype(np.float32)
    layers = kernels_that_serve(
        lambda kernel: SparseLinear(
            weight, bias=bias, precision="i8", pattern=pattern, kernel=kernel, threads=threads, expected_n=n
        )
    )
    w, scale = integers_of(weight)
    q, step = quantised(x, np.abs(x).max(1, keepdims=True))
    product = (q @ w.T) * (step * scale)
    results = {name: layer(x) for name, layer in layers.items()}
    assert_agree(results, product + bias, np.abs(product) + np.abs(bias))


@pytest.mark.parametrize("columns", [384, 385, 512, 513, 1700])
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.999])
def test_columns_may_fill_several_blocks(columns: int, sparsity: float) -> None:
    """More than the first cache holds of a tile: sums go from block to block, and some rows have nothing in one."""
    rng = np.random.default_rng(columns)
    weight = pruned(rng, 40, columns, sparsity, "unstructured")
    weight[3, : columns // 2] = 0
    weight[5] = 0
    x, bias = rng.standard_normal((70, columns)).astype(np.float32), rng.standard_normal(40).astype(np.float32)
    layers = kernels_that_serve(lambda kernel: SparseLinear(weight, bias=bias, precision="i8", kernel=kernel))
    w, scale = integers_of(weight)
    q, step = quantised(x, np.abs(x).max(1, keepdims=True))
    product = (q @ w.T) * (step * scale)
    results = {name: layer(x) for name, layer in layers.items()}
    assert_agree(results, product + bias, np.abs(product) + np.abs(bias))


@pytest.mark.parametrize("pattern", ["rows_16", "rows_32"])
@pytest.mark.parametrize("n", [1, 17, 33, 64, 97, 128, 130])
@pytest.mark.parametrize("threads", [1, 2])
def test_panels_of_rows_may_keep_no_column_or_every_one(pattern: Any, n: int, threads: int) -> None:
    """Panels that keep nothing, all, one column, exactly a step's 64 and one more; the last one has a few rows only."""
    rng = np.random.default_rng(n)
    high, columns = int(pattern[5:]), 200
    kept = np.zeros((7, columns), bool)
    for panel, count in enumerate((0, columns, 1, 64, 65, 0, 40)):
        kept[panel, rng.permutation(columns)[:count]] = True
    mask = np.repeat(kept, high, axis=0)[: 6 * high + 5]
    weight = np.where(mask, rng.standard_normal(mask.shape), 0).astype(np.float32)
    x, bias = rng.standard_normal((n, columns)).astype(np.float32), rng.standard_normal(len(mask)).astype(np.float32)
    layers = kernels_that_serve(
        lambda kernel: SparseLinear(weight, bias=bias, precision="i8", pattern=pattern, kernel=kernel, threads=threads)
    )
    assert ("i8-amx-rows" in layers) == ("i8-amx" in layers)
    assert ("i8-vnni-rows" in layers) == ("i8-vnni-1x4" in layers)
    w, scale = integers_of(weight)
    q, step = quantised(x, np.abs(x).max(1, keepdims=True))
    product = (q @ w.T) * (step * scale)
    results = {name: layer(x) for name, layer in layers.items()}
    assert_agree(results, product + bias, np.abs(product) + np.abs(bias))


@pytest.mark.skipif("amx-int8" not in native.describe_cpu(), reason="this processor has no AMX")
@pytest.mark.parametrize(("pattern", "high"), [("rows_16", 16), ("rows_32", 32)])
def test_auto_multiplies_kept_columns_alone_where_few_are_kept(pattern: Any, high: int) -> None:
    """So few that it is the cheapest at any rate that AMX may have here at the moment."""
    rng = np.random.default_rng(0)
    weight = pruned(rng, 768, 3072, 0.99, pattern)
    assert SparseLinear(weight, precision="i8", pattern=pattern, expected_n=128).kernel == "i8-amx-rows"
    costs = native.linear_costs(pack(weight, precision="i8", pattern=pattern), n=128)
    denser = native.linear_costs(pack(pruned(rng, 768, 3072, 0.5, pattern), precision="i8", pattern=pattern), n=128)
    assert costs["i8-amx-rows"] < denser["i8-amx-rows"]
    assert costs["i8-amx"] == denser["i8-amx"]
    assert "i8-amx-rows" not in native.linear_costs(pack(weight, precision="i8"), n=128)


def test_without_amx_no_kernel_of_tiles_is_offered() -> None:
    program = """
import numpy as np
from sparsify_kernels import native, pack
for pattern in ("dense", "rows_32"):
    print(*native.linear_costs(pack(np.ones((64, 64), np.float32), precision="i8", pattern=pattern), n=64))
"""
    environment = os.environ | {"SPARSIFY_KERNELS_ISA": "avx512-fp16", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "i8-portable" in ran.stdout
    assert "amx" not in ran.stdout


@pytest.mark.skipif("avx512-vnni" not in native.describe_cpu(), reason="this processor has no AVX-512 VNNI")
def test_without_amx_blocks_of_rows_serve_dense_weights_and_rows_that_share_columns() -> None:
    """By measured costs, whose distance here is greater than what a busy machine may blur."""
    program = """
import numpy as np
from sparsify_kernels import native, pack
rng = np.random.default_rng(0)
for pattern, rows, kept in (("dense", 1, 1.0), ("rows_16", 16, 0.1), ("rows_32", 32, 0.1)):
    mask = np.repeat(rng.random((768 // rows, 768)) < kept, rows, axis=0)
    costs = native.linear_costs(pack((mask * rng.standard_normal(mask.shape)).astype(np.float32), precision="i8",
                                     pattern=pattern), n=128)
    assert min(costs, key=costs.get) == "i8-vnni-rows", costs
    print(costs["i8-vnni-rows"])
"""
    environment = os.environ | {"SPARSIFY_KERNELS_ISA": "avx512-vnni", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    dense, sixteen, thirty_two = map(float, ran.stdout.split())
    assert sixteen < dense
    assert thirty_two < dense


@pytest.mark.parametrize("pattern", ["dense", "rows_16"])
def test_columns_filled_up_to_quads_may_be_more_than_sixteen_bits_count(pattern: Any) -> None:
    """One channel and 20,000 taps: a quad for every tap, 80,000 columns with those that are not there."""
    rng = np.random.default_rng(5)
    weight = pruned(rng, 16, 20_000, 0.99, pattern)
    x = rng.standard_normal((1, 1, 1, 20_003)).astype(np.float32)
    layers = kernels_that_serve(
        lambda name: SparseConv(weight.reshape(16, 1, 1, -1), precision="i8", pattern=pattern, kernel=name)
    )
    expected = convolution_of_integers(x, weight, (1, 20_000), (1, 1), (0, 0, 0, 0), (1, 1), 1)
    assert_agree({name: layer(x) for name, layer in layers.items()}, expected, np.abs(expected))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), pattern=st.sampled_from(PATTERNS), seed=st.integers(0, 2**32 - 1))
def test_convolution_gives_the_same_integers_in_every_kernel(data: st.DataObject, pattern: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups, kernel = draw(1, 3), (draw(1, 3), draw(1, 3))
    channels, strides, dilations = data.draw(st.sampled_from([1, 3, 16, 64])), (draw(1, 2), draw(1, 2)), (draw(1, 2), 1)
    pads = tuple(draw(0, 2) for _ in range(4))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = tuple(r + draw(0, 12) for r in reach)
    rows = groups * draw(1, 40)
    weight = pruned(rng, rows, channels * kernel[0] * kernel[1], 0.8, pattern)
    x = rng.standard_normal((2, groups * channels, *size)).astype(np.float32)
    layers = kernels_that_serve(
        lambda name: SparseConv(
            weight.reshape(rows, channels, *kernel),
            strides=strides,
            pads=pads,
            dilations=dilations,
            groups=groups,
            precision="i8",
            pattern=pattern,
            kernel=name,
        )
    )
    expected = convolution_of_integers(x, weight, kernel, strides, pads, dilations, groups)
    results = {name: layer(x) for name, layer in layers.items()}
    assert_agree(results, expected, np.abs(expected))


def convolution_of_integers(
    x: Floats,
    weight: Floats,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, ...],
    dilations: tuple[int, int],
    groups: int,
) -> NDArray[np.float64]:
    """Position by position. One absmax for each image and group, but for each position where nothing is gathered."""
    w, scale = integers_of(weight)
    pointwise = kernel == (1, 1) and strides == (1, 1) and groups == 1 and not any(pads)
    parts = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    q, step = quantised(parts, np.abs(parts).max(2 if pointwise else (2, 3, 4), keepdims=True))
    q = np.pad(q, ((0, 0), (0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    height, width = ((q.shape[3 + i] - reach[i]) // strides[i] + 1 for i in range(2))
    step = np.broadcast_to(step, (*parts.shape[:2], 1, *(parts.shape[3:] if pointwise else (1, 1))))
    y = np.empty((x.shape[0], groups, weight.shape[0] // groups, height, width))
    for g in range(groups):
        mine = slice(g * y.shape[2], (g + 1) * y.shape[2])
        for i in range(height):
            for j in range(width):
                up, left = i * strides[0], j * strides[1]
                window = q[:, g, :, up : up + reach[0] : dilations[0], left : left + reach[1] : dilations[1]]
                y[:, g, :, i, j] = window.reshape(x.shape[0], -1) @ w[mine].T * scale[mine]
    return (y * step).reshape(x.shape[0], weight.shape[0], height, width)


@pytest.mark.parametrize("kernel", KERNELS)
def test_sizes_may_change_from_call_to_call_and_thread_to_thread(kernel: str) -> None:
    """A layer keeps how the last image was laid out: no other image may be read by it."""
    rng = np.random.default_rng(11)
    pattern: Any = SERVES.get(kernel, "unstructured")
    weight = rng.standard_normal((24, 16, 3, 3)).astype(np.float32)

    def made() -> SparseConv:
        return SparseConv(weight, pads=(1, 1, 1, 1), precision="i8", pattern=pattern, kernel=kernel)

    try:
        layer = made()
    except ValueError as error:
        pytest.skip(str(error))
    images = [rng.standard_normal((1, 16, h, w)).astype(np.float32) for h, w in ((9, 9), (5, 17), (17, 5), (9, 9))] * 8
    expected = [made()(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for got, alone in zip(pool.map(layer, images), expected, strict=True):
            np.testing.assert_array_equal(got, alone)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("n", [1, 40])
def test_the_error_of_quantisation_stays_within_its_bound(pattern: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    weight, x = pruned(rng, 70, 500, 0.7, pattern), rng.standard_normal((n, 500)).astype(np.float32)
    step, scale = np.abs(x).max(1)[:, None] / 127, np.abs(weight).max(1) / 127
    kept = (weight != 0).sum(1)
    bound = step / 2 * np.abs(weight).sum(1) + scale / 2 * (np.abs(x) @ (weight != 0).T) + step * scale / 4 * kept
    exact = x.astype(np.float64) @ weight.astype(np.float64).T
    layers = kernels_that_serve(lambda kernel: SparseLinear(weight, precision="i8", pattern=pattern, kernel=kernel))
    for name, layer in layers.items():
        assert np.all(np.abs(layer(x) - exact) <= bound * (1 + 1e-5)), name


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_hidden(kernel: str, bad: float) -> None:
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((40, 70)).astype(np.float32), rng.standard_normal((20, 70)).astype(np.float32)
    x[3, 5] = bad
    try:
        layer = SparseLinear(weight, precision="i8", pattern=SERVES.get(kernel, "unstructured"), kernel=kernel)
    except ValueError as error:
        pytest.skip(str(error))
    y = layer(x)
    assert not np.isfinite(y[3]).any()
    assert np.isfinite(np.delete(y, 3, 0)).all()


@pytest.mark.parametrize("pattern", ["block_1x4", "rows_16", "rows_32"])
def test_epilogue_follows_in_order(pattern: Any) -> None:
    rng = np.random.default_rng(7)
    weight, x = pruned(rng, 50, 130, 0.8, pattern), rng.standard_normal((37, 130)).astype(np.float32)
    residual = rng.standard_normal((37, 50)).astype(np.float32)
    norm = rng.standard_normal(50).astype(np.float32), rng.standard_normal(50).astype(np.float32), 1e-3
    w, scale = integers_of(weight)
    q, step = quantised(x, np.abs(x).max(1, keepdims=True))
    y = np.maximum((q @ w.T) * (step * scale) + residual, 0)
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + norm[2]) * norm[0] + norm[1]
    layers = kernels_that_serve(
        lambda kernel: SparseLinear(
            weight, norm=norm, activation="relu", precision="i8", pattern=pattern, kernel=kernel, threads=2
        )
    )
    for name, layer in layers.items():
        np.testing.assert_allclose(layer(x, residual), y, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_and_calls_do_not_change_bits(kernel: str) -> None:
    rng = np.random.default_rng(3)
    pattern: Any = SERVES.get(kernel, "unstructured")
    weight, x = pruned(rng, 300, 500, 0.9, "unstructured"), rng.standard_normal((150, 500)).astype(np.float32)
    try:
        layers = [SparseLinear(weight, precision="i8", pattern=pattern, kernel=kernel, threads=t) for t in (1, 2, 3)]
    except ValueError as error:
        pytest.skip(str(error))
    once = layers[0](x)
    for layer in layers:
        for part in (x, x[:33], x[:1]):
            np.testing.assert_array_equal(layer(part), once[: len(part)])
