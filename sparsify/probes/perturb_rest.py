"""Does the ticket survive when the rest of the network changes?

A test of a claim, not a replication: "winning tickets can be made to fail by perturbing the rest of the network"
(Martinelli, Brea, Gerstner 2026, The Puzzling Success of Overparameterization: Lottery Tickets or Escape Dimensions?).
The paper's own perturbation protocol could not be read.

Each arm trains the *dense* network from the ticket's rewind point, the mask never applied, and then asks what became
of the ticket: is it what magnitude pruning finds again?

| arm | starts from |
|---|---|
| `ticket-alone` | the ticket, masked: its own training, read and not repeated; the reference |
| `original` | the dense network as it was |
| `ceiling` | the same under a new data order: what of the ticket survives mere SGD noise |
| `rest-redrawn` | the ticket kept, the rest redrawn from the initial distribution |
| `rest-scaled-S` | the ticket kept, the rest times S; S = 1 is `original` and is not trained twice |
| `random-kept` | control: a random set of the same per-layer density kept, the rest redrawn |
| `values-shuffled` | control: the ticket's values shuffled within their positions, the rest redrawn |
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sparsify.errors import DivergedError
from sparsify.lottery.training_spec import TrainingSpec
from sparsify.probes.probe import Arm, Probe, ProbedTicket
from sparsify.recipe.spec import PerturbRestSpec, Spec
from sparsify.seeds import derive_seed
from sparsify.store.atomic import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from sparsify.data.load import Data
    from sparsify.lottery.ticket import Ticket
    from sparsify.masks.mask import Mask
    from sparsify.train.keeper import Keeper

ArmName = Literal["original", "ceiling", "rest-redrawn", "rest-scaled", "random-kept", "values-shuffled"]
_DRAWN: tuple[ArmName, ...] = ("ceiling", "rest-redrawn", "random-kept", "values-shuffled")

WHY_NOT_ACCURACY = (
    "Accuracy alone cannot show a ticket failing at this width: a dense network whose rest is redrawn is just another "
    "dense network, and trains. Survival is read from the mask that pruning finds again (IoU with the ticket)."
)


class ArmSpec(Spec):
    """All that determines one arm."""

    arm: ArmName = Field(description="What is kept and what is changed.")
    scale: float = Field(default=1.0, description="Factor of the rest in `rest-scaled`.")
    draw: int = Field(default=0, description="Which redraw this is.")
    training: TrainingSpec = Field(description="The ticket's own training.")
    order_seed: int = Field(description="Seed of the data order.")
    draw_seed: int = Field(description="Seed of what is redrawn, chosen or shuffled.")

    @property
    def label(self) -> str:
        """The arm's name in results and folders: `rest-scaled-0.1`. Different scales have different names."""
        if self.arm != "rest-scaled":
            return self.arm
        short = f"{self.scale:g}"
        return f"{self.arm}-{short if float(short) == self.scale else repr(self.scale)}"


def arms(spec: PerturbRestSpec, tickets: Sequence[ProbedTicket], seed: int) -> list[Arm]:
    """Every training of the probe. Arms that draw are repeated `redraws` times, each with a seed of its own."""
    planned: list[Arm] = []
    for ticket in tickets:
        planned.append(_arm(ticket, seed, "original"))
        planned += [_arm(ticket, seed, "rest-scaled", scale=s) for s in dict.fromkeys(spec.scales) if s != 1.0]
        planned += [_arm(ticket, seed, name, draw=draw) for name in _DRAWN for draw in range(spec.redraws)]
    return planned


def _arm(ticket: ProbedTicket, seed: int, name: ArmName, *, scale: float = 1.0, draw: int = 0) -> Arm:
    # The draw's seed does not name the arm: `rest-redrawn`, `random-kept` and `values-shuffled` meet the same redrawn
    # network, so that they differ in what was kept and in nothing else.
    draw_seed = derive_seed(seed, "perturb-rest", ticket.label, draw)
    order = ticket.training.order_seed
    spec = ArmSpec(
        arm=name,
        scale=scale,
        draw=draw,
        training=ticket.training,
        order_seed=derive_seed(draw_seed, "order") if name == "ceiling" else order,
        draw_seed=draw_seed,
    )
    path = f"{ticket.label}/{spec.label}" + (f"_{draw}" if name in _DRAWN else "")
    return Arm(path, ticket, spec, {"order": spec.order_seed, "draw": draw_seed})


