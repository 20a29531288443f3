"""Seconds and resident memory that one-shot pruning of a safetensors file takes, beside `cp` of the same cached file.

Goals: at most 5 times `cp` per layer and 10 times with a global threshold, under 1.5 GB resident for 4 GB of weights.

    python benchmarks/bench_stream.py --scratch FOLDER [--gigabytes 4] [--dtype F32] [--rounds 5] [--arms 2:4]

Every arm is a process of its own. `cp` hands the file to the operating system's cache; ours is on the disk when it
ends, so `cp` with fsync stands beside it. The time of importing Python and torch is left out of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from protocol import Samples, environment, interleaved, ratio, shown, spread, write

ARMS = {
    "ours, unstructured, uniform": ("unstructured", "uniform", 5),
    "ours, unstructured, erk": ("unstructured", "erk", 5),
    "ours, unstructured, global": ("unstructured", "global", 10),
    "ours, 2:4": ("2:4", "uniform", 5),
    "ours, block:4x1, uniform": ("block:4x1", "uniform", 5),
    "ours, block:4x4, global": ("block:4x4", "global", 10),
}
SPARSITY = 0.5
LIMIT_GB = 1.5
# The shapes of one block of a transformer of width 4096, in turn until the file is full.
SHAPES = ((4096, 4096), (4096, 4096), (11008, 4096), (4096, 11008), (1024, 4096))
# What a process of an arm does: the seconds of the call alone, and the most that was ever resident, in bytes.
CALL = """
import json, resource, sys, time
from pathlib import Path
from sparsify.masks.stream import prune_file
from sparsify.recipe.pattern import Pattern
source, out, pattern, allocation, sparsity = sys.argv[1:]
pattern = Pattern.parse(pattern)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
report = prune_file(Path(source), Path(out), pattern=pattern, allocation=allocation,
                    sparsity=None if pattern.sparsity else float(sparsity))
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "resident": after * 1024, "imports": before * 1024, "sparsity": report.sparsity}))
"""


def main() -> None:
    """Make the file, measure, print the table, write the JSON."""
    options = parsed()
    options.scratch.mkdir(parents=True, exist_ok=True)
    source, out = options.scratch / "weights.safetensors", options.scratch / "out.safetensors"
    layers = make(source, int(options.gigabytes * 1e9), options.dtype)
    chosen = {name: arm for name, arm in ARMS.items() if not options.arms or any(part in name for part in options.arms)}
    resident: dict[str, list[float]] = {name: [] for name in chosen}
    arms: dict[str, Callable[[], float]] = {
        "cp": copying(source, out, sync=False),
        "cp, fsync": copying(source, out, sync=True),
    }
    arms |= {name: pruning(source, out, *arm[:2], resident[name]) for name, arm in chosen.items()}
    try:
        samples = interleaved(arms, rounds=options.rounds, warm_up=1)
    finally:
        size = source.stat().st_size
        for path in (source, out):
            path.unlink(missing_ok=True)
    table(samples, resident)
    if options.write and not options.arms:
        what = (
            f"wall seconds and resident bytes of one-shot pruning at {SPARSITY} sparsity, beside cp of the cached file"
        )
        document = {"what": what, "environment": environment("torch", "numpy", "safetensors")}
        goals = {name: arm[2] for name, arm in ARMS.items()} | {"resident_gb": LIMIT_GB}
        document |= {"bytes": size, "layers": layers, "dtype": options.dtype, "goals": goals, "seconds": samples}
        write(f"stream_{options.dtype.lower()}", document | {"resident": resident})


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder with room for three such files")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the file")
    parser.add_argument("--dtype", choices=("F32", "F16", "BF16"), default="F32", help="dtype of its weights")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--arms", nargs="*", help="parts of the names of ours to measure; results are then not written")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    return parser.parse_args()


def make(path: Path, size: int, dtype: str) -> int:
    """Write about `size` bytes of Gaussian weights and return how many layers that is."""
    width = 4 if dtype == "F32" else 2
    header: dict[str, object] = {}
    end = 0
    while end < size:
        rows, cols = SHAPES[len(header) % len(SHAPES)]
        rows = max(min(rows, (size - end) // (cols * width)) // 4 * 4, 4)
        start, end = end, end + rows * cols * width
        header[f"layers.{len(header):03}.weight"] = {
            "dtype": dtype,
            "shape": [rows, cols],
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, end // width, 1 << 22):
            drawn = generator.standard_normal(min(1 << 22, end // width - start), dtype=np.float32)
            bits = drawn.astype(np.float16) if dtype == "F16" else drawn if dtype == "F32" else as_bfloat16(drawn)
            file.write(bits.data)
        file.flush()
        os.fsync(file.fileno())
    return len(header)


def as_bfloat16(drawn: np.ndarray) -> np.ndarray:
    """The upper halves of float32, cut off rather than rounded."""
    return (drawn.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def copying(source: Path, out: Path, *, sync: bool) -> Callable[[], float]:
    """An arm: `cp`, with or without waiting for the disk."""

    def once() -> float:
        out.unlink(missing_ok=True)
        start = time.perf_counter()
        subprocess.run(["cp", "--reflink=never", source, out], check=True)
        if sync:
            descriptor = os.open(out, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        seconds = time.perf_counter() - start
        settle()
        return seconds

    return once


def pruning(source: Path, out: Path, pattern: str, allocation: str, resident: list[float]) -> Callable[[], float]:
    """An arm: ours in a fresh process, whose memory goes into `resident`, warm-up and all."""

    def once() -> float:
        out.unlink(missing_ok=True)
        command = [sys.executable, "-c", CALL, source, out, pattern, allocation, str(SPARSITY)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{pattern}, {allocation}: exit {done.returncode}\n{done.stderr}")
        found = json.loads(done.stdout)
        resident.append(found["resident"])
        settle()
        return found["seconds"]

    return once


def settle() -> None:
    """Let the disk finish, so that no arm pays for the one before it."""
    os.sync()


def table(samples: Samples, resident: dict[str, list[float]]) -> None:
    """Seconds, ratios to both copies, memory, and whether the goals are met."""
    for name, seconds in samples.items():
        print(f"{name:30} {spread(seconds)}")
    for name in resident:
        goal = ARMS[name][2]
        against = ratio(samples, name, "cp")
        low, high = (against.estimate if bound is None else bound for bound in (against.low, against.high))
        verdict = "met" if high <= goal else "missed" if low > goal else "undecided"
        most = max(resident[name]) / 1e9
        memory = "met" if most < LIMIT_GB else "missed"
        print(f"{name:30} x cp {shown(against)}  goal {goal}: {verdict};  x cp, fsync "
              f"{shown(ratio(samples, name, 'cp, fsync'))};  {most:.2f} GB resident: {memory}")  # fmt: skip


if __name__ == "__main__":
    main()
