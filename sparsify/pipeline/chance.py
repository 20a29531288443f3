"""Whether the network as it was given is any better than guessing: if not, it is not fed as it was trained."""

from __future__ import annotations

from pathlib import Path

from sparsify.pipeline.outcome import read_json
from sparsify.recipe.spec import DataSpec

_NEAR = 0.1
"""Share of the way from chance to perfect under which a score is near chance."""


def near_chance(dense: Path, data: DataSpec) -> str:
    """What to doubt where the dense network's accuracy is near chance; empty where it is not, or is no accuracy.

    Args:
        dense: The folder of the stage `source`.
        data: What its pictures were prepared by.
    """
    score = read_json(dense / "score.json")
    value, chance = score["value"], score.get("chance")
    if chance is None or value >= chance + _NEAR * (1 - chance):
        return ""
    normalize = data.normalize if isinstance(data.normalize, str) else "by the mean and std given"
    return (
        f"the network as given is right on {value:.1%} of the validation examples, where always naming the commonest "
        f"class is on {chance:.1%}, and every drop counts from there; was it trained on inputs normalized like these "
        f"(data.normalize: {normalize}; --normalize), of this size (--image-size), with its classes in this order?"
    )
