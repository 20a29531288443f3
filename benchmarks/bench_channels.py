"""Seconds to remove half the MACs of a network by channels: preflight, selection, cut and check, all of it.

ResNet-50's shape (`resnet50.py`), random weights, two images of 224 pixels, one thread. Goal: under 10 s for the whole
of `remove_channels`. One forward pass of the same two images in float32 and in float64, in which the check is made,
stand beside it.

    OMP_NUM_THREADS=1 python benchmarks/bench_channels.py [--rounds 5] [--no-write]
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor, nn

from protocol import environment, interleaved, spread, write
from resnet50 import ResNet50
from sparsify.channels.remove import remove_channels

GOAL_S = 10.0
MACS = 0.5
ROUND_TO = 8


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each arm that count")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, images = ResNet50().eval(), torch.randn(2, 3, 224, 224)
    arms = {
        "remove channels": timed(lambda: remove_channels(model, images, macs=MACS, round_to=ROUND_TO)),
        "forward float32": timed(forward(model, images)),
        "forward float64": timed(forward(copy.deepcopy(model).double(), images.double())),
    }
    report = remove_channels(model, images, macs=MACS, round_to=ROUND_TO).report
    samples = interleaved(arms, rounds=options.rounds, warm_up=0)
    slowest = max(samples["remove channels"])
    verdict = "met" if slowest <= GOAL_S else "missed"
    for name, seconds in samples.items():
        print(f"{name:16} {spread(seconds)}")
    print(f"parameters {report.parameters_dense:,} -> {report.parameters_left:,}; MACs left {report.macs:.4f}")
    print(f"goal <= {GOAL_S:g} s, each run: {verdict} (slowest {slowest:.2f} s)")
    if options.write:
        document = {
            "what": "seconds to remove channels from ResNet-50's shape to half its MACs, 2 images of 224, one thread",
            "macs": MACS,
            "round_to": ROUND_TO,
            "achieved_macs": report.macs,
            "macs_dense": report.macs_dense,
            "parameters_dense": report.parameters_dense,
            "parameters_left": report.parameters_left,
            "environment": environment("torch", "torch-pruning"),
            "seconds": samples,
            "goal_s": GOAL_S,
            "verdict": verdict,
        }
        write("channels", document)


def forward(model: nn.Module, images: Tensor) -> Callable[[], object]:
    """One forward pass without gradients."""

    def run() -> Tensor:
        with torch.no_grad():
            return model(images)

    return run


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Seconds that `work` takes."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


if __name__ == "__main__":
    main()
