"""`sparsify`: a graph of any origin, its sparse layers replaced by operators that skip zeros, held against itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import onnx
from numpy.typing import NDArray
from onnx.inliner import inline_local_functions

from sparsify.errors import UsageError
from sparsify.recipe.spec import SparseSpec
from sparsify.store.atomic import write_bytes
from sparsify_export.pruning.running import run
from sparsify_export.pruning.tensors import external_files
from sparsify_export.pruning.wire import read_skeleton
from sparsify_export.runtimes.onnx_file import read_onnx
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.sparse import attention, layout
from sparsify_export.sparse.attention_choice import Fusion, choose_fusions
from sparsify_export.sparse.available import kernels
from sparsify_export.sparse.choice import Chosen, Costs, Rule
from sparsify_export.sparse.costs import costs_by
from sparsify_export.sparse.dense import DenseTimes
from sparsify_export.sparse.graph import GraphView, label
from sparsify_export.sparse.layers import Layer, Left, find_layers, looked_at
from sparsify_export.sparse.neighbours import Fused, fuse
from sparsify_export.sparse.observed import Feeds, Shapes, observe
from sparsify_export.sparse.operators import ATTENTION, DOMAIN
from sparsify_export.sparse.parity import SparseParity, compare
from sparsify_export.sparse.plan import Plan, Row, store
from sparsify_export.sparse.rewrite import Replacement, rewrite
from sparsify_export.sparse.trial import call_ns
from sparsify_export.sparse.weights_file import gather, write_beside

Choices: TypeAlias = dict[int, tuple[Fused, Chosen]]


@dataclass(frozen=True)
class Sparsified:
    """What was done, and how far the result is from the graph that was given."""

    plan: Plan
    parity: SparseParity
    bytes_before: int
    """Of the graph with its weights."""
    bytes: int
    """Of what was written."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        sizes = {"before": self.bytes_before, "after": self.bytes}
        return {"plan": self.plan.to_json(), "parity": self.parity.to_json(), "file_bytes": sizes}


def sparsify(
    source: Path, out: Path, *, options: SparseSpec, feeds: Feeds, more: Feeds = (), inputs: str
) -> Sparsified:
    """Rewrite the graph in `source`, hold it against the original, and write it to the file `out`.

    Args:
        source: An ONNX file that onnx's checker has passed; weights may lie in files beside it.
        out: Where to write; may be `source`. Weights lie inside, and beyond 2 GB those that stay dense beside it.
        options: What is asked for.
        feeds: Inputs that the graph is run on: those it is planned for, and of other sizes where it takes any. Some
            graphs say so and do not, for a Reshape has the size in it; such are run on the first alone.
        more: Inputs that the outputs are compared on too.
        inputs: Where the inputs come from, for the report.

    Raises:
        UnavailableError: sparsify-kernels or ONNX Runtime is not here.
        UsageError: The graph is rewritten already, its packed weights are over 2 GB, or it does not take the feeds.
        CorruptError: It cannot be read, or the new graph's outputs are not the old one's; nothing is written.
    """
    packing, native = kernels()
    model = read_model(source)
    taken, expected = _dense_outputs(source, feeds, more)
    if len(taken) < len(feeds):
        feeds, inputs = taken, f"{inputs}, of fewer sizes than the graph says it takes: it does not run on others"
    costs = costs_by(native, call_ns() if options.min_sparsity == "auto" else 0.0)
    rewritten, plan = rewritten_graph(model, source, options, feeds, packing.pack, costs)
    store(rewritten, plan)
    whole = gather(rewritten, source)
    data = rewritten.SerializeToString(deterministic=True)
    parity = compare(source, expected, _outputs(data, source, [*feeds, *more]), options.precision, inputs)
    before, beside = _stored_bytes(source), 0
    if not whole:
        beside = write_beside(rewritten, source, out).stat().st_size
        data = rewritten.SerializeToString(deterministic=True)
    write_bytes(out, data)
    return Sparsified(plan, parity, before, len(data) + beside)


def read_model(source: Path) -> onnx.ModelProto:
    """The graph, its own functions written out; weights that lie in files stay there. Raises as `sparsify`."""
    model: onnx.ModelProto = read_onnx(source, weights=False)
    if any(entry.domain == DOMAIN for entry in model.opset_import):
        raise UsageError(f"{source}: expected a graph without sparse operators, got one that has them already")
    return inline_local_functions(model) if model.functions else model


def _stored_bytes(source: Path) -> int:
    """Of the file and of those that hold its weights."""
    beside = external_files(read_skeleton(source)).values()
    return sum(path.stat().st_size for path in (source, *beside))


