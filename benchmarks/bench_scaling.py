"""What a run costs as levels and replicates grow: time should be linear in both, memory flat in levels.

One worker, digits, 1,000 steps a training; each arm from nothing, arms in turn. The largest resident size is of the
largest process of the run, as the operating system accounts for it.

    python benchmarks/bench_scaling.py --scratch FOLDER [--rounds 3] [--no-write]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from protocol import environment, interleaved, write

SPARSIFY = str(Path(sys.executable).with_name("sparsify"))
LEVELS = (2, 4, 8, 16)
REPLICATES = (1, 2, 4)
RECIPE = """\
name: scaling
model: mlp:64-100-50-10
data: digits
train: {steps: 1000it, eval_every: 500it}
prune: {levels: 2, prune_fraction: 0.2}
"""


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for runs, outside this repository")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    memory: dict[str, list[float]] = {}
    shapes = [(levels, 1) for levels in LEVELS] + [(2, replicates) for replicates in REPLICATES if replicates > 1]
    arms = {f"{n} levels, {r} replicates": search(options.scratch, n, r, memory) for n, r in shapes}
    samples = interleaved(arms, rounds=options.rounds, warm_up=0)
    seconds = {name: statistics.median(taken) for name, taken in samples.items()}
    for (levels, replicates), (name, taken) in zip(shapes, seconds.items(), strict=True):
        trainings = (levels + 1) * replicates
        peak = statistics.median(memory[name])
        print(f"{name:24} {taken:7.2f} s  {taken / trainings:6.3f} s a training  {peak:7.1f} MB at most")
    if options.write:
        what = {"what": "wall seconds and peak MB of a ticket search", "environment": environment("torch", "numpy")}
        write("scaling", what | {"seconds": samples, "peak_mb": memory})


def search(scratch: Path, levels: int, replicates: int, memory: dict[str, list[float]]) -> Callable[[], float]:
    """A ticket search of so many levels and replicates; its peak memory is appended to `memory`."""
    recipe, folder = scratch / "scaling.yaml", scratch / "scaling"
    settings = {"prune.levels": levels, "replicates": replicates, "compute.workers": 1}
    command = [SPARSIFY, "run", str(recipe), "--run-dir", str(folder), "--only", "tickets"]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]

    def once() -> float:
        shutil.rmtree(folder, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        recipe.write_text(RECIPE)
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(f"{' '.join(command)}: exit {process.returncode}")
        memory.setdefault(f"{levels} levels, {replicates} replicates", []).append(usage.ru_maxrss / 1024)
        return seconds

    return once


if __name__ == "__main__":
    main()
