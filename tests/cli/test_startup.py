"""Verbs that need no torch load none: asserted on the modules, not on the clock (`benchmarks/bench_startup.py`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "digits.yaml"
HEAVY = (
    *("torch", "onnx", "onnxruntime", "onnxscript", "tensorrt_rtx", "tensorrt", "torch_pruning"),
    *("sklearn", "scipy", "numpy"),
)
# Runs the console script's entry point, then names the heavy modules on stderr, whatever the exit.
PROBE = f"""
import atexit, sys
atexit.register(lambda: print("heavy:", *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))
from sparsify.cli.main import main
sys.argv[0] = "sparsify"
main()
"""


def _heavy_modules_after(*arguments: str, exit_code: int = 0) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True)
    assert done.returncode == exit_code, done.stderr
    return done.stderr.splitlines()[-1].removeprefix("heavy:").split()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("validate", str(RECIPE)),
        ("schema",),
    ],
    ids=" ".join,
)
def test_imports_nothing_heavy(arguments):
    assert _heavy_modules_after(*arguments) == []


@pytest.mark.parametrize("arguments", [("ls",), ("ls", "recipes")], ids=" ".join)
def test_lists_are_made_of_names_alone(arguments):
    assert set(_heavy_modules_after(*arguments)) <= {"numpy"}


@pytest.mark.slow
def test_a_fully_cached_run_imports_nothing_heavy(tmp_path):
    brief = ("--smoke", "--set", "controls=[]", "--set", "probes=[]")
    command = ("run", str(RECIPE), *brief, "--run-dir", str(tmp_path / "run"))
    _heavy_modules_after(*command)
    assert _heavy_modules_after(*command) == ["numpy"]  # for the intervals


def test_an_onnx_file_is_rewritten_without_torch(tmp_path):
    pytest.importorskip("sparsify_kernels", reason="sparsify-kernels is not installed: `make kernels`")
    onnx = pytest.importorskip("onnx")
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }'
    (tmp_path / "g.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    out = tmp_path / "sparse"
    found = _heavy_modules_after("export", str(tmp_path / "g.onnx"), "--target", "sparse-cpu", "--out", str(out))
    assert "onnxruntime" in found
    assert "torch" not in found
    assert "torch" not in _heavy_modules_after("inspect", str(out / "model.onnx"))


def test_the_probe_sees_what_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", "import scipy\n" + PROBE, "--help"], capture_output=True, text=True, check=True
    )
    assert "scipy" in done.stderr.splitlines()[-1].split()


def test_the_package_itself_imports_nothing_heavy():
    code = f"import sys, sparsify; sparsify.Recipe; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
