"""Networks around torch's own `nn.MultiheadAttention`, and the mask that a removal of heads must agree with."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

WORDS = torch.randint(1, 20, (4, 6), generator=torch.Generator().manual_seed(9))
WORDS[0, 5:], WORDS[1, 3:], WORDS[2, 1:] = 0, 0, 0
"""Of which 0 is padding; the last has none."""


class Text(nn.Module):
    """torch's encoder over WORDS, told what is padding; `pool` says what is read of its output."""

    def __init__(self, pool: str = "first", **options: Any) -> None:
        super().__init__()
        self.pool = pool
        self.embed, self.position = nn.Embedding(20, 16), nn.Parameter(torch.zeros(6, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not options.get("norm_first"))
        self.output = nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        padding = ids == 0
        x = self.encoder(self.embed(ids) + self.position, src_key_padding_mask=padding)
        if self.pool == "first":
            x = x[:, 0]
        elif self.pool == "words":
            x = x.masked_fill(padding[..., None], 0).sum(1)
        else:
            x = x.mean(1)
        return self.output(x)


class Language(nn.Module):
    """torch's decoder as a causal language model over WORDS, sequence first, that attends to a memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.memory = nn.Embedding(20, 16), nn.Parameter(torch.zeros(3, 1, 16))
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 24), 1)
        self.output = nn.Linear(16, 20)

    def forward(self, ids: Tensor) -> Tensor:
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        memory = self.memory.expand(-1, ids.shape[0], -1)
        x = self.decoder(self.embed(ids).transpose(0, 1), memory, tgt_mask=causal, tgt_is_causal=True)
        return self.output(x.transpose(0, 1))


class Reader(nn.Module):
    """Two queries of its own read TOKENS through attention whose keys and values are narrower."""

    def __init__(self, *, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__()
        self.mask = mask
        self.keys, self.values = nn.Linear(16, 6), nn.Linear(16, 10)
        self.queries = nn.Parameter(torch.zeros(2, 8))
        self.attend = nn.MultiheadAttention(8, 4, kdim=6, vdim=10, batch_first=True, **options)
        self.output = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.queries.expand(x.shape[0], -1, -1)
        mask = None if self.mask is None else self.mask.repeat(x.shape[0], 1, 1)
        return self.output(self.attend(queries, self.keys(x), self.values(x), attn_mask=mask)[0].mean(1))


def without_heads(model: nn.Module, removed: dict[tuple[str, int], list[int]]) -> nn.Module:
    """A copy whose attention is still packed, with zeros where slices of separate projections lie in it."""
    copied = copy.deepcopy(model)
    state = copied.state_dict()
    for (name, axis), indices in removed.items():
        path, _, kind = name.rpartition(".")
        owner, _, layer = path.rpartition(".")
        where, first = name, 0
        if f"{owner}.{layer}_{kind}" in state:  # projections of widths of their own
            where = f"{owner}.{layer}_{kind}"
        elif name not in state:
            where = f"{owner}.in_proj_{kind}"
            first = ("q_proj", "k_proj", "v_proj").index(layer) * (len(state[where]) // 3)
        state[where].index_fill_(axis, torch.tensor(indices) + first, 0)
    return copied
