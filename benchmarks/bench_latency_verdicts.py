"""What `sparsify bench` is worth on this machine: false verdicts where nothing differs, misses of a tenth's slowdown.

A trial is one launch in a fresh process, over ONNX Runtime on one thread: LeNet-300-100 against itself (A/A), or
against itself behind a wrapper that waits a tenth longer than each inference took. Goals over 40 trials of each: faster
or slower called in at most 5 A/A trials, slower in at least 36 planted ones.

    python benchmarks/bench_latency_verdicts.py [--trials 40] [--pairs 400] [--launches 1] [--no-write]

Exit 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from protocol import environment, write
from sparsify_export.latency import Latency, cores_for
from sparsify_export.launch import WARMUP
from sparsify_export.measurement import Launch, launch_from_json
from sparsify_export.pairing import measure_pair, pinned
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.runtimes.protocol import Feed

SLOWDOWN = 0.1
EQUIVALENCE = 0.05
MOST_FALSE, FEWEST_CALLED, OF = 5, 36, 40


class Slowed:
    """ONNX Runtime, and after each inference a busy wait of a share of the time that it took."""

    device = "cpu"

    def __init__(self, inner: OnnxRuntime, share: float) -> None:
        self._inner = inner
        self._share = share

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def infer(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """The inner runtime's outputs, later."""
        start = time.perf_counter_ns()
        outputs = self._inner.infer(feed)
        end = start + (time.perf_counter_ns() - start) * (1 + self._share)
        while time.perf_counter_ns() < end:
            pass
        return outputs

    def describe(self) -> dict[str, str | int]:
        """The inner runtime's, and how it is slowed."""
        return {**self._inner.describe(), "slowed": f"{self._share:g}"}


def main() -> None:
    """Run the trials, print and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=OF, help="trials of each kind")
    parser.add_argument("--pairs", type=int, default=400, help="pairs a launch")
    parser.add_argument("--launches", type=int, default=1, help="launches a trial")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    parser.add_argument("--launch", nargs=3, metavar=("GRAPH", "SHARE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.launch:
        graph, share, seed = options.launch
        json.dump(asdict(launch(Path(graph), float(share), int(seed), options.pairs)), sys.stdout)
        return
    with tempfile.TemporaryDirectory() as folder:
        graph = write_lenet(Path(folder) / "lenet.onnx")
        trials = {share: _trials(graph, share, options) for share in (0.0, SLOWDOWN)}
    counts = {share: Counter(trial["verdict"] for trial in found) for share, found in trials.items()}
    scale = options.trials / OF
    false = counts[0.0]["faster"] + counts[0.0]["slower"]
    called = counts[SLOWDOWN]["slower"]
    print(f"A/A:           {dict(counts[0.0])}; false verdicts {false}, at most {MOST_FALSE * scale:g} allowed")
    print(f"a tenth slower: {dict(counts[SLOWDOWN])}; called {called}, at least {FEWEST_CALLED * scale:g} needed")
    if options.write:
        what = {"what": "verdicts over trials", "environment": environment("numpy", "onnx", "onnxruntime")}
        document = what | {"pairs": options.pairs, "launches": options.launches, "equivalence": EQUIVALENCE}
        write(
            "latency_verdicts", document | {"trials": {f"slowed {share:g}": found for share, found in trials.items()}}
        )
    sys.exit(false > MOST_FALSE * scale or called < FEWEST_CALLED * scale)


def _trials(graph: Path, share: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for trial in range(options.trials):
        launches = tuple(
            _in_fresh_process(graph, share, trial * options.launches + number, options.pairs)
            for number in range(options.launches)
        )
        found.append(Latency(launches, EQUIVALENCE).comparison())
        print(f"{share:g} {trial}: {found[-1]['verdict']}: {found[-1]['reason']}", file=sys.stderr)
    return found


def _in_fresh_process(graph: Path, share: float, seed: int, pairs: int) -> Launch:
    command = [sys.executable, __file__, "--pairs", str(pairs), "--launch", str(graph), str(share), str(seed)]
    return launch_from_json(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def launch(graph: Path, share: float, seed: int, pairs: int) -> Launch:
    """One launch in this process: the graph, itself again, and itself slowed by `share` (0 for not at all)."""
    feed = {"input": np.random.default_rng(seed).standard_normal((1, 784)).astype(np.float32)}
    # The wrapper costs a little by itself: all three wear it, and only the last waits.
    dense, twin, other = [Slowed(OnnxRuntime(graph), wait) for wait in (0.0, 0.0, share)]
    with pinned(cores_for(1)):
        return measure_pair(dense, twin, other, feed, pairs=pairs, seed=seed, warmup=WARMUP)


def write_lenet(path: Path) -> Path:
    """LeNet-300-100 with weights drawn from a seed: what is timed does not depend on them."""
    rng = np.random.default_rng(0)
    widths = (784, 300, 100, 10)
    arrays = {
        f"W{i}": rng.standard_normal((widths[i], widths[i + 1])).astype(np.float32) / widths[i] ** 0.5 for i in range(3)
    }
    nodes = [
        helper.make_node("MatMul", ["input", "W0"], ["h0"]),
        helper.make_node("Relu", ["h0"], ["a0"]),
        helper.make_node("MatMul", ["a0", "W1"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["a1"]),
        helper.make_node("MatMul", ["a1", "W2"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "lenet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 784])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


if __name__ == "__main__":
    main()
