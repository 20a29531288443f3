"""A run at a glance: what is complete of what its recipe asks for. Torch-free: masks are counted with NumPy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError
from sparsify.pipeline.inspection.layers import sparsity
from sparsify.pipeline.inspection.stage import told
from sparsify.pipeline.plan import control_path, probe_path, ticket_path
from sparsify.report.read import span
from sparsify.store.layout import METRICS, MODEL, walk
from sparsify.store.run import Run
from sparsify.store.stage import StageRecord


def describe_run(root: Path) -> dict[str, Any]:
    """The document of a run folder.

    Raises:
        CorruptError: The resolved recipe, a stage's record or a mask is damaged.
        InputOutputError: It cannot be read.
    """
    run = Run.load(root)
    stages = run.stages()
    manifest = run.manifest()
    recipe = run.recipe
    is_prune = recipe.get("kind") == "prune"
    return {
        "kind": "run",
        "run_kind": "prune" if is_prune else "tickets",
        "path": str(root),
        "name": recipe.get("name"),
        "model": recipe.get("model", recipe.get("trained", {}).get("model")),
        "data": recipe.get("data"),
        "preprocessing": told(root / MODEL),
        "seed": recipe.get("seed"),
        "finished": manifest is not None,
        "environment": (manifest or {}).get("environment"),
        "levels": [] if is_prune else _levels(run, stages),
        "controls": _controls(recipe, stages),
        "other_stages": _stages_of_prune(recipe, stages) if is_prune else _others(recipe, stages),
        "asked": _asked(root) if is_prune and manifest is not None else None,
        "complete": dict(sorted(Counter(record.kind for record in stages.values()).items())),
        "stages": [_stage(path, record) for path, record in stages.items()],
        "elapsed_s": round(sum(record.elapsed_s for record in stages.values()), 3),
        "bytes": sum((root / name).stat().st_size for name in walk(root)),
    }


def _stage(path: str, record: StageRecord) -> dict[str, Any]:
    return {
        "path": path,
        "kind": record.kind,
        "digest": record.digest,
        "parents": {role: parent["path"] for role, parent in record.parents.items()},
        "seeds": record.seeds,
        "elapsed_s": record.elapsed_s,
        "created": record.created,
        "bytes": sum(file["size"] for file in record.files.values()),
    }


def _levels(run: Run, stages: Mapping[str, StageRecord]) -> list[dict[str, Any]]:
    """Each level with its sparsity, from the first complete replicate's mask, and how many replicates are complete."""
    replicates = int(run.recipe.get("replicates", 1))
    rows: list[dict[str, Any]] = []
    for level in range(int((run.recipe.get("prune") or {}).get("levels", 0)) + 1):
        paths = [ticket_path(replicate, level) for replicate in range(replicates)]
        complete = [path for path in paths if path in stages]
        found = _mask_sparsity(run.root / complete[0] / "mask.safetensors") if complete else None
        rows.append({"level": level, "sparsity": found, "complete": len(complete), "replicates": replicates})
    return rows


def _controls(recipe: Mapping[str, Any], stages: Mapping[str, StageRecord]) -> list[dict[str, Any]]:
    replicates = int(recipe.get("replicates", 1))
    return [
        {
            "name": control["name"],
            "level": level,
            "complete": sum(control_path(r, level, control["name"]) in stages for r in range(replicates)),
            "replicates": replicates,
        }
        for control in recipe.get("controls") or ()
        for level in control["levels"]
    ]


def _others(recipe: Mapping[str, Any], stages: Mapping[str, StageRecord]) -> dict[str, bool]:
    """Path -> whether it is complete, of the conclusion of every probe, the test, the exports and the latencies."""
    targets: Sequence[str] = (recipe.get("export") or {}).get("targets") or ()
    paths = [probe_path(probe["name"]) for probe in recipe.get("probes") or ()]
    paths += ["test", *(f"export/{target}" for target in targets), *(f"latency/{target}" for target in targets)]
    return {path: path in stages for path in paths}


def _stages_of_prune(recipe: Mapping[str, Any], stages: Mapping[str, StageRecord]) -> dict[str, bool]:
    """Path -> whether it is complete: those that every prune run has, and between them whatever was tried."""
    targets: Sequence[str] = (recipe.get("export") or {}).get("targets") or ()
    tried = sorted((path for path in stages if path.startswith("trials/")), key=lambda path: stages[path].created)
    last = ["model", "test", *(f"{kind}/{target}" for kind in ("export", "latency") for target in targets)]
    return {path: path in stages for path in ("dense", *tried, *last)}


def _asked(root: Path) -> dict[str, Any]:
    """What was asked of a finished prune run, what came, and what was tried on the way, from its metrics."""
    try:
        metrics: dict[str, Any] = json.loads((root / METRICS).read_bytes())
        kind, asked, outcome = (metrics[f"target.{name}"] for name in ("kind", "asked", "outcome"))
    except (OSError, ValueError, KeyError) as error:
        raise CorruptError(f"{root / METRICS}: expected a prune run's metrics, got {error!r}") from error
    keys = sorted({name.partition(".")[0] for name in metrics if name.startswith("trial_")})
    trials = [
        {name: metrics.get(f"{key}.{name}") for name in ("sparsity", "macs", "outcome")}
        | {name: _span(metrics, f"{key}.{name}") for name in ("achieved", "drop")}
        for key in keys
    ]
    found = {"kind": kind, "asked": asked, "outcome": outcome, "max_drop": metrics.get("target.max_drop")}
    return found | {
        "achieved": _span(metrics, "target.achieved"),
        "drop": _span(metrics, "export.drop"),
        "reason": metrics.get("target.reason"),
        "trials": trials,
    }


def _span(metrics: Mapping[str, Any], key: str) -> dict[str, float | None] | None:
    found = span(metrics, key)
    return None if found is None else {"estimate": found.estimate, "ci_low": found.low, "ci_high": found.high}


def _mask_sparsity(path: Path) -> float | None:
    """Sparsity of a mask file, or None where there is none."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    kept = elements = 0
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (a file of tensors, not a mapping)
                tensor = file.get_tensor(name)
                kept, elements = kept + int(tensor.sum()), elements + tensor.size
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise CorruptError(f"{path}: expected a mask, got damaged bytes ({error})") from error
    return sparsity(kept, elements)
