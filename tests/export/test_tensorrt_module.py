"""Which module, what is missing, and the differences between versions, on fakes that record what they are told."""

from __future__ import annotations

import sys
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from sparsify.errors import UnavailableError, UsageError
from sparsify_export.runtimes import gpu, tensorrt_module
from sparsify_export.runtimes.tensorrt_module import (
    build_lacks,
    create_network,
    load_module,
    refuse_lacks,
    run_lacks,
    set_architecture,
)
from sparsify_export.runtimes.tensorrt_rtx import execution_context

A10 = gpu.Gpu(0, "NVIDIA A10", (8, 6), 2**34, "13.0")


class Architecture(Enum):
    NONE, CURRENT, SM86, SM89 = 0, 1, 86, 89


def ten(version: str = "10.13.3") -> Any:
    """What `tensorrt` 10 shows of itself: flags for fp16, no architectures."""
    return SimpleNamespace(
        __version__=version,
        BuilderFlag=SimpleNamespace(FP16=0, BF16=17),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
    )


def eleven() -> Any:
    return SimpleNamespace(__version__="11.4.0", BuilderFlag=SimpleNamespace(TF32=7))


def rtx(*, accepts: bool = True) -> tuple[Any, Any]:
    config = SimpleNamespace(num_compute_capabilities=0, calls=[])
    config.set_compute_capability = lambda architecture, index: config.calls.append((architecture, index)) or accepts
    return SimpleNamespace(__version__="1.7", BuilderFlag=SimpleNamespace(), ComputeCapability=Architecture), config


@pytest.mark.parametrize(("strongly_typed", "flags"), [(True, 2), (False, 0)])
def test_tensorrt_10_builds_both_ways(strongly_typed: bool, flags: int) -> None:
    builder = SimpleNamespace(create_network=lambda given: given)
    assert create_network(ten(), builder, strongly_typed=strongly_typed) == flags


def test_tensorrt_11_builds_only_strongly_typed() -> None:
    builder = SimpleNamespace(create_network=lambda given: given)
    assert create_network(eleven(), builder, strongly_typed=True) == 0
    with pytest.raises(UsageError, match=r"strongly_typed: expected true, got false.*in the precision you want"):
        create_network(eleven(), builder, strongly_typed=False)


@pytest.mark.parametrize(("sm", "expected"), [("SM89", Architecture.SM89), (None, Architecture.CURRENT)])
def test_architecture_is_set_where_the_module_has_any(sm: str | None, expected: Architecture) -> None:
    trt, config = rtx()
    set_architecture(trt, config, sm)
    assert (config.num_compute_capabilities, config.calls) == (1, [(expected, 0)])


def test_tensorrt_builds_for_the_gpu_at_hand_only() -> None:
    config = SimpleNamespace()
    set_architecture(ten(), config, None)
    assert vars(config) == {}
    with pytest.raises(UsageError, match="got 'SM86'"):
        set_architecture(ten(), config, "SM86")


def test_unknown_or_refused_architecture_is_usage() -> None:
    trt, config = rtx()
    with pytest.raises(UsageError, match=r"expected one of SM86, SM89, got 'SM90'"):
        set_architecture(trt, config, "SM90")
    trt, config = rtx(accepts=False)
    with pytest.raises(UsageError, match="refused SM86"):
        set_architecture(trt, config, "SM86")


def test_rtx_compiles_kernels_eagerly_and_tensorrt_has_no_such_choice() -> None:
    config = SimpleNamespace()
    engine = SimpleNamespace(create_runtime_config=lambda: config, create_execution_context=lambda *given: given)
    strategy = SimpleNamespace(EAGER="eager", LAZY="lazy")
    assert execution_context(SimpleNamespace(DynamicShapesKernelSpecializationStrategy=strategy), engine) == (config,)
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert execution_context(ten(), engine) == ()


def test_unknown_module_is_usage() -> None:
    with pytest.raises(UsageError, match="expected one of tensorrt, tensorrt-rtx, got 'tensorflow'"):
        load_module("tensorflow")


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_missing_module_names_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    with pytest.raises(UnavailableError, match=r"pip install 'sparsify-tickets\["):
        load_module(name)


def test_library_that_does_not_load_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Any:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(tensorrt_module, "import_module", load)
    with pytest.raises(UnavailableError, match=r"libnvinfer\.so\.10"):
        load_module("tensorrt")


def everything_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(gpu, "probe", lambda: gpu.GpuProbe((), "no NVIDIA driver here", "install the driver"))
    monkeypatch.setattr("torch.version.cuda", None)


def test_every_lack_is_listed_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    everything_missing(monkeypatch)
    assert [lack.what.split(" (")[0] for lack in run_lacks("tensorrt")] == [
        "no NVIDIA driver here",
        "no Python module tensorrt",
        "torch is built without CUDA",
    ]
    with pytest.raises(UnavailableError, match=r"running tensorrt is not available here.*driver.*tensorrt.*CUDA build"):
        refuse_lacks("running tensorrt", run_lacks("tensorrt"))
    assert build_lacks("tensorrt")[0].mend == "install the driver"


def test_rtx_builds_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    everything_missing(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace())
    assert build_lacks("tensorrt-rtx") == ()
    assert len(run_lacks("tensorrt-rtx")) == 2


def test_nothing_is_missing_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace())
    monkeypatch.setattr(gpu, "probe", lambda: gpu.GpuProbe((A10,)))
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert run_lacks("tensorrt") == ()
    refuse_lacks("running tensorrt", run_lacks("tensorrt"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "torch sees no GPU" in run_lacks("tensorrt")[0].what
