"""Sparse CPU operators against the best dense: whole networks, batch 1, all arms in one process, in turn.

    python benchmarks/bench_sparse_cpu.py --scratch FOLDER [--networks bert-base resnet-50] [--threads 1] [--rounds 20]

Arms: dense fp32, dynamic int8 (linear layers) and, where `openvino` can be imported, OpenVINO in bf16 and on that
dynamic int8; our own operators dense in int8, which tells what precision gains from what sparsity gains; at each
sparsity fp32, fp16 (bf16 multiplies in fp32) and int8 unstructured, and int8 in 1x4 and 32x1 blocks. Every
graph is made by `sparsify export --target sparse-cpu`. A network is timed right after an inference of its own, as in
use, so that the caches hold it and not the arm before; a lone layer is not, for other layers' weights come between.
A first inference, the bytes of the file and the error against dense fp32 with the same weights stand beside the times,
and what the machine could do before and after the rounds.
"At its best" is the ratio of the arms' fastest tenths: an AMX unit that the host slows down for most of the time shows
there what it can do.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import sparsify_kernels
from protocol import Samples, environment, interleaved, ratio, shown, write
from sparse_networks import NETWORKS, SINGLE, Block, input_of
from sparse_networks import write as write_graph

SPARSIFY = str(Path(sys.executable).with_name("sparsify"))
DENSE = "dense fp32"
SPARSITIES = (0.8, 0.9, 0.95)
# speedups over dense fp32 on one thread, at SPARSITIES
GOALS: dict[str, dict[str, tuple[float, float, float]]] = {
    "bert-base": {"fp32": (2.8, 5.0, 8.0), "int8": (9, 10, 11), "int8 1x4": (8, 10, 12)},
    "resnet-50": {"fp32": (2.0, 3.5, 5.0), "int8": (5, 7, 9), "int8 1x4": (5, 7, 9)},
    "mobilenet-v2": {"fp32": (1.3, 2.0, 3.0)},
    "gemv-4096": {"fp32": (2, 4, 8), "int8": (4, 8, 14)},
}

LONE = ("gemv-4096",)
"""A layer, not a network: in use the weights of other layers pass through the caches between two calls of it."""

Infer = Callable[[], NDArray[Any]]


@dataclass
class Arm:
    """One way to run the network."""

    infer: Infer
    first_s: float
    """Opening the graph and the first inference, plans included."""
    bytes: int
    rms: float | None = None
    """Error over the output's own RMS, against dense fp32 with the same weights."""
    report: dict[str, Any] = field(default_factory=dict[str, Any])


def main() -> None:
    """Make the graphs that are not there, measure each network, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for graphs, outside this repository")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--sparsity", nargs="+", type=float, default=list(SPARSITIES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20, help="inferences of each arm")
    parser.add_argument("--suffix", default="", help="of the results' names: another processor's stay")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    for name in options.networks:
        arms = arms_of(name, options.scratch / name, options.sparsity, options.threads)
        machine = {"before": sparsify_kernels.machine()}
        calls = {key: timed(arm.infer, follows_itself=name not in LONE) for key, arm in arms.items()}
        samples = interleaved(calls, rounds=options.rounds, warm_up=2)
        machine["after"] = sparsify_kernels.machine()
        print(table(name, arms, samples, options.sparsity, options.threads))
        print(f"\n{state(machine)}\n")
        if options.write:
            packages = [
                p for p in ("onnxruntime", "openvino", "sparsify-kernels") if importlib.util.find_spec(module(p))
            ]
            write(
                f"sparse_cpu_{name}_{options.threads}{options.suffix}",
                {"what": f"seconds of one inference of {name}, batch 1, {options.threads} threads"}
                | {"environment": environment(*packages), "load_after": os.getloadavg(), "machine": machine}
                | {"seconds": samples}
                | {"arms": {k: {"first_s": a.first_s, "bytes": a.bytes, "rms": a.rms} for k, a in arms.items()}},
            )


def arms_of(name: str, folder: Path, sparsities: Sequence[float], threads: int) -> dict[str, Arm]:
    """Every arm, opened and run once; the dense one first."""
    dense = graph(name, folder, 0.0, SINGLE)
    arms = {DENSE: opened(dense, threads)}
    x = input_of(NETWORKS[name](0.0))
    if name in ("bert-base", "gemv-4096"):
        arms["dense int8, dynamic"] = against(opened(quantised(dense), threads), arms[DENSE].infer())
    if importlib.util.find_spec("openvino"):
        truth = arms[DENSE].infer()
        arms["dense bf16, OpenVINO"] = against(openvino(dense, x, threads, "bf16"), truth)
        if "dense int8, dynamic" in arms:
            arms["dense int8, OpenVINO"] = against(openvino(quantised(dense), x, threads, "f32"), truth)
    ours = exported(dense, folder / "ours-dense-i8", "i8")
    arms["dense int8, ours"] = against(opened(ours, threads), arms[DENSE].infer())
    for sparsity in sparsities:
        percent = f"{sparsity:.0%}"
        for label, block, precision in (
            ("fp32", SINGLE, "f32"),
            ("fp16", SINGLE, "f16"),
            ("int8", SINGLE, "i8"),
            ("int8 1x4", (1, 4), "i8"),
            ("int8 32x1", (32, 1), "i8"),
        ):
            source = graph(name, folder, sparsity, block)
            made = exported(source, folder / f"{percent}-{label}".replace(" ", "-"), precision)
            arms[f"{percent} {label}"] = against(opened(made, threads), opened(source, threads).infer())
    return arms


def graph(name: str, folder: Path, sparsity: float, block: Block) -> Path:
    """The network as a file, made once."""
    path = folder / f"{sparsity:.0%}-{block[0]}x{block[1]}.onnx"
    return path if path.exists() else write_graph(NETWORKS[name](sparsity, block=block), path)


def exported(source: Path, out: Path, precision: str) -> Path:
    """What `sparsify export --target sparse-cpu` makes of it, once: layers that would lose stay dense."""
    if not out.exists():
        command = [SPARSIFY, "export", str(source), "--target", "sparse-cpu", "--out", str(out)]
        subprocess.run([*command, "--precision", precision], check=True)
    return out / "model.onnx"


def opened(path: Path, threads: int) -> Arm:
    """The graph in ONNX Runtime, with our library where it needs it."""
    start = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else into the next arm's time
    options.register_custom_ops_library(str(sparsify_kernels.library_path()))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

    def infer() -> NDArray[Any]:
        return session.run(None, {"x": x})[0]

    infer()
    return Arm(infer, time.perf_counter() - start, path.stat().st_size)


def quantised(dense: Path) -> Path:
    """ONNX Runtime's own dynamic int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = dense.with_name("dynamic-int8.onnx")
    if not path.exists():
        quantize_dynamic(dense, path, weight_type=QuantType.QInt8)
    return path


