"""Wall clock of iterative magnitude pruning, two replicates on two cores: `sparsify run` beside open_lth.

LeNet-300-100 on 55,000 images of Fashion-MNIST by 128, 3 epochs a training, 2 levels after dense. Goal: 9 times faster
than open_lth, which runs its replicates one after the other; beside it, both started by hand at once.

    python benchmarks/bench_imp.py --open-lth CHECKOUT --scratch FOLDER [--rounds 3] [--no-write]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from protocol import environment, interleaved, ratio, shown, spread, write

HERE = Path(__file__).parent
GOAL = 9.0
# 55,000 of 60,000 images, as ours trains on; its default network, loss, optimiser and pruning for LeNet.
OPEN_LTH = (
    "lottery",
    "--default_hparams=mnist_lenet_300_100",
    "--training_steps=3ep",
    "--levels=2",
    "--subsample_fraction=0.9166666",
    "--evaluate_only_at_end",
    "--quiet",
)
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open-lth", type=Path, help="a checkout of open_lth, see README.md; ours alone without it")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for runs, outside this repository")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    arms = {"sparsify": sparsify(options.scratch)}
    if options.open_lth:
        arms["open_lth, in turn"] = open_lth(options.open_lth, options.scratch, at_once=False)
        arms["open_lth, at once"] = open_lth(options.open_lth, options.scratch, at_once=True)
    samples = interleaved(arms, rounds=options.rounds, warm_up=0)
    for name, seconds in samples.items():
        print(f"{name:20} {spread(seconds)}")
    speedups = {name: ratio(samples, name, "sparsify") for name in arms if name != "sparsify"}
    for name, speedup in speedups.items():
        print(f"{name:20} / sparsify {shown(speedup)}")
    if options.write:
        document = {"what": "wall seconds of two replicates", "environment": environment("torch", "numpy")}
        ratios = {name: speedup.to_json() for name, speedup in speedups.items()}
        write("imp", document | {"goal in turn": GOAL, "seconds": samples, "ratios": ratios})


def sparsify(scratch: Path) -> Callable[[], float]:
    """One command in an empty run folder, replicates in two processes."""
    folder = scratch / "sparsify-run"
    command = [str(Path(sys.executable).with_name("sparsify")), "run", str(HERE / "imp.yaml"), "--run-dir", str(folder)]

    def once() -> float:
        shutil.rmtree(folder, ignore_errors=True)
        return seconds_of([[*command, "--only", "tickets", "--set", "compute.workers=2"]])

    return once


def open_lth(checkout: Path, scratch: Path, *, at_once: bool) -> Callable[[], float]:
    """Its two replicates from nothing, in turn or both at once."""
    worker = [sys.executable, str(HERE / "open_lth_worker.py"), str(checkout), str(scratch)]
    replicates = [[*worker, *OPEN_LTH, f"--replicate={number}"] for number in (1, 2)]

    def once() -> float:
        shutil.rmtree(scratch / "open_lth_data", ignore_errors=True)
        return seconds_of(replicates) if at_once else sum(seconds_of([command]) for command in replicates)

    return once


def seconds_of(commands: list[list[str]]) -> float:
    """Seconds from starting all `commands` to the end of the last; one that fails stops the benchmark."""
    start = time.perf_counter()
    running = [
        subprocess.Popen(command, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process, command in zip(running, commands, strict=True):
        _, said = process.communicate()
        if process.returncode:
            sys.exit(f"{' '.join(command)}: exit {process.returncode}\n{said}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
