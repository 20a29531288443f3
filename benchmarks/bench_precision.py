"""One training step in bf16 autocast beside fp32, by network: what `precision: auto` goes by.

CPU seconds of forward, backward and SGD on random images, one thread, blocks of steps in turn.

    python benchmarks/bench_precision.py [--rounds 8] [--no-write]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from protocol import environment, interleaved, ratio, spread, write
from sparsify.models.build import build

# network, images a step, steps a sample
NETWORKS = (("lenet-300-100", 60, 100), ("lenet-300-100", 128, 100), ("conv-2", 60, 4), ("resnet-20", 128, 4))


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="samples of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, object] = {}
    for name, batch, steps in NETWORKS:
        take = sampler(name, batch, steps)
        samples = interleaved(
            {"bf16": partial(take, True), "fp32": partial(take, False)}, rounds=options.rounds, warm_up=1
        )
        gain = ratio(samples, "bf16", "fp32")
        print(f"{name}, batch {batch}")
        for arm, seconds in samples.items():
            print(f"  {arm}  {spread(seconds)}")
        print(f"  bf16 / fp32  {gain.estimate:.3f}  [{gain.low:.3f}, {gain.high:.3f}]")
        found[f"{name}, batch {batch}"] = {"steps": steps, "seconds": samples, "ratio": gain.to_json()}
    if options.write:
        write("precision", {"what": "CPU seconds", "environment": environment("torch"), "networks": found})


def sampler(name: str, batch: int, steps: int) -> Callable[[bool], float]:
    """`sample(bf16)` -> CPU seconds of `steps` training steps."""
    model = build(name, input_shape=(1, 28, 28), classes=10, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    images, labels = torch.randn(batch, 1, 28, 28), torch.randint(0, 10, (batch,))

    def sample(bf16: bool) -> float:
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
