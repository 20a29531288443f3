"""`preflight`: which layers can be pruned, which only together, which not and why, and how far; nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from sparsify.api.given import copied, inputs_of
from sparsify.api.output import Transform, check_output, transform_output
from sparsify.channels.followed import require_groups
from sparsify.channels.group import shown
from sparsify.channels.macs import count_macs
from sparsify.channels.mask import mask_channels
from sparsify.channels.preflight import Row, check_globs, matches
from sparsify.channels.preflight import preflight as follow
from sparsify.channels.reach import Reach, beyond, only_masked, reach
from sparsify.channels.untraceable import Untraceable
from sparsify.criteria.context import Context
from sparsify.criteria.magnitude import magnitude
from sparsify.criteria.untouched import device_of
from sparsify.masks.overrides import globs_of, shares_of
from sparsify.masks.plan import plan
from sparsify.models.build import input_axes, prunable, unprunable
from sparsify.recipe.pattern import Pattern

_NEARLY_ALL = 1 - 1e-9


@dataclass(frozen=True)
class PreflightReport:
    """What can be pruned, and how far. `str` of it is a table for people.

    Attributes:
        pattern: as a recipe writes it.
        rows: every layer with weights, in module order: `prunable`, `coupled` (with which), or `skipped` (why).
        reach: the most that can go of the prunable weights, and the share of MACs that then remains.
        masked_because: of channels, why they can only be masked; empty where they can be removed.
    """

    pattern: str
    rows: tuple[Row, ...]
    reach: Reach
    masked_because: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def beyond(self, asked: Mapping[str, float], *, round_to: int) -> str:
        """Why channels cannot meet what is asked for, `sparsity` or `macs`, by this reach; empty where they can."""
        if "macs" in asked and self.masked_because:
            return only_masked(self.masked_because)
        skipped = {row.module: row.reason for row in self.rows if row.status == "skipped"}
        return beyond(asked, sparsity=self.reach.sparsity, macs=self.reach.macs, round_to=round_to, skipped=skipped)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        name, kind = (max(map(len, column), default=0) for column in zip(*_cells(self.rows), strict=True))
        for row in self.rows:
            why = f" with {row.reason}" if row.status == "coupled" else f": {row.reason}" if row.reason else ""
            yield f"{shown(row.module):<{name}}  {row.kind:<{kind}}  {row.width:>6}  {row.status}{why}"
        if self.masked_because:
            zeros = "their weights are zero, their biases stay, no work is saved"
            yield f"Channels can only be masked ({zeros}): {self.masked_because}"
        most = f"At most {self.reach.sparsity:.2%} of {self.reach.weights:,} prunable weights can go"
        left = f"{self.reach.macs:.2%} of {self.reach.macs_dense:,} MACs are left then"
        zeros = "zeros leave all MACs to a runtime that is not made for them"
        removed = self.pattern == "channel" and not self.masked_because
        yield f"{self.pattern}: {most}; {left if removed else zeros}."


def preflight(
    model: nn.Module,
    example: Tensor,
    *,
    pattern: str | Pattern = "channel",
    keep: str | Sequence[str] = (),
    overrides: Mapping[str, float] | None = None,
    round_to: int = 1,
    output_transform: Transform | None = None,
) -> PreflightReport:
    """What `prune` could remove of a network, and how much at most. The network is not changed.

    Example:
        >>> print(sparsify.preflight(model, images[:2]))

    Args:
        model: the network, wherever it is.
        example: inputs (N, ...), two or more, that it takes; of channels every removal is tried on them, on a copy.
        pattern: `channel`, `unstructured`, `n:m` or `block:RxC`.
        keep: as `prune` takes it.
        overrides: as `prune` takes them.
        round_to: as `prune` takes it.
        output_transform: as `prune` takes it.

    Raises:
        UsageError: an argument makes no sense or does not fit the network.
    """
    pattern = Pattern.of(pattern)
    work = copied(model)
    example = inputs_of("example", example).to(device_of(work))
    if output_transform is not None:
        transform_output(work, output_transform)
    check_output(work, example[:2], "example")
    shares, keep = shares_of("overrides", overrides), globs_of("keep", keep)
    if pattern.kind != "channel":
        return _of_mask(work, example, pattern, keep, shares)
    try:
        found = follow(work, example, keep=keep)
        require_groups(work, example, found, keep)
    except Untraceable as error:
        return _of_channel_mask(work, example, keep, shares, round_to, str(error))
    far = reach(work, example, found, round_to=round_to, overrides=shares)
    return PreflightReport("channel", tuple(_rounded(row, far.narrow) for row in found.rows), far)


def _rounded(row: Row, narrow: Mapping[str, str]) -> Row:
    """The row, skipped where the rounding leaves the layer whole, or the one that it is coupled with."""
    root = row.reason if row.status == "coupled" else row.module
    if row.status == "skipped" or root not in narrow:
        return row
    why = narrow[root] if root == row.module else f"coupled with {root}: {narrow[root]}"
    return replace(row, status="skipped", reason=why)


def _of_mask(
    work: nn.Module, example: Tensor, pattern: Pattern, keep: Sequence[str], overrides: Mapping[str, float]
) -> PreflightReport:
    """By a mask of single weights, n:m or blocks: what the pattern fits."""
    check_globs("keep", keep, work)
    weights = {name: work.get_parameter(name) for name in prunable(work)}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    kept = {name: 0.0 for name in shapes for glob in keep if matches(name.rpartition(".")[0], glob)}
    half = None if pattern.sparsity is not None else 0.5  # any: only what is skipped is asked
    shares = {**overrides, **kept}
    axes = input_axes(work)
    skipped = plan(shapes, pattern=pattern, sparsity=half, allocation="uniform", overrides=shares, axes=axes).skipped
    free = sum(weight.numel() for name, weight in weights.items() if name not in skipped)
    total = sum(weight.numel() for weight in weights.values())
    most = free * (pattern.sparsity or 1) / total
    rows = [_row(work, name, axes, skipped.get(name, "")) for name in weights]
    rows += _unprunable(work)
    return PreflightReport(str(pattern), tuple(rows), _unsaved(work, example, most, total))


def _of_channel_mask(
    work: nn.Module, example: Tensor, keep: Sequence[str], overrides: Mapping[str, float], round_to: int, why: str
) -> PreflightReport:
    """Where channels cannot be followed: the weights of whole outputs at zero."""
    names = prunable(work)
    masked = mask_channels(
        work,
        example,
        sparsity=_NEARLY_ALL,
        scores=magnitude(Context(work, names, seed=0)),
        keep=keep,
        overrides=overrides,
        round_to=round_to,
        or_most=True,
    )
    axes = input_axes(work)
    rows = [_row(work, name, axes, masked.skipped.get(name.rpartition(".")[0], "")) for name in names]
    rows += _unprunable(work)
    return PreflightReport(
        "channel", tuple(rows), _unsaved(work, example, masked.mask.sparsity, masked.mask.total), why
    )


def _unsaved(work: nn.Module, example: Tensor, sparsity: float, weights: int) -> Reach:
    return Reach(sparsity, 1.0, weights, count_macs(work, example[:1]).total)


def _row(work: nn.Module, name: str, axes: Mapping[str, int], skipped: str) -> Row:
    module = name.rpartition(".")[0]
    width = work.get_parameter(name).shape[1 - axes.get(name, 1)]
    kind = type(work.get_submodule(module)).__name__
    return Row(module, kind, width, "skipped" if skipped else "prunable", skipped)


def _unprunable(work: nn.Module) -> list[Row]:
    return [Row(name, "Parameter", 0, "skipped", why) for name, why in unprunable(work).items()]


def _cells(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(shown(row.module), row.kind) for row in rows] or [("", "")]
