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


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"weight": 0.25}, "weight: the folder has 0.25, the recipe says "),
        ({"older": None}, "another release made it, whose stages differ in older"),
        ({}, "what it was made from has changed"),
    ],
)
def test_a_training_of_another_key_is_refused_and_why_is_said(tmp_path: Path, change: dict[str, object], why: str):
    stage = Stage("dense", "dense", DistillSpec())
    spec = stage.spec_json() | change
    with write_stage(
        tmp_path / "dense", kind="dense", key="k", spec=spec, parents={}, seeds={}, versions=stage.versions()
    ) as folder:
        (folder / "weights").write_text("w")
    with (
        Scheduler(tmp_path, workers=1, checkpoint_seconds=1, observer=Silent()) as scheduler,
        pytest.raises(UsageError, match=why),
    ):
        scheduler.run([stage])
