"""What can run on this machine, and why not: every check a function, none of which can stop the others.

Nothing is believed that was only listed: a provider of ONNX Runtime is usable when a session on it has answered.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sparsify import machine
from sparsify.counted import counted
from sparsify.errors import SparsifyError

State = Literal["ok", "caution", "missing", "not usable"]

_BASE = ("numpy", "scipy", "scikit-learn", "pillow", "pydantic", "ruamel.yaml", "safetensors", "onnx", "onnxscript")
_REINSTALL = "pip install --force-reinstall 'sparsify-tickets[cpu]'"
_OLDEST_PYTHON = (3, 11)
_LITTLE_DISK_BYTES = 2 * 2**30
# instruction set -> the flags of /proc/cpuinfo that make it up
_INSTRUCTION_SETS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f", "avx512bw", "avx512vl"},
    "VNNI": {"avx512_vnni"},
    "AVX-VNNI": {"avx_vnni"},
    "AMX": {"amx_tile", "amx_int8"},
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `mend` says what would better it; `needed` is True where nothing works without it."""

    group: str
    name: str
    state: State
    detail: str
    mend: str = ""
    needed: bool = False


@dataclass(frozen=True, slots=True)
class TargetCheck:
    """Whether a deployment target runs here, whether it can be exported to here, and why not."""

    name: str
    usable: bool
    exportable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was looked at."""

    checks: tuple[Check, ...]
    targets: tuple[TargetCheck, ...]

    @property
    def works(self) -> bool:
        """Whether the base can work at all."""
        return not any(check.needed and check.state in ("missing", "not usable") for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The one document of `sparsify doctor --json`."""
        return {
            "works": self.works,
            "checks": [asdict(check) for check in self.checks],
            "targets": {
                target.name: {"usable": target.usable, "exportable": target.exportable, "reason": target.reason}
                for target in self.targets
            },
        }


def diagnose(runs: Path = Path("runs")) -> Diagnosis:
    """Look at everything; `runs` is where run folders go. Never raises, but for a bug of ours."""
    checks: list[Check] = []
    for group, name, look in _looks(runs):
        checks += _guarded(group, name, look)
    return Diagnosis(tuple(checks), _targets())


def _looks(runs: Path) -> Iterator[tuple[str, str, Callable[[], Iterable[Check]]]]:
    yield "base", "Python", _python
    yield "base", "packages", _packages
    yield "base", "torch", _torch
    yield "base", "zstandard", _zstandard
    yield "processor", "processor", _processor
    yield "processor", "load", _load
    yield "processor", "governor", _governor
    yield "processor", "speed", _speed
    yield "accelerator", "GPU", _gpu
    yield "accelerator", "tensorrt", lambda: _tensorrt("tensorrt")
    yield "accelerator", "tensorrt-rtx", lambda: _tensorrt("tensorrt-rtx")
    yield "runtime", "onnxruntime", _onnxruntime
    yield "runtime", "sparsify-kernels", _sparse_operators
    yield "data", "fashion-mnist", _fashion_mnist
    yield "data", "disk", lambda: _disk(runs)


