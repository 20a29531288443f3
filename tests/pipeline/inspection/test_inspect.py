from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparsify.errors import InputOutputError, UsageError
from sparsify.pipeline.inspection import inspect
from sparsify.store.run import Run


def test_nothing_there(tmp_path: Path):
    with pytest.raises(InputOutputError, match="got nothing there; check the path"):
        inspect(tmp_path / "absent")


@pytest.mark.parametrize("name", ["notes.txt", "engine.plan", "weights.pt"])
def test_other_files(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(UsageError, match=r"expected a run folder, .*\.onnx, got another kind of file"):
        inspect(tmp_path / name)


def test_other_folders(tmp_path: Path):
    expected = r"neither resolved\.yaml, stage\.json, weights\.safetensors nor weights\.packed"
    with pytest.raises(UsageError, match=expected):
        inspect(tmp_path)


def test_a_run_is_described_without_torch_or_onnx(tmp_path: Path):
    Run.open(tmp_path / "r", "name: a\nmodel: m\ndata: {source: digits}\nprune: {levels: 1}\n", {})
    code = (
        "import json, sys; from pathlib import Path; from sparsify.pipeline.inspection import inspect; "
        "print(json.dumps(inspect(Path(sys.argv[1])))); assert not {'torch', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "r")], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["kind"] == "run"
