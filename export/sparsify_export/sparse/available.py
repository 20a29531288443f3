"""Whether the distribution sparsify-kernels is here, which holds the operators that skip zeros."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from sparsify.errors import UnavailableError
from sparsify_export.targets import TARGETS

MEND = TARGETS["sparse-cpu"].needs


def kernels() -> tuple[ModuleType, ModuleType]:
    """`sparsify_kernels.packing` and `sparsify_kernels.native`, whose library has been found.

    Raises:
        UnavailableError: The distribution or its library is not here; the message says how it comes here.
    """
    try:
        packing, native = (import_module(f"sparsify_kernels.{name}") for name in ("packing", "native"))
        native.library_path()
    except (ImportError, OSError, RuntimeError) as error:
        raise UnavailableError(f"expected the sparse operators of sparsify-kernels, got: {error}; {MEND}") from error
    return packing, native


def library() -> Path:
    """The library that ONNX Runtime loads; raises as `kernels`."""
    _, native = kernels()
    return Path(native.library_path())


def why_not() -> str | None:
    """What keeps sparse operators from running here; None where nothing does."""
    try:
        kernels()
    except UnavailableError as error:
        return str(error)
    return None
