"""Refuse data that cannot be resident in memory before any of it is allocated."""

from __future__ import annotations

import os

from sparsify.errors import UsageError


def check_memory(name: str, needed_bytes: int) -> None:
    """Refuse to hold `needed_bytes` where the machine has less; UsageError says how much there is."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed_bytes > physical:
        raise UsageError(
            f"{name}: expected data that fits in memory, got {needed_bytes / 1e9:.1f} GB where the machine has "
            f"{physical / 1e9:.1f} GB; use fewer or smaller images"
        )
