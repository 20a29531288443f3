"""What half of the MACs are worth in time: channels removed, exported to ONNX, timed on ONNX Runtime's CPU provider.

ResNet-20 for 28 pixels and ResNet-50 for 224 (`resnet50.py`), random weights, batch 1, one thread; every layer loses
the same share. Goal: a speedup of at least 0.8 of the ratio of MACs. The channels left are multiples of 16, the block
of ONNX Runtime's convolutions with AVX-512, or of 8, its block with AVX2; any number of channels stands beside them.

    python benchmarks/bench_channel_speedup.py [--rounds 60] [--no-write]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from protocol import Samples, environment, interleaved, ratio, spread, write
from resnet50 import ResNet50
from sparsify.channels.remove import remove_channels
from sparsify.models.build import build
from sparsify_export.onnx_graph import onnx_from_module

MACS = 0.5
ROUND_TO = (16, 8, 1)
GOAL = 0.8
LEAST_S = 0.02  # a sample repeats a small network until it takes about so long


@dataclass(frozen=True)
class Network:
    """One network, its input, and how the channels to remove are spread over its layers."""

    build: Callable[[], nn.Module]
    side: int
    images: int


def resnet20() -> nn.Module:
    """The zoo's, for grey images of 28 pixels and 10 classes."""
    return build("resnet-20", input_shape=(1, 28, 28), classes=10, seed=0)


NETWORKS = {"resnet-20": Network(resnet20, 28, 1), "resnet-50": Network(ResNet50, 224, 3)}


def main() -> None:
    """Remove, export, measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="samples of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    document = {}
    for name, network in NETWORKS.items():
        arms, left = arms_of(network)
        samples = interleaved(arms, rounds=options.rounds, warm_up=2)
        document[name] = {"macs_left": left, "seconds": samples, "ratios": show(name, samples, left)}
    if options.write:
        what = {"what": "seconds of one inference, batch 1, one thread, ONNX Runtime on the CPU", "goal": GOAL}
        write("channel_speedup", what | {"environment": environment("torch", "onnxruntime")} | document)


def arms_of(network: Network) -> tuple[dict[str, Callable[[], float]], dict[str, float]]:
    """The dense network and those with fewer channels, opened; and the fraction of MACs each has left."""
    torch.manual_seed(0)
    model = network.build().eval()
    images = torch.randn(2, network.images, network.side, network.side)
    arms, left = {"dense": opened(model, images)}, {"dense": 1.0}
    for round_to in ROUND_TO:
        removed = remove_channels(model, images, macs=MACS, round_to=round_to, allocation="uniform")
        arms[f"multiples of {round_to}"] = opened(removed.module.eval(), images)
        left[f"multiples of {round_to}"] = removed.report.macs
    return arms, left


def opened(model: nn.Module, images: Tensor) -> Callable[[], float]:
    """Seconds of one inference on one image, averaged over enough of them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = onnx_from_module(model, images, Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"input": np.ascontiguousarray(images[:1].numpy())}
    for _ in range(3):
        start = time.perf_counter()
        session.run(None, feed)
        once = time.perf_counter() - start
    count = max(1, round(LEAST_S / once))

    def infer() -> float:
        start = time.perf_counter()
        for _ in range(count):
            session.run(None, feed)
        return (time.perf_counter() - start) / count

    return infer


def show(name: str, samples: Samples, left: dict[str, float]) -> dict[str, dict[str, float | str | None]]:
    """Print a network's rows; the speedup of each arm, with its share of the ratio of MACs and the verdict."""
    rows: dict[str, dict[str, float | str | None]] = {}
    print(f"\n{name:16} dense {spread(samples['dense'])}")
    for arm in list(samples)[1:]:
        speedup, most = ratio(samples, "dense", arm), 1 / left[arm]
        low, high = speedup.low or 0.0, speedup.high or float("inf")
        verdict = "met" if low >= GOAL * most else "missed" if high < GOAL * most else "undecided"
        told = f"{speedup.estimate:.3f} [{low:.3f}, {high:.3f}] of {most:.3f}: {speedup.estimate / most:.3f}"
        print(f"  {arm:16} MACs left {left[arm]:.3f}; speedup {told}, goal {GOAL}: {verdict}")
        rows[arm] = {**speedup.to_json(), "of_macs_ratio": speedup.estimate / most, "verdict": verdict}
    return rows


if __name__ == "__main__":
    main()
