from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from small_graphs import write_linear
from sparsify.cli.export import command
from sparsify.errors import CorruptError, InputOutputError, UnavailableError, UsageError
from sparsify.lottery.network import Network
from sparsify.pipeline.plan import ticket_path
from sparsify.recipe.spec import Recipe, SparseSpec
from sparsify.store.resolved import write_resolved
from sparsify.store.run import Run
from sparsify.store.stage import write_stage
from sparsify.store.weights import save_tensors

app = typer.Typer()
app.command()(command)

RECIPE = Recipe.model_validate(
    {
        "name": "small",
        "model": "mlp:64-12-10",
        "data": "digits",
        "train": {"steps": "1it"},
        "prune": {"levels": 2},
        "replicates": 2,
    }
)


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose tickets were never trained: level 1 holds dense accuracy, level 2 does not; replicate 1 is better."""
    values = RECIPE.model_dump(mode="json")
    run = Run.open(tmp_path / "small", json.dumps(values), values)
    network = Network(RECIPE.model, (1, 8, 8), 10)
    for replicate in range(2):
        for level, accuracy in enumerate((0.9, 0.9, 0.5)):
            with write_stage(
                run.root / ticket_path(replicate, level), kind="x", key="k", spec={}, parents={}, seeds={}, versions={}
            ) as folder:
                weights = network.build(seed=replicate).state_dict()
                for value in weights.values():
                    value[value.abs() < value.abs().flatten().quantile(0.4 * level)] = 0
                network.save(folder)
                save_tensors(folder / "weights.safetensors", weights)
                history = {"final_accuracy": accuracy + 0.01 * replicate}
                (folder / "history.json").write_text(json.dumps(history))
    return run.root


def test_the_runs_own_choice_is_exported(run: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = invoke(run, "--target", "onnxruntime-cpu", "--out", out, "--json")
    assert result.exit_code == 0
    (export,) = json.loads(result.stdout)["exports"]
    assert (export["level"], export["replicate"], export["status"]) == (1, 1, "checked")
    assert export["out"] == str(out)
    assert {"dense_fp32", "masked", "packed", "shrunk", "onnx"} == export["sizes"].keys()
    assert {path.name for path in out.iterdir()} >= {"model.onnx", "dense.onnx", "parity.json", "sizes.json"}


def test_levels_by_number_and_all(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    exported: list[tuple[str, str]] = []

    class Result:
        @staticmethod
        def to_json() -> dict[str, object]:
            return {"status": "checked", "missing": ""}

    def fake(ticket, dense, out, **_):
        exported.append((str(ticket.relative_to(run)), str(dense.relative_to(run))))
        (out / "model.onnx").touch()
        return Result

    monkeypatch.setattr("sparsify_export.ticket_export.export_ticket", fake)
    monkeypatch.chdir(tmp_path)
    invoke(run, "--target", "onnxruntime-cpu", "--level", "2", "--replicate", "1")
    assert (tmp_path / "exports/small-onnxruntime-cpu/replicate_1-level_02/model.onnx").is_file()
    invoke(run, "--target", "onnxruntime-cpu", "--level", "all", "--out", "all")
    assert [path.name for path in sorted((tmp_path / "all").iterdir())] == ["level_01", "level_02"]
    assert exported == [
        ("replicate_1/level_02", "replicate_1/dense"),
        ("replicate_0/level_01", "replicate_0/dense"),
        ("replicate_0/level_02", "replicate_0/dense"),
    ]


@pytest.mark.parametrize(
    ("precision", "expected"),
    [(None, SparseSpec(precision="i8", min_sparsity=0.7)), ("f32", SparseSpec())],
)
def test_sparse_operators_are_what_the_recipe_asks_for_unless_told(
    run: Path, monkeypatch: pytest.MonkeyPatch, precision: str | None, expected: SparseSpec
):
    wanted = {"targets": ["sparse-cpu"], "sparse": {"precision": "i8", "min_sparsity": 0.7}}
    write_resolved(run / "resolved.yaml", json.dumps(RECIPE.model_dump(mode="json") | {"export": wanted}))
    asked_for: list[SparseSpec] = []

    def fake(*_: object, sparse_options: SparseSpec, **__: object):
        asked_for.append(sparse_options)
        raise UnavailableError("no further")

    monkeypatch.setattr("sparsify_export.ticket_export.export_ticket", fake)
    monkeypatch.setattr("sparsify_export.targets.opening.require_export", lambda target: None)
    given = () if precision is None else ("--precision", precision)
    with pytest.raises(UnavailableError, match="no further"):
        invoke(run, "--target", "sparse-cpu", "--out", run / "out", *given)
    assert asked_for == [expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--level", "3"], "--level: expected 1 to 2"),
        (["--level", "deep"], "--level: expected 1 to 2, .* or all or auto, got 'deep'"),
        (["--replicate", "2"], "--replicate: expected 0 to 1"),
    ],
)
def test_tickets_that_are_not_there(run: Path, options, message):
    with pytest.raises(UsageError, match=message):
        invoke(run, "--target", "onnxruntime-cpu", *options)


def test_an_unknown_target(run: Path):
    with pytest.raises(UsageError, match=r"--target: expected one of .*, got 'onnx'"):
        invoke(run, "--target", "onnx")


def test_what_exists_is_not_overwritten(run: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="expected no such folder yet"):
        invoke(run, "--target", "onnxruntime-cpu", "--out", tmp_path / "out")


def test_a_changed_byte_of_the_ticket_is_corrupt_and_leaves_nothing(run: Path, tmp_path: Path):
    path = run / ticket_path(0, 2) / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"level_02/weights\.safetensors: changed since it was written"):
        invoke(run, "--target", "onnxruntime-cpu", "--level", "2", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_named(run: Path):
    (run / ticket_path(1, 2) / "history.json").unlink()
    with pytest.raises(InputOutputError, match="finish the run, or name a --level"):
        invoke(run, "--target", "onnxruntime-cpu")
    (run / ticket_path(1, 2) / "stage.json").unlink()
    with pytest.raises(InputOutputError, match="expected a finished ticket, got none"):
        invoke(run, "--target", "onnxruntime-cpu", "--level", "2", "--replicate", "1")


def test_a_folder_that_is_no_run(tmp_path: Path):
    with pytest.raises(InputOutputError, match="expected a run folder"):
        invoke(tmp_path, "--target", "onnxruntime-cpu")


def test_an_onnx_file_of_any_origin(tmp_path: Path):
    out = tmp_path / "out"
    result = invoke(write_linear(tmp_path / "g.onnx"), "--target", "onnxruntime-cpu", "--out", out)
    assert result.exit_code == 0
    assert "no PyTorch network to compare with" in result.stderr
    assert (out / "model.onnx").read_bytes() == (tmp_path / "g.onnx").read_bytes()


def test_a_missing_and_a_corrupt_file(tmp_path: Path):
    with pytest.raises(InputOutputError, match="found none"):
        invoke(tmp_path / "none.onnx", "--target", "onnxruntime-cpu")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(CorruptError, match=r"junk\.onnx"):
        invoke(tmp_path / "junk.onnx", "--target", "onnxruntime-cpu")


def test_tensorrt_without_a_gpu_is_unavailable_and_leaves_nothing(run: Path, tmp_path: Path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    for source in (run, write_linear(tmp_path / "g.onnx")):
        with pytest.raises(UnavailableError, match="NVIDIA GPU"):
            invoke(source, "--target", "tensorrt", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tensorrt_rtx_builds_without_a_gpu(tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    out = tmp_path / "out"
    result = invoke(write_linear(tmp_path / "g.onnx", columns=16, rows=8), "--target", "tensorrt-rtx", "--out", out)
    assert result.exit_code == 0
    assert "built, not run: no GPU here" in result.stderr.replace("\n", " ")
    assert (out / "model-SM86.plan").is_file()
