from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sparsify.errors import UnavailableError
from sparsify_export.runtimes import onnxrt
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.targets import TARGETS
from sparsify_export.targets.opening import open_runtime, require_export, require_run, why_not_run


def test_targets_are_named_summed_up_and_say_what_they_need():
    assert list(TARGETS) == [
        "onnxruntime-cpu",
        "sparse-cpu",
        "onnxruntime-cuda",
        "onnxruntime-tensorrt",
        "tensorrt",
        "tensorrt-rtx",
    ]
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.summary.endswith(".") and "\n" not in target.summary
        assert target.needs
        assert (target.provider is None) == (target.runtime != "onnxruntime")


def test_the_catalogue_is_torch_free():
    code = (
        "import sys, sparsify_export.targets; print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_cpu_target_runs_here():
    assert why_not_run(TARGETS["onnxruntime-cpu"]) is None
    runtime = open_runtime(TARGETS["onnxruntime-cpu"], Path("a.onnx"), threads=2, batch_sizes=(1,))
    assert isinstance(runtime, OnnxRuntime)
    assert (runtime.device, runtime.describe()["threads"]) == ("cpu", 2)


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_the_build_lacks_is_told_beforehand(monkeypatch: pytest.MonkeyPatch, name: str):
    class Cpu:
        @staticmethod
        def get_available_providers() -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxrt, "load_onnxruntime", Cpu)
    for require in (require_run, require_export):
        with pytest.raises(UnavailableError, match="this build of ONNX Runtime does not contain it"):
            require(TARGETS[name])
    assert "NVIDIA GPU" in (why_not_run(TARGETS[name]) or "")
