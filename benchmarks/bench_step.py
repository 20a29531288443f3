"""What might beat the bare loop: a step of LeNet-300-100 compiled, and five replicates' steps as one set of tensors.

CPU seconds of forward, backward and fused SGD on random images, one thread, blocks of steps in turn. The ratio is per
replicate and step, over eager mode. Compiling needs a C++ compiler and two minutes, which stand apart.

    python benchmarks/bench_step.py [--rounds 20] [--no-write]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from protocol import environment, interleaved, ratio, spread, write

SIZES = ((784, 300), (300, 100), (100, 10))
BATCH, STEPS, REPLICATES = 128, 40, 5


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="samples of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    arms = {
        "eager": sampler(1, loss),
        "compiled": sampler(1, torch.compile(loss)),
        f"{REPLICATES} replicates": sampler(REPLICATES, loss),
    }
    start = time.perf_counter()
    arms["compiled"]()
    compiling = time.perf_counter() - start
    samples = interleaved(arms, rounds=options.rounds, warm_up=1)
    found = {name: ratio(samples, name, "eager") for name in arms if name != "eager"}
    for name, seconds in samples.items():
        print(f"{name:14} {spread(seconds)}")
    for name, gain in found.items():
        print(f"{name:14} / eager {gain.estimate:.3f}  [{gain.low:.3f}, {gain.high:.3f}]")
    print(f"compiling {compiling:.0f} s")
    if options.write:
        what = {"what": f"CPU seconds of {STEPS} steps of one replicate", "environment": environment("torch")}
        ratios = {name: gain.to_json() for name, gain in found.items()}
        write("step", what | {"seconds": samples, "ratio": ratios, "compiling_s": compiling})


def sampler(replicates: int, step_loss: Callable[[list[Tensor], Tensor, Tensor], Tensor]) -> Callable[[], float]:
    """CPU seconds of `STEPS` steps of one replicate, as many being trained at once as asked for."""
    torch.manual_seed(0)
    shapes = [shape for i, o in SIZES for shape in ((replicates, i, o), (replicates, 1, o))]
    weights = [(torch.randn(shape) * shape[1] ** -0.5).requires_grad_() for shape in shapes]
    optimizer = torch.optim.SGD(weights, 0.1, fused=True)
    images, labels = torch.randn(replicates, BATCH, 784), torch.randint(0, 10, (replicates, BATCH))

    def sample() -> float:
        start = time.process_time()
        for _ in range(STEPS):
            optimizer.zero_grad()
            step_loss(weights, images, labels).backward()
            optimizer.step()
        return (time.process_time() - start) / replicates

    return sample


def loss(weights: list[Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Sum over replicates of the mean cross-entropy; images [replicates, batch, 784]."""
    x = images
    for layer in range(len(SIZES)):
        x = torch.baddbmm(weights[2 * layer + 1], x, weights[2 * layer])
        x = x.relu() if layer < len(SIZES) - 1 else x
    return functional.cross_entropy(x.flatten(0, 1), labels.flatten()) * len(images)


if __name__ == "__main__":
    main()
