from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
import typer
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from sparsify.cli.inspect import command
from sparsify.errors import UsageError
from sparsify.lottery.network import Network
from sparsify.lottery.ticket import Ticket
from sparsify.masks.mask import Mask
from sparsify.models.build import prunable
from sparsify.store.run import Run
from sparsify.store.stage import read_stage, write_stage
from sparsify.store.weights import save_tensors

app = typer.Typer()
app.command()(command)

TEXT = """
name: tiny
model: mlp:64-6-4
replicates: 1
data: {source: digits}
prune: {levels: 1}
controls: [{name: reinit, levels: [1]}]
export: {targets: [onnxruntime-cpu]}
"""


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.exception
    return result.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a dense network and one level, half of whose weights are removed."""
    root = Run.open(tmp_path_factory.mktemp("inspect") / "run", TEXT, {}).root
    network = Network("mlp:64-6-4", (1, 8, 8), 4)
    module = network.build()
    parents: dict[str, dict[str, str]] = {}
    for kind, path, every in (("dense", "replicate_0/dense", 1), ("level", "replicate_0/level_01", 2)):
        mask = Mask(
            {
                name: (torch.arange(parameter.numel()) % every == 0).reshape(parameter.shape)
                for name, parameter in module.named_parameters()
                if name in prunable(module)
            }
        )
        mask.apply_(module)
        with write_stage(
            root / path, kind=kind, key=path, spec={}, parents=parents, seeds={"init": 7}, versions={"torch": "2"}
        ) as folder:
            network.save(folder)
            mask.save(folder / Ticket.MASK)
            save_tensors(folder / Ticket.WEIGHTS, module.state_dict())
            (folder / Ticket.HISTORY).write_text('{"precision": "bf16"}')
        record = read_stage(root / path)
        assert record is not None
        parents = {"dense": {"path": path, "digest": record.digest}}
    return root


def test_a_run(root: Path):
    text = invoke(root)
    assert "run tiny: mlp:64-6-4 on digits, unfinished, the same command resumes it" in text
    assert "50.00%" in text
    assert "1 of 1" in text
    assert "latency/onnxruntime-cpu" in text


def test_a_ticket(root: Path):
    text = invoke(root / "replicate_0/level_01")
    assert "level stage" in text
    assert "mlp:64-6-4 for 1x8x8\ntrained in bf16\n" in text
    assert "prunable weights: 204 of 408 kept, sparsity 50.00%" in text
    assert "sizes: masked 1,672 bytes; packed " in text
    # Every other weight of (4, 6) leaves three of six hidden units unread: 64-3-4 is what remains.
    assert "of masked); shrunk 844 bytes (50.5% of masked)" in text
    assert "replicate_0/dense" in text
    assert "intact" in text


def test_a_file_of_tensors(root: Path):
    text = invoke(root / "replicate_0/level_01/weights.safetensors")
    assert "weights (two axes or more, and masks): 204 of 408 kept, sparsity 50.00%" in text
    assert "shrunk: needs a network, not tensors alone" in text


def test_an_onnx_file(root: Path, tmp_path: Path):
    weights = Ticket(root / "replicate_0/level_01").trained_weights
    stored = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in weights.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "hidden1.weight", "hidden1.bias"], ["h"], transB=1),
        helper.make_node("Gemm", ["h", "output.weight", "output.bias"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in (("x", 64), ("y", 4))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opsets), tmp_path / "m.onnx")
    text = invoke(tmp_path / "m.onnx")
    assert "opset ai.onnx 18; IR 10" in text
    assert "batch x 64" in text
    assert "weights (two axes or more): 204 of 408 kept, sparsity 50.00%" in text
    assert "Gemm" in text
    document = json.loads(invoke(tmp_path / "m.onnx", "--json"))
    assert document["kind"] == "onnx"
    assert document["weights"]["sparsity"] == 0.5


@pytest.mark.parametrize(
    ("path", "kind"),
    [(".", "run"), ("replicate_0/dense", "stage"), ("replicate_0/dense/mask.safetensors", "tensors")],
)
def test_json_is_one_document(root: Path, path: str, kind: str):
    assert json.loads(invoke(root / path, "--json"))["kind"] == kind


def test_names_in_brackets_are_shown_as_they_are(tmp_path: Path):
    save_tensors(tmp_path / "t.safetensors", {"layers[0].[bold]weight": torch.ones(2, 2)})
    assert "layers[0].[bold]weight" in invoke(tmp_path / "t.safetensors")


def test_other_things_are_refused(tmp_path: Path):
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(result.exception, UsageError)
