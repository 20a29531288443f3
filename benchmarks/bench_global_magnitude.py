"""Seconds that an exact global selection over many weights takes, beside `torch.kthvalue`, `topk` and a stable sort.

Goal: the mask in less than 1.5 times the time of the quicker of `kthvalue` and `topk`, which make no mask.

    python benchmarks/bench_global_magnitude.py [--weights 100000000] [--rounds 3] [--no-write]

`Gaussian` scores are the magnitudes of distinct weights; of `tied` ones 70% are zero, as after pruning before. The
stable sort, which ranks ties as ours does, is given a tenth of the weights and its time multiplied by ten.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from protocol import Samples, environment, interleaved, ratio, shown, spread, write
from sparsify.masks.exact import keep_highest

GOAL = 1.5
LAYERS = 10
# Removed of the Gaussian scores, and of the tied ones, where the threshold lies in the ties or above them.
CASES = {"Gaussian": (0.9, 0.0), "Gaussian half": (0.5, 0.0), "tied": (0.5, 0.7), "tied above": (0.9, 0.7)}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=100_000_000, help="scores in each case")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = {name: measured(options.weights, *case, options.rounds) for name, case in CASES.items()}
    for name, case in samples.items():
        table(name, case)
    if options.write:
        document = {"what": "wall seconds of selecting globally", "environment": environment("torch", "numpy")}
        cases = {name: {"sparsity": case[0], "zeros": case[1]} for name, case in CASES.items()}
        document |= {"weights": options.weights, "layers": LAYERS, "goal": GOAL, "cases": cases}
        write("global_magnitude", document | {"seconds": samples})


def measured(weights: int, sparsity: float, zeros: float, rounds: int) -> Samples:
    """Seconds of every arm over scores of which a share is zero."""
    scores = torch.randn(weights, generator=torch.Generator().manual_seed(0)).abs_()
    scores[: int(weights * zeros)] = 0.0
    scores = scores[torch.randperm(weights, generator=torch.Generator().manual_seed(1))] if zeros else scores
    layers = list(scores.split(-(-weights // LAYERS)))
    kept = weights - int(weights * sparsity)
    tenth, tenth_kept = scores[: weights // 10], kept // 10
    arms: dict[str, tuple[Callable[[], object], int]] = {
        "ours, the mask": (lambda: keep_highest(layers, kept), 1),
        "torch.kthvalue, the value": (lambda: torch.kthvalue(scores, weights - kept + 1), 1),
        "torch.topk, the kept": (lambda: torch.topk(scores, kept, sorted=False), 1),
        "stable sort, the mask": (lambda: by_stable_sort(tenth, tenth_kept), 10),
    }
    return interleaved({name: timed(*arm) for name, arm in arms.items()}, rounds=rounds, warm_up=1)


def by_stable_sort(scores: Tensor, kept: int) -> Tensor:
    """What selection was before."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[torch.sort(scores, descending=True, stable=True).indices[:kept]] = True
    return mask


def timed(call: Callable[[], object], times: int) -> Callable[[], float]:
    """An arm: seconds of one call, times a factor for one that is given less."""

    def once() -> float:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * times

    return once


def table(case: str, samples: Samples) -> None:
    """Seconds, and ours over each of the others."""
    print(f"\n{case}")
    for name, seconds in samples.items():
        print(f"  {name:26} {spread(seconds)}")
    against = {name: ratio(samples, "ours, the mask", name) for name in samples if name != "ours, the mask"}
    for name, interval in against.items():
        print(f"  ours over {name:26} {shown(interval)}")
    peers = [against[name] for name in ("torch.kthvalue, the value", "torch.topk, the kept")]
    slowest = max(peers, key=lambda interval: interval.estimate)
    low, high = (slowest.estimate if bound is None else bound for bound in (slowest.low, slowest.high))
    verdict = "met" if high < GOAL else "missed" if low >= GOAL else "undecided"
    print(f"  goal: below {GOAL} times the quicker of kthvalue and topk: {verdict}")


if __name__ == "__main__":
    main()
