"""Are a network's pruned weights dead weight? Find winning tickets, probe them, deploy them, measure.

The names below are the public API. They are imported when first used, so that `import sparsify` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsify.api.masked import Masked as Masked
    from sparsify.api.preflight import preflight as preflight
    from sparsify.api.prune import prune as prune
    from sparsify.api.save import save as save
    from sparsify.api.sensitivity import sensitivity as sensitivity
    from sparsify.data.preprocessing import Preprocessing as Preprocessing
    from sparsify.data.preprocessing import preprocessing as preprocessing
    from sparsify.errors import SparsifyError as SparsifyError
    from sparsify.lottery.ticket import Ticket as Ticket
    from sparsify.masks.mask import Mask as Mask
    from sparsify.masks.stream import prune_file as prune_file
    from sparsify.models.saved import load as load
    from sparsify.pipeline.names import load_checked as load_recipe
    from sparsify.pipeline.run import run as run
    from sparsify.recipe.spec import Recipe as Recipe
    from sparsify.store.run import Run as Run

__version__ = "0.1.0"
__all__ = [
    "Mask",
    "Masked",
    "Preprocessing",
    "Recipe",
    "Run",
    "SparsifyError",
    "Ticket",
    "__version__",
    "load",
    "load_recipe",
    "preflight",
    "preprocessing",
    "prune",
    "prune_file",
    "run",
    "save",
    "sensitivity",
]

# public name -> the module that holds it, and its name there
_HOME = {
    "Mask": ("sparsify.masks.mask", "Mask"),
    "Masked": ("sparsify.api.masked", "Masked"),
    "Preprocessing": ("sparsify.data.preprocessing", "Preprocessing"),
    "Recipe": ("sparsify.recipe.spec", "Recipe"),
    "Run": ("sparsify.store.run", "Run"),
    "SparsifyError": ("sparsify.errors", "SparsifyError"),
    "Ticket": ("sparsify.lottery.ticket", "Ticket"),
    "load": ("sparsify.models.saved", "load"),
    "load_recipe": ("sparsify.pipeline.names", "load_checked"),
    "preflight": ("sparsify.api.preflight", "preflight"),
    "preprocessing": ("sparsify.data.preprocessing", "preprocessing"),
    "prune": ("sparsify.api.prune", "prune"),
    "prune_file": ("sparsify.masks.stream", "prune_file"),
    "run": ("sparsify.pipeline.run", "run"),
    "save": ("sparsify.api.save", "save"),
    "sensitivity": ("sparsify.api.sensitivity", "sensitivity"),
}


def __getattr__(name: str) -> Any:
    """Import a public name where it lives, once.

    Raises:
        AttributeError: if `name` is not in `__all__`.
    """
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are {', '.join(__all__)}")
    module, attribute = _HOME[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
