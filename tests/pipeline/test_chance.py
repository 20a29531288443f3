"""A dense score near chance is doubted, and only that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparsify.pipeline.chance import near_chance
from sparsify.recipe.spec import DataSpec


@pytest.mark.parametrize(
    ("value", "chance", "doubted"),
    [
        (0.1, 0.1, True),
        (0.18, 0.1, True),
        (0.2, 0.1, False),
        (0.9, 0.5, False),
        (0.52, 0.5, True),
        (0.002, None, False),
    ],
)
def test_a_tenth_of_the_way_from_chance_to_perfect_is_what_counts(
    tmp_path: Path, value: float, chance: float | None, doubted: bool
):
    said = {"value": value} | ({} if chance is None else {"chance": chance})
    (tmp_path / "score.json").write_text(json.dumps(said))
    told = near_chance(tmp_path, DataSpec(source="digits", normalize="unit"))
    assert bool(told) == doubted
    assert not doubted or (f"{value:.1%}" in told and "data.normalize: unit; --normalize" in told)
