"""What is known of a graph with sparse operators where sparsify-kernels is not installed."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from small_graphs import write_linear
from sparsify.errors import CorruptError, UnavailableError, UsageError
from sparsify.pipeline.inspection import inspect
from sparsify.recipe.spec import SparseSpec
from sparsify_export.onnx_check import load_graph, precision_of
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.sparse import available
from sparsify_export.sparse.operators import Packed, are_used_by, damage, packed_weights
from sparsify_export.sparse.options import read_options
from sparsify_export.sparse.passes import read_model, sparsify
from sparsify_export.targets import TARGETS
from sparsify_export.targets.opening import require_export, require_run, why_not_run

BLOB = bytes.fromhex("5350534659575400010000010200000003000000000000000200000000000000") + bytes(168)
"""The header of 2x3 weights in f32, two of them kept."""
INTACT = BLOB[:80] + struct.pack("<IIQ", zlib.crc32(BLOB[96:]), 0, len(BLOB)) + BLOB[96:]
"""The same with the CRC-32 of what follows the header, and the length: version 1, which is still read."""
_HEAD = INTACT[:8] + b"\2" + INTACT[9:84]
SEALED = _HEAD + struct.pack("<I", zlib.crc32(_HEAD + INTACT[88:96])) + INTACT[88:]
"""The same in version 2: the header has a CRC-32 too."""


def write_sparse(path: Path, blob: bytes = BLOB) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("SparseLinear", ["x", "w"], ["y"], domain="sparsify", rows=2, columns=3)],
        "g",
        [value("x", TensorProto.FLOAT, ["n", 3])],
        [value("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.frombuffer(blob, np.uint8), "w")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("sparsify", 1)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), path)
    return path


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if sparsify-kernels were not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "sparsify_kernels"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sparsify_kernels", None)


def test_packed_weights_say_what_they_are(tmp_path: Path):
    path = write_sparse(tmp_path / "s.onnx")
    assert packed_weights(load_graph(path).graph) == {"w": Packed("f32", 2, 3, 2)}
    assert precision_of(path) == "sparse f32"


@pytest.mark.parametrize("blob", [b"", BLOB[:20], b"?" + BLOB[1:], BLOB[:10] + b"\xff" + BLOB[11:]])
def test_bytes_that_are_no_packed_weights_are_left_out(tmp_path: Path, blob: bytes):
    assert packed_weights(load_graph(write_sparse(tmp_path / "s.onnx", blob)).graph) == {}


@pytest.mark.parametrize(
    ("blob", "fault"),
    [
        (INTACT, ""),
        (SEALED, ""),
        (SEALED[:12] + b"\3" + SEALED[13:], "expected the header that was written, got a changed one"),
        (SEALED[:95] + b"\1" + SEALED[96:], "expected the header that was written, got a changed one"),
        (SEALED[:8] + b"\1" + SEALED[9:], "expected the header that was written, got a changed one"),
        (SEALED[:-1] + b"\1", "the CRC-32 does not match"),
        (INTACT[:96] + b"\1" + INTACT[97:], "the CRC-32 does not match"),
        (INTACT[:-1] + b"\1", "the CRC-32 does not match"),
        (INTACT[:80] + b"\1" + INTACT[81:], "the CRC-32 does not match"),
        (INTACT[:-1], "expected 200 bytes, got 199"),
        (INTACT[:12] + b"\3" + INTACT[13:], "expected 2 rows and 3 columns, got 3 and 3"),
        (INTACT[:8] + b"\3" + INTACT[9:], "expected version 1 or 2 of the format, got 3"),
        (b"?" + INTACT[1:], "expected packed weights, got bytes that begin otherwise"),
        (b"", "expected packed weights, got bytes that begin otherwise"),
    ],
)
def test_damaged_weights_are_named(tmp_path: Path, blob: bytes, fault: str):
    path = write_sparse(tmp_path / "s.onnx", blob)
    found = damage(load_graph(path).graph)
    assert list(found) == (["w"] if fault else [])
    assert fault in found.get("w", "")
    if fault:
        with pytest.raises(CorruptError, match=rf"s\.onnx: packed weights w: .*{fault}"):
            inspect(path)
    else:
        assert inspect(path)["kind"] == "onnx"


def test_a_graph_is_told_by_its_domain_from_a_file_and_from_bytes(tmp_path: Path):
    sparse, dense = write_sparse(tmp_path / "s.onnx"), write_linear(tmp_path / "d.onnx")
    assert [are_used_by(graph) for graph in (sparse, sparse.read_bytes(), dense, dense.read_bytes())] == [
        *(True, True),
        *(False, False),
    ]
    assert not are_used_by(tmp_path / "none.onnx")
    assert not are_used_by(b"\x08")


@pytest.mark.usefixtures("absent")
def test_what_needs_the_operators_says_what_would_bring_them(tmp_path: Path):
    target, mend = (
        TARGETS["sparse-cpu"],
        r"pip install 'sparsify-tickets\[sparse-cpu\]', or, in a checkout, `make kernels`",
    )
    for require in (require_run, require_export):
        with pytest.raises(UnavailableError, match=mend):
            require(target)
    assert "sparsify-kernels" in (why_not_run(target) or "")
    assert available.why_not() == why_not_run(target)
    assert why_not_run(TARGETS["onnxruntime-cpu"]) is None
    with pytest.raises(UnavailableError, match=mend), OnnxRuntime(write_sparse(tmp_path / "s.onnx")):
        pass
    with pytest.raises(UnavailableError, match=mend):
        dense = write_linear(tmp_path / "d.onnx")
        sparsify(dense, tmp_path / "o.onnx", options=SparseSpec(), feeds=(), inputs="")
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.usefixtures("absent")
def test_a_dense_graph_needs_no_operators(tmp_path: Path):
    with OnnxRuntime(write_linear(tmp_path / "d.onnx")) as runtime:
        assert runtime.infer({"input": np.ones((1, 3), np.float32)})["logits"].shape == (1, 2)
        assert "sparse operators" not in runtime.describe()


def test_a_library_that_cannot_be_loaded_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr("sparsify_export.runtimes.onnxrt.library", lambda: broken)
    expected = pytest.raises(UnavailableError, match=r"libbroken\.so: ONNX Runtime cannot load the sparse operators")
    with expected, OnnxRuntime(write_sparse(tmp_path / "s.onnx")):
        pass


def test_a_graph_is_not_rewritten_twice(tmp_path: Path):
    with pytest.raises(UsageError, match="expected a graph without sparse operators, got one that has them already"):
        read_model(write_sparse(tmp_path / "s.onnx"))


def test_what_is_no_graph_is_corrupt(tmp_path: Path):
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    with pytest.raises(CorruptError):
        read_model(tmp_path / "g.onnx")


def test_options_are_read_from_words():
    assert read_options(None, None) is None
    assert read_options("f32", "auto") == SparseSpec()
    for precision in ("f16", "bf16", "i8"):
        assert read_options(precision, None) == SparseSpec(precision=precision)
    assert read_options("i8", "0.7") == SparseSpec(precision="i8", min_sparsity=0.7)


@pytest.mark.parametrize(
    ("precision", "least", "message"),
    [
        ("f64", "auto", "--precision: expected one of f32, f16, bf16, i8, got 'f64'"),
        ("f32", "much", "--min-sparsity: expected auto, or a number from 0 to 1, got 'much'"),
        ("f32", "90", "got '90'"),
        ("f32", "nan", "got 'nan'"),
    ],
)
def test_options_that_mean_nothing_are_refused(precision: str, least: str, message: str):
    with pytest.raises(UsageError, match=message):
        read_options(precision, least)
