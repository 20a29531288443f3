"""`--shape NAME=1x3x224x224`: the shape of an input that a graph leaves open."""

from __future__ import annotations

from sparsify.errors import UsageError


def read_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """An input's name and its shape; UsageError for other text."""
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split("x"))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise UsageError(f"--shape: expected an input and its shape such as name=1x3x224x224, got {text!r}")
    return name, shape
