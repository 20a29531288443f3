"""Are a network's pruned weights dead weight? Find winning tickets, probe them, deploy them, measure.

The names below are the public API. They are imported when first used, so that `import sparsify` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsify.errors import SparsifyError as SparsifyError
    from sparsify.masks.mask import Mask as Mask
    from sparsify.recipe.spec import Recipe as Recipe

__version__ = "0.1.0"
__all__ = ["Mask", "Recipe", "SparsifyError", "__version__"]

_HOME = {
    "Mask": "sparsify.masks.mask",
    "Recipe": "sparsify.recipe.spec",
    "SparsifyError": "sparsify.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name where it lives, once.

    Raises:
        AttributeError: if `name` is not in `__all__`.
    """
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are {', '.join(__all__)}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
