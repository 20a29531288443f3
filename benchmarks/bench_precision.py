"""One training step by precision and memory layout: what `precision: auto` and `sparsify/train/layout.py` go by.

CPU seconds of forward, backward and SGD on random images, one thread, blocks of steps in turn; ratios to fp32 in the
usual layout.

    python benchmarks/bench_precision.py [--rounds 8] [--no-write]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from protocol import environment, interleaved, ratio, shown, spread, write
from sparsify.models.build import build

# network, image, images a step, steps a sample
NETWORKS = (
    ("lenet-300-100", (1, 28, 28), 60, 100),
    ("lenet-300-100", (1, 28, 28), 128, 100),
    ("lenet-5", (1, 28, 28), 60, 8),
    ("conv-2", (1, 28, 28), 60, 4),
    ("resnet-20", (1, 28, 28), 128, 2),
    ("mobilenet-v2", (3, 96, 96), 32, 1),
)
BASE = "fp32"
ARMS = {  # bf16, channels last
    BASE: (False, False),
    "bf16": (True, False),
    "fp32, channels last": (False, True),
    "bf16, channels last": (True, True),
}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="samples of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, object] = {}
    for name, image, batch, steps in NETWORKS:
        take = sampler(name, image, batch, steps)
        samples = interleaved({arm: partial(take, *how) for arm, how in ARMS.items()}, rounds=options.rounds, warm_up=1)
        print(f"{name}, batch {batch}")
        ratios = {arm: ratio(samples, arm, BASE) for arm in ARMS if arm != BASE}
        for arm, seconds in samples.items():
            print(f"  {arm:20} {spread(seconds)}")
        for arm, interval in ratios.items():
            print(f"  {arm:20} over fp32 {shown(interval)}")
        told = {arm: interval.to_json() for arm, interval in ratios.items()}
        found[f"{name}, batch {batch}"] = {"steps": steps, "seconds": samples, "ratio": told}
    if options.write:
        write("precision", {"what": "CPU seconds", "environment": environment("torch"), "networks": found})


def sampler(name: str, image: tuple[int, int, int], batch: int, steps: int) -> Callable[[bool, bool], float]:
    """`sample(bf16, channels_last)` -> CPU seconds of `steps` training steps; laying out the weights is not counted."""
    model = build(name, input_shape=image, classes=10, seed=0)
    images, labels = torch.randn(batch, *image), torch.randint(0, 10, (batch,))

    def sample(bf16: bool, channels_last: bool) -> float:
        model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
        start = time.process_time()
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.process_time() - start

    return sample


if __name__ == "__main__":
    main()
