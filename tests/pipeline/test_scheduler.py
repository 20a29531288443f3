from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sparsify.errors import Preempted
from sparsify.pipeline.observer import Silent
from sparsify.pipeline.scheduler import Scheduler
from sparsify.pipeline.stage import Stage
from sparsify.recipe.prune_spec import DistillSpec


def test_a_signal_names_what_is_not_complete_of_what_was_asked_for(tmp_path: Path):
    stop = threading.Event()
    stop.set()
    stages = [Stage(name, "source", DistillSpec()) for name in ("dense", "a", "b", "c")]
    with (
        Scheduler(tmp_path, workers=1, checkpoint_seconds=1, observer=Silent(), stop=stop) as scheduler,
        pytest.raises(Preempted, match=r"at least 4 stages to go \(dense, a, b, \.\.\.\)"),
    ):
        scheduler.run(stages)
