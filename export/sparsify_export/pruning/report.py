"""What pruning an ONNX file did, as JSON and as a short text for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sparsify_export.pruning.agreement import Agreement

_LONGEST_NAME = 32
_SHOWN = 40
"""Rows of the text at most; JSON has all."""


@dataclass(frozen=True)
class LayerRow:
    """One stored tensor of two axes or more."""

    name: str
    nodes: tuple[str, ...]
    """The nodes that multiply by it; several where it is tied."""
    shape: tuple[int, ...]
    """As stored."""
    dtype: str
    asked: float | None
    """Sparsity asked of it; None where layers competed, or where it was skipped."""
    achieved: float
    """Fraction of its values that are zero in the file written; 0 for what was skipped and never read."""
    skipped: str = ""
    """Why it was left as it was; empty where it was pruned."""
    also_read_by: tuple[str, ...] = ()
    """What else reads a pruned tensor, and so has changed too."""

    @property
    def elements(self) -> int:
        """Number of its values."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class OnnxPruned:
    """A pruned ONNX file, and how it compares with the dense one."""

    source: str
    out: str
    pattern: str
    criterion: str
    allocation: str
    asked: float
    """Sparsity asked for."""
    rows: tuple[LayerRow, ...]
    agreement: Agreement
    calibration: int
    """Examples that the criterion looked at."""
    file_bytes: tuple[int, int]
    """Dense and pruned, with the files of weights beside them: equal, since zeros are stored in place."""

    @property
    def pruned(self) -> tuple[LayerRow, ...]:
        """The tensors that were pruned."""
        return tuple(row for row in self.rows if not row.skipped)

    @property
    def achieved(self) -> float:
        """Fraction of zeros over the weights: of pruned layers, and of those that were skipped although weights."""
        return _zeros([row for row in self.rows if row.nodes])

    @property
    def achieved_in_pruned(self) -> float:
        """Fraction of zeros over the layers that were pruned."""
        return _zeros(self.pruned)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; units in the names."""
        return {
            "source": self.source,
            "out": self.out,
            "pattern": self.pattern,
            "criterion": self.criterion,
            "allocation": self.allocation,
            "sparsity": {"asked": self.asked, "achieved": self.achieved, "in_pruned_layers": self.achieved_in_pruned},
            "weights": sum(row.elements for row in self.rows if row.nodes),
            "layers": [{**asdict(row), "elements": row.elements} for row in self.rows],
            "calibration_examples": self.calibration,
            "agreement": self.agreement.to_json(),
            "bytes": {"dense": self.file_bytes[0], "pruned": self.file_bytes[1]},
            "statement": f"{self.agreement.statement}; zeros are stored in place, so the file is no smaller, and speed "
            "is for bench to measure",
        }

    def text(self) -> str:
        """A table of layers, the totals and what they mean."""
        cells = [("weight", "node", "shape", "asked  zeros"), *map(_cells, self.rows[:_SHOWN])]
        widths = [max(len(row[column]) for row in cells) for column in range(3)]
        lines = [
            "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])) for row in cells
        ]
        if len(self.rows) > _SHOWN:
            lines.append(f"... and {len(self.rows) - _SHOWN} more, all in the JSON")
        lines.append(
            f"{self.pattern}, {self.criterion}: asked {self.asked:.1%}, achieved {self.achieved:.1%} of "
            f"{sum(row.elements for row in self.rows if row.nodes):,} weights, in {len(self.pruned)} layers"
        )
        for one in self.agreement.outputs:
            cosine = "" if one.cosine is None else f", cosine {one.cosine:.4f} (lowest {one.cosine_lowest:.4f})"
            same = "" if one.argmax_agreement is None else f", same class {one.argmax_agreement:.1%}"
            apart = "" if one.max_abs_difference is None else f", largest difference {one.max_abs_difference:.3g}"
            lines.append(f"output {one.name}{cosine}{same}{apart}")
        return "\n".join([*lines, self.agreement.statement, f"wrote {self.out}"])


def _cells(row: LayerRow) -> tuple[str, str, str, str]:
    name, node, shape = _short(row.name), _short(row.nodes[0] if row.nodes else ""), "x".join(map(str, row.shape))
    if row.skipped:
        return name, node, shape, f"skipped: {row.skipped}"
    asked = "     " if row.asked is None else f"{row.asked:5.0%}"
    tied = f"  tied: {', '.join(row.nodes)}" if len(row.nodes) > 1 else ""
    also = f"  also read by {', '.join(row.also_read_by)}" if row.also_read_by else ""
    return name, node, shape, f"{asked}  {row.achieved:5.1%}{tied}{also}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"


def _zeros(rows: Sequence[LayerRow]) -> float:
    elements = sum(row.elements for row in rows)
    return sum(row.achieved * row.elements for row in rows) / elements if elements else 0.0
