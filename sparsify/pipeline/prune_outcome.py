"""What a finished prune run says: metrics, report and manifest, written last and in that order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.data.preprocessing import Preprocessing
from sparsify.machine import environment, versions
from sparsify.masks.overrides import competing
from sparsify.pipeline.outcome import (
    DISTRIBUTIONS,
    Outcome,
    latency_result,
    parity_figures,
    present,
    read_json,
    training_precision,
)
from sparsify.pipeline.prune_plan import DENSE, TEST, PrunePlan
from sparsify.pipeline.prune_read import difference, drop_of, read_scores, read_size, read_speed, what_counts
from sparsify.pipeline.prune_search import Chosen
from sparsify.pipeline.prune_verdict import CLOSE, Verdict, at_least, at_most, both, judge_time
from sparsify.pipeline.stage import Stage
from sparsify.recipe.emit import resolved_yaml
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.report.prune_metrics import build_prune_metrics
from sparsify.report.prune_page import render_prune_report
from sparsify.report.prune_results import Layer, NetworkResult, PruneResults, TargetResult
from sparsify.report.results import SizeResult
from sparsify.stats import Interval, clopper_pearson, mean_interval
from sparsify.store.atomic import write_json, write_text
from sparsify.store.layout import METRICS, MODEL, REPORT
from sparsify.store.run import Run


def write_prune_outcome(run: Run, plan: PrunePlan, chosen: Chosen) -> Outcome:
    """Build the metrics from the stages; write `metrics.json`, `report.html`, and the manifest last."""
    recipe, root = plan.recipe, run.root
    where = environment() | {"versions": present(versions(*DISTRIBUTIONS, "torch-pruning"))}
    recovered = Path(chosen.network.path).name == "recovered"
    if recovered:
        where |= training_precision([read_json(root / chosen.network.path / "history.json")])
    targets = recipe.export.targets
    sizes = read_json(root / "export" / targets[0] / "sizes.json")
    drop = drop_of(root / DENSE, root / chosen.network.path)
    results = PruneResults(
        name=recipe.name,
        description=recipe.description,
        model=recipe.trained.model,
        data=recipe.data.source,
        preprocessing=Preprocessing.load(root / MODEL).told,
        seed=recipe.seed,
        task=recipe.task,
        labelled=_labelled(recipe.task),
        removal=recipe.removal.model_dump(mode="json"),
        recovery=recipe.recovery_told if recovered else "none",
        networks=tuple(_networks(root, chosen)),
        drop=drop,
        test_drop=difference(read_scores(root / TEST, "dense"), read_scores(root / TEST, "model")),
        sparsity=_sparsity(root, chosen.network),
        macs_fraction=_fraction(root, chosen.network, "macs"),
        parameters_fraction=_fraction(root, chosen.network, "parameters"),
        target=_target(root, recipe, chosen, drop),
        trials=chosen.trials,
        layers=tuple(_layers(root, chosen.network)),
        report=_prune_report(root, chosen.network),
        sizes=SizeResult(sizes["dense_fp32"], sizes["masked"], sizes["packed"], sizes["shrunk"], sizes["onnx"]),
        size_of=what_counts(recipe),
        parity={name: parity_figures(read_json(root / "export" / name / "parity.json")) for name in targets},
        latency=tuple(latency_result(root, target) for target in targets),
        environment=where,
    )
    metrics = build_prune_metrics(results)
    write_json(root / METRICS, metrics)
    write_text(root / REPORT, render_prune_report(metrics, recipe=resolved_yaml(recipe)))
    run.write_manifest({"environment": where, "seeds": {"recipe": recipe.seed}, "versions": where["versions"]})
    return Outcome(metrics, root / REPORT)


def _labelled(task: str) -> bool:
    from sparsify.train.task_catalogue import TASKS

    return TASKS[task].labelled


def _networks(root: Path, chosen: Chosen) -> list[NetworkResult]:
    """Dense, pruned, and recovered where it was."""
    folders = {"dense": DENSE, "pruned": f"{Path(chosen.network.path).parent}/pruned"}
    if Path(chosen.network.path).name == "recovered":
        folders["recovered"] = chosen.network.path
    return [
        NetworkResult(
            name,
            read_json(root / folder / "score.json")["metric"],
            _quality(read_scores(root / folder, "validation")),
            read_json(root / folder / "facts.json")["macs"],
            read_json(root / folder / "facts.json")["parameters"],
        )
        for name, folder in folders.items()
    ]


def _quality(scores: NDArray[np.float32]) -> Interval:
    """Mean over examples: exact where each is right or wrong, else by Student's t."""
    right = int((scores == 1).sum())
    if right + int((scores == 0).sum()) == scores.size:
        return clopper_pearson(right, scores.size)
    return mean_interval(scores)


