"""Architectures of other libraries, with random weights: each loses channels and stays what it was, or is refused.

A few run always, the rest where asked for (`make sweep`). What is checked, and how, stands in `architecture_trial.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

for library in ("torchvision_schemas", "torchvision", "timm", "transformers"):
    pytest.importorskip(library, reason=f"pip install {library}")

from architecture_trial import try_out  # noqa: E402
from cases_architectures import ARCHITECTURES, Architecture  # noqa: E402

EVERY_ONE = [
    pytest.param(each, marks=pytest.mark.slow if each.normal else pytest.mark.sweep, id=each.source)
    for each in ARCHITECTURES
]


@pytest.mark.parametrize("architecture", EVERY_ONE)
def test_it_loses_channels_and_stays_what_it_was_or_is_refused_by_name(architecture: Architecture, tmp_path: Path):
    outcome = try_out(architecture, tmp_path)
    if architecture.normal:
        assert outcome.status == "pruned" and outcome.sparsity >= 0.3 and outcome.macs < 1
        assert outcome.parity is not None
    else:
        assert outcome.reason or (outcome.status == "pruned" and outcome.parity is not None)
