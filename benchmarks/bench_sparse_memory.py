"""Memory of a network in ONNX Runtime, dense beside sparse: what a process holds after loading it and one inference.

    python benchmarks/bench_sparse_memory.py dense=GRAPH.onnx f32=sparse/model.onnx i8=sparse8/model.onnx

The first graph is what the others are compared with; `bench_sparse_cpu.py --scratch FOLDER` leaves such graphs. Each is
opened in five processes of its own. `resident` is what the operating system counts, `returned` the same after the C
library has given back what it holds for later (glibc's `malloc_trim`), both without what Python, NumPy and ONNX Runtime
take before a graph is opened; `peak` is the most at any time. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
from pathlib import Path

from protocol import environment, write

LAUNCHES = 5
GOAL = 0.35
Megabytes = dict[str, float]


def main() -> None:
    """Measure each graph, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(held(Path(options.graphs[0]))))
        return
    files = dict(text.split("=", 1) for text in options.graphs)
    found = {name: [launch(path) for _ in range(LAUNCHES)] for name, path in files.items()}
    print(table(found))
    if options.write:
        what = {"what": "MB held after loading and one inference", "environment": environment("onnxruntime")}
        sizes = {name: Path(path).stat().st_size for name, path in files.items()}
        write("sparse_memory", what | {"file_bytes": sizes, "megabytes": found})


def launch(path: str) -> Megabytes:
    """What one fresh process holds."""
    done = subprocess.run([sys.executable, __file__, "--one", path], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def held(path: Path) -> Megabytes:
    """Open the graph here, run it once, and look."""
    from sparsify_export.feed import make_feed, shapes_of
    from sparsify_export.onnx_check import inputs_in
    from sparsify_export.pruning.wire import read_skeleton
    from sparsify_export.runtimes.onnxrt import OnnxRuntime, load_onnxruntime

    load_onnxruntime()
    inputs = inputs_in(path, read_skeleton(path).model.graph)
    feed = make_feed(inputs, shapes_of(path, inputs, 1, {}), seed=0)
    before = status("VmRSS")
    with OnnxRuntime(path) as runtime:
        runtime.infer(feed)
        resident, peak = status("VmRSS"), status("VmHWM")
        ctypes.CDLL(None).malloc_trim(0)
        returned = status("VmRSS")
    return {"before": before, "resident": resident - before, "returned": returned - before, "peak": peak - before}


def status(key: str) -> float:
    """Megabytes of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def table(found: dict[str, list[Megabytes]]) -> str:
    """Medians over the processes, and their share of the first graph's."""
    keys = ("resident", "returned", "peak")
    medians = {name: {key: statistics.median(one[key] for one in all_) for key in keys} for name, all_ in found.items()}
    dense = next(iter(medians.values()))
    lines = [f"{'graph':10}" + "".join(f"{key:>20}" for key in keys) + f"   (goal: {GOAL} of the first)"]
    for name, one in medians.items():
        lines.append(f"{name:10}" + "".join(f"{one[key]:9.0f} MB  {one[key] / dense[key]:6.3f} " for key in keys))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
