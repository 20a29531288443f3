"""Seconds that `sparsify` takes to start: fresh processes, interleaved, medians.

Goals: `--help` under 0.3 s, `validate` under 0.6 s, a fully cached `run` of the digits recipe under 2 s.

    python benchmarks/bench_startup.py [--launches 21] [--run-dir runs/digits] [--no-write]

`--run-dir` names a finished run of recipes/digits.yaml (`make demo`); where there is none, that line is left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from protocol import environment, interleaved, spread, write

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "digits.yaml"
# As users have it: Python keeps byte code after the first start.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
SPARSIFY = [str(Path(sys.executable).with_name("sparsify"))]


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=21, help="fresh processes of each command that count")
    parser.add_argument("--run-dir", type=Path, default=ROOT / "runs" / "digits", help="a finished digits run")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    commands: dict[str, tuple[list[str], float | None]] = {
        "python -c pass": ([sys.executable, "-c", "pass"], None),
        "sparsify --help": ([*SPARSIFY, "--help"], 0.3),
        "sparsify validate": ([*SPARSIFY, "validate", str(RECIPE)], 0.6),
    }
    if (options.run_dir / "manifest.json").exists():
        commands["sparsify run, cached"] = ([*SPARSIFY, "run", str(RECIPE), "--run-dir", str(options.run_dir)], 2.0)
    else:
        print(
            f"no finished run at {options.run_dir}: the cached run is left out (`make demo` makes one)", file=sys.stderr
        )
    arms = {name: launch(command) for name, (command, _) in commands.items()}
    samples = interleaved(arms, rounds=options.launches, warm_up=2)
    for name, (_, goal) in commands.items():
        met = "" if goal is None else f"   goal < {goal} s: {'met' if median(samples[name]) < goal else 'missed'}"
        print(f"{name:22} {spread(samples[name])}{met}")
    if options.write:
        goals = {name: goal for name, (_, goal) in commands.items()}
        document = {"what": "wall seconds of a fresh process", "environment": environment("typer", "pydantic")}
        write("startup", document | {"goals": goals, "seconds": samples})


def launch(command: Sequence[str]) -> Callable[[], float]:
    """An arm that runs `command` in a fresh process; a failing command stops the benchmark with what it said."""

    def once() -> float:
        start = time.perf_counter()
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        return seconds

    return once


if __name__ == "__main__":
    main()
