from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from small_graphs import write_linear
from sparsify.errors import CorruptError, InputOutputError, UnavailableError, UsageError
from sparsify_export.runtimes import onnxrt
from sparsify_export.runtimes.onnxrt import OnnxRuntime, load_onnxruntime


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_linear(tmp_path / "linear.onnx")


@pytest.mark.parametrize("as_bytes", [False, True], ids=["path", "bytes"])
def test_outputs_are_those_of_numpy(graph: Path, as_bytes: bool):
    weight = numpy_helper.to_array(onnx.load(graph).graph.initializer[0])
    images = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    with OnnxRuntime(graph.read_bytes() if as_bytes else graph, threads=1) as runtime:
        outputs = runtime.infer({"input": images})
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], images @ weight, rtol=1e-5)


def test_it_describes_itself(graph: Path):
    described = OnnxRuntime(graph, threads=2).describe()
    assert described["provider"] == "CPUExecutionProvider"
    assert described["threads"] == 2
    assert {"name", "version"} <= described.keys()


def test_inference_before_entering_is_refused(graph: Path):
    with pytest.raises(UsageError, match="expected the runtime to be entered first"):
        OnnxRuntime(graph).infer({})


@pytest.mark.parametrize("provider", ["CUDA", "TensorRT"])
def test_a_provider_that_this_build_lacks_says_what_it_needs(graph: Path, provider: onnxrt.Provider):
    with pytest.raises(UnavailableError, match=r"(?s)this build.*NVIDIA GPU.*sparsify-tickets\[gpu\]"):
        OnnxRuntime(graph, provider).__enter__()


class _Session:
    """A session that fell back to the CPU although asked for CUDA."""

    entries: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, source: str, options: object, providers: list[str]) -> None:
        self.asked = providers

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


class _Options:
    def add_session_config_entry(self, key: str, value: str) -> None:
        _Session.entries.append((key, value))


def test_a_silent_fallback_to_the_cpu_is_an_error(graph: Path, monkeypatch: pytest.MonkeyPatch):
    fake = SimpleNamespace(
        SessionOptions=_Options,
        InferenceSession=_Session,
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr(onnxrt, "load_onnxruntime", lambda: fake)
    monkeypatch.setattr(_Session, "entries", [])
    with pytest.raises(UnavailableError, match="the session runs on CPUExecutionProvider"):
        OnnxRuntime(graph, "CUDA").__enter__()
    assert ("session.disable_cpu_ep_fallback", "1") in _Session.entries


def test_without_onnxruntime_both_extras_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r"sparsify-tickets\[cpu\].*sparsify-tickets\[gpu\]"):
        load_onnxruntime()


def test_both_distributions_are_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnxrt, "version", lambda name: "1")
    with pytest.warns(RuntimeWarning, match="both installed and overwrite each other"):
        load_onnxruntime()


def test_a_missing_file_is_input_output(tmp_path: Path):
    with pytest.raises(InputOutputError, match="found none"):
        OnnxRuntime(tmp_path / "none.onnx").__enter__()


def test_junk_is_corrupt(tmp_path: Path):
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(CorruptError, match=r"junk\.onnx: ONNX Runtime cannot load it"):
        OnnxRuntime(path).__enter__()


def test_inputs_that_the_graph_cannot_run_on_are_named(graph: Path):
    with OnnxRuntime(graph) as runtime, pytest.raises(UsageError, match=r"linear\.onnx: .* got input float32 5x4: "):
        runtime.infer({"input": np.zeros((5, 4), np.float32)})
