"""Our fp32 sparse operators against DeepSparse 1.8: alternating processes, one thread, batch 1, the same zeros.

    python3.10 -m venv PEER && PEER/bin/pip install deepsparse==1.8.0
    python benchmarks/bench_deepsparse.py --peer PEER/bin/python --scratch FOLDER [--launches 20]

FOLDER is that of bench_sparse_cpu.py, whose graphs are taken. A launch is a process that opens its graph, warms up and
times ten inferences; a pair is one launch of each engine, in an order drawn anew, and gives one ratio of their medians.
DeepSparse is evaluated, never depended on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench_sparse_cpu import SINGLE, exported, graph
from protocol import environment, interleaved, ratio, shown, spread, write
from sparse_networks import NETWORKS, input_of

WORKER = Path(__file__).with_name("deepsparse_worker.py")
GOALS = {"bert-base": 1.3, "resnet-50": 2.5}
INFERENCES = 10


def main() -> None:
    """Alternate launches, print a line a network, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="an interpreter that has deepsparse 1.8")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for graphs, outside this repository")
    parser.add_argument("--networks", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--launches", type=int, default=20, help="of each engine")
    parser.add_argument("--suffix", default="", help="of the results' names: another processor's stay")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    for name in options.networks:
        folder = options.scratch / name
        source = graph(name, folder, options.sparsity, SINGLE)
        made = exported(source, folder / f"{options.sparsity:.0%}-fp32", "f32")
        shape = list(input_of(NETWORKS[name](0.0)).shape)
        arms = {
            "deepsparse": launch(options.peer, "deepsparse", source, shape),
            "ours": launch(Path(sys.executable), "ours", made, shape),
        }
        samples = interleaved(arms, rounds=options.launches, warm_up=1)
        over = ratio(samples, "deepsparse", "ours")
        times = ", ".join(f"{arm} {spread(seconds)}" for arm, seconds in samples.items())
        print(f"{name} at {options.sparsity:.0%}: {times}; deepsparse over ours {shown(over)}, goal {GOALS[name]}")
        if options.write:
            what = f"seconds of an inference of {name}, median of {INFERENCES} a launch, {options.sparsity:.0%} zeros"
            write(
                f"deepsparse_{name}{options.suffix}",
                {"what": what, "peer": "deepsparse 1.8.0", "seconds": samples, "load_after": os.getloadavg()}
                | {"environment": environment("onnxruntime", "sparsify-kernels")},
            )


def launch(python: Path, engine: str, path: Path, shape: list[int]) -> Callable[[], float]:
    """A process of that engine: the median seconds of its inferences."""

    def once() -> float:
        command = [str(python), str(WORKER), engine, str(path), json.dumps(shape), str(INFERENCES)]
        quiet = {"NM_DISABLE_ANALYTICS": "1"}
        done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        return float(np.median(json.loads(done.stdout.splitlines()[-1])["seconds"]))

    return once


if __name__ == "__main__":
    main()
