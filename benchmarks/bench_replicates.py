"""Two replicates at once against one after the other: one run with two workers and with one. Goal: 0.6 of the time.

python benchmarks/bench_replicates.py --scratch FOLDER [--epochs 6] [--rounds 5] [--no-write]

A run also starts up, checks its data and writes its answer, which no worker shares: the longer the trainings, the
nearer the share comes to a half.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from protocol import environment, interleaved, ratio, spread, write

HERE = Path(__file__).parent
SPARSIFY = str(Path(sys.executable).with_name("sparsify"))
GOAL = 0.6


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for runs, outside this repository")
    parser.add_argument("--epochs", type=int, default=6, help="of each of the three trainings of a replicate")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    arms = {
        name: two_replicates(options.scratch, workers, options.epochs)
        for name, workers in (("two workers", 2), ("one worker", 1))
    }
    samples = interleaved(arms, rounds=options.rounds, warm_up=1)
    for name, seconds in samples.items():
        print(f"{name:12} {spread(seconds)}")
    share = ratio(samples, "two workers", "one worker")
    print(f"two workers / one worker {share.estimate:.3f}  [{share.low:.3f}, {share.high:.3f}]   goal {GOAL}")
    if options.write:
        what = {
            "what": "wall seconds of two replicates",
            "epochs": options.epochs,
            "environment": environment("torch", "numpy"),
        }
        write("replicates", what | {"goal": GOAL, "seconds": samples, "ratio": share.to_json()})


def two_replicates(scratch: Path, workers: int, epochs: int) -> Callable[[], float]:
    """The iterative pruning of `imp.yaml`, from nothing to the last level, on so many workers."""
    folder = scratch / "replicates"
    command = [SPARSIFY, "run", str(HERE / "imp.yaml"), "--run-dir", str(folder), "--only", "tickets"]
    command += ["--set", f"compute.workers={workers}"]
    command += ["--set", f"train.steps={epochs}ep", "--set", f"train.eval_every={epochs}ep"]

    def once() -> float:
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start

    return once


if __name__ == "__main__":
    main()
