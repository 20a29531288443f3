from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sparsify.errors import Preempted, UsageError
from sparsify.pipeline.observer import Silent
from sparsify.pipeline.scheduler import Scheduler
from sparsify.pipeline.stage import Stage
from sparsify.recipe.prune_spec import DistillSpec
from sparsify.store.stage import write_stage


def test_a_signal_names_what_is_not_complete_of_what_was_asked_for(tmp_path: Path):
    stop = threading.Event()
    stop.set()
    stages = [Stage(name, "source", DistillSpec()) for name in ("dense", "a", "b", "c")]
    with (
        Scheduler(tmp_path, workers=1, checkpoint_seconds=1, observer=Silent(), stop=stop) as scheduler,
        pytest.raises(Preempted, match=r"at least 4 stages to go \(dense, a, b, \.\.\.\)"),
    ):
        scheduler.run(stages)


def made(root: Path, change: dict[str, object], parents: dict[str, dict[str, str]]) -> Stage:
    """A stage, and its folder as a release made it whose spec had `change`."""
    stage = Stage("dense", "dense", DistillSpec())
    spec = stage.spec_json() | change
    with write_stage(
        root / "dense", kind="dense", key="k", spec=spec, parents=parents, seeds={}, versions=stage.versions()
    ) as folder:
        (folder / "weights").write_text("w")
    return stage


@pytest.mark.parametrize(
    ("change", "parents", "why"),
    [
        ({"weight": 0.25}, {}, "weight: the folder has 0.25, the recipe says "),
        ({"older": 1}, {}, "older: the folder has 1, the recipe says null"),
        ({}, {"level": {"path": "level", "digest": "d"}}, "what it was made from has changed"),
    ],
)
def test_a_training_of_another_key_is_refused_and_why_is_said(
    tmp_path: Path, change: dict[str, object], parents: dict[str, dict[str, str]], why: str
):
    stage = made(tmp_path, change, parents)
    with (
        Scheduler(tmp_path, workers=1, checkpoint_seconds=1, observer=Silent()) as scheduler,
        pytest.raises(UsageError, match=why),
    ):
        scheduler.run([stage])


def test_a_field_that_only_another_release_has_and_that_was_null_makes_nothing_stale(tmp_path: Path):
    stage = made(tmp_path, {"older": None}, {})
    with Scheduler(tmp_path, workers=1, checkpoint_seconds=1, observer=Silent()) as scheduler:
        scheduler.run([stage])
        assert not scheduler.changed
