"""Each check on the states it tells apart; the machine is faked where it would have to be another one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparsify import machine
from sparsify.pipeline import doctor
from sparsify.pipeline.doctor import Check, Diagnosis, diagnose, provider_refusal
from sparsify_export.runtimes import gpu
from sparsify_export.targets import TARGETS
from sparsify_export.targets.opening import why_not_run

A10 = gpu.Gpu(0, "NVIDIA A10", (8, 6), 23 * 2**30, "13.1")


def states(checks: Iterable[Check]) -> dict[str, str]:
    return {check.name.strip(): check.state for check in checks}


def only(checks: Iterable[Check]) -> Check:
    (check,) = checks
    return check


def test_this_machine_works_and_every_target_is_judged(tmp_path: Path) -> None:
    diagnosis = diagnose(tmp_path / "runs")
    assert diagnosis.works
    assert [target.name for target in diagnosis.targets] == list(TARGETS)
    for target in diagnosis.targets:
        assert target.usable != bool(target.reason)
    told = {target.name: target for target in diagnosis.targets}
    assert told["onnxruntime-cpu"].usable
    for name in ("tensorrt", "tensorrt-rtx"):
        assert told[name].reason == (why_not_run(TARGETS[name]) or "")
    for check in diagnosis.checks:
        assert check.state == "ok" or check.detail, "what is not well says why"


def test_json_has_a_list_of_checks_and_the_targets(tmp_path: Path) -> None:
    document = diagnose(tmp_path).to_json()
    assert set(document) == {"works", "checks", "targets"}
    assert set(document["checks"][0]) == {"group", "name", "state", "detail", "mend", "needed"}
    assert document["targets"]["onnxruntime-cpu"] == {"usable": True, "exportable": True, "reason": ""}


@pytest.mark.parametrize(
    ("needed", "state", "works"), [(True, "missing", False), (True, "caution", True), (False, "missing", True)]
)
def test_only_what_is_needed_decides(needed: bool, state: Any, works: bool) -> None:
    assert Diagnosis((Check("g", "n", state, "d", needed=needed),), ()).works is works


def test_a_broken_package_is_one_line_and_hides_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(doctor, "_targets", lambda: ())
    diagnosis = diagnose(tmp_path)
    torch = only(check for check in diagnosis.checks if check.name == "torch")
    assert (torch.state, torch.needed, diagnosis.works) == ("not usable", True, False)
    assert "torch" in torch.detail
    assert "pip install" in torch.mend
    assert states(diagnosis.checks)["zstandard"] == "ok"


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine, "versions", lambda *names: {name: machine.ABSENT if name == "scipy" else "1" for name in names}
    )
    check = only(doctor._packages())
    assert (check.state, check.detail, check.needed) == ("missing", "scipy", True)


@pytest.mark.parametrize(("load", "state"), [(0.2, "ok"), (1.0, "ok"), (1.5, "caution")])
def test_a_busy_machine_is_a_caution(load: float, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    check = only(doctor._load())
    assert (check.state, bool(check.mend)) == (state, state != "ok")


@pytest.mark.parametrize(("governor", "state"), [(None, "ok"), ("performance", "ok"), ("powersave", "caution")])
def test_the_governor_matters_to_timing(governor: str | None, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "environment", lambda: {"governor": governor})
    assert only(doctor._governor()).state == state


@pytest.mark.parametrize(
    ("flags", "state", "detail"),
    [
        (("avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"), "ok", "AVX2, AVX-512, VNNI; no AVX-VNNI, AMX"),
        (("avx2", "avx512f"), "ok", "AVX2; no AVX-512, VNNI, AVX-VNNI, AMX"),
        (("avx",), "caution", "no AVX2: int8 and sparse kernels will be slow"),
    ],
)
def test_instruction_sets_are_whole_or_absent(
    flags: tuple[str, ...], state: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "instruction_sets", lambda: flags)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    _, check = doctor._processor()
    assert (check.state, check.detail) == (state, detail)


def test_gpus_are_listed_or_their_absence_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "probe", lambda: gpu.GpuProbe((A10,)))
    assert only(doctor._gpu()).detail == "NVIDIA A10, SM86, 23 GiB, driver for CUDA 13.1"
    monkeypatch.setattr(gpu, "probe", lambda: gpu.GpuProbe((), "no driver", "install one"))
    assert only(doctor._gpu()) == Check("accelerator", "GPU", "missing", "no driver", "install one")


@pytest.mark.parametrize(
    ("module", "gpus", "state"),
    [
        (None, (), "missing"),
        (SimpleNamespace(__version__="10.13"), (), "not usable"),
        (SimpleNamespace(__version__="10.13"), (A10,), "ok"),
        (
            SimpleNamespace(__version__="1.7", ComputeCapability=SimpleNamespace(__members__={"SM86": 86})),
            (),
            "caution",
        ),
    ],
    ids=["no-module", "no-gpu", "all-there", "builds-only"],
)
def test_tensorrt_states(module: Any, gpus: tuple[gpu.Gpu, ...], state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    found = gpu.GpuProbe(gpus) if gpus else gpu.GpuProbe((), "no driver", "install one")
    monkeypatch.setattr(gpu, "probe", lambda: found)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check = only(doctor._tensorrt("tensorrt"))
    assert check.state == state
    assert "install one" not in check.mend, "the GPU's own line says it"


def test_a_provider_is_usable_when_a_session_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_refusal("CPU") == ""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        # what the GPU build does on a machine without one: it lists CUDA all the same
        listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
        found = {check.name.strip(): check for check in doctor._onnxruntime()}
        assert found["CUDAExecutionProvider"].state == "not usable"
        assert "NVIDIA GPU" in found["CUDAExecutionProvider"].detail
        assert found["CPUExecutionProvider"].state == "ok"


def test_both_flavours_of_onnxruntime_are_a_caution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "versions", lambda *names: dict.fromkeys(names, "1.31"))
    first = next(iter(doctor._onnxruntime()))
    assert (first.state, first.detail) == ("caution", "onnxruntime 1.31 and onnxruntime-gpu 1.31")
    assert "overwrite each other" in first.mend


def test_no_onnxruntime_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    check = only(doctor._onnxruntime())
    assert check.state == "missing"
    assert "[cpu]" in check.mend
    assert "[gpu]" in check.mend


@pytest.mark.parametrize("found", [True, False])
def test_fashion_mnist_is_found_or_how_to_get_it_is_said(
    found: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sparsify.data.fashion_mnist.find", lambda: {"x": tmp_path / "x.gz"} if found else None)
    check = only(doctor._fashion_mnist())
    assert (check.state, check.detail) == (("ok", str(tmp_path)) if found else ("missing", "not found on this machine"))
    assert ("SPARSIFY_DATA" in check.mend) is not found


@pytest.mark.parametrize(
    ("free", "writable", "state"), [(2**40, True, "ok"), (2**20, True, "caution"), (2**40, False, "not usable")]
)
def test_the_disk_is_that_of_the_nearest_folder_there_is(
    free: int, writable: bool, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []

    def usage(place: Path) -> Any:
        asked.append(place)
        return SimpleNamespace(free=free)

    monkeypatch.setattr("shutil.disk_usage", usage)
    monkeypatch.setattr("os.access", lambda *_: writable)
    assert only(doctor._disk(tmp_path / "not" / "yet")).state == state
    assert asked == [tmp_path]


@pytest.mark.parametrize("look", [lambda: 1 / 0, lambda: (_ for _ in [1 / 0])], ids=["at-once", "while-looking"])
def test_a_failing_look_is_told_in_one_line(look: Callable[[], Any]) -> None:
    (check,) = doctor._guarded("data", "broken", look)
    assert (check.state, check.detail, check.needed) == ("not usable", "ZeroDivisionError: division by zero", False)
