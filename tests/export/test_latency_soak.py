"""What verdicts are worth on this machine, by the wall clock: `make soak` only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/bench_latency_verdicts.py"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_few_false_verdicts_and_few_misses_over_40_trials():
    done = subprocess.run([sys.executable, SCRIPT, "--no-write"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
