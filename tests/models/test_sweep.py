"""Architectures of other libraries, with random weights: each opens, is saved, and comes back with the same bits.

A few run always, the rest where asked for (`make sweep`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

for library in ("torchvision_schemas", "torchvision", "timm", "transformers"):
    pytest.importorskip(library, reason=f"pip install {library}")

from cases_architectures import ARCHITECTURES, NORMAL, Architecture  # noqa: E402
from sparsify.models.build import prunable  # noqa: E402
from sparsify.models.saved import load, save_network  # noqa: E402

EVERY_ONE = [
    pytest.param(each, marks=() if each.normal else pytest.mark.sweep, id=each.source) for each in ARCHITECTURES
]


def test_the_table_has_six_for_every_run_and_tens_for_the_long_one():
    assert len(NORMAL) == 6 and len(ARCHITECTURES) >= 20
    assert {each.source.partition(":")[0] for each in NORMAL} == {"torchvision", "timm", "transformers"}


@pytest.mark.parametrize("architecture", EVERY_ONE)
def test_it_opens_and_comes_back(architecture: Architecture, tmp_path: Path):
    module, network = architecture.open(tmp_path / "config")
    assert len(prunable(module)) > 5
    save_network(tmp_path / "net", module, network)
    again, inputs = load(tmp_path / "net"), network.example(3, seed=4)
    with torch.no_grad():
        assert torch.equal(again(inputs), module(inputs))
    (tmp_path / "net" / "weights.safetensors").unlink()  # some are hundreds of megabytes
