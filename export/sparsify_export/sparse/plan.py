"""What was decided, layer by layer: shown to people, and kept in the file that was written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from sparsify.errors import CorruptError
from sparsify_export.sparse.operators import ATTENTION

KEY = "sparsify.plan"
"""The entry of the file's metadata."""
_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One node that multiplies by weights, or the softmax of an attention, and what became of it."""

    name: str
    operator: str
    weight: str
    """Name of its weight in the graph that was given; empty where it has none."""
    shape: tuple[int, ...]
    """(rows, columns) of a layer that could be replaced, (heads, features) of an attention; else the weight's own."""
    sparsity: float | None
    replaced: bool
    reason: str
    """Why it is as it is."""
    kernel: str = ""
    """The kernel that the cost model chose, or `auto`: chosen when the graph is loaded."""
    precision: str = ""
    pattern: str = ""
    fused: tuple[str, ...] = ()
    positions: int = 0
    """Tokens or pixels that it was planned for."""
    dense_us: float | None = None
    """What the dense layer took by itself, or an attention as it is, in microseconds."""
    sparse_us: float | None = None
    """What the cost model expects of the operator; what an attention took as one."""
    dense_bytes: int = 0
    """Of its weights in fp32; 0 where they are another layer's too, and counted there."""
    bytes: int = 0
    """Of its packed weights; 0 likewise."""


@dataclass(frozen=True)
class Plan:
    """Every node of the graph that multiplies by weights, and every attention, in the graph's order."""

    precision: str
    rule: str
    """How it was decided which layers become sparse."""
    rows: tuple[Row, ...]

    @property
    def replaced(self) -> tuple[Row, ...]:
        """The rows of the layers that were replaced."""
        return tuple(row for row in self.rows if row.replaced)

    @property
    def summary(self) -> str:
        """One sentence for people."""
        layers = [row for row in self.rows if row.operator != ATTENTION]
        replaced = [row for row in layers if row.replaced]
        dense, now = (sum(getattr(row, name) for row in replaced) for name in ("dense_bytes", "bytes"))
        share = f", {now / dense:.1%} of their dense bytes" if dense else ""
        words = f"{len(replaced) or 'none'} of {len(layers)} layers replaced{share}: {self.rule}"
        attentions = len(self.rows) - len(layers)
        fused = len(self.replaced) - len(replaced)
        return words + (f"; {fused or 'none'} of {attentions} attentions one operator" if attentions else "")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "version": _VERSION,
            "precision": self.precision,
            "rule": self.rule,
            "summary": self.summary,
            "layers": [{**asdict(row), "shape": list(row.shape), "fused": list(row.fused)} for row in self.rows],
        }


def store(model: onnx.ModelProto, plan: Plan) -> None:
    """Write the plan into the graph's metadata."""
    text = json.dumps(plan.to_json(), allow_nan=False, separators=(",", ":"))
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    for key, value in (*kept, (KEY, text)):
        model.metadata_props.add(key=key, value=value)


def stored_plan(metadata: Sequence[Any]) -> dict[str, Any] | None:
    """The plan among a graph's metadata entries, as `Plan.to_json` wrote it; None where there is none.

    Raises:
        CorruptError: There is one that cannot be read.
    """
    text = next((str(entry.value) for entry in metadata if entry.key == KEY), None)
    if text is None:
        return None
    try:
        found: Any = json.loads(text)
        if found["version"] != _VERSION:
            raise ValueError(f"version {found['version']!r}")
        rows = [Row(**row) for row in found["layers"]]
        return Plan(str(found["precision"]), str(found["rule"]), tuple(rows)).to_json()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptError(f"metadata {KEY}: expected a plan as it was written, got one with {error!r}") from error
