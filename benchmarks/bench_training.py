"""Seconds per epoch of training: our loop, dense and masked, beside a bare PyTorch loop and open_lth.

LeNet-300-100, 60,000 images of Fashion-MNIST by 128, one thread. Goals: ours within 1.1 of the bare loop; masked within
1.05 of dense.

    python benchmarks/bench_training.py [--rounds 15] [--only sgd] [--open-lth CHECKOUT --scratch FOLDER] [--no-write]

`--only` times one optimiser, and writes its result apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor, nn
from torch.nn import functional

from protocol import Samples, environment, interleaved, ratio, shown, spread, write
from sparsify.data.load import Data, Split, load
from sparsify.masks.mask import Mask
from sparsify.models.build import build, prunable
from sparsify.recipe.spec import AdamSpec, DataSpec, SgdSpec, TrainSpec
from sparsify.recipe.step import Step
from sparsify.stats import Interval
from sparsify.train.loop import fit

BATCH_SIZE = 128
SPARSITY = 0.8
OPTIMIZERS = {"sgd": SgdSpec(lr=0.1, momentum=0.0), "adam": AdamSpec(lr=1.2e-3)}  # sgd as open_lth's default for LeNet
GOALS = {
    "ours dense {0}": ("bare {0}", 1.10),
    "ours masked {0}": ("ours dense {0}", 1.05),
    "open_lth {0}": ("bare {0}", None),
}


@dataclass(frozen=True)
class Comparison:
    """Time of `arm` over time of `base`, and the largest ratio wished for."""

    arm: str
    base: str
    goal: float | None
    interval: Interval

    @property
    def verdict(self) -> str:
        """Whether the whole interval lies on one side of the goal."""
        low, high = self.interval.low, self.interval.high
        if self.goal is None or low is None or high is None:
            return "undecided"
        return "met" if high <= self.goal else "missed" if low > self.goal else "undecided"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "arm": self.arm,
            "base": self.base,
            "goal": self.goal,
            "verdict": self.verdict,
            **self.interval.to_json(),
        }


def main() -> None:
    """Measure, print the table, write the JSON."""
    options = arguments()
    torch.set_num_threads(1)
    data = all_training_images()
    peer = open_lth(options.open_lth, options.scratch) if options.open_lth else nullcontext()
    with peer as epoch_of_open_lth:
        arms: dict[str, Callable[[], float]] = {}
        for name in [options.only] if options.only else OPTIMIZERS:
            arms[f"bare {name}"] = bare(data.train, name)
            arms[f"ours dense {name}"] = ours(data, name, masked=False)
            arms[f"ours masked {name}"] = ours(data, name, masked=True)
            if epoch_of_open_lth:
                arms[f"open_lth {name}"] = epoch_of_open_lth(name)
        samples = interleaved(arms, rounds=options.rounds, warm_up=1)
    comparisons = compare(samples)
    show(samples, comparisons)
    if options.write:
        document = {
            "what": "seconds per epoch, 60,000 images by 128, LeNet-300-100, one thread",
            "masked_sparsity": SPARSITY,
            "environment": environment("torch", "numpy"),
            "seconds": samples,
            "ratios": [row.to_json() for row in comparisons],
        }
        write(f"training_{options.only}" if options.only else "training", document)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="epochs of each arm that count")
    parser.add_argument("--only", choices=tuple(OPTIMIZERS), help="time one optimiser")
    parser.add_argument("--open-lth", type=Path, help="a checkout of open_lth; see README.md")
    parser.add_argument("--scratch", type=Path, help="a folder for open_lth's data, outside this repository")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    if options.open_lth and not options.scratch:
        parser.error("--open-lth: expected --scratch FOLDER beside it, for the peer's images and results")
    return options


def all_training_images() -> Data:
    """Fashion-MNIST with train and validation together, as the peer trains; one image is left to validate on."""
    data = load(DataSpec(source="fashion-mnist"))
    train = Split(
        torch.cat([data.train.images, data.validation.images]), torch.cat([data.train.labels, data.validation.labels])
    )
    validation = Split(train.images[:1], train.labels[:1])
    return Data(train, validation, data.test, data.input_shape, data.classes)


def bare(split: Split, optimizer_name: str) -> Callable[[], float]:
    """The loop one would write by hand over tensors in memory, with torch's optimisers as they come."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    spec = OPTIMIZERS[optimizer_name]
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer_name]
    optimizer = make(model.parameters(), lr=spec.lr)
    images, labels = split.images, split.labels
    whole_batches = len(labels) - len(labels) % BATCH_SIZE

    def epoch() -> float:
        start = time.perf_counter()
        for index in torch.randperm(len(labels))[:whole_batches].split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images[index]), labels[index])
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    return epoch


def ours(data: Data, optimizer_name: str, *, masked: bool) -> Callable[[], float]:
    """`sparsify.train`, one epoch a call on a network that keeps its weights; all it checks and records is counted."""
    model = build("lenet-300-100", input_shape=data.input_shape, classes=data.classes, seed=0)
    spec = TrainSpec(steps=Step(1, "ep"), batch_size=BATCH_SIZE, optimizer=OPTIMIZERS[optimizer_name])
    mask = random_mask(model) if masked else None
    seeds = itertools.count()

    def epoch() -> float:
        start = time.perf_counter()
        fit(model, data, spec, seed=next(seeds), mask=mask)
        return time.perf_counter() - start

    return epoch


def random_mask(model: nn.Module) -> Mask:
    """A mask that keeps 1 - SPARSITY of every prunable layer but the output."""
    generator = torch.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())

    def kept(name: str) -> Tensor:
        density = 1.0 if name == "output.weight" else 1 - SPARSITY
        return torch.rand(parameters[name].shape, generator=generator) < density

    return Mask({name: kept(name) for name in prunable(model)})


@contextmanager
def open_lth(checkout: Path, scratch: Path) -> Generator[Callable[[str], Callable[[], float]]]:
    """open_lth in a process of its own, idle until asked for an epoch."""
    worker = [
        sys.executable,
        str(Path(__file__).with_name("open_lth_worker.py")),
        str(checkout),
        str(scratch),
        "epochs",
    ]
    with subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        requests, answers = process.stdin, process.stdout
        ready = json.loads(answers.readline())
        assert (ready["images"], ready["batch_size"]) == (60_000, BATCH_SIZE), ready

        def epoch_with(optimizer_name: str) -> Callable[[], float]:
            def epoch() -> float:
                print(json.dumps({"optimizer": optimizer_name, "lr": OPTIMIZERS[optimizer_name].lr}), file=requests)
                requests.flush()
                return json.loads(answers.readline())["seconds"]

            return epoch

        yield epoch_with
        requests.close()


def compare(samples: Samples) -> list[Comparison]:
    """Every ratio with a goal, or worth a line, among the arms that ran."""
    named = [(arm.format(name), base.format(name), goal) for name in OPTIMIZERS for arm, (base, goal) in GOALS.items()]
    return [Comparison(arm, base, goal, ratio(samples, arm, base)) for arm, base, goal in named if arm in samples]


def show(samples: Samples, comparisons: list[Comparison]) -> None:
    """Print both tables."""
    for name, seconds in samples.items():
        print(f"{name:18} {spread(seconds)}")
    print()
    for row in comparisons:
        wish = "" if row.goal is None else f"   goal <= {row.goal:.2f}: {row.verdict}"
        print(f"{row.arm:18} / {row.base:18} {shown(row.interval)}{wish}")


if __name__ == "__main__":
    main()
