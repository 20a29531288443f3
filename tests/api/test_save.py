"""A pruned network of somebody's own code, saved, and built again by a process that has only that code."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

import sparsify
from cases import same_bits
from cases_channels import TOKENS, Mha, Transformer, lively
from sparsify.api.pruned import Pruned
from sparsify.errors import CorruptError, UsageError
from sparsify.masks.mask import Mask

ROOT = Path(__file__).resolve().parents[2]
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [(IMAGES, torch.arange(8) % 4)]
CODE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.body, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.head((x + torch.relu(self.body(x))).mean((2, 3)))
"""
PROGRAM = """
import sys
import torch, sparsify
from somebodys_block import Block
network = sparsify.load(sys.argv[1], model=Block(seed=int(sys.argv[3])))
assert not network.training
with torch.no_grad():
    torch.save(network(torch.load(sys.argv[2], weights_only=True)), sys.argv[2])
"""


@pytest.fixture
def block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    (tmp_path / "somebodys_block.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys_block", raising=False)
    from somebodys_block import Block

    return Block


def trained(pruned: Pruned) -> Pruned:
    """Three steps, which move the weights and BatchNorm's statistics."""
    optimizer = torch.optim.Adam(pruned.model.train().parameters(), lr=0.01)
    with sparsify.Masked(pruned.model, pruned.mask):
        for _ in range(3):
            optimizer.zero_grad()
            functional.cross_entropy(pruned.model(IMAGES), BATCHES[0][1]).backward()
            optimizer.step()
    pruned.model.eval()
    return pruned


@pytest.mark.parametrize("asked", [{"pattern": "channel", "macs": 0.5}, {"sparsity": 0.7}], ids=["channel", "mask"])
def test_a_process_that_has_only_the_code_gets_the_same_bits(block, asked, tmp_path: Path):
    pruned = trained(sparsify.prune(block(seed=0), batches=BATCHES, **asked))
    sparsify.save(pruned, tmp_path / "small")
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == [
        "mask.safetensors",
        "pruned.json",
        "weights.safetensors",
    ]
    torch.save(IMAGES, tmp_path / "x.pt")
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "export")])
    subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "small", tmp_path / "x.pt", "9"],
        check=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "x.pt", weights_only=True), pruned.model(IMAGES))
    again = sparsify.load(tmp_path / "small", model=block(seed=5))
    assert same_bits(again.state_dict(), pruned.model.state_dict())
    assert Mask.load(tmp_path / "small/mask.safetensors") == pruned.mask
    assert json.loads((tmp_path / "small/pruned.json").read_text())["report"]["pattern"] == pruned.report.pattern


def test_bfloat16_comes_back_in_bfloat16(block, tmp_path: Path):
    pruned = sparsify.prune(block(seed=0).bfloat16(), sparsity=0.5)
    sparsify.save(pruned, tmp_path)
    again = sparsify.load(tmp_path, model=block(seed=1)).state_dict()
    assert all(
        value.dtype == again[name].dtype and torch.equal(value, again[name])
        for name, value in pruned.model.state_dict().items()
    )


def test_attention_that_lost_heads_comes_back(tmp_path: Path):
    pruned = sparsify.prune(
        lively(Transformer(attention=Mha())).eval(), pattern="channel", macs=0.5, batches=[(TOKENS, TOKENS)]
    )
    sparsify.save(pruned, tmp_path)
    again = sparsify.load(tmp_path, model=Transformer(attention=Mha()))
    with torch.no_grad():
        assert torch.equal(again(TOKENS), pruned.model.eval()(TOKENS))


def test_three_rounds_and_a_mask_come_back_from_the_dense_network_or_from_any_round(block, tmp_path: Path):
    module, rounds = block(seed=0), []
    for _ in range(3):
        module = copy.deepcopy(sparsify.prune(module, pattern="channel", sparsity=0.25, batches=BATCHES).model)
        rounds.append(copy.deepcopy(module))
    pruned = trained(sparsify.prune(module, sparsity=0.5))
    assert len({each.stem.out_channels for each in rounds}) == 3
    sparsify.save(pruned, tmp_path / "small")
    bases = [block(seed=5), *rounds, pruned.model]
    for again in [sparsify.load(tmp_path / "small", model=base) for base in bases]:
        assert same_bits(again.state_dict(), pruned.model.state_dict())
        with torch.no_grad():
            assert torch.equal(again(IMAGES), pruned.model(IMAGES))
    fourth = sparsify.prune(again, pattern="channel", sparsity=0.2, batches=BATCHES)
    sparsify.save(fourth, tmp_path / "smaller")
    loaded = sparsify.load(tmp_path / "smaller", model=block(seed=5))
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), fourth.model.eval()(IMAGES))


def test_attention_that_lost_heads_twice_comes_back(tmp_path: Path):
    module = lively(Transformer(attention=Mha())).eval()
    for _ in range(2):
        pruned = sparsify.prune(module, pattern="channel", macs=0.7, batches=[(TOKENS, TOKENS)])
        module = pruned.model
    sparsify.save(pruned, tmp_path)
    again = sparsify.load(tmp_path, model=Transformer(attention=Mha()))
    with torch.no_grad():
        assert torch.equal(again(TOKENS), pruned.model.eval()(TOKENS))


def test_what_does_not_belong_together_is_refused(block, tmp_path: Path):
    sparsify.save(sparsify.prune(block(seed=0), pattern="channel", sparsity=0.4, batches=BATCHES), tmp_path / "small")
    with pytest.raises(UsageError, match=r"expected the dense network that this one was made of.*model=\.\.\."):
        sparsify.load(tmp_path / "small")
    with pytest.raises(CorruptError, match="is it this network's history"):
        sparsify.load(tmp_path / "small", model=nn.Linear(3, 4))
    (tmp_path / "small/pruned.json").write_text("{}")
    with pytest.raises(CorruptError, match="expected the record of a pruned network"):
        sparsify.load(tmp_path / "small", model=block(seed=0))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_hooks_compute_are_refused(block, tmp_path: Path):
    pruned = sparsify.prune(block(seed=0), sparsity=0.5)
    prune.identity(pruned.model.head, "weight")
    with pytest.raises(UsageError, match=r"head.weight: expected plain weights to save"):
        sparsify.save(pruned, tmp_path)
