"""What a recipe leaves open of how a network is fed: by whose network it is, and before anything runs.

Pictures are fed to a network of a library as the library itself has it; otherwise a network trained on ImageNet would
be scored, calibrated and recovered on pictures it never saw the like of. Arrays are fed to a network of one's own as
they lie: whoever wrote both has scaled them as the network was trained on them. Torch is imported, with the library,
only where there are pictures to fill something in for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparsify.data.catalogue import HF_DATASET, IMAGE_FOLDER, NPZ, parse_source
from sparsify.models.source_name import SourceName
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.spec import DataSpec, MomentsSpec

_LIBRARIES = ("torchvision", "timm", "transformers")
_OWN = ("import", "plugin")
_FIELDS = ("image_size", "resize", "fit", "interpolation", "colour", "normalize")


def with_known_input(recipe: PruneRecipe) -> tuple[PruneRecipe, str]:
    """The recipe with what it leaves open of its inputs filled in, and what was filled in, in words; empty for nothing.

    What the recipe spells out stays; a null is left open.

    Raises:
        UsageError: The library has no such network, or prepares pictures in a way that is not known here.
        UnavailableError: The library is not installed.
        InputOutputError: The data is not there.
    """
    data, name = recipe.data, SourceName.parse(recipe.trained.model)
    if name.kind in _OWN and parse_source(data.source)[0] == NPZ and "normalize" not in data.model_fields_set:
        told = "data: arrays as they lie; where the network was trained otherwise, say --normalize (standard, for one)"
        return recipe.model_copy(update={"data": data.model_copy(update={"normalize": "none"})}), told
    left = [field for field in _FIELDS if field not in data.model_fields_set or getattr(data, field) is None]
    if not left or name.kind not in _LIBRARIES or not _are_pictures(data.source):
        return recipe, ""
    from sparsify.models.registry import REGISTRY

    weights = None if recipe.trained.weights is None else Path(recipe.trained.weights)
    said = REGISTRY[name.kind].published(name, weights, data.image_size)
    if said is None:
        return recipe, ""
    known: dict[str, Any] = {field: getattr(said, field) for field in _FIELDS if field != "normalize"}
    known["normalize"] = MomentsSpec(mean=said.mean, std=said.std)
    filled = data.model_copy(update={field: known[field] for field in left})
    told = f"data: pictures as {said.origin} has them ({', '.join(left)}): {_told(filled)}"
    return recipe.model_copy(update={"data": filled}), told


def _are_pictures(source: str) -> bool:
    name, path = parse_source(source)
    if name != HF_DATASET or path is None:
        return name == IMAGE_FOLDER
    from sparsify.data.hf_columns import find_columns
    from sparsify.data.hf_files import list_dataset

    return find_columns(str(path), list_dataset(path).train.features).kind == "images"


def _told(data: DataSpec) -> str:
    side = f"both sides to {data.resize}" if data.fit == "squash" else f"shorter side to {data.resize}"
    square = f"{data.image_size}x{data.image_size}"
    return f"{side} ({data.interpolation}), centre {square}, {data.colour}, {_scaled(data)}"


def _scaled(data: DataSpec) -> str:
    how = data.normalize
    return f"normalize {how}" if isinstance(how, str) else f"mean {_row(how.mean)}, std {_row(how.std)}"


def _row(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
