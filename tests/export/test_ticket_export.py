from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsify.data.load import Data
from sparsify.errors import CorruptError, UnavailableError, UsageError
from sparsify.lottery.network import Network
from sparsify.store.packed import unpack
from sparsify.store.weights import load_tensors
from sparsify_export import parity as parity_module
from sparsify_export import ticket_export
from sparsify_export.onnx_check import load_graph, weight_zeros
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.targets import TARGETS
from sparsify_export.ticket_export import export_ticket, real_inputs
from written_tickets import images, write_ticket

CPU = TARGETS["onnxruntime-cpu"]
NETWORK = Network("mlp:16-12-8-3", (1, 4, 4), 3)


@pytest.fixture(scope="module")
def data() -> Data:
    return images((1, 4, 4), classes=3, count=30)


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("tickets")
    return write_ticket(root / "ticket", NETWORK, 0.9), write_ticket(root / "dense", NETWORK, 0.0)


@pytest.fixture(scope="module")
def exported(tickets: tuple[Path, Path], data: Data, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("export")
    return out, export_ticket(*tickets, out, target=CPU, batch_sizes=(1, 8), data=data)


def test_every_file_is_there(exported):
    out, _ = exported
    assert sorted(path.name for path in out.iterdir()) == [
        "dense.onnx",
        "model.onnx",
        "parity.json",
        "sizes.json",
        "weights.packed",
    ]


def test_the_graphs_hold_ticket_and_dense(exported, tickets):
    out, _ = exported
    for name, folder in zip(("model", "dense"), tickets, strict=True):
        weights = [value for value in load_tensors(folder / "weights.safetensors").values() if value.ndim == 2]
        expected = sum(int((value == 0).sum()) for value in weights), sum(value.numel() for value in weights)
        assert weight_zeros(load_graph(out / f"{name}.onnx")) == expected
        module = Network.load(folder).build(weights=load_tensors(folder / "weights.safetensors")).eval()
        images = np.random.default_rng(3).standard_normal((5, 1, 4, 4)).astype(np.float32)
        with OnnxRuntime(out / f"{name}.onnx") as runtime, torch.no_grad():
            np.testing.assert_allclose(
                runtime.infer({"input": images})["logits"], module(torch.from_numpy(images)).numpy(), atol=1e-5
            )


def test_parity_states_batches_tolerance_and_reason(exported):
    out, result = exported
    written = json.loads((out / "parity.json").read_text())
    assert (written["target"], written["status"], written["parity_on"]) == (CPU.name, "checked", CPU.name)
    for name in ("model", "dense"):
        assert [batch["batch_size"] for batch in written[name]["batches"]] == [1, 8]
        assert all(
            batch["max_rel_error"] <= written[name]["tolerance"]["relative"] for batch in written[name]["batches"]
        )
        assert "fan-in" in written[name]["tolerance"]["reason"]
    assert json.loads(json.dumps(result.to_json()))["parity"]["model"] == written["model"]


def test_three_sizes_and_none_is_the_other(exported, tickets):
    out, result = exported
    written = json.loads((out / "sizes.json").read_text())
    state = load_tensors(tickets[0] / "weights.safetensors")
    assert written["dense_fp32"] == written["masked"] == sum(value.nbytes for value in state.values())
    assert written["packed"] == (out / "weights.packed").stat().st_size < written["masked"]
    assert written["shrunk"] < written["masked"]  # 90% of 12 x 16 and 8 x 12 leaves dead units
    assert sum(written["shrinking"]["removed_channels"].values()) > 0
    unpacked = unpack((out / "weights.packed").read_bytes())
    assert all(torch.equal(unpacked[name], value) for name, value in state.items())
    assert result.sizes.packed == written["packed"]


def test_a_runtime_that_is_not_to_be_trusted_stops_the_export(tickets, data: Data, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(ticket_export, "tolerance_of", lambda module, eps: parity_module.Tolerance(-1.0, "none at all"))
    with pytest.raises(CorruptError, match="not to be trusted with this graph"):
        export_ticket(*tickets, tmp_path, target=CPU, batch_sizes=(1,), data=data)


@pytest.mark.parametrize("sizes", [(), (1, 0)])
def test_batch_sizes_below_one_are_refused(tickets, data: Data, tmp_path: Path, sizes):
    with pytest.raises(UsageError, match="batch sizes: expected one or more"):
        export_ticket(*tickets, tmp_path, target=CPU, batch_sizes=sizes, data=data)


@pytest.mark.parametrize("name", ["tensorrt", "onnxruntime-cuda"])
def test_a_target_that_is_not_here_is_refused_before_anything_is_written(tickets, data: Data, tmp_path: Path, name):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UnavailableError, match="NVIDIA GPU"):
        export_ticket(*tickets, tmp_path, target=TARGETS[name], batch_sizes=(1,), data=data)
    assert not list(tmp_path.iterdir())


def test_tensorrt_rtx_builds_here_and_says_that_it_did_not_run(tickets, data: Data, tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    result = export_ticket(*tickets, tmp_path, target=TARGETS["tensorrt-rtx"], batch_sizes=(1, 8), data=data)
    assert result.status == "built, not run: no GPU here"
    assert "NVIDIA" in result.missing
    assert result.parity_on == "onnxruntime-cpu"
    assert {path.name for path in tmp_path.glob("*.plan")} == {
        f"{name}-{sm}.plan" for name in ("model", "dense") for sm in ("SM86", "SM89")
    }
    assert all(len(plan["layers"]) > 0 for plan in result.plans)


def test_real_inputs_are_whole_batches_taken_again_where_too_few():
    images = np.arange(10)
    inputs = real_inputs(images, (1, 24, 100))
    assert {size: len(taken) for size, taken in inputs.items()} == {1: 64, 24: 48, 100: 100}
    assert inputs[24].tolist() == [*range(10)] * 4 + [*range(8)]