def measure(values: Mapping[str, Any], data: Data, parents: Mapping[str, Path], out: Path, keeper: Keeper) -> None:
    """Train one arm and write `arm.json` (raw values) and `history.json` into `out`.

    That training diverges from a start as odd as `rest-scaled-10` is an outcome, no failure: `arm.json` then says so.
    """
    from sparsify.lottery.search import rewind_step
    from sparsify.lottery.ticket import Ticket
    from sparsify.train.loop import fit

    spec = ArmSpec.model_validate(values)
    ticket, dense = Ticket(parents["ticket"]), Ticket(parents["dense"])
    weights, kept = arm_start(spec, ticket.mask, dense)
    module = ticket.network.build(weights=weights).to(spec.training.device)
    start, settings = rewind_step(spec.training, data), spec.training.train
    try:
        trained = fit(module, data, settings, seed=spec.order_seed, start_step=start, keeper=keeper)
    except DivergedError as error:
        write_json(out / "arm.json", {"arm": spec.label, "draw": spec.draw, "diverged": str(error)})
        return
    write_json(out / "history.json", trained.history.to_json())
    final = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    write_json(out / "arm.json", _what_became(spec, ticket, kept, final, data, trained.history.to_json()))


def arm_start(spec: ArmSpec, mask: Mask, dense: Ticket) -> tuple[dict[str, Tensor], Mask]:
    """The state dict that the arm begins from, and the set of weights that it keeps."""
    from sparsify.lottery.controls import random_set, shuffled_values

    original = dense.rewind_weights
    if spec.arm in ("original", "ceiling"):
        return original, mask
    if spec.arm == "rest-scaled":
        return _joined(original, mask, {name: original[name] * spec.scale for name in mask}), mask
    redrawn = dense.network.build(seed=derive_seed(spec.draw_seed, "rest")).state_dict()
    kept = random_set(mask, derive_seed(spec.draw_seed, "set")) if spec.arm == "random-kept" else mask
    if spec.arm == "values-shuffled":
        original = shuffled_values(original, mask, derive_seed(spec.draw_seed, "values"))
    return _joined(original, kept, redrawn), kept


