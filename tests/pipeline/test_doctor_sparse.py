"""What doctor says of the sparse operators: here and answering, absent, or here and wrong."""

from __future__ import annotations

import re
import sys

import pytest

from sparsify.pipeline import doctor
from sparsify_export.sparse import trial
from sparsify_export.sparse.available import why_not
from sparsify_export.targets import TARGETS


def test_absent_operators_are_told_with_what_brings_them(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sparsify_kernels"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sparsify_kernels", None)
    (check,) = doctor._sparse_operators()
    assert (check.name, check.state, check.needed) == ("sparsify-kernels", "missing", False)
    assert "make kernels" in check.mend
    target = doctor._target(TARGETS["sparse-cpu"])
    assert (target.usable, target.exportable) == (False, False)
    assert "sparsify-kernels" in target.reason
    assert not list(doctor._speed())


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_operators_that_are_here_have_answered():
    (check,) = doctor._sparse_operators()
    assert check.state == "ok"
    assert "a sparse operator has answered" in check.detail
    assert doctor._target(TARGETS["sparse-cpu"]).usable


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_operators_that_answer_wrongly_are_not_usable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "operators_refusal", lambda: "expected 2 x 3 = 6 from a sparse operator, got [[7.0]]")
    (check,) = doctor._sparse_operators()
    assert check.state == "not usable"
    assert not doctor._target(TARGETS["sparse-cpu"]).usable


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_the_machines_speed_is_told_with_its_units():
    (check,) = doctor._speed()
    assert (check.group, check.name, check.state) == ("processor", "speed", "ok")
    assert re.search(r"fma_gflops [\d.e+]+, .*stream_gb_s [\d.e+]+", check.detail)
