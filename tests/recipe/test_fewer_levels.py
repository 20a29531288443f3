"""`--set prune.levels=N` leaves deeper controls and probes out, and says so; a file's own deeper level is a fault."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sparsify.errors import RecipeError
from sparsify.recipe.load import load_recipe

TEXT = """\
name: t
model: lenet-300-100
data: digits
train: {steps: 10it, eval_every: 5it}
prune: {levels: 6}
controls:
  - {name: reinit, levels: [2, 5]}
  - {name: one-shot, levels: [6]}
probes:
  - {name: perturb-rest, levels: [6]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "t.yaml"
    path.write_text(TEXT)
    return path


def test_deeper_levels_go_and_are_named(recipe: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        loaded = load_recipe(recipe, ["prune.levels=3"])
    assert [(control.name, control.levels) for control in loaded.controls] == [("reinit", (2,))]
    assert loaded.probes == ()
    assert "reinit at level 5, one-shot at level 6, perturb-rest at level 6" in caplog.text


def test_nothing_is_said_where_nothing_goes(recipe: Path, caplog: pytest.LogCaptureFixture):
    assert load_recipe(recipe, ["prune.levels=6"]) == load_recipe(recipe)
    assert caplog.text == ""


def test_a_level_that_an_override_names_itself_is_a_fault(recipe: Path):
    with pytest.raises(RecipeError, match=r"up to prune\.levels, 3, got the number 9"):
        load_recipe(recipe, ["prune.levels=3", "probes=[]", "controls=[{name: reinit, levels: [9]}]"])


def test_in_a_file_a_deeper_level_is_a_fault(recipe: Path):
    recipe.write_text(TEXT.replace("levels: 6}\ncontrols", "levels: 3}\ncontrols"))
    with pytest.raises(RecipeError, match=r"up to prune\.levels, 3, got the number 5"):
        load_recipe(recipe)
