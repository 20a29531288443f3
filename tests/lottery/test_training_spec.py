from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
from pydantic import ValidationError

from cases import tiny_recipe
from sparsify.lottery.training_spec import TrainingSpec, training_spec
from sparsify.seeds import derive_seed


def spec(replicate: int = 0, level: int = 0, control: str | None = None, **parts: object) -> TrainingSpec:
    recipe = tiny_recipe(**parts)
    return training_spec(recipe, fingerprint="f", device="cpu", replicate=replicate, level=level, control=control)


def test_it_is_read_without_torch():
    code = "import sys, sparsify.lottery.training_spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_replicates_trainings_share_initial_weights_and_data_order():
    specs = [spec(0), spec(0, 1), spec(0, 2), spec(0, 2, "reinit"), spec(0, 2, "one-shot")]
    assert len({s.init_seed for s in specs}) == len({s.order_seed for s in specs}) == 1
    assert specs[0].init_seed == derive_seed(0, "replicate", 0, "init")
    assert specs[0].order_seed == derive_seed(0, "replicate", 0, "order")


def test_replicates_roots_controls_and_levels_have_seeds_of_their_own():
    specs = [
        spec(replicate, level, control, seed=seed)
        for seed, replicate, level, control in itertools.product(
            (0, 1), (0, 1), (1, 2), ("reinit", "shuffled-mask", "random-mask", "one-shot")
        )
    ]
    assert len({s.control_seed for s in specs}) == len(specs)
    assert len({s.init_seed for s in specs}) == len({s.order_seed for s in specs}) == 4


def test_only_levels_say_how_they_are_pruned_and_only_controls_have_a_seed():
    assert spec(0).prune is None and spec(0).control_seed is None
    level = spec(0, 2, prune={"levels": 2, "prune_fraction": 0.4, "overrides": {"output.weight": 0.1}})
    assert level.prune is not None and level.control_seed is None
    assert (level.prune.prune_fraction, level.prune.overrides) == (0.4, {"output.weight": 0.1})


def test_a_level_depends_on_no_level_beyond_it_and_on_no_control():
    wide = spec(0, 1, prune={"levels": 9}, controls=[{"name": "reinit", "levels": [1]}], replicates=4)
    assert wide == spec(0, 1, prune={"levels": 1})


def test_it_survives_json():
    for one in (spec(0), spec(1, 2), spec(1, 2, "random-mask")):
        assert TrainingSpec.model_validate(one.model_dump(mode="json")) == one


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (spec(0), {"level": 1}, "expected a rule from level 1 on, got level 1 with nothing"),
        (spec(0, 1), {"level": 0}, "expected a rule from level 1 on, got level 0 with"),
        (spec(0, 1), {"control": "reinit"}, "expected a control with its seed, or neither, got control reinit"),
        (spec(0, 1), {"control_seed": 3}, "expected a control with its seed, or neither, got control None"),
        (spec(0), {"control": "reinit", "control_seed": 3}, "expected a control with its seed, or neither"),
    ],
    ids=["level without rule", "dense with rule", "control without seed", "seed without control", "dense control"],
)
def test_parts_that_do_not_fit_together_are_refused(base: TrainingSpec, changes: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        TrainingSpec.model_validate(base.model_dump() | changes)