def _joined(inside: Mapping[str, Tensor], mask: Mask, outside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`inside` where `mask` keeps, `outside` where it does not; what is not prunable, and buffers, from `inside`."""
    return {
        name: tensor.where(mask[name], outside[name]) if name in mask else tensor for name, tensor in inside.items()
    }


def _what_became(
    spec: ArmSpec, ticket: Ticket, kept: Mask, final: dict[str, Tensor], data: Data, history: Mapping[str, Any]
) -> dict[str, Any]:
    """The raw values of one arm: is the ticket what magnitude pruning finds again, and what can each half do alone?"""
    from sparsify.masks.mask import Mask, chance_iou, iou
    from sparsify.masks.unstructured import keep_like
    from sparsify.train.evaluate import evaluate

    def accuracy_alone(half: Mask) -> float:
        module = ticket.network.build(weights=final).to(spec.training.device)
        half.apply_(module)
        return evaluate(module, data.validation).accuracy

    mask = ticket.mask
    found = keep_like(mask, {name: final[name].abs() for name in mask}, overrides={}, scope="per-layer")
    return {
        "arm": spec.label,
        "draw": spec.draw,
        "accuracy": history["final_accuracy"],
        "early_stop_step": history["early_stop_step"],
        "early_stop_accuracy": history["early_stop_accuracy"],
        "iou": iou(found, mask),
        "iou_kept": iou(found, kept),
        "iou_chance": chance_iou(found, mask),
        "ticket_weights_alone_accuracy": accuracy_alone(mask),
        "rest_alone_accuracy": accuracy_alone(Mask({name: ~kept for name, kept in mask.items()})),
    }


def conclude(values: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Any]:
    """The verdict and the arms' figures, by level.

    Of several levels there is no verdict together: tickets of one replicate are nested and share their dense network,
    so they are no independent tickets.

    Args:
        values: the probe's spec, as plain values.
        folders: `LABEL/ARM` -> folder of an arm, and `LABEL/ticket-alone` -> folder of the ticket itself, where LABEL
            is `replicate_0/level_03`.
    """
    spec = PerturbRestSpec.model_validate(values)
    rows = [_row(role, folder) for role, folder in sorted(folders.items())]
    levels = {f"level_{level:02d}": _judge([row for row in rows if row["level"] == level]) for level in spec.levels}
    return {
        "probe": "perturb-rest",
        "note": WHY_NOT_ACCURACY,
        "scale_1_is": "original",
        "all_levels": _judge(rows) if len(spec.levels) == 1 else {},
        "levels": levels,
        "rows": rows,
    }


def _row(role: str, folder: Path) -> dict[str, Any]:
    """Raw values of one arm, with the ticket they belong to."""
    replicate, level, arm = role.split("/")
    where = {"replicate": int(replicate.split("_")[1]), "level": int(level.split("_")[1])}
    if arm != "ticket-alone":
        return where | json.loads((folder / "arm.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    return where | {
        "arm": arm,
        "draw": 0,
        "accuracy": history["final_accuracy"],
        "early_stop_step": history["early_stop_step"],
        "early_stop_accuracy": history["early_stop_accuracy"],
        "iou": 1.0,
        "ticket_weights_alone_accuracy": history["final_accuracy"],
    }


_FIGURES = (
    "accuracy",
    "early_stop_step",
    "iou",
    "iou_kept",
    "iou_chance",
    "ticket_weights_alone_accuracy",
    "rest_alone_accuracy",
)


def _judge(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arms with intervals clustered by ticket, and the verdict."""
    from sparsify.stats import survival_verdict

    arms = {arm: _figures(rows, arm) for arm in dict.fromkeys(row["arm"] for row in rows)}
    judged = [_by_ticket(rows, arm, "iou") for arm in ("rest-redrawn", "ceiling", "random-kept")]
    # A ticket is judged where each of the three arms trained at least once without diverging.
    tickets = [ticket for ticket in judged[0] if all(ticket in arm for arm in judged)]
    if not tickets:
        return {"tickets": 0, "arms": arms, "verdict": "undecided", "reason": "training diverged with every ticket"}
    verdict = survival_verdict(*([arm[ticket] for ticket in tickets] for arm in judged))
    lost = sum("diverged" in row for row in rows if row["arm"] in ("rest-redrawn", "ceiling", "random-kept"))
    return {
        "tickets": len(tickets),
        "arms": arms,
        "verdict": verdict.word,
        "reason": verdict.reason,
        "caveat": "; ".join(filter(None, [verdict.caveat, f"{lost} draws diverged and are left out" if lost else ""])),
        "tickets_needed": verdict.tickets_needed,
        "kept_over_ceiling": verdict.ratio.to_json(),
        "kept_minus_random": verdict.difference.to_json(),
    }


def _figures(rows: Sequence[Mapping[str, Any]], arm: str) -> dict[str, Any]:
    """Each figure of an arm with its interval, and the share of draws that diverged where any did."""
    from sparsify.stats import clopper_pearson

    found = {figure: list(_by_ticket(rows, arm, figure).values()) for figure in _FIGURES}
    figures = {figure: _mean_over_tickets(groups) for figure, groups in found.items() if groups}
    draws = [row for row in rows if row["arm"] == arm]
    if diverged := sum("diverged" in row for row in draws):
        figures["diverged_share"] = clopper_pearson(diverged, len(draws)).to_json()
    return figures


def _by_ticket(rows: Sequence[Mapping[str, Any]], arm: str, figure: str) -> dict[tuple[int, int], list[float]]:
    """(replicate, level) of a ticket, in order -> the figure in each draw of the arm."""
    groups: dict[tuple[int, int], list[float]] = {}
    for row in sorted(rows, key=lambda row: (row["replicate"], row["level"])):
        if row["arm"] == arm and figure in row:
            groups.setdefault((row["replicate"], row["level"]), []).append(float(row[figure]))
    return groups


def _mean_over_tickets(groups: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean over tickets of each ticket's mean over its draws, its interval by resampling tickets."""
    import numpy as np

    from sparsify.stats import summary_bootstrap

    means = np.array([[np.mean(values)] for values in groups])
    return summary_bootstrap(means, lambda table: table[..., 0].mean(axis=1), seed=0).to_json()


PERTURB_REST = Probe(
    summary="Train the dense network with the ticket kept and the rest redrawn or scaled: is the ticket found again?",
    arms=arms,
    measure=measure,
    conclude=conclude,
)