def _guarded(group: str, name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """What was found, or that looking itself failed: a broken package must not hide the other lines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(look())
    except Exception as error:  # whatever a broken installation raises
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Check(group, name, "not usable", detail, _REINSTALL, needed=group == "base")]


def _python() -> Iterator[Check]:
    old = sys.version_info < _OLDEST_PYTHON
    wanted = ".".join(str(part) for part in _OLDEST_PYTHON)
    detail = f"{platform.python_version()} ({sys.executable})"
    mend = f"install Python {wanted} or newer" if old else ""
    yield Check("base", "Python", "not usable" if old else "ok", detail, mend, needed=True)


def _packages() -> Iterator[Check]:
    found = machine.versions(*_BASE)
    absent = [name for name, version in found.items() if version == machine.ABSENT]
    if absent:
        yield Check("base", "packages", "missing", ", ".join(absent), _REINSTALL, needed=True)
    else:
        detail = ", ".join(f"{name} {version}" for name, version in found.items())
        yield Check("base", "packages", "ok", detail, needed=True)


def _torch() -> Iterator[Check]:
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    detail = f"{torch.__version__}, {built}, device {device}, {counted(torch.get_num_threads(), 'thread')}"
    yield Check("base", "torch", "ok", detail, needed=True)


def _zstandard() -> Iterator[Check]:
    import zstandard

    yield Check("base", "zstandard", "ok", f"{zstandard.__version__}: packed sizes are measured with it", needed=True)


def _processor() -> Iterator[Check]:
    yield Check("processor", "processor", "ok", f"{machine.processor()}, {machine.usable_cores()} usable cores")
    flags = set(machine.instruction_sets())
    has = [name for name, needs in _INSTRUCTION_SETS.items() if needs <= flags]
    lacks = [name for name in _INSTRUCTION_SETS if name not in has]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        yield Check("processor", "instructions", "ok", ", ".join(sorted(flags)) or "not told by this system")
    elif "AVX2" in has:
        yield Check("processor", "instructions", "ok", ", ".join(has) + (f"; no {', '.join(lacks)}" if lacks else ""))
    else:
        yield Check("processor", "instructions", "caution", "no AVX2: int8 and sparse kernels will be slow")


def _load() -> Iterator[Check]:
    load, cores = os.getloadavg()[0], machine.usable_cores()
    busy = load > 0.5 * cores
    mend = "wait until the machine is quiet before you time anything" if busy else ""
    detail = f"{load:.2f} over {counted(cores, 'core')}, last minute"
    yield Check("processor", "load", "caution" if busy else "ok", detail, mend)


def _governor() -> Iterator[Check]:
    governor = machine.environment()["governor"]
    if governor is None:
        yield Check("processor", "governor", "ok", "not told by this system (virtual machines hide it)")
    elif governor == "performance":
        yield Check("processor", "governor", "ok", governor)
    else:
        mend = "for steady timings: sudo cpupower frequency-set --governor performance"
        yield Check("processor", "governor", "caution", governor, mend)


def _speed() -> Iterator[Check]:
    from sparsify_export.sparse.available import kernels

    try:
        _, native = kernels()
    except SparsifyError:
        return  # told under runtime
    speeds = ", ".join(f"{name} {value:.3g}" for name, value in native.machine().items())
    yield Check("processor", "speed", "ok", f"at the moment, on one thread: {speeds}")


def _gpu() -> Iterator[Check]:
    from sparsify_export.runtimes import gpu

    found = gpu.probe()
    if not found.gpus:
        yield Check("accelerator", "GPU", "missing", found.reason, found.mend)
    for one in found.gpus:
        detail = f"{one.name}, {one.sm}, {one.memory_bytes / 2**30:.0f} GiB, driver for CUDA {one.driver}"
        yield Check("accelerator", f"GPU {one.index}", "ok", detail)


def _tensorrt(name: str) -> Iterator[Check]:
    from sparsify_export.runtimes import gpu
    from sparsify_export.runtimes.tensorrt_module import architectures, load_module, run_lacks

    lacks = run_lacks(name)
    missing = "; ".join(lack.what for lack in lacks)
    said = gpu.probe().mend  # by the line above this one
    mend = "; ".join(lack.mend for lack in lacks if lack.mend != said)
    try:
        module = load_module(name)
    except SparsifyError:
        yield Check("accelerator", name, "missing", missing, mend)
        return
    ahead = ", ".join(architectures(module))
    builds = f"builds ahead of time for {ahead}" if ahead else "builds for the GPU at hand"
    if not lacks:
        yield Check("accelerator", name, "ok", f"{module.__version__}, {builds}, and runs")
    elif ahead:
        yield Check("accelerator", name, "caution", f"{module.__version__}, {builds}; does not run: {missing}", mend)
    else:
        yield Check("accelerator", name, "not usable", f"{module.__version__}: {missing}", mend)


def _onnxruntime() -> Iterator[Check]:
    from sparsify_export.runtimes.onnxrt import PROVIDERS, load_onnxruntime

    flavours = machine.versions("onnxruntime", "onnxruntime-gpu")
    present = [f"{name} {version}" for name, version in flavours.items() if version != machine.ABSENT]
    try:
        listed = load_onnxruntime().get_available_providers()
    except SparsifyError as error:
        yield Check("runtime", "onnxruntime", "missing", "not installed", str(error))
        return
    state: State = "caution" if len(present) > 1 else "ok"
    mend = "they overwrite each other: uninstall both, then install the one you want" if len(present) > 1 else ""
    yield Check("runtime", "onnxruntime", state, " and ".join(present) or "not installed by pip", mend)
    for provider, name in PROVIDERS.items():
        if name in listed:
            refusal = provider_refusal(provider)
            detail = refusal or "a session on it has answered"
            yield Check("runtime", f"  {name}", "not usable" if refusal else "ok", detail)


def _sparse_operators() -> Iterator[Check]:
    from sparsify_export.sparse.available import MEND, kernels
    from sparsify_export.sparse.trial import operators_refusal

    try:
        _, native = kernels()
    except SparsifyError as error:
        yield Check("runtime", "sparsify-kernels", "missing", str(error).partition(";")[0], MEND)
        return
    found = machine.versions("sparsify-kernels")["sparsify-kernels"]
    refusal = operators_refusal()
    detail = refusal or f"{found}, for {native.describe_cpu()}; a sparse operator has answered"
    yield Check("runtime", "sparsify-kernels", "not usable" if refusal else "ok", detail, MEND if refusal else "")


def provider_refusal(provider: Any) -> str:
    """Why ONNX Runtime's provider does not run here; empty when a small session on it has answered."""
    import numpy as np
    from onnx import TensorProto, helper

    from sparsify_export.runtimes.onnxrt import OnnxRuntime

    source, sink = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "doctor", [source], [sink])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    try:
        with OnnxRuntime(model.SerializeToString(), provider) as runtime:
            answer = runtime.infer({"x": np.array([-1.0], np.float32)})["y"]
    except SparsifyError as error:
        return str(error)
    return "" if answer[0] == 0 else f"expected relu(-1) = 0 from it, got {answer[0]}"


