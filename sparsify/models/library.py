"""Libraries that only some model sources need, imported when such a source is opened."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sparsify.errors import UnavailableError


def library(module: str, source: str) -> Any:
    """A module of an optional library.

    Args:
        module: Its dotted name, a constant of ours.
        source: The source that needs it, for the message.

    Raises:
        UnavailableError: It is not installed, or does not work beside this torch; the message says what would mend it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise UnavailableError(
            f"model {source}: expected the library {missing}, which is not installed; pip install {missing}"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise UnavailableError(f"model {source}: expected to import {module}, got {_why(error)}") from error


def _why(error: Exception) -> str:
    said = next(iter(str(error).splitlines()), type(error).__name__)
    if "torchvision::" not in said:
        return f"{type(error).__name__}: {said}; reinstall it in a version that fits your torch"
    import torch

    return (
        f"a torchvision built for another torch than {torch.__version__} ({said}); install the torchvision of the same "
        "build, from the index that this torch came from"
    )
