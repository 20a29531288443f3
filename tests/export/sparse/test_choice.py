"""Sparse or dense, by costs that are made up, by a sparsity that is given, or by the default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
from rewritten_graphs import graph, normal, sparse
from sparsify_export.onnx_check import inputs_of
from sparsify_export.sparse.choice import DEFAULT_SPARSITY, Rule
from sparsify_export.sparse.dense import DenseTimes
from sparsify_export.sparse.graph import GraphView
from sparsify_export.sparse.layers import find_layers, looked_at
from sparsify_export.sparse.neighbours import Fused
from sparsify_export.sparse.observed import made_up_feeds, observe
from sparsify_export.sparse.passes import read_model
from sparsify_kernels.packing import pack, read_header

TEXT = "(float[n,5,24] x) => (float[n,5,16] y) { y = MatMul(x, w) }"


def found(path: Path, weights: np.ndarray, text: str = TEXT):
    path = graph(path / "g.onnx", text, {"w": weights})
    model = read_model(path)
    view = GraphView(model)
    shapes = observe(model, path, looked_at(view), made_up_feeds(path, inputs_of(path), {}, 0))
    (layer,) = find_layers(view, shapes)
    return view, shapes, Fused(layer, "y", (0,))


def blocks(rows: int, columns: int, high: int, wide: int) -> np.ndarray:
    """(columns, rows) as a MatMul has it; of blocks of so many outputs by so many inputs, one in six is kept."""
    kept = np.random.default_rng(0).random((columns // wide, rows // high)) < 1 / 6
    return normal(columns, rows) * np.kron(kept, np.ones((wide, high), bool))


def test_the_cheapest_kernel_that_beats_dense_is_taken(tmp_path: Path):
    _, _, fused = found(tmp_path, sparse(24, 16))
    asked: list[tuple[int, ...]] = []

    def costs(blob, window, source_shape):
        asked.append(source_shape)
        assert read_header(blob).columns == 24 and window is None
        return {"slow": 3000.0, "fast": 2000.0}

    chosen = Rule(pack, costs=costs, dense_cost=lambda layer: 2900.0).choose(fused, (1, 5, 24))
    assert (chosen.kernel, chosen.pattern, chosen.sparse_us, chosen.dense_us) == ("fast", "unstructured", 2.0, 2.9)
    assert chosen.reason == "expected 2 us sparse, 2.9 us dense"
    assert chosen.blob is not None
    assert asked == [(1, 5, 24)]


def test_a_layer_that_would_lose_stays_dense_whatever_its_sparsity(tmp_path: Path):
    _, _, fused = found(tmp_path, sparse(24, 16, sparsity=0.99))
    # Half a microsecond and three twentieths are too little to be sure of.
    for dense_ns, ending in ((1999.0, ""), (2799.0, ": too near to be worth it"), (2801.0, "")):
        rule = Rule(pack, costs=lambda *_: {"only": 2000.0}, dense_cost=lambda layer, ns=dense_ns: ns)
        chosen = rule.choose(fused, (1, 5, 24))
        assert (chosen.blob is not None) is (dense_ns > 2800)
        assert chosen.reason == f"expected 2 us sparse, {dense_ns / 1e3} us dense{ending}"


def test_where_no_kernel_serves_it_stays_dense(tmp_path: Path):
    _, _, fused = found(tmp_path, sparse(24, 16))
    for least in (None, 0.5):
        rule = Rule(pack, min_sparsity=least, costs=lambda *_: {}, dense_cost=lambda layer: 1e9)
        chosen = rule.choose(fused, (1, 5, 24))
        assert (chosen.blob, chosen.reason) == (None, "no kernel here serves it")


@pytest.mark.parametrize(
    ("sparsity", "least", "replaced"),
    [(0.9, None, True), (0.4, None, False), (0.4, 0.2, True), (0.9, 0.99, False), (0.0, 0.0, True)],
)
def test_by_sparsity_where_costs_are_not_known_or_not_wanted(tmp_path: Path, sparsity, least, replaced):
    _, _, fused = found(tmp_path, sparse(24, 16, sparsity=sparsity))
    rule = Rule(pack, min_sparsity=least)
    assert (rule.choose(fused, (1, 5, 24)).blob is not None) is replaced
    assert rule.words.startswith(f"those of sparsity {DEFAULT_SPARSITY if least is None else least:g} or more")


def test_a_given_sparsity_overrules_costs_but_not_the_choice_of_kernel(tmp_path: Path):
    _, _, fused = found(tmp_path, sparse(24, 16))
    rule = Rule(pack, min_sparsity=0.5, costs=lambda *_: {"a": 2.0, "b": 1.0}, dense_cost=lambda layer: 0.0)
    chosen = rule.choose(fused, (1, 5, 24))
    assert (chosen.kernel, chosen.blob is not None) == ("b", True)


@pytest.mark.parametrize(("pattern", "high", "wide"), [("block_1x4", 1, 4), ("rows_16", 16, 1), ("rows_32", 32, 1)])
def test_whole_blocks_of_zeros_are_stored_as_blocks(tmp_path: Path, pattern: str, high: int, wide: int):
    """In 8 bits, where it helps; or in any precision where the costs say so."""
    text = TEXT.replace("16] y", "64] y")
    _, _, fused = found(tmp_path, blocks(64, 24, high, wide), text)
    seen: list[str] = []

    def costs(blob, window, source_shape):
        seen.append(read_header(blob).pattern)
        return {"a": {pattern: 1.0, "unstructured": 2.0}[seen[-1]]}

    rules = (Rule(pack, "i8"), Rule(pack), Rule(pack, costs=costs, dense_cost=lambda layer: 9000.0))
    assert [rule.choose(fused, (1, 5, 24)).pattern for rule in rules] == [pattern, "unstructured", pattern]
    assert seen == ["unstructured", pattern]  # blocks of 32 rows are not tried as blocks of 16 as well
    _, _, fused = found(tmp_path, sparse(24, 64), text)
    assert Rule(pack, "i8").choose(fused, (1, 5, 24)).pattern == "unstructured"


@pytest.mark.parametrize(("rows", "pattern"), [(16, "rows_16"), (48, "rows_16"), (96, "rows_32")])
def test_rows_that_fill_no_block_of_32_are_stored_as_blocks_of_16(tmp_path: Path, rows: int, pattern: str):
    weights = normal(24, rows) * (np.arange(24) % 6 == 0)[:, None]  # all rows keep the same columns
    _, _, fused = found(tmp_path, weights, TEXT.replace("16] y", f"{rows}] y"))
    assert Rule(pack, "i8").choose(fused, (1, 5, 24)).pattern == pattern


def test_integers_may_be_dense_where_that_is_expected_to_be_faster(tmp_path: Path):
    _, _, fused = found(tmp_path, normal(24, 16))

    def costs(blob, window, source_shape):
        return {"i8-dense": 5.0} if read_header(blob).pattern == "dense" else {"i8-sparse": 50.0}

    rule = Rule(pack, "i8", costs=costs, dense_cost=lambda layer: 10_000.0)
    chosen = rule.choose(fused, (1, 5, 24))
    assert (chosen.kernel, chosen.pattern) == ("i8-dense", "dense")


@pytest.mark.parametrize(("sparse_ns", "pattern"), [(6.2, "unstructured"), (6.3, "dense")])
def test_dense_integers_are_stored_only_where_they_are_clearly_faster(tmp_path: Path, sparse_ns: float, pattern: str):
    _, _, fused = found(tmp_path, sparse(24, 16))

    def costs(blob, window, source_shape):
        return {"kernel": 5.0 if read_header(blob).pattern == "dense" else sparse_ns}

    chosen = Rule(pack, "i8", costs=costs, dense_cost=lambda layer: 10_000.0).choose(fused, (1, 5, 24))
    assert chosen.pattern == pattern


@pytest.mark.parametrize("least", [None, 0.0])
@pytest.mark.parametrize(("weights", "pattern"), [(normal(24, 16), "dense"), (sparse(24, 16), "unstructured")])
def test_of_equally_fast_integers_those_of_fewer_bytes_are_stored(tmp_path: Path, weights, pattern, least):
    _, _, fused = found(tmp_path, weights)
    rule = Rule(pack, "i8", min_sparsity=least, costs=lambda *_: {"any": 5.0}, dense_cost=lambda layer: 10_000.0)
    chosen = rule.choose(fused, (1, 5, 24))
    assert chosen.pattern == pattern
    smallest = min(pack(fused.matrix, precision="i8", pattern=one).nbytes for one in ("dense", "unstructured"))
    assert chosen.blob is not None and chosen.blob.nbytes == smallest


@pytest.mark.parametrize(
    ("integers", "floats", "precision", "reason"),
    [
        (2000.0, 3000.0, "i8", "expected 2 us sparse in i8, 3 us sparse in f32, 4 us dense"),
        (3000.0, 2000.0, "f32", "expected 3 us sparse in i8, 2 us sparse in f32, 4 us dense"),
        (9000.0, 8000.0, None, "expected 9 us sparse in i8, 8 us sparse in f32, 4 us dense"),
    ],
)
def test_each_layer_gets_the_faster_precision_where_integers_are_allowed(
    tmp_path: Path, integers: float, floats: float, precision: str | None, reason: str
):
    _, _, fused = found(tmp_path, sparse(24, 16))

    def costs(blob, window, source_shape):
        return {"kernel": {"i8": integers, "f32": floats}[read_header(blob).precision]}

    rule = Rule(pack, "i8", costs=costs, dense_cost=lambda layer: 4000.0)
    assert rule.words == "those expected to be faster sparse than dense are, each in the faster precision"
    chosen = rule.choose(fused, (1, 5, 24))
    assert chosen.reason == reason
    if precision is None:
        assert chosen.blob is None
    else:
        assert chosen.blob is not None
        assert (chosen.precision, read_header(chosen.blob).precision) == (precision, precision)


def test_a_given_sparsity_keeps_the_precision_asked_for(tmp_path: Path):
    _, _, fused = found(tmp_path, sparse(24, 16))

    def costs(blob, window, source_shape):
        return {"kernel": {"i8": 9.0, "f32": 1.0}[read_header(blob).precision]}

    chosen = Rule(pack, "i8", min_sparsity=0.5, costs=costs, dense_cost=lambda layer: 1.0).choose(fused, (1, 5, 24))
    assert chosen.precision == "i8"


def test_dense_layers_are_timed_as_they_stand(tmp_path: Path):
    """Some time above zero; equal layers are timed once."""
    view, shapes, fused = found(tmp_path, sparse(24, 16))
    times = DenseTimes(view, shapes)
    assert times(fused.layer) >= 0
    assert times(fused.layer) == times(fused.layer)


def test_a_convolution_is_timed_in_blocks_too(tmp_path: Path):
    """By whole microseconds of the convolution's own; equal ones once."""
    text = "(float[n,16,40,40] x) => (float[n,16,38,38] y) { y = Conv(x, w) }"
    view, shapes, fused = found(tmp_path, sparse(16, 16, 3, 3), text)
    times = DenseTimes(view, shapes)
    node = fused.layer.node
    assert times.in_blocks(node) >= 1000
    assert times.in_blocks(node) == times.in_blocks(node)


