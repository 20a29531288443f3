"""What this machine is: processor, instruction sets, cores, GPUs, versions. Torch-free, safe where nothing is there.

A speed belongs to the machine it was measured on, so `hardware()` is part of a latency stage's key; `environment()`
adds what explains a measurement but does not identify the machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

# The flags that numerical kernels choose their code by, in the spelling of /proc/cpuinfo (x86, then Arm).
_INSTRUCTION_SETS = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2"),
)
_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_GPU_FIELDS = ("name", "compute_cap", "driver_version", "memory.total")
ABSENT = "absent"


def hardware() -> dict[str, Any]:
    """What identifies the machine to a measurement; equal from call to call.

    Returns:
        `processor` (name), `architecture`, `instruction_sets` (those that matter), `cores` (that this process may use)
        and `gpus` (see `gpus`).
    """
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "instruction_sets": list(instruction_sets()),
        "cores": usable_cores(),
        "gpus": [dict(gpu) for gpu in gpus()],
    }


def environment() -> dict[str, Any]:
    """`hardware()` and what else explains a result: Python, platform, load average (1, 5, 15 min), governor."""
    try:
        load = [round(value, 2) for value in os.getloadavg()]
    except (OSError, AttributeError):
        load = None
    return {
        **hardware(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "load_average": load,
        "governor": _text(_GOVERNOR).strip() or None,
    }


def versions(*distributions: str) -> dict[str, str]:
    """Distribution -> installed version, or `absent`, without importing any of them."""
    return {name: _version(name) for name in distributions}


@cache
def processor() -> str:
    """The processor's name as its maker gives it, or the architecture where it is not told."""
    named = _cpuinfo("model name") or _cpuinfo("Model")
    if not named and platform.system() == "Darwin":
        named = _output("sysctl", "-n", "machdep.cpu.brand_string").strip()
    return named or platform.processor() or platform.machine()


def vector_width() -> int:
    """Channels that a runtime's fp32 kernels compute at a time here: 16 with AVX-512, else 8."""
    return 16 if "avx512f" in instruction_sets() else 8


@cache
def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that matter to inference and that the first processor has; empty where it is not told."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return tuple(name for name in _INSTRUCTION_SETS if name in flags)


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def gpus() -> tuple[dict[str, str], ...]:
    """NVIDIA GPUs as nvidia-smi tells them: `name`, `compute_capability`, `driver`, `memory`; empty without any."""
    listed = _output("nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader")
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines()]
    names = ("name", "compute_capability", "driver", "memory")
    return tuple(dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names))


@cache
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ABSENT


def _cpuinfo(field: str) -> str:
    for line in _text(_CPUINFO).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _output(program: str, *arguments: str) -> str:
    """Standard output of a program, or nothing when it is absent, fails or takes longer than ten seconds."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