def _sparsity(root: Path, network: Stage) -> float:
    """Fraction of the dense network's prunable weights that is gone or zero."""
    report = _prune_report(root, network)
    if "sparsity" in report:  # channels: counted over attention in separate projections too, where facts have it packed
        return report["sparsity"]
    dense, left = (read_json(root / folder / "facts.json") for folder in (DENSE, network.path))
    return 1 - left["kept"] / dense["prunable"]


def _competing(root: Path, recipe: PruneRecipe, network: Stage) -> float:
    """The sparsity of the layers that the recipe's `sparsity` speaks of."""
    report = _prune_report(root, network)
    if "sparsity" in report:  # channels: of the whole network
        return _sparsity(root, network)
    dense, left = (read_json(root / folder / "facts.json")["layers"] for folder in (DENSE, network.path))
    names = competing(dense, report["skipped"], recipe.removal.overrides)
    return 1 - sum(left[name]["kept"] for name in names) / max(sum(dense[name]["kept"] for name in names), 1)


def _fraction(root: Path, network: Stage, fact: str) -> float:
    dense, left = (read_json(root / folder / "facts.json")[fact] for folder in (DENSE, network.path))
    return left / dense


def _layers(root: Path, network: Stage) -> list[Layer]:
    dense, left = (read_json(root / folder / "facts.json")["layers"] for folder in (DENSE, network.path))
    return [
        Layer(name, facts["shape"], left[name]["shape"], 1 - left[name]["kept"] / facts["kept"])
        for name, facts in dense.items()
        if name in left
    ]


def _prune_report(root: Path, network: Stage) -> dict[str, Any]:
    return read_json(root / Path(network.path).parent / "pruned" / "prune.json")


def _target(root: Path, recipe: PruneRecipe, chosen: Chosen, drop: Interval) -> TargetResult:
    """Asked against achieved, on the network that is kept."""
    target, sparsity = recipe.target, recipe.sparsity
    kind = "sparsity" if sparsity is not None else target.kind
    asked = sparsity if sparsity is not None else target.asked
    achieved, outcome = _achieved(root, recipe, kind, asked, chosen)
    reason, wanted = chosen.reason, chosen.wanted
    if outcome != "met" and chosen.met and wanted is None and kind in ("speedup", "latency_ms"):
        outcome, reason = "inconclusive", f"{reason}; timed again, it did not meet it: ask for a little less"
    if target.max_drop is not None:
        outcome = both(outcome, at_most(target.max_drop, drop))
        if wanted is not None and wanted.outcome == "met" and wanted.drop is not None and outcome == "missed":
            # what would meet the target is neither allowed nor refused by its drop
            outcome = both("inconclusive", at_most(target.max_drop, wanted.drop))
    return TargetResult(
        kind,
        asked,
        achieved,
        target.max_drop,
        outcome,
        reason,
        None if wanted is None else wanted.sparsity,
        None if wanted is None else wanted.drop,
        wanted is not None and wanted.outcome == "met",
    )


def _achieved(root: Path, recipe: PruneRecipe, kind: str, asked: float, chosen: Chosen) -> tuple[Interval, Verdict]:
    """What was measured of the target, and what that says; a sparsity counts over the layers that compete.

    Sizes and times are those of the first target.
    """
    network, first = chosen.network, recipe.export.targets[0]
    if kind in ("sparsity", "macs"):
        value = _competing(root, recipe, network) if kind == "sparsity" else _fraction(root, network, "macs")
        exact = Interval(value, value, value, 0.95, 1, "counted")
        return exact, at_least(asked - CLOSE, exact) if kind == "sparsity" else at_most(asked, exact)
    if kind == "size":
        size = read_size(root / "export" / first, recipe)
        return size, at_most(asked, size)
    measured = read_speed(root / "latency" / first)
    return measured.speedup if kind == "speedup" else measured.latency_ms, judge_time(recipe.target, measured)
