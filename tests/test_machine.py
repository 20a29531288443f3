from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sparsify import machine


@pytest.fixture(autouse=True)
def forgotten():
    """What one test makes the machine look like is not remembered by the next."""
    caches = (machine.processor, machine.instruction_sets, machine.gpus)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def look_like(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", path)


def install_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


def test_hardware_is_equal_from_call_to_call_and_json():
    assert machine.hardware() == machine.hardware()
    assert json.loads(json.dumps(machine.hardware())) == machine.hardware()


def test_environment_adds_what_does_not_identify_the_machine():
    added = set(machine.environment()) - set(machine.hardware())
    assert added == {"python", "platform", "load_average", "governor"}
    json.dumps(machine.environment(), allow_nan=False)


def test_cores_are_those_this_process_may_use():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_x86(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    look_like(
        monkeypatch,
        tmp_path,
        "processor\t: 0\nmodel name\t: Xeon : special\nflags\t\t: fpu avx2 amx_tile avx512f_not avx\n"
        "processor\t: 1\nmodel name\t: Other\nflags\t\t: avx512f\n",
    )
    assert machine.processor() == "Xeon : special"
    assert machine.instruction_sets() == ("avx", "avx2", "amx_tile")


def test_arm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    look_like(monkeypatch, tmp_path, "processor\t: 0\nFeatures\t: fp asimd sve\nModel\t\t: Raspberry Pi 5\n")
    assert machine.processor() == "Raspberry Pi 5"
    assert machine.instruction_sets() == ("asimd", "sve")


def test_where_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "absent")
    monkeypatch.setattr(machine, "_GOVERNOR", tmp_path / "absent")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.instruction_sets() == ()
    assert machine.processor() != ""
    assert machine.gpus() == ()
    assert machine.environment()["governor"] is None


def test_the_governor_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "governor").write_text("performance\n")
    monkeypatch.setattr(machine, "_GOVERNOR", tmp_path / "governor")
    assert machine.environment()["governor"] == "performance"


def test_gpus_are_as_nvidia_smi_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    install_nvidia_smi(
        monkeypatch, tmp_path, 'echo "NVIDIA A, 8.6, 550.1, 24564 MiB"; echo "NVIDIA B, 9.0, 550.1, 81559 MiB"'
    )
    assert machine.gpus() == (
        {"name": "NVIDIA A", "compute_capability": "8.6", "driver": "550.1", "memory": "24564 MiB"},
        {"name": "NVIDIA B", "compute_capability": "9.0", "driver": "550.1", "memory": "81559 MiB"},
    )


@pytest.mark.parametrize("script", ["echo failed; exit 9", "echo No devices were found", "kill -9 $$"])
def test_a_broken_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str):
    install_nvidia_smi(monkeypatch, tmp_path, script)
    assert machine.gpus() == ()


def test_versions_are_those_installed():
    found = machine.versions("numpy", "no-such-distribution")
    assert found == {"numpy": metadata.version("numpy"), "no-such-distribution": "absent"}
    found["numpy"] = "changed"
    assert machine.versions("numpy") == {"numpy": metadata.version("numpy")}


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from sparsify.machine import environment, versions; environment(); versions('torch'); "
        "assert not {'torch', 'numpy', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
