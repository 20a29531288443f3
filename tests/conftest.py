"""What holds for every test: one thread, the same examples each time, the order, and what gpu, soak and sweep mean."""

from __future__ import annotations

import gc
import os

# Before anything imports torch: on shared cores two OpenMP threads spin on each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for asked_for in ("soak", "sweep"):
        long = [item for item in items if item.get_closest_marker(asked_for)]
        if long and asked_for not in config.option.markexpr:
            config.hook.pytest_deselected(items=long)
            items[:] = [item for item in items if item not in long]
    # Files with slow tests first: one that came last would leave the other cores idle.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if gpu := [item for item in items if item.get_closest_marker("gpu")]:
        missing = _why_no_gpu()
        for item in gpu if missing else ():
            item.add_marker(pytest.mark.skip(reason=missing))


def pytest_collection_finish() -> None:
    """What is imported by now stays: without this, each full collection of garbage walks through all of it."""
    gc.freeze()


def _why_no_gpu() -> str:
    """What a test marked `gpu` lacks here; empty when it can run."""
    import torch

    return "" if torch.cuda.is_available() else "needs a CUDA device, and a torch built for CUDA"
