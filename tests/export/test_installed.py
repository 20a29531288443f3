from __future__ import annotations

import pytest
from onnx import helper

from sparsify.errors import UnavailableError
from sparsify_export import installed
from sparsify_export.installed import EXPORTER_OPSET, Readable, readable


@pytest.fixture(autouse=True)
def fresh():
    readable.cache_clear()
    yield
    readable.cache_clear()


@pytest.mark.parametrize(("newest_ir", "newest_opset"), [(10, 21), (13, 26), (8, 18)])
def test_the_newest_that_loads_is_found(monkeypatch: pytest.MonkeyPatch, newest_ir: int, newest_opset: int):
    monkeypatch.setattr(installed, "_loads", lambda ir, opset: ir <= newest_ir and opset <= newest_opset)
    assert readable() == Readable(newest_ir, newest_opset)


def test_a_runtime_too_old_is_unavailable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installed, "_loads", lambda ir, opset: False)
    with pytest.raises(UnavailableError, match="upgrade onnxruntime"):
        readable()


def test_without_a_runtime_the_exporters_own_opset_is_taken(monkeypatch: pytest.MonkeyPatch):
    def absent():
        raise UnavailableError("none")

    monkeypatch.setattr(installed, "load_onnxruntime", absent)
    assert readable().opset == EXPORTER_OPSET


def test_the_installed_runtime_really_reads_what_is_found():
    found = readable()
    assert installed._loads(found.ir_version, found.opset)
    assert found.ir_version >= helper.find_min_ir_version_for([helper.make_opsetid("", EXPORTER_OPSET)])