def test_weights_that_cannot_be_packed_stay_and_say_so(tmp_path: Path):
    weights = sparse(24, 16)
    weights[0, 0] = np.inf
    _, _, fused = found(tmp_path, weights)
    chosen = Rule(pack).choose(fused, (1, 5, 24))
    assert (chosen.blob, chosen.reason) == (None, "it cannot be packed: expected finite weights, got some that are not")


def test_a_weight_too_large_for_the_precision_leaves_the_layer_dense(tmp_path: Path):
    weights = sparse(24, 16)
    weights[0, 0] = 1e5
    _, _, fused = found(tmp_path, weights)
    rule = Rule(pack, "f16", costs=lambda *_: {"a": 1.0}, dense_cost=lambda layer: 9.0)
    chosen = rule.choose(fused, (1, 5, 24))
    assert (chosen.blob, chosen.reason) == (
        None,
        "it cannot be packed: expected weights that f16 can hold, got one as large as 1e+05",
    )


def test_made_up_inputs_take_the_batch_that_was_given(tmp_path: Path):
    inputs = inputs_of(graph(tmp_path / "g.onnx", TEXT, {"w": sparse(24, 16)}))
    for given, batches in (({}, [1, 3]), ({"x": (8, 5, 24)}, [8, 10])):
        assert [feed["x"].shape[0] for feed in made_up_feeds(tmp_path / "g.onnx", inputs, given, 0)] == batches
