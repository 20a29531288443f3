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
        """The arm's name in results: `rest-scaled-0.1`."""
        return f"{self.arm}-{self.scale:g}" if self.arm == "rest-scaled" else self.arm


def arms(spec: PerturbRestSpec, tickets: Sequence[ProbedTicket], seed: int) -> list[Arm]:
    """Every training of the probe. Arms that draw are repeated `redraws` times, each with a seed of its own."""
    planned: list[Arm] = []
    for ticket in tickets:
        settings: list[tuple[ArmName, float, int]] = [("original", 1.0, 0)]
        settings += [("rest-scaled", scale, 0) for scale in spec.scales if scale != 1.0]
        settings += [(name, 1.0, draw) for name in _DRAWN for draw in range(spec.redraws)]
        planned += [_arm(ticket, seed, *setting) for setting in settings]
    return planned


def _arm(ticket: ProbedTicket, seed: int, name: ArmName, scale: float, draw: int) -> Arm:
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


def measure(
    values: Mapping[str, Any], data: Data, parents: Mapping[str, Path], out: Path, keeper: Keeper
) -> None:
    """Train one arm and write `arm.json` (raw values) and `history.json` into `out`."""
    from sparsify.lottery.search import rewind_step
    from sparsify.lottery.ticket import Ticket
    from sparsify.train.loop import fit

    spec = ArmSpec.model_validate(values)
    ticket, dense = Ticket(parents["ticket"]), Ticket(parents["dense"])
    weights, kept = _start(spec, ticket.mask, dense)
    module = ticket.network.build(weights=weights).to(spec.training.device)
    trained = fit(
        module,
        data,
        spec.training.train,
        seed=spec.order_seed,
        start_step=rewind_step(spec.training, data),
        keeper=keeper,
    )
    write_json(out / "history.json", trained.history.to_json())
    final = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    write_json(out / "arm.json", _what_became(spec, ticket, kept, final, data, trained.history.to_json()))


def _start(spec: ArmSpec, mask: Mask, dense: Ticket) -> tuple[dict[str, Tensor], Mask]:
    """The state dict that the arm begins from, and the set of weights that it keeps."""
    from sparsify.lottery.controls import random_set, shuffled_values

    original = dense.rewind_weights
    if spec.arm in ("original", "ceiling"):
        return original, mask
    if spec.arm == "rest-scaled":
        return {n: original[n].where(mask[n], original[n] * spec.scale) if n in mask else original[n] for n in original}, mask
    redrawn = dense.network.build(seed=derive_seed(spec.draw_seed, "rest")).state_dict()
    kept = random_set(mask, derive_seed(spec.draw_seed, "set")) if spec.arm == "random-kept" else mask
    if spec.arm == "values-shuffled":
        original = shuffled_values(original, mask, derive_seed(spec.draw_seed, "values"))
    return {n: original[n].where(kept[n], redrawn[n]) if n in kept else original[n] for n in original}, kept


def _what_became(
    spec: ArmSpec, ticket: Ticket, kept: Mask, final: dict[str, Tensor], data: Data, history: Mapping[str, Any]
) -> dict[str, Any]:
    from sparsify.masks.mask import chance_iou, iou
    from sparsify.masks.unstructured import keep_like
    from sparsify.train.evaluate import evaluate

    mask = ticket.mask
    found = keep_like(mask, {name: final[name].abs() for name in mask}, overrides={}, scope="per-layer")
    halves = {"ticket": {n: mask[n] for n in mask}, "rest": {n: ~mask[n] for n in mask}}
    alone = {
        half: evaluate(
            ticket.network.build(weights={n: final[n] * sets[n] if n in sets else final[n] for n in final}),
            data.validation,
        ).accuracy
        for half, sets in halves.items()
    }
    return {
        "arm": spec.label,
        "draw": spec.draw,
        "accuracy": history["final_accuracy"],
        "early_stop_step": history["early_stop_step"],
        "early_stop_accuracy": history["early_stop_accuracy"],
        "iou": iou(found, mask),
        "iou_kept": iou(found, kept),
        "iou_chance": chance_iou(found, mask),
        "ticket_weights_alone_accuracy": alone["ticket"],
        "rest_alone_accuracy": alone["rest"],
    }


def conclude(values: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Any]:
    """The verdict and the arms' figures, by level and over all levels.

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
        "all_levels": _judge(rows),
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

    tickets = sorted({(row["replicate"], row["level"]) for row in rows})

    def clusters(arm: str, figure: str) -> list[list[float]]:
        by_ticket = [
            [float(row[figure]) for row in rows if (row["replicate"], row["level"]) == ticket and row["arm"] == arm and figure in row]
            for ticket in tickets
        ]
        return [values for values in by_ticket if values]

    summary: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        figures = {figure: clusters(arm, figure) for figure in _FIGURES}
        summary[arm] = {
            figure: _mean_over_tickets(groups) for figure, groups in figures.items() if groups
        }
    verdict = survival_verdict(clusters("rest-redrawn", "iou"), clusters("ceiling", "iou"), clusters("random-kept", "iou"))
    return {
        "tickets": len(tickets),
        "arms": summary,
        "verdict": verdict.word,
        "reason": verdict.reason,
        "caveat": verdict.caveat,
        "tickets_needed": verdict.tickets_needed,
        "kept_over_ceiling": verdict.ratio.to_json(),
        "kept_minus_random": verdict.difference.to_json(),
    }


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
