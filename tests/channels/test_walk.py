from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cases_channels import TOKENS, lively
from sparsify.channels.preflight import preflight
from sparsify.channels.walk import UnsettledError, walk


@dataclass(frozen=True)
class Index:
    idx: int
    root_idx: int | None


@dataclass(eq=False)
class Node:
    name: str
    _name: str | None = None
    dependencies: list[Edge] = field(default_factory=list)


@dataclass(eq=False)
class Edge:
    target: Node
    index_mapping: list[Any]
    handler: str = "cut"

    def is_triggered_by(self, handler: str) -> bool:
        return handler == "cut"


def shifted(by: int) -> Any:
    return lambda indices: [Index(i.idx + by, i.root_idx) for i in indices]


def test_places_are_gathered_over_all_ways():
    a, b = Node("a"), Node("b")
    a.dependencies = [Edge(b, [None, None]), Edge(b, [shifted(2), None])]
    b.dependencies = [Edge(a, [None, None])] * 0
    found = walk(a, "cut", [Index(0, 0), Index(1, 1)], unread=(), most=9)
    assert [(item.node.name, item.places) for item in found] == [
        ("a", {0: (0,), 1: (1,)}),
        ("b", {0: (0, 2), 1: (1, 3)}),
    ]


def test_a_single_channel_that_is_spread_over_several_is_not_coupled_with_them():
    a, gate = Node("a"), Node("gate")
    a.dependencies = [Edge(gate, [None, None])]
    both = [Index(0, 0), Index(1, 1)]
    assert [item.node for item in walk(a, "cut", both, unread=(), most=9, single={(gate, "cut")})] == [a]
    assert [item.node for item in walk(a, "cut", both[:1], unread=(), most=9, single={(gate, "cut")})] == [a, gate]


def test_a_walk_that_moves_on_at_each_turn_is_given_up():
    a, b = Node("a"), Node("b", "attention")
    a.dependencies, b.dependencies = [Edge(b, [shifted(1)])], [Edge(a, [shifted(1)])]
    with pytest.raises(UnsettledError, match=r"around (a|attention)"):
        walk(a, "cut", [Index(0, 0)], unread=(), most=9)


@pytest.mark.parametrize(
    "mapping, message",
    [
        (lambda _: [Index(0, None)], "around b"),
        (lambda _: [Index(i, 0) for i in range(10)], "around b"),
        (lambda _: [][1], "around a"),
    ],
    ids=["loses the root", "wider than any layer", "raises"],
)
def test_what_the_mapping_does_not_understand_ends_the_walk(mapping: Any, message: str):
    a, b = Node("a"), Node("_b_7()", "b")
    a.dependencies = [Edge(b, [mapping])]
    with pytest.raises(UnsettledError, match=message):
        walk(a, "cut", [Index(0, 0)], unread=(), most=9)


class Grouped(nn.Module):
    """Grouped queries as transformers writes them, with a heads' count that is no attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        q = self.a(x).view(*x.shape[:2], 4, 4).transpose(1, 2)
        k, v = (
            layer(x).view(*x.shape[:2], 2, 4).transpose(1, 2)[:, :, None].expand(-1, 2, 2, -1, -1).reshape(q.shape)
            for layer in (self.b, self.c)
        )
        y = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.d(y.transpose(1, 2).reshape(x.shape)).mean(1)


def test_torch_prunings_walk_over_grouped_queries_did_not_end():
    found = preflight(lively(Grouped()), TOKENS)
    assert found.groups == ()
    assert set(found.skipped) == {"a", "b", "c", "d"}
    assert torch.is_grad_enabled()
