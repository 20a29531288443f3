"""Seeds: every random choice has its own, derived from the recipe's seed and words that say what it is for."""

from __future__ import annotations

import hashlib


def derive_seed(root: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, such as `derive_seed(0, "replicate", 3, "order")`.

    Independent of platform and of the order in which seeds are asked for; different purposes give unrelated seeds.
    What counts is the purpose written with slashes: `("level_1", 2)` and `("level_1/2",)` are the same one.
    """
    text = "/".join([str(root), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
