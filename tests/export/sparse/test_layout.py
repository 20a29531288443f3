"""Minimum cuts against every choice there is, and which layers of a graph are left dense for their neighbours' sake."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
from rewritten_graphs import graph, normal, sparse
from sparsify_export.onnx_check import inputs_of
from sparsify_export.sparse.graph import GraphView
from sparsify_export.sparse.layers import Layer, find_layers, looked_at
from sparsify_export.sparse.layout import BLOCKS, PLAIN, Gain, Sides, better_dense
from sparsify_export.sparse.layout import looked_at as laid_out
from sparsify_export.sparse.neighbours import fuse
from sparsify_export.sparse.observed import made_up_feeds, observe
from sparsify_export.sparse.passes import read_model


@pytest.mark.parametrize("seed", range(40))
def test_the_cut_is_the_cheapest_of_all_choices(seed: int):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 7))
    costs = rng.integers(0, 20, (count, 2)).tolist()
    sides = Sides()
    vertices = [sides.vertex(plain=plain, blocks=blocks) for plain, blocks in costs]
    values = []
    for _ in range(int(rng.integers(0, 8))):
        maker, *readers = rng.permutation([PLAIN, BLOCKS, *vertices])[: rng.integers(2, 5)].tolist()
        values.append((maker, readers, int(rng.integers(1, 10))))
        sides.value(maker, tuple(readers), values[-1][2])

    def cost(plain: set[int]) -> int:
        own = sum(one[0 if vertex in plain else 1] for vertex, one in zip(vertices, costs, strict=True))
        return own + sum(
            copy for maker, readers, copy in values if any((reader in plain) != (maker in plain) for reader in readers)
        )

    every = [
        {PLAIN, *(v for v, taken in zip(vertices, choice, strict=True) if taken)}
        for choice in itertools.product((0, 1), repeat=count)
    ]
    assert cost(set(sides.plain())) == min(map(cost, every))


def test_what_costs_the_same_on_both_sides_is_in_blocks():
    """A sparse layer has to gain something."""
    sides = Sides()
    vertex = sides.vertex(plain=5, blocks=5)
    assert vertex not in sides.plain()


def test_nothing_to_choose():
    assert Sides().plain() == {PLAIN}


@dataclass
class Asked:
    """Every convolution of 8 channels or more, and every pooling, wants blocks; a copy of a value takes 10."""

    dense: dict[str, float]
    """By output, what a node takes between plain neighbours."""
    copy: float = 10.0
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def blocked_ends(self, node: Any) -> tuple[bool, bool]:
        return node.input[0] != "x" or node.op_type != "Conv", True

    def in_blocks(self, node: Any) -> float:
        return self.dense[node.output[0]] - self.copy * sum(self.blocked_ends(node))

    def change_of_layout(self, shape: tuple[int, ...]) -> float:
        assert len(shape) == 4, "ONNX Runtime's blocks of channels are for images of two axes"
        self.shapes.append(shape)
        return self.copy


def left_dense(path: Path, text: str, stored: dict[str, Any], costs: dict[str, tuple[float, float]]) -> set[str]:
    """The outputs of the layers left dense, of those with (dense, sparse) costs."""
    path = graph(path / "g.onnx", text, stored)
    model = read_model(path)
    view = GraphView(model)
    shapes = observe(model, path, [*looked_at(view), *laid_out(view)], made_up_feeds(path, inputs_of(path), {}, 0))
    layers = [layer for layer in find_layers(view, shapes) if isinstance(layer, Layer)]
    gains = [Gain(fuse(view, shapes, one, set()), costs[one.output][1]) for one in layers if one.output in costs]
    left = better_dense(view, shapes, Asked({output: dense for output, (dense, _) in costs.items()}), gains)
    return {layer.output for layer in layers if layer.index in left}


CHAIN = """(float[n,4,8,8] x) => (float[n,16,8,8] y) {
    a = Conv(x, first)
    b = Relu(a)
    c = Conv(b, w)
    d = Relu(c)
    e = Conv(d, w)
    f = Relu(e)
    g = Conv(f, w)
    y = Relu(g)
}"""
STORED = {"first": normal(16, 4, 1, 1), "w": sparse(16, 16, 1, 1)}


@pytest.mark.parametrize(
    ("costs", "dense"),
    [
        ({"e": (100.0, 81.0)}, {"e"}),  # 100 with two copies, 80 without; sparse 81, and two copies
        ({"e": (100.0, 61.0)}, {"e"}),  # between dense neighbours it has to gain all four
        ({"e": (100.0, 59.0)}, set()),
        ({"c": (100.0, 75.0), "e": (100.0, 75.0)}, {"c", "e"}),  # 160 dense, 150 and two copies sparse
        ({"c": (100.0, 65.0), "e": (100.0, 65.0)}, set()),  # together they need two copies, alone each would
        ({"c": (100.0, 69.0), "e": (100.0, 69.0), "g": (100.0, 85.0)}, set()),  # the last copy, to y, is spared
        ({"c": (100.0, 40.0), "e": (100.0, 95.0), "g": (100.0, 40.0)}, set()),  # dense would need a copy on either side
        ({"c": (100.0, 99.0)}, {"c"}),
    ],
)
def test_a_sparse_layer_between_dense_ones_pays_for_the_copies(tmp_path: Path, costs, dense):
    assert left_dense(tmp_path, CHAIN, STORED, costs) == dense


def test_a_value_is_copied_once_for_all_its_readers(tmp_path: Path):
    """b goes to a layer and to the sum it is fused with: one copy; the pooling in blocks wants another back."""
    text = """(float[n,4,8,8] x) => (float[n,16,1,1] y) {
        a = Conv(x, first)
        b = Relu(a)
        c = Conv(b, w)
        d = Add(c, b)
        y = GlobalAveragePool(d)
    }"""
    assert left_dense(tmp_path, text, STORED, {"c": (100.0, 61.0)}) == {"c"}
    assert left_dense(tmp_path, text, STORED, {"c": (100.0, 59.0)}) == set()


def test_tokens_are_never_in_blocks(tmp_path: Path):
    """Patches of an image, as ViT, Swin and Mixer make them; so are sums of what has three axes."""
    text = """(float[n,4,8,8] x) => (float[n,64,16] y) {
        a = Conv(x, first)
        c = Conv(a, w)
        f = Reshape(c, flat)
        t = Transpose <perm = [0, 2, 1]> (f)
        s = Sigmoid(t)
        y = Add(t, s)
    }"""
    stored = {**STORED, "flat": np.array([0, 16, -1])}
    # Dense 80, and a copy for f; sparse it is a's result that is copied. Nothing after f costs any.
    assert left_dense(tmp_path, text, stored, {"c": (100.0, 81.0)}) == {"c"}
    assert left_dense(tmp_path, text, stored, {"c": (100.0, 79.0)}) == set()


def test_a_layer_that_is_plain_anyway_is_not_asked_about(tmp_path: Path):
    text = "(float[n,16] x) => (float[n,16] y) { a = MatMul(x, w) y = Relu(a) }"
    assert left_dense(tmp_path, text, {"w": sparse(16, 16)}, {"a": (100.0, 99.9)}) == set()