def _fashion_mnist() -> Iterator[Check]:
    from sparsify.data.fashion_mnist import find

    files = find()
    if files:
        folder = next(iter(files.values())).parent
        yield Check("data", "fashion-mnist", "ok", str(folder))
    else:
        mend = (
            "set SPARSIFY_DATA to a folder that holds it, or apt install dataset-fashion-mnist; else it is downloaded"
        )
        yield Check("data", "fashion-mnist", "missing", "not found on this machine", mend)


def _disk(runs: Path) -> Iterator[Check]:
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    detail = f"{free / 2**30:.1f} GiB free in {place}"
    if not os.access(place, os.W_OK):
        yield Check("data", "disk", "not usable", f"{place} cannot be written", "name another folder with --run-dir")
    elif free < _LITTLE_DISK_BYTES:
        yield Check("data", "disk", "caution", detail, "free some space, or name another folder with --run-dir")
    else:
        yield Check("data", "disk", "ok", detail)


def _targets() -> tuple[TargetCheck, ...]:
    from sparsify_export.targets import TARGETS

    return tuple(_target(target) for target in TARGETS.values())


def _target(target: Any) -> TargetCheck:
    from sparsify_export.sparse.trial import operators_refusal
    from sparsify_export.targets.opening import require_export, why_not_run

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = why_not_run(target) or (provider_refusal(target.provider) if target.provider else "")
        if target.sparse and not reason:
            reason = operators_refusal()
        exportable = True
        try:
            require_export(target)
        except SparsifyError:
            exportable = False
    return TargetCheck(target.name, not reason, exportable, reason)
