"""`SeparateAttention`: `nn.MultiheadAttention` with a linear layer each for query, key and value, so that heads can go.

torch's own packs the three in one parameter and takes a head's size from the width of its input, which fixes the
number of heads. Here the projections say how wide the heads are together, and the input is as wide as it likes.
Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, section 3.2.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional


@final
class SeparateAttention(nn.Module):
    """The same function as the `nn.MultiheadAttention` that it is made of, up to the order of sums.

    The projections' weights are copies; `out_proj`, `bias_k` and `bias_v` are those of the original, under its names.
    """

    in_proj_bias = None
    """Tells `nn.TransformerEncoderLayer`, whose fast path reads packed weights without calling this, not to take it."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.head_dim = packed.num_heads, packed.head_dim
        self.dropout, self.batch_first, self.add_zero_attn = packed.dropout, packed.batch_first, packed.add_zero_attn
        self.q_proj, self.k_proj, self.v_proj = _projections(packed)
        self.out_proj = packed.out_proj
        self.bias_k: Tensor | None = packed.bias_k
        self.bias_v: Tensor | None = packed.bias_v
        self.train(packed.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output and, where wanted, the weights of attention, as `nn.MultiheadAttention.forward` gives them.

        `is_causal` is a hint there, that `attn_mask` is the causal one; here the mask itself is always used.

        Args:
            query: (N, L, E); (L, N, E) unless `batch_first`; (L, E) of one example.
            key: The same, with S for L and its own width for E.
            value: As long as `key`.
            key_padding_mask: (N, S), of one example (S): True, or -inf, for a key that is not looked at.
            need_weights: Whether to return the weights of attention, which takes more time and memory.
            attn_mask: (L, S), or (N * heads, L, S): True where it is not looked, or what to add to Q K^T.
            average_attn_weights: Return them as (N, L, S), a mean over heads, not (N, heads, L, S).
            is_causal: Needs `attn_mask`.

        Raises:
            ValueError: A mask has not the shape said above.
            TypeError: A mask holds neither truth values nor floating-point numbers.
        """
        if is_causal and attn_mask is None:
            raise ValueError("is_causal: expected attn_mask beside the hint, got none; give the causal mask")
        is_batched = query.dim() == 3
        if not is_batched:
            query, key, value = (each.unsqueeze(0) for each in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        mask = self._mask(query, key, key_padding_mask, attn_mask)
        q, k, v = self._heads(self.q_proj(query)), *self._keys_and_values(key, value)
        weights = None
        if need_weights:
            weights = _scores(q, k, mask).softmax(-1)
            y = functional.dropout(weights, self.dropout, self.training) @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            y = functional.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        output: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        if not is_batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _heads(self, x: Tensor) -> Tensor:
        """(N, L, heads * size) -> (N, heads, L, size)."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _keys_and_values(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Of each head, with those that are the same for every input at the end."""
        k, v = self.k_proj(key), self.v_proj(value)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (torch.cat([x, x_0.expand(x.shape[0], 1, -1)], 1) for x, x_0 in ((k, self.bias_k), (v, self.bias_v)))
        if self.add_zero_attn:
            k, v = (functional.pad(x, (0, 0, 0, 1)) for x in (k, v))
        return self._heads(k), self._heads(v)

    def _mask(self, query: Tensor, key: Tensor, padding: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """What to add to Q K^T, (N or 1, heads or 1, L or 1, keys); None for nothing."""
        batch, length, keys = query.shape[0], query.shape[1], key.shape[1]
        added: Tensor | None = None
        if mask is not None and mask.dim() == 3:
            added = _additive("attn_mask", mask, (batch * self.num_heads, length, keys), query.dtype)
            added = added.unflatten(0, (batch, self.num_heads))
        elif mask is not None:
            added = _additive("attn_mask", mask, (length, keys), query.dtype)
        if padding is not None:
            of_keys = _additive("key_padding_mask", padding, (batch, keys), query.dtype)[:, None, None]
            added = of_keys if added is None else added + of_keys
        more = (self.bias_k is not None) + self.add_zero_attn
        return functional.pad(added, (0, more)) if added is not None and more else added


def _projections(packed: nn.MultiheadAttention) -> list[nn.Linear]:
    """The linear layers of query, key and value, with their own copies of the packed weights."""
    if packed.in_proj_weight is not None:  # pyright: ignore[reportUnnecessaryComparison]
        weights = packed.in_proj_weight.chunk(3)
    else:
        weights = (packed.q_proj_weight, packed.k_proj_weight, packed.v_proj_weight)
    biases = (None, None, None)
    if packed.in_proj_bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        biases = packed.in_proj_bias.chunk(3)
    return [_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    wide, narrow = weight.shape
    layer = nn.Linear(narrow, wide, bias=bias is not None, device="meta")  # what it would draw is not needed
    layer.weight = _own(weight)
    if bias is not None:
        layer.bias = _own(bias)
    return layer


def _own(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)


def _scores(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    scores = (q * math.sqrt(1.0 / q.shape[-1])) @ k.transpose(-2, -1)
    return scores if mask is None else scores + mask


def _additive(name: str, mask: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The mask as numbers to add, checked: a shape that broadcasts would be another mask in silence."""
    if tuple(mask.shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(mask.shape)}")
    if mask.is_floating_point():
        return mask
    if mask.dtype != torch.bool:
        raise TypeError(f"{name}: expected bool or floating point, got {mask.dtype}")
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