def openvino(graph: Path, x: NDArray[np.float32], threads: int, precision: str) -> Arm:
    """OpenVINO, with floats in the precision asked for: an evaluation only, never a dependency."""
    from openvino import Core

    start = time.perf_counter()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    request = Core().compile_model(graph, "CPU", settings).create_infer_request()

    def infer() -> NDArray[Any]:
        return next(iter(request.infer({"x": x}).values()))

    infer()
    return Arm(infer, time.perf_counter() - start, graph.stat().st_size)


def against(arm: Arm, truth: NDArray[Any]) -> Arm:
    """The arm with its error."""
    arm.rms = float(np.sqrt(np.mean((arm.infer() - truth) ** 2) / np.mean(truth**2)))
    return arm


def timed(infer: Infer, *, follows_itself: bool) -> Callable[[], float]:
    """Wall seconds of one inference, which in use follows another of this network, or of a layer that of others."""

    def once() -> float:
        if follows_itself:
            infer()
        start = time.perf_counter()
        infer()
        return time.perf_counter() - start

    return once


def table(name: str, arms: dict[str, Arm], samples: Samples, sparsities: Sequence[float], threads: int) -> str:
    """Markdown: milliseconds, times dense fp32 and times the best dense, each with its interval."""
    dense_arms = [key for key in arms if key.startswith("dense")]
    best = min((key for key in dense_arms if "ours" not in key), key=lambda key: float(np.median(samples[key])))
    lines = [
        f"{name}, {threads} threads; best dense of others: {best}; load {os.getloadavg()[0]:.2f}",
        "",
        "| arm | ms | times dense fp32 | goal | at its best | times best dense of others | error | MB | first, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, arm in arms.items():
        ms = float(np.median(samples[key])) * 1e3
        goal = goal_of(name, key, sparsities) if threads == 1 else ""
        over = [shown(ratio(samples, base, key)) for base in (DENSE, best)]
        error = "" if arm.rms is None else f"{arm.rms:.1e}"
        fastest = f"{np.percentile(samples[DENSE], 10) / np.percentile(samples[key], 10):.2f}"
        size = f"{arm.bytes / 1e6:.1f}"
        cells = [key, f"{ms:.2f}", over[0], goal, fastest, over[1], error, size, f"{arm.first_s:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def state(machine: dict[str, dict[str, float]]) -> str:
    """What the machine could do before the rounds and after them, in one line: see sparsify_kernels.machine."""
    spans = [f"{name} {before:.3g}..{machine['after'][name]:.3g}" for name, before in machine["before"].items()]
    return f"machine, before..after: {', '.join(spans)}"


def goal_of(name: str, arm: str, sparsities: Sequence[float]) -> str:
    """The speedup aimed at, where one is."""
    for sparsity, place in zip(SPARSITIES, range(3), strict=True):
        kind = arm.removeprefix(f"{sparsity:.0%} ")
        if kind != arm and kind in GOALS[name]:
            return f"{GOALS[name][kind][place]:g}"
    return ""


def module(distribution: str) -> str:
    """The name one imports."""
    return distribution.replace("-", "_")


if __name__ == "__main__":
    main()
