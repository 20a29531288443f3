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


PRUNE = """
kind: prune
name: small
trained: {model: mlp:64-6-4}
data: {source: digits}
target: {speedup: 1.5, max_drop: 0.02}
export: {targets: [onnxruntime-cpu]}
"""
FOUND = {
    "run.kind": "prune",
    "target.kind": "speedup",
    "target.asked": 1.5,
    "target.max_drop": 0.02,
    "target.outcome": "missed",
    "target.reason": "the largest removal found within the drop",
    "target.achieved": 1.2,
    "target.achieved.ci_low": 1.1,
    "target.achieved.ci_high": 1.3,
    "export.drop": 0.01,
    "export.drop.ci_low": 0.005,
    "export.drop.ci_high": 0.015,
    "trial_01.sparsity": 0.95,
    "trial_01.outcome": "met",
    "trial_01.achieved": 1.7,
    "trial_02.sparsity": 0.475,
    "trial_02.drop": 0.03,
    "trial_02.drop.ci_low": 0.02,
    "trial_02.drop.ci_high": 0.04,
}


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """A prune run whose last stage is not complete."""
    root = Run.open(tmp_path / "pruned", PRUNE, {}).root
    trials = ["trials/most/pruned", "trials/most/export/onnxruntime-cpu", "trials/sparsity_0.4750/pruned"]
    for path in ["dense", *trials, "model", "test", "export/onnxruntime-cpu"]:
        kind, parents = ("export", {"ticket": {"path": "dense", "digest": "0"}}) if "export" in path else ("prune", {})
        with write_stage(root / path, kind=kind, key=path, spec={}, parents=parents, seeds={}, versions={}) as folder:
            (folder / "x").write_text("x")
    return root


def test_a_prune_run_shows_its_stages_and_no_search_before_its_end(pruned: Path):
    document = json.loads(invoke(pruned, "--json"))
    stages = document["other_stages"]
    assert [path for path, complete in stages.items() if not complete] == ["latency/onnxruntime-cpu"]
    assert next(iter(stages)) == "dense" and list(stages)[-4:-2] == ["model", "test"] and len(stages) == 8
    assert document["asked"] is None and document["run_kind"] == "prune" and document["levels"] == []


def test_a_finished_prune_run_shows_what_was_asked_and_what_was_tried(pruned: Path):
    (pruned / "metrics.json").write_text(json.dumps(FOUND))
    Run.load(pruned).write_manifest({})
    text = invoke(pruned)
    assert "target: speedup 1.5 asked at a drop of at most 0.02, 1.2 (1.1 to 1.3) achieved, missed" in text
    assert "drop 0.01 (0.005 to 0.015)" in text
    assert [line.split() for line in text.splitlines() if line.strip().startswith(("95.00%", "47.50%"))] == [
        ["95.00%", "1.7", "met"],
        ["47.50%", "0.03", "(0.02", "to", "0.04)"],
    ]
    assert "the network that was kept:" in text and "ticket" not in text
    asked = json.loads(invoke(pruned, "--json"))["asked"]
    assert asked["trials"][1]["drop"] == {"estimate": 0.03, "ci_low": 0.02, "ci_high": 0.04}


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
    assert "shrunk: not counted, for want of a network that we build" in text


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