def rewritten_graph(
    model: onnx.ModelProto, path: Path, options: SparseSpec, feeds: Feeds, pack: Any, costs: Costs | None
) -> tuple[onnx.ModelProto, Plan]:
    """The new graph and its plan; `pack` and `costs` as in `choice.Rule`."""
    view = GraphView(model, path.parent)
    shapes = observe(model, path, [*looked_at(view), *layout.looked_at(view), *attention.looked_at(view)], feeds)
    least = None if options.min_sparsity == "auto" else options.min_sparsity
    times = DenseTimes(view, shapes) if costs else None
    rule = Rule(pack, options.precision, least, costs, times)
    found = find_layers(view, shapes)
    chosen = _choices(view, shapes, rule, found)
    if times is not None and least is None:
        chosen = _with_neighbours(view, shapes, times, chosen)
    attentions = attention.find_attention(view, shapes, _inside(view, chosen))
    fusions = choose_fusions(view, shapes, attentions, options.precision, compare=times is not None and least is None)
    absorbed = {index for one in fusions if one.replaced for index in one.attention.products}
    rows = [(one.attention.products[0], _attention_row(one)) for one in fusions]
    replacements: list[Replacement] = []
    for one in found:
        if isinstance(one, Left):
            rows += [(one.index, _left(one))] if one.index not in absorbed else []
            continue
        fused, choice = chosen[one.index]
        planned_for = _positions(one, shapes.first(one.output) or ())
        if choice.blob is not None:
            replacements.append(Replacement(fused, choice.blob, choice.kernel, planned_for))
        shared = any(row.replaced and row.weight == one.weight for _, row in rows)
        rows.append((one.index, _row(fused, choice, planned_for, shared=shared)))
    rewritten = rewrite(view, replacements, [one for one in fusions if one.replaced])
    in_order = (row for _, row in sorted(rows, key=lambda row: row[0]))
    return rewritten, Plan(options.precision, rule.words, tuple(in_order))


def _choices(view: GraphView, shapes: Shapes, rule: Rule, found: Sequence[Layer | Left]) -> Choices:
    """By node, what is best for each layer by itself."""
    claimed: set[int] = set()
    chosen: Choices = {}
    for layer in found:
        if isinstance(layer, Left):
            continue
        fused = fuse(view, shapes, layer, claimed)
        choice = rule.choose(fused, shapes.first(layer.source) or ())
        if choice.blob is not None:
            claimed.update(fused.nodes)
        chosen[layer.index] = fused, choice
    return chosen


def _with_neighbours(view: GraphView, shapes: Shapes, times: DenseTimes, chosen: Choices) -> Choices:
    """The same, less those layers whose neighbours make them better dense."""
    gains = [
        layout.Gain(fused, 1e3 * choice.sparse_us)
        for fused, choice in chosen.values()
        if choice.blob is not None and choice.sparse_us is not None
    ]
    kept_dense = layout.better_dense(view, shapes, times, gains)
    return {
        index: (fused, choice.left_dense("between neighbours in blocks of channels") if index in kept_dense else choice)
        for index, (fused, choice) in chosen.items()
    }


def _inside(view: GraphView, chosen: Choices) -> set[str]:
    """The values that replaced layers compute and do not give out."""
    replaced = [fused for fused, choice in chosen.values() if choice.blob is not None]
    made = {name for fused in replaced for index in fused.nodes for name in view.nodes[index].output}
    return made - {fused.output for fused in replaced}


def _positions(layer: Layer, out_shape: tuple[int, ...]) -> int:
    """Tokens of a linear layer, or positions of one image of a convolution."""
    return math.prod(out_shape[:-1] if layer.window is None else out_shape[2:])


def _dense_outputs(path: Path, feeds: Feeds, more: Feeds) -> tuple[Feeds, list[dict[str, NDArray[Any]]]]:
    """The first of `feeds` and those of the others that the graph runs on; its outputs on them and on `more`."""
    with OnnxRuntime(path, as_written=True) as runtime:
        taken, outputs = [feeds[0]], [run(runtime, feeds[0], path)]
        for feed in feeds[1:]:
            with suppress(UsageError):
                outputs.append(run(runtime, feed, path))
                taken.append(feed)
        return taken, outputs + [run(runtime, feed, path) for feed in more]


def _outputs(graph: bytes, path: Path, feeds: Feeds) -> list[dict[str, NDArray[Any]]]:
    with OnnxRuntime(graph, source=path, as_written=True) as runtime:
        return [run(runtime, feed, path) for feed in feeds]


def _left(left: Left) -> Row:
    return Row(left.name, left.operator, left.weight, left.shape, left.sparsity, False, left.reason)


def _attention_row(fusion: Fusion) -> Row:
    one = fusion.attention
    return Row(
        name=one.name,
        operator=ATTENTION,
        weight="",
        shape=(one.heads, one.depth),
        sparsity=None,
        replaced=fusion.replaced,
        reason=fusion.reason,
        kernel=fusion.kernel if fusion.replaced else "",
        precision=fusion.precision if fusion.replaced else "",
        positions=one.tokens,
        dense_us=fusion.as_it_is_us,
        sparse_us=fusion.as_one_us,
    )


def _row(fused: Fused, chosen: Chosen, planned_for: int, *, shared: bool) -> Row:
    layer = fused.layer
    row = Row(
        name=label(layer.node),
        operator=layer.node.op_type,
        weight=layer.weight,
        shape=(layer.rows, layer.columns),
        sparsity=layer.sparsity,
        replaced=chosen.blob is not None,
        reason=chosen.reason,
        positions=planned_for,
        dense_us=chosen.dense_us,
        sparse_us=chosen.sparse_us,
    )
    if chosen.blob is None:
        return row
    return replace(
        row,
        kernel=chosen.kernel,
        precision=chosen.precision,
        pattern=chosen.pattern,
        fused=fused.words,
        dense_bytes=0 if shared else 4 * layer.matrix.size,
        bytes=0 if shared else chosen.blob.size,
    )
