"""A ticket exported to sparse-cpu: rewritten, and held against PyTorch as for any other target."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sparsify_export.sparse.available import why_not

if (missing := why_not()) is not None:
    pytest.skip(missing, allow_module_level=True)

from sparsify.data.load import Data
from sparsify.data.preprocessing import Preprocessing
from sparsify.lottery.network import Network
from sparsify.pipeline.inspection.onnx_file import describe_onnx
from sparsify.recipe.spec import LatencySpec, SparseSpec
from sparsify_export.latency import measure_target
from sparsify_export.onnx_check import load_graph, precision_of
from sparsify_export.sparse.operators import are_used_by
from sparsify_export.sparse.plan import stored_plan
from sparsify_export.targets import TARGETS
from sparsify_export.ticket_export import export_ticket
from written_tickets import images, write_ticket

TARGET = TARGETS["sparse-cpu"]
NETWORK = Network("mlp:256-96-64-10", (1, 16, 16), 10)


@pytest.fixture(scope="module")
def data() -> Data:
    return images((1, 16, 16), classes=10, count=70)


@pytest.fixture
def tickets(tmp_path: Path) -> tuple[Path, Path]:
    return write_ticket(tmp_path / "ticket", NETWORK, 0.9), write_ticket(tmp_path / "dense", NETWORK, 0.0)


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", None), ("f16", 0.005), ("bf16", 0.04), ("i8", 0.1)])
def test_the_ticket_is_rewritten_and_dense_is_not(
    tmp_path: Path, tickets, data: Data, precision: str, tolerance: float | None
):
    (out := tmp_path / "out").mkdir()
    options = SparseSpec(precision=precision, min_sparsity=0.5)
    result = export_ticket(*tickets, out, target=TARGET, batch_sizes=(1, 8), data=data, sparse_options=options)
    assert (result.status, result.parity_on, result.missing) == ("checked", "sparse-cpu", "")
    assert [are_used_by(out / name) for name in ("model.onnx", "dense.onnx")] == [True, False]
    assert precision_of(out / "model.onnx") == f"sparse {precision}"
    written = json.loads((out / "sparse.json").read_text())
    assert written["plan"] == stored_plan(load_graph(out / "model.onnx").metadata_props)
    assert written["parity"]["inputs"] == "validation images"
    assert [row["replaced"] for row in written["plan"]["layers"]] == [True] * 3
    assert result.parity["model"].tolerance.relative == (tolerance or pytest.approx(0, abs=1e-4))
    assert result.parity["dense"].tolerance.relative < 1e-4


def test_every_graph_says_how_it_is_fed_also_when_rewritten(tmp_path: Path, tickets, data: Data):
    (out := tmp_path / "out").mkdir()
    fed = replace(data, preprocessing=Preprocessing("arrays", (1, 16, 16), (3.0,), (0.1,), 255.0, labels=("a", "b")))
    export_ticket(*tickets, out, target=TARGET, batch_sizes=(1,), data=fed, sparse_options=SparseSpec(min_sparsity=0.5))
    for name in ("model.onnx", "dense.onnx"):
        metadata = {entry.key: entry.value for entry in load_graph(out / name).metadata_props}
        assert json.loads(metadata["sparsify.preprocessing"]) == json.loads((out / "preprocessing.json").read_text())
        assert describe_onnx(out / name)["preprocessing"] == "arrays 1x16x16, (value - 3) / 0.1"
    assert Preprocessing.load(out) == fed.preprocessing


def test_dense_is_timed_beside_the_rewritten_ticket(tmp_path: Path, tickets, data: Data):
    (out := tmp_path / "out").mkdir()
    options = SparseSpec(min_sparsity=0.5)
    export_ticket(*tickets, out, target=TARGET, batch_sizes=(1,), data=data, sparse_options=options)
    latency = measure_target(out, target=TARGET, spec=LatencySpec(pairs=20, launches=1))
    (launch,) = latency.launches
    assert launch.environment["precision"] == {"dense": "float32", "sparse": "sparse f32"}
    assert "sparse operators" in launch.sparse
    assert "sparse operators" not in launch.dense
