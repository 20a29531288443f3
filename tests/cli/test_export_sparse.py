"""`sparsify export --target sparse-cpu`, and the verbs that show what it wrote."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from small_graphs import write_linear
from sparsify.cli import export, inspect, ls
from sparsify.errors import CorruptError, UnavailableError, UsageError
from sparsify_export.sparse.available import why_not

app = typer.Typer()
app.command("export")(export.command)
app.command("inspect")(inspect.command)
app.command("ls")(ls.command)

needs_operators = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@needs_operators
def test_an_onnx_file_is_rewritten_and_shown(tmp_path: Path):
    source = write_linear(tmp_path / "g.onnx", columns=64, rows=32)
    export_to = ("export", source, "--target", "sparse-cpu", "--min-sparsity", "0")
    report = json.loads(invoke(*export_to, "--out", tmp_path / "a", "--json").stdout)["exports"][0]
    assert json.loads((tmp_path / "a" / "report.json").read_text()).items() <= report.items()
    assert (report["target"], report["precision"], report["min_sparsity"]) == ("sparse-cpu", "f32", 0.0)
    assert [layer["replaced"] for layer in report["layers"]] == [True]
    assert report["sparse_parity"]["inputs"] == "made up"

    for precision in ("f16", "bf16", "i8"):
        shown = " ".join(invoke(*export_to, "--out", tmp_path / precision, "--precision", precision).stderr.split())
        assert "1 of 1 layers replaced" in shown
        assert re.search(rf" {precision} (dense|unstructured|block_1x4|rows_16|rows_32) ", shown), shown
        assert "against the dense graph: largest error" in shown
        assert f"sparse {precision}" in invoke("inspect", tmp_path / precision / "model.onnx").stdout

    document = json.loads(invoke("inspect", tmp_path / "a" / "model.onnx", "--json").stdout)
    assert document["plan"]["layers"] == report["layers"]
    assert document["metadata"] == {}
    assert document["weights"] == {"elements": 2048, "kept": 2048, "sparsity": 0.0}
    text = invoke("inspect", tmp_path / "a" / "model.onnx").stdout
    assert "sparse f32" in text
    assert "1 of 1 layers replaced" in text


@needs_operators
def test_a_flipped_bit_of_the_weights_is_found(tmp_path: Path):
    source = write_linear(tmp_path / "g.onnx", columns=64, rows=32)
    invoke("export", source, "--target", "sparse-cpu", "--min-sparsity", "0", "--out", tmp_path / "a")
    path = tmp_path / "a" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[data.index(b"SPSFYWT\0") + 5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"model\.onnx: packed weights W0\.sparse: expected the bytes that were"):
        invoke("inspect", path)
    assert CorruptError.exit_code == 7


@needs_operators
def test_examples_and_shapes_are_taken(tmp_path: Path):
    source = write_linear(tmp_path / "g.onnx", columns=64, rows=32)
    np.savez(tmp_path / "x.npz", input=np.ones((5, 64), np.float32))
    export_to = ("export", source, "--target", "sparse-cpu", "--json")
    report = json.loads(invoke(*export_to, "--examples", tmp_path / "x.npz", "--out", tmp_path / "a").stdout)
    assert report["exports"][0]["sparse_parity"]["inputs"] == "given: x.npz"
    assert report["exports"][0]["planned_for"] == {"input": [1, 64]}


@needs_operators
@pytest.mark.parametrize("given", [(), ("--examples", "x.npz")], ids=["made up", "given"])
def test_operators_are_planned_for_the_shape_that_is_given(tmp_path: Path, monkeypatch, given: tuple[str, ...]):
    monkeypatch.chdir(tmp_path)
    source = write_linear(tmp_path / "g.onnx", columns=64, rows=32)
    np.savez("x.npz", input=np.ones((5, 64), np.float32))
    export_to = ("export", source, "--target", "sparse-cpu", "--min-sparsity", "0", *given)
    done = invoke(*export_to, "--shape", "input=4x64", "--out", "a")
    assert "planned for input 4x64 (--shape), on one thread" in done.stderr
    report = json.loads(Path("a", "report.json").read_text())
    assert report["layers"][0]["positions"] == 4
    if given:
        with pytest.raises(UsageError, match=r"expected at most what x\.npz holds, \[5, 64\], got \[6, 64\]"):
            invoke(*export_to, "--shape", "input=6x64", "--out", "b")


def test_a_dense_file_has_no_plan(tmp_path: Path):
    document = json.loads(invoke("inspect", write_linear(tmp_path / "g.onnx"), "--json").stdout)
    assert document["plan"] is None


def test_without_the_operators_it_is_unavailable_and_nothing_is_written(tmp_path: Path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sparsify_kernels"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sparsify_kernels", None)
    source = write_linear(tmp_path / "g.onnx")
    with pytest.raises(
        UnavailableError, match=r"pip install 'sparsify-tickets\[sparse-cpu\]', or, in a checkout, `make kernels`"
    ):
        invoke("export", source, "--target", "sparse-cpu", "--out", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (line,) = [line for line in invoke("ls", "targets").stdout.splitlines() if line.startswith("sparse-cpu")]
    assert "Not here: " in line
    assert "make kernels" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "i8"), "expected a target that rewrites graphs"),
        (("--min-sparsity", "0.5"), "expected a target that rewrites graphs"),
        (("--shape", "other=1x3"), r"--shape other=...: expected an input of .*g\.onnx \(input\)"),
        (("--examples", "x.npz"), "expected an ONNX file and the target sparse-cpu"),
        (("--precision", "f64"), "--precision: expected one of f32, f16, bf16, i8, got 'f64'"),
        (("--shape", "input"), "--shape: expected an input and its shape"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path: Path, options: tuple[str, str], message: str):
    with pytest.raises(UsageError, match=message):
        invoke("export", write_linear(tmp_path / "g.onnx"), "--target", "onnxruntime-cpu", *options)


def test_a_shape_is_no_use_to_a_target_without_onnx_runtime(tmp_path: Path):
    with pytest.raises(UsageError, match="--shape: expected an ONNX file and a target of ONNX Runtime"):
        invoke("export", write_linear(tmp_path / "g.onnx"), "--target", "tensorrt-rtx", "--shape", "input=1x3")
