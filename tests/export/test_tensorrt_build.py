"""Real builds through NVIDIA's parser and builder, ahead of time and without a GPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from onnx import helper
from pydantic import ValidationError

from sparsify.errors import CorruptError, InputOutputError, UnavailableError, UsageError
from sparsify_export.runtimes import gpu
from sparsify_export.runtimes.tensorrt_build import NOT_RUN, PlanReport, build_plan, export_plans
from sparsify_export.runtimes.tensorrt_options import BuildOptions, batch_profiles
from tensorrt_graphs import convnet, mlp, save, unsupported

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT RTX: pip install 'sparsify-tickets[tensorrt-rtx]'")

NO_GPU = not gpu.probe().gpus
only_without_gpu = pytest.mark.skipif(
    not NO_GPU, reason="says what is said where there is no GPU; this machine has one"
)


def residual(path: Path, *, sparse: bool = False) -> Path:
    return convnet(path, sparse=sparse, residual=True)


def build(path: Path, sm: str = "SM86", out: Path | None = None, **options: object) -> PlanReport:
    profiles = batch_profiles(path, [4, 1, 16])
    given = BuildOptions.model_validate({"profiles": profiles, "compute_capability": sm, **options})
    return build_plan(path, module="tensorrt-rtx", options=given, out=out)


@pytest.mark.parametrize("sm", ["SM86", "SM89"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("make", [mlp, convnet, residual])
def test_nets_build_and_their_layers_cover_every_node(
    make: Callable[..., Path], sparse: bool, sm: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "net.onnx", sparse=sparse)
    report = build(path, sm, tmp_path / "net.plan", sparse_weights=sparse)
    nodes = {layer.node for layer in report.two_of_four}
    covered = {node for layer in report.layers for node in layer.onnx_nodes}
    assert nodes <= covered, "every Conv, Gemm and MatMul is covered by a fused layer"
    assert any(len(layer.onnx_nodes) > 1 for layer in report.layers), "something was fused"
    assert (report.target, report.plan_bytes) == (sm, (tmp_path / "net.plan").stat().st_size)
    assert all(layer.two_of_four is sparse for layer in report.two_of_four)
    assert [("whether any is chosen cannot be seen here" in note) for note in report.notes] == (
        [True] if sparse else []
    )


@only_without_gpu
def test_a_plan_built_without_a_gpu_says_so(tmp_path: Path) -> None:
    assert build(mlp(tmp_path / "net.onnx")).statement == NOT_RUN == "built, not run: no GPU here"


def test_a_plan_for_another_gpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "probe", lambda: gpu.GpuProbe((gpu.Gpu(0, "NVIDIA A10", (8, 6), 1, "13.0"),)))
    assert build(mlp(tmp_path / "net.onnx"), "SM86").statement == "built for NVIDIA A10 (SM86), not run yet"
    assert (
        build(tmp_path / "net.onnx", "SM89").statement == "built for SM89, not run: the GPU here is NVIDIA A10 (SM86)"
    )


def test_export_writes_a_plan_and_a_report_for_each_architecture(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reports = export_plans(
        mlp(tmp_path / "net.onnx"), out, module="tensorrt-rtx", batch_sizes=[1, 8], sparse_weights=False
    )
    assert [report.target for report in reports] == ["SM86", "SM89"]
    names = ["net-SM86.plan", "net-SM86.plan.json", "net-SM89.plan", "net-SM89.plan.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names[::2]:
        record = json.loads((out / f"{name}.json").read_text())
        assert record["plan_sha256"] == hashlib.sha256((out / name).read_bytes()).hexdigest()
        assert (record["path"], record["plan_bytes"]) == (name, (out / name).stat().st_size)
        assert record["options"]["profiles"] == {"input": [[1, 64], [1, 64], [8, 64]]}
        assert record["layers"]


@only_without_gpu
def test_tensorrt_without_a_gpu_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        UnavailableError, match=r"building a tensorrt plan is not available here: .*driver.*To make it so: "
    ):
        export_plans(mlp(tmp_path / "n.onnx"), tmp_path, module="tensorrt", batch_sizes=[1], sparse_weights=False)
    with pytest.raises(UnavailableError, match=r"for the GPU at hand.*or name an architecture to build for .*SM86"):
        build_plan(tmp_path / "n.onnx", module="tensorrt-rtx", options=BuildOptions(), out=None)


def test_unsupported_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UnavailableError, match=r"bad\.onnx: .*node 'odd_one' \(number 0, operator Det\): unsupported node; .*replace"
    ):
        build(unsupported(tmp_path / "bad.onnx"))


def test_graph_that_one_architecture_cannot_run_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(
        UnavailableError, match=r"cannot build it for SM75: .*FP32 GEMM is not supported.*another architecture"
    ):
        build(mlp(tmp_path / "net.onnx"), "SM75")


def test_unknown_architecture_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"compute_capability: expected one of .*SM86, SM89.*, got 'SM90'"):
        build(mlp(tmp_path / "net.onnx"), "SM90")


def test_weak_typing_and_its_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="builds only strongly typed networks"):
        build(mlp(tmp_path / "net.onnx"), strongly_typed=False, precisions=("fp16",))


def test_workspace_and_tf32_are_taken(tmp_path: Path) -> None:
    report = build(mlp(tmp_path / "net.onnx"), tf32=False, workspace_bytes=2**24)
    assert report.layers
    assert report.to_json()["options"]["workspace_bytes"] == 2**24


def test_no_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(InputOutputError, match="expected an ONNX file, found none"):
        build(tmp_path / "nothing.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"noise" * 40)
    with pytest.raises(CorruptError, match="cannot be read as ONNX"):
        build(tmp_path / "noise.onnx")


def test_profiles_follow_the_batch_axis(tmp_path: Path) -> None:
    assert batch_profiles(convnet(tmp_path / "c.onnx"), [8, 1, 32]) == {
        "input": ((1, 4, 8, 8), (8, 4, 8, 8), (32, 4, 8, 8))
    }
    relu = [helper.make_node("Relu", ["input"], ["logits"])]
    assert batch_profiles(save(tmp_path / "fixed.onnx", relu, {}, [3, 4], [3, 4]), [1]) == {}
    with pytest.raises(UsageError, match=r"input 'input': expected only axis 0 .* got shape \['batch', 3, 'side'\]"):
        batch_profiles(save(tmp_path / "r.onnx", relu, {}, ["batch", 3, "side"], ["batch", 3, "side"]), [1])
    with pytest.raises(UsageError, match="batch sizes: expected one or more positive numbers"):
        batch_profiles(tmp_path / "c.onnx", [0])


def test_a_graph_without_dynamic_axes_builds_without_profiles(tmp_path: Path) -> None:
    relu = [helper.make_node("Relu", ["input"], ["logits"], name="relu")]
    report = build(save(tmp_path / "fixed.onnx", relu, {}, [3, 4], [3, 4]))
    assert report.options.profiles == {}
    assert report.layers


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ({}, r"input 'input' has the dynamic shape \[-1, 64\]: give it a profile"),
        ({"other": [[1, 64]] * 3}, r"profiles: expected one of the inputs \['input'\], got 'other'"),
        ({"input": [[1, 63]] * 3}, r"profiles: input: expected shapes that fit \[-1, 64\]"),
        ({"input": [[1, 64, 1]] * 3}, r"profiles: input: expected shapes that fit \[-1, 64\]"),
    ],
    ids=["missing", "unknown", "wrong-size", "wrong-rank"],
)
def test_profiles_that_do_not_fit_are_named(profiles: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        build(mlp(tmp_path / "net.onnx"), profiles=profiles)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparse": True}, "sparse\n  Extra inputs are not permitted"),
        ({"profiles": {"x": [[4], [1], [8]]}}, "profiles: x: expected min <= opt <= max"),
        ({"profiles": {"x": [[0], [1], [8]]}}, "greater than or equal to 1"),
        ({"precisions": ["fp16"]}, "precisions: a strongly typed network takes them from the ONNX graph"),
        ({"precisions": ["int8"], "strongly_typed": False}, "Input should be 'fp16' or 'bf16'"),
        ({"workspace_bytes": 0}, "greater than 0"),
    ],
)
def test_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BuildOptions.model_validate(options)


@pytest.mark.slow
def test_what_torch_exports_builds(tmp_path: Path) -> None:
    """A 3-D Linear becomes a MatMul whose weight is transposed and renamed: 2:4 is found there all the same."""
    model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)).eval()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight[:, 0::4] = 0
            layer.weight[:, 1::4] = 0
    path = tmp_path / "torch.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # the exporter's own deprecations
        torch.onnx.export(
            model,
            (torch.randn(2, 3, 16),),
            path,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
    report = build(path, sparse_weights=True)
    assert [(layer.op, layer.two_of_four) for layer in report.two_of_four] == [("MatMul", True), ("MatMul", True)]
    assert report.layers
