from __future__ import annotations

import pytest

from cases import random_mask, same_bits, short_training, tiny_data, tiny_model
from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import EarlyStopSpec, FinetuneSpec
from sparsify.recipe.step import Step
from sparsify.train.finetune import finetune, replayed
from sparsify.train.loop import fit

DATA = tiny_data()
SCHEDULE = {"name": "multistep", "milestones": ["4it", "16it"]}


def spec(**values: object) -> FinetuneSpec:
    return FinetuneSpec.model_validate({"batch_size": 16, "eval_every": "2it", "schedule": SCHEDULE, **values})


def test_rewinding_replays_the_end_of_the_dense_training():
    """Rates and data of steps 12 to 19 of 20, under the mask."""
    ours, theirs = tiny_model(), tiny_model()
    mask = random_mask(ours)
    trained = finetune(ours, DATA, spec(steps="8it", rewind="4ep"), seed=6, mask=mask)
    optimizer = {"name": "sgd", "lr": 0.01, "weight_decay": 1e-4}
    whole = short_training("20it", optimizer=optimizer, schedule=SCHEDULE)
    fit(theirs, DATA, whole, seed=6, mask=mask, start_step=12)
    assert same_bits(ours.state_dict(), theirs.state_dict())
    assert trained.history.step == [14, 16, 18, 20]


def test_without_rewinding_it_is_a_training_of_its_own():
    ours, theirs = tiny_model(), tiny_model()
    finetune(ours, DATA, spec(steps="8it"), seed=6)
    optimizer = {"name": "sgd", "lr": 0.01, "weight_decay": 1e-4}
    fit(theirs, DATA, short_training("8it", optimizer=optimizer, schedule=SCHEDULE), seed=6)
    assert same_bits(ours.state_dict(), theirs.state_dict())


def test_early_stopping_is_the_specs():
    trained = finetune(
        tiny_model(),
        DATA,
        spec(steps="80it", optimizer={"name": "adam", "lr": 0.1}, early_stop=EarlyStopSpec(patience=1)),
        seed=6,
    )
    assert trained.history.step[-1] < 80 and trained.kept_step < trained.history.step[-1]


def test_more_steps_than_there_are_to_replay_are_refused():
    assert replayed(spec(steps="5it", rewind="1ep"), 5)[1] == 0
    assert replayed(spec(steps="5it", rewind="3ep"), 5)[0].steps == Step(15, "it")
    with pytest.raises(UsageError, match=r"at least as long as steps, 6it, got 1ep, 5 steps; lower steps"):
        replayed(spec(steps="6it", rewind="1ep"), 5)
