from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
import typer
from onnx import TensorProto
from typer.testing import CliRunner

from small_graphs import write_identity, write_linear
from sparsify.cli.bench import command
from sparsify.errors import CorruptError, InputOutputError, UnavailableError, UsageError
from sparsify.pipeline import bench as pipeline_bench
from sparsify_export.launch import Request
from sparsify_export.measurement import Latency, Launch, Samples
from sparsify_export.targets import TARGETS
from sparsify_export.targets.opening import why_not_run

app = typer.Typer()
app.command()(command)

PAIRS = 40


def invoke(*arguments: object, catch: bool = False):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=catch)


def samples(first: float, second: float, spread: float) -> Samples:
    swing = [1 + spread * ((i * 7 % PAIRS) / PAIRS - 0.5) for i in range(PAIRS)]
    return Samples(
        tuple(first * s for s in swing), (second,) * PAIRS, (True, False) * (PAIRS // 2), tuple(range(PAIRS))
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_linear(tmp_path / "a.onnx"), write_linear(tmp_path / "b.onnx", seed=1)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """Replace measuring by given times; returns the requests that came, and takes dense and sparse times."""
    requests: list[Request] = []

    def give(sparse_ms: float, spread: float = 0.01) -> list[Request]:
        def measure(request, *, launches, equivalence, done):
            requests.append(request)
            for _ in range(launches):
                done()
            facts = {"batch": request.batch or 1, "affinity": [0], "processor": "p", "governor": None, "timed": "t"}
            one = Launch(
                samples(1.0, 1.0, spread),
                samples(1.0, sparse_ms, spread),
                50,
                request.seed,
                {"name": "fake", "version": "0", "provider": "f", "threads": 1},
                {"name": "fake", "version": "0", "provider": "f", "threads": 1},
                facts | {"load_average_after": [0.0, 0.0, 0.0]},
            )
            return Latency((one,) * launches, equivalence)

        monkeypatch.setattr(pipeline_bench, "measure", measure)
        return requests

    return give


def test_two_files_are_really_measured(files):
    result = invoke(*files, "--pairs", 20, "--batch", "2", "--json")
    assert result.exit_code in (0, 5)
    document = json.loads(result.stdout)
    (comparison,) = document["comparisons"]
    assert (document["runtime"], document["threads"]) == ("onnxruntime-cpu", 1)
    assert comparison["first"].endswith("a.onnx") and comparison["other"].endswith("b.onnx")
    assert {"speedup", "ci_low", "ci_high", "verdict", "pairs", "aa"} <= comparison.keys()
    (launch,) = comparison["samples"]
    assert len(launch["ab"]["first_ms"]) == len(launch["aa"]["second_ms"]) == 20
    assert launch["environment"]["batch"] == 2
    assert "measuring" not in result.stdout


@pytest.mark.gpu
@pytest.mark.parametrize("target", ["onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "tensorrt-rtx"])
def test_gpu_two_files_are_measured_on_the_target(files, target):
    if reason := why_not_run(TARGETS[target]):
        pytest.skip(f"{target}: {reason}")
    result = invoke(*files, "--pairs", 20, "--batch", "2", "--target", target, "--json")
    assert result.exit_code in (0, 5)
    document = json.loads(result.stdout)
    assert document["runtime"] == target
    (launch,) = document["comparisons"][0]["samples"]
    assert len(launch["ab"]["first_ms"]) == 20 and min(launch["ab"]["first_ms"]) > 0


def test_every_other_file_is_compared_with_the_first_at_every_batch(files, measured, tmp_path: Path):
    requests = measured(0.5)
    result = invoke(*files, write_linear(tmp_path / "c.onnx"), "--batch", "1,8", "--launches", "2", "--threads", "1")
    assert result.exit_code == 0
    asked = [(Path(request.dense).name, Path(request.sparse).name, request.batch) for request in requests]
    assert asked == [("a.onnx", name, batch) for batch in (1, 8) for name in ("b.onnx", "c.onnx")]
    assert "faster" in result.stderr
    assert "2.00" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("sparse_ms", "spread", "verdict", "exit_code"),
    [(0.5, 0.01, "faster", 0), (2.0, 0.01, "slower", 0), (1.0, 0.01, "equivalent", 0), (1.0, 1.9, "inconclusive", 5)],
)
def test_the_exit_code_says_whether_it_was_decided(files, measured, sparse_ms, spread, verdict, exit_code):
    measured(sparse_ms, spread)
    result = invoke(*files, "--json")
    assert json.loads(result.stdout)["comparisons"][0]["verdict"] == verdict
    assert result.exit_code == exit_code


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "one"], "--batch: expected whole numbers"),
        (["--batch", "0"], "expected 1 or more"),
        (["--shape", "input"], "--shape: expected an input and its shape such as name=1x3x224x224"),
        (["--shape", "input=1x-3"], "--shape: expected an input and its shape"),
        (["--shape", "other=1x3"], "--shape other=...: expected an input of"),
        (["--target", "onnxruntime-cup"], "--target: expected one of .*; did you mean onnxruntime-cpu"),
        (["--pairs", "3"], "--pairs: expected 20 or more"),
        (["--threads", "4096"], "threads: expected up to"),
        (["--equivalence", "1.5"], "--equivalence: expected a number between"),
    ],
)
def test_options_that_cannot_mean_anything(files, options, message):
    with pytest.raises(UsageError, match=message):
        invoke(*files, *options)


def test_one_file_is_not_a_comparison(files):
    with pytest.raises(UsageError, match="expected two ONNX files or more"):
        invoke(files[0])


def test_an_open_shape_is_asked_for_and_taken(tmp_path: Path, measured):
    files = [write_identity(tmp_path / f"{name}.onnx", {"x": (TensorProto.FLOAT, ["n", "h"])}) for name in "ab"]
    with pytest.raises(UsageError, match="give --shape x=NxN"):
        invoke(*files)
    requests = measured(1.0)
    assert invoke(*files, "--shape", "x=2x5").exit_code == 0
    assert requests[0].shapes == {"x": (2, 5)}


def test_files_that_are_fed_differently(tmp_path: Path, files):
    with pytest.raises(UsageError, match="only networks fed alike"):
        invoke(files[0], write_linear(tmp_path / "c.onnx", columns=4))


def test_a_shape_that_the_graph_cannot_run_on_is_named(tmp_path: Path):
    """The graph leaves the axis open; only running it shows that its weights want 3."""
    file = write_linear(tmp_path / "a.onnx")
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"
    onnx.save(model, file)
    with pytest.raises(UsageError, match=r"a\.onnx: expected inputs .* can run on, got input float32 2x4: "):
        invoke(file, file, "--pairs", 20, "--shape", "input=2x4")


def test_a_missing_file_and_a_corrupt_one(tmp_path: Path, files):
    with pytest.raises(InputOutputError, match="expected an ONNX file, found none"):
        invoke(files[0], tmp_path / "none.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(CorruptError, match=r"junk\.onnx"):
        invoke(files[0], tmp_path / "junk.onnx")


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-tensorrt"])
@pytest.mark.parametrize("option", ["--target", "--runtime"])
def test_without_a_gpu_nothing_falls_back(files, runtime, option):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UnavailableError, match="NVIDIA"):
        invoke(*files, option, runtime)
