from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sparsify.recipe import prune_spec
from sparsify.recipe.prune_spec import (
    AcdcSpec,
    DistillSpec,
    FinetuneSpec,
    GradualSpec,
    IterativeSpec,
    MaskScheduleSpec,
    OneShotSpec,
    RecoverySpec,
    RiglSpec,
    SetSpec,
)
from sparsify.recipe.spec import Spec
from sparsify.recipe.step import Step

SPECS = [
    kind
    for kind in vars(prune_spec).values()
    if isinstance(kind, type) and issubclass(kind, Spec) and kind.__module__ == prune_spec.__name__
]
ADAPTER = TypeAdapter[Any](MaskScheduleSpec)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_every_field_is_one_sentence(spec: type[Spec]):
    for name, field in spec.model_fields.items():
        assert field.description and field.description.endswith("."), name
        assert ". " not in field.description, name


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_defaults_fill_every_field_and_survive_json(spec: type[Spec]):
    default = spec()
    assert spec.model_validate(json.loads(default.model_dump_json())) == default


def test_a_whole_recovery_is_read():
    recovery = RecoverySpec.model_validate(
        {
            "reconstruct": {"damping": 0.1},
            "finetune": {
                "steps": "3ep",
                "rewind": "30ep",
                "optimizer": {"name": "adam"},
                "early_stop": {"patience": 2},
            },
            "distill": {"features": ["layer1", "layer2"], "weight": 1},
            "recalibrate": {},
        }
    )
    assert recovery.finetune is not None and recovery.finetune.rewind == Step(30, "ep")
    assert recovery.finetune.optimizer.lr == 1.2e-3 and recovery.finetune.batch_size == 60
    assert recovery.distill == DistillSpec(features=("layer1", "layer2"), weight=1)
    assert RecoverySpec().model_dump(exclude_none=True) == {}


def test_fine_tuning_is_gentler_than_training_by_default():
    spec = FinetuneSpec()
    assert (spec.steps, spec.schedule.name, spec.optimizer.lr) == (Step(5, "ep"), "cosine", 0.01)


@pytest.mark.parametrize("spec", [OneShotSpec, IterativeSpec, GradualSpec, SetSpec, RiglSpec, AcdcSpec])
def test_schedules_are_told_apart_by_name(spec: type[Spec]):
    assert ADAPTER.validate_python({"name": spec.model_fields["name"].default}) == spec()


@pytest.mark.parametrize(
    ("spec", "values", "match"),
    [
        (RecoverySpec, {"distill": {}}, "expected finetune beside distill"),
        (RecoverySpec, {"finetune": {"epochs": 3}}, "Extra inputs are not permitted"),
        (DistillSpec, {"temperature": 0}, "greater than 0"),
        (DistillSpec, {"weight": 1.1}, "less than or equal to 1"),
        (IterativeSpec, {"rounds": 1}, "greater than or equal to 2"),
        (GradualSpec, {"until": 1}, "less than 1"),
        (RiglSpec, {"every": "100"}, "epochs or iterations"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_values_that_cannot_be_meant_are_refused(spec: type[Spec], values: dict[str, Any], match: str):
    with pytest.raises(ValidationError, match=match):
        spec.model_validate(values)
