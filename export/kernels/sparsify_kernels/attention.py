"""Attention for NumPy: y = softmax(scale q k^T + mask) v, head by head, without its scores in memory."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sparsify_kernels import native
from sparsify_kernels.native import Floats


def attention(
    q: Floats,
    k: Floats,
    v: Floats,
    *,
    heads: int,
    scale: float | None = None,
    mask: Floats | None = None,
    precision: Literal["f32", "bf16"] = "f32",
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1).

    Args:
        q: [batch, queries, heads * depth], float32, as all arrays here.
        k: [batch, keys, heads * depth].
        v: [batch, keys, heads * width].
        heads: How many the last axes hold side by side.
        scale: Of the scores; depth ** -0.5 where None.
        mask: Added to the scores: of a shape that broadcasts to [batch, heads, queries, keys], the last axis whole.
        precision: bf16 rounds what is multiplied to bfloat16, where the processor multiplies that; sums are fp32.
        threads: How many threads share the call, of a pool that all calls have together.
        out: Where to write, [batch, queries, heads * width].

    Raises:
        ValueError: A bad argument: another shape or type.
    """
    arrays = [native.checked_floats(name, array) for name, array in (("q", q), ("k", k), ("v", v))]
    if heads < 1 or any(array.ndim != 3 or not array.shape[2] or array.shape[2] % heads for array in arrays):
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        raise ValueError(f"expected q, k and v of shape [batch, tokens, {heads} heads * features], got {shapes}")
    (batch, queries, inner), (_, keys, _), (_, _, outer) = (array.shape for array in arrays)
    native.checked_shape("k", arrays[1], (batch, keys, inner))
    native.checked_shape("v", arrays[2], (batch, keys, outer))
    strides = [0, 0, 0]
    if mask is not None:
        mask, strides = _mask(mask, (batch, heads, queries, keys))
    shape = {
        **{"batch": batch, "heads": heads, "queries": queries, "keys": keys},
        **{"depth": inner // heads, "width": outer // heads},
        "scale": (inner // heads) ** -0.5 if scale is None else scale,
        **dict(zip(("mask_batch", "mask_head", "mask_query"), strides, strict=True)),
        **{"precision": precision.encode(), "threads": threads},
    }
    made = (batch, queries, outer)
    y = np.empty(made, np.float32) if out is None else native.checked_out(out, made, *arrays, mask)
    native.run_attention(shape, *arrays, mask, y)
    return y


def _mask(mask: Floats, whole: tuple[int, int, int, int]) -> tuple[Floats, list[int]]:
    """The mask, and how many floats lie between two batches, heads and queries of it."""
    mask = native.checked_floats("a mask", mask)
    sizes = (1,) * (4 - mask.ndim) + mask.shape
    fits = len(sizes) == 4 and sizes[3] == whole[3] and all(a in (1, b) for a, b in zip(sizes, whole, strict=True))
    if not fits:
        raise ValueError(f"expected a mask that broadcasts to {list(whole)}, all keys in it, got {list(mask.shape)}")
    strides = mask.reshape(sizes).strides[:3]
    return mask, [0 if size == 1 else stride // 4 for size, stride in zip(sizes[:3], strides, strict=True)]
