"""Single layers at one sparsity: our operators beside every peer that can be had, batch 1, one thread, in turn.

    pip install --target PEERS openvino ai-edge-litert
    PYTHONPATH=PEERS python benchmarks/bench_peers.py --scratch FOLDER [--sparsity 0.9] [--rounds 20]

| arm | what |
|---|---|
| dense fp32 | ONNX Runtime |
| OpenVINO fp32, bf16 | the graph with its zeros, which it multiplies |
| XNNPACK fp32 | the layer as a LiteRT model, images with channels last, as XNNPACK wants them |
| torch CSR | `csr @ x`, which is MKL's sparse product in torch's builds for x86; x lies as it likes it. Not for 3x3 |
| ours f32, i8 | the target sparse-cpu, the layer replaced whatever is expected |

Layers, graphs and samples are those of bench_break_even.py. Arms whose package is not there are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from bench_break_even import DENSE, LAYERS, PRECISIONS, batched, graph, rewritten
from bench_sparse_cpu import opened, openvino
from protocol import Samples, environment, interleaved, ratio, write

Infer = Callable[[], object]


def main() -> None:
    """Measure each layer, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for graphs, outside this repository")
    parser.add_argument("--layers", nargs="+", choices=list(LAYERS), default=list(LAYERS))
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=20, help="samples of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Samples] = {}
    for name in options.layers:
        folder = options.scratch / "".join(letter if letter.isalnum() else "-" for letter in name)
        arms = {arm: batched(infer) for arm, infer in arms_of(name, folder, options.sparsity).items()}
        found[name] = interleaved(arms, rounds=options.rounds, warm_up=2)
    print("\n".join(table(found, options.sparsity)))
    if options.write:
        packages = [name for name in ("openvino", "ai-edge-litert") if importlib.util.find_spec(name.replace("-", "_"))]
        write(
            "peers",
            {"what": f"seconds of one layer with {options.sparsity:.0%} zeros, batch 1, one thread"}
            | {"environment": environment("onnxruntime", "torch", "sparsify-kernels", *packages), "seconds": found},
        )


def arms_of(name: str, folder: Path, sparsity: float) -> dict[str, Infer]:
    """Every arm that there is for this layer; all give the same numbers, which is checked."""
    path = graph(name, folder, sparsity)
    layer = Layer(path)
    arms: dict[str, Infer] = {DENSE: opened(path, 1).infer}
    if importlib.util.find_spec("openvino"):
        arms |= {f"OpenVINO {name}": openvino(path, layer.x, 1, name).infer for name in ("f32", "bf16")}
    if importlib.util.find_spec("ai_edge_litert"):
        from litert_model import xnnpack

        arms["XNNPACK fp32"] = layer.checked(xnnpack(layer.weight, layer.bias, layer.x, layer.stride))
    if layer.weight.ndim == 2 or layer.weight.shape[2:] == (1, 1):
        arms["torch CSR"] = layer.checked(csr(layer))
    return arms | {f"ours {precision}": opened(rewritten(path, precision), 1).infer for precision in PRECISIONS}


class Layer:
    """The one layer of a graph of sparse_networks.py, with an input and what it gives for it."""

    def __init__(self, path: Path) -> None:
        network = onnx.load(path).graph
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in network.initializer}
        node = next(node for node in network.node if node.op_type in ("MatMul", "Gemm", "Conv"))
        shape = [dim.dim_value for dim in network.input[0].type.tensor_type.shape.dim]
        weight = next(tensors[name] for name in node.input if name in tensors and tensors[name].ndim > 1)
        self.weight: NDArray[np.float32] = weight if weight.ndim == 4 else np.ascontiguousarray(weight.T)
        """[outputs, inputs] or [outputs, inputs, height, width]."""
        self.bias: NDArray[np.float32] = next(tensor for tensor in tensors.values() if tensor.ndim == 1)
        strides = [list(one.ints) for one in node.attribute if one.name == "strides"]
        self.stride: int = strides[0][0] if strides else 1
        self.x: NDArray[np.float32] = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        self.truth: NDArray[np.float32] = opened(path, 1).infer()

    def checked(self, infer: Callable[[], NDArray[Any]]) -> Infer:
        """The arm, once its numbers are seen to be the layer's, whichever way they lie."""
        y = np.asarray(infer())
        if y.ndim == 4:
            y = y.transpose(0, 3, 1, 2)
        elif self.weight.ndim == 4:
            y = y.reshape(self.truth.shape)
        elif y.shape != self.truth.shape:
            y = y.T
        np.testing.assert_allclose(y, self.truth, rtol=1e-3, atol=1e-3)
        return infer


def csr(layer: Layer) -> Callable[[], NDArray[np.float32]]:
    """Torch's compressed rows times the columns of the input, and the bias."""
    flat = layer.weight.reshape(len(layer.weight), -1)
    weight = torch.from_numpy(flat.copy()).to_sparse_csr()
    columns = layer.x.T if layer.weight.ndim == 2 else layer.x.reshape(flat.shape[1], -1)
    x, bias = torch.from_numpy(np.ascontiguousarray(columns)), torch.from_numpy(layer.bias.copy())[:, None]

    def infer() -> NDArray[np.float32]:
        with torch.inference_mode():
            return (weight @ x).add_(bias).numpy()

    return infer


def table(found: dict[str, Samples], sparsity: float) -> Iterator[str]:
    """Markdown: microseconds of dense fp32, then how many times as fast each arm is."""
    arms = list(dict.fromkeys(arm for samples in found.values() for arm in samples if arm != DENSE))
    yield f"| layer, {sparsity:.0%} zeros | dense fp32, us | {' | '.join(arms)} |"
    yield "|" + "---|" * (len(arms) + 2)
    for name, samples in found.items():
        dense = f"{np.median(samples[DENSE]) * 1e6:.0f}"
        times = [f"{ratio(samples, DENSE, arm).estimate:.2f}" if arm in samples else "" for arm in arms]
        yield f"| {name} | {dense} | {' | '.join(times)} |"


if __name__ == "__main__":
    main()
