"""The core of an attention: two products with a softmax between them, and what scales, masks or mends its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from onnx import TensorProto

from sparsify_export.sparse.graph import GraphView, attributes, label

_MOST_NODES = 8
"""That a number is computed by."""


@dataclass(frozen=True)
class Factor:
    """A number by which scores are multiplied, or divided: a constant, or computed from sizes."""

    name: str
    inverse: bool


@dataclass(frozen=True)
class Core:
    """The two products with the softmax between them; q is (batch, heads, tokens, features), k_turned its transpose."""

    name: str
    q: str
    k_turned: str
    v: str
    mask: str
    factors: tuple[Factor, ...]
    nan_is_zero: bool
    output: str
    products: tuple[int, int]


def find_cores(view: GraphView) -> Iterator[Core]:
    """Every core whose weights and scores nothing else sees, in the graph's order; shapes are not looked at."""
    for index, node in enumerate(view.nodes):
        # Before 13 the axis was 1 where none is given, and all axes from there were one.
        unsaid = -1 if view.opset >= 13 else 1
        if not view.is_standard(index, "Softmax") or attributes(node).get("axis", unsaid) not in (-1, 3):
            continue
        softmax = str(node.output[0])
        filled = _filled(view, softmax)
        weights = _as_float(view, filled or softmax)
        product = view.sole_consumer(weights)
        if product is None or not view.is_standard(product, "MatMul") or view.nodes[product].input[0] != weights:
            continue
        scores = _scores(view, str(node.input[0]))
        if scores is not None:
            made = view.nodes[product]
            yield Core(
                name=label(node),
                q=str(view.nodes[scores.product].input[0]),
                k_turned=str(view.nodes[scores.product].input[1]),
                v=str(made.input[1]),
                mask=scores.mask,
                factors=scores.factors,
                nan_is_zero=bool(filled),
                output=str(made.output[0]),
                products=(scores.product, product),
            )


def _filled(view: GraphView, value: str) -> str:
    """What becomes of a value whose NaN are replaced by 0, where nothing else sees it; empty where they are not."""
    uses = view.consumers(value)
    where = next((index for index in uses if view.is_standard(index, "Where")), None)
    if where is None or not view.is_enclosed(value, uses) or len(uses) != 2:
        return ""
    condition, zero, other = map(str, view.nodes[where].input)
    asked = view.producer(condition)
    if asked not in uses or not view.is_standard(asked, "IsNaN") or view.sole_consumer(condition) != where:
        return ""
    return str(view.nodes[where].output[0]) if other == value and view.scalar(zero) == 0 else ""


def _as_float(view: GraphView, value: str) -> str:
    """What a value becomes that Casts make float32, which it is: queries are."""
    while (index := view.sole_consumer(value)) is not None and view.is_standard(index, "Cast"):
        if attributes(view.nodes[index])["to"] != TensorProto.FLOAT:
            break
        value = str(view.nodes[index].output[0])
    return value


@dataclass(frozen=True)
class _Scores:
    """The node of the product, what is added to it, and what it is multiplied by before."""

    product: int
    mask: str = ""
    factors: tuple[Factor, ...] = ()


def _scores(view: GraphView, value: str) -> _Scores | None:
    """How the softmax's input was made, where nothing else sees it."""
    index = view.producer(value)
    if index is None or view.sole_consumer(value) is None:
        return None
    node = view.nodes[index]
    if view.is_standard(index, "MatMul"):
        return _Scores(index)
    if scaled := scaled_by(view, index):
        name, factor = scaled
        found = _scores(view, name)
        return None if found is None or found.mask else replace(found, factors=(*found.factors, factor))
    if view.is_standard(index, "Add"):
        for name, other in (tuple(node.input), tuple(reversed(node.input))):
            found = _scores(view, str(name))
            if found is not None and not found.mask:
                return replace(found, mask=str(other))
    return None


def scaled_by(view: GraphView, index: int) -> tuple[str, Factor] | None:
    """The value that a node multiplies by a number, and the number."""
    node = view.nodes[index]
    if not view.is_standard(index, "Mul", "Div"):
        return None
    a, b = map(str, node.input)
    if _is_number(view, b):
        return a, Factor(b, node.op_type == "Div")
    return (b, Factor(a, False)) if node.op_type == "Mul" and _is_number(view, a) else None


def _is_number(view: GraphView, name: str) -> bool:
    return bool(view.scalar(name)) or _is_of_sizes(view, name)


def _is_of_sizes(view: GraphView, name: str) -> bool:
    """Whether a value is computed from sizes and constants alone, by a few nodes."""
    waiting, seen = [name], set[int]()
    while waiting and len(seen) <= _MOST_NODES:
        one = waiting.pop()
        index = view.producer(one)
        if view.constant(one) is not None or index in seen:
            continue
        if index is None:
            return False
        seen.add(index)
        if not view.is_standard(index, "Shape"):
            waiting += [value for value in view.nodes[index].input if value]
    return not waiting
