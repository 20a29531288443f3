"""Equal arguments give equal bits, and a training stopped anywhere and resumed is the one that was never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cases import MLP, MemoryKeeper, random_mask, same_bits, short_training, stopped, tiny_data, tiny_model
from sparsify.data.load import Data
from sparsify.errors import Preempted
from sparsify.recipe.spec import TrainSpec
from sparsify.store.checkpoint import load_checkpoint, save_checkpoint
from sparsify.train.history import History
from sparsify.train.keeper import Keeper, NoKeeper
from sparsify.train.loop import fit

FLAT, IMAGES = tiny_data(), tiny_data(train=48, validation=8, shape=(1, 8, 8))
AUGMENT = {"flip": True, "crop": 2}


class Case(NamedTuple):
    model: str
    data: Data
    spec: TrainSpec
    masked: bool


CASES = {
    "momentum": Case(MLP, FLAT, short_training(optimizer={"name": "sgd", "nesterov": True}), masked=True),
    "no momentum": Case(MLP, FLAT, short_training(optimizer={"name": "sgd", "momentum": 0}), masked=False),
    "adam": Case(MLP, FLAT, short_training(optimizer={"name": "adam", "weight_decay": 0.01}), masked=True),
    "adamw, cosine": Case(
        MLP,
        FLAT,
        short_training(optimizer={"name": "adamw"}, schedule={"name": "cosine", "warmup": "3it"}),
        masked=False,
    ),
    "batch norm, augmentation": Case(
        "resnet-20", IMAGES, short_training("9it", optimizer={"name": "sgd"}, augment=AUGMENT), masked=True
    ),
    "dropout, bf16": Case("mobilenet-v2", IMAGES, short_training("5it", precision="bf16"), masked=False),
}
quick = pytest.mark.parametrize("case", [CASES[n] for n in list(CASES)[:4]], ids=list(CASES)[:4])
every = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


class Outcome(NamedTuple):
    weights: dict[str, Tensor]
    history: History
    snapshot: dict[str, Tensor]


def train(case: Case, keeper: Keeper | None = None, *, seed: int = 3, snapshot_step: int = 4) -> Outcome:
    torch.seed()  # nothing may depend on the global generator
    model = tiny_model(case.model, case.data)
    mask = random_mask(model) if case.masked else None
    trained = fit(model, case.data, case.spec, seed=seed, mask=mask, snapshot_step=snapshot_step, keeper=keeper)
    assert trained.snapshot is not None
    return Outcome(model.state_dict(), trained.history, trained.snapshot)


def same(a: Outcome, b: Outcome) -> bool:
    return same_bits(a.weights, b.weights) and same_bits(a.snapshot, b.snapshot) and a.history == b.history


@every
def test_two_trainings_are_bit_identical(case: Case):
    assert same(train(case), train(case))


@every
def test_another_seed_is_another_training(case: Case):
    assert not same_bits(train(case).weights, train(case, seed=4).weights)


_WHOLE: dict[int, Outcome] = {}


def uninterrupted(case: Case, snapshot_step: int) -> Outcome:
    key = hash((case.spec, snapshot_step))
    if key not in _WHOLE:
        _WHOLE[key] = train(case, snapshot_step=snapshot_step)
    return _WHOLE[key]


@quick
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), snapshot_step=st.integers(0, 12))
def test_stopped_anywhere_again_and_again_it_is_the_same_training(case: Case, lengths: list[int], snapshot_step: int):
    keeper, done = MemoryKeeper(), 0
    for length in lengths:
        if done + length > 12:
            break
        keeper = stopped(
            lambda k: train(case, k, snapshot_step=snapshot_step), MemoryKeeper(length, saved=keeper.saved)
        )
        done += length
    resumed = train(case, keeper, snapshot_step=snapshot_step)
    assert keeper.steps == 12 - done  # no step is done twice, and none is left out
    assert same(resumed, uninterrupted(case, snapshot_step))


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8, 9])
def test_batch_norm_and_augmentation_resume_bit_for_bit(stop: int):
    case = CASES["batch norm, augmentation"]
    keeper = stopped(lambda k: train(case, k), MemoryKeeper(stop))
    assert same(train(case, keeper), uninterrupted(case, 4))


@pytest.mark.parametrize("stop", [1, 4])
def test_dropout_resumes_bit_for_bit(stop: int):
    case = CASES["dropout, bf16"]
    keeper = stopped(lambda k: train(case, k), MemoryKeeper(stop))
    assert same(train(case, keeper), uninterrupted(case, 4))


@pytest.mark.parametrize("save_every", [1, 3, 5])
def test_a_killed_training_goes_on_from_the_last_checkpoint_that_was_due(save_every: int):
    case = CASES["adam"]
    killed = MemoryKeeper(save_every=save_every)

    def stopping() -> bool:
        killed.steps += 1
        if killed.steps == 8:
            raise KeyboardInterrupt
        return False

    killed.stopping = stopping  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train(case, killed)
    resumed = MemoryKeeper(saved=killed.saved)
    assert same(train(case, resumed), uninterrupted(case, 4))
    assert resumed.steps == 12 - save_every * (7 // save_every)


def test_keeping_checkpoints_changes_nothing():
    case = CASES["momentum"]
    assert same(train(case, MemoryKeeper(save_every=1)), train(case, NoKeeper()))


def test_through_a_checkpoint_file_it_is_the_same_training(tmp_path: Path):
    case = CASES["batch norm, augmentation"]

    class FileKeeper(MemoryKeeper):
        def load(self) -> Any:
            return load_checkpoint(tmp_path, "key")

        def save(self, tensors: Any, state: Any) -> None:
            save_checkpoint(tmp_path, tensors, state, "key")

    with pytest.raises(Preempted, match="stopped at step 6 of 9"):
        train(case, FileKeeper(6))
    assert same(train(case, FileKeeper()), uninterrupted(case, 4))


def test_the_message_of_a_stop_says_how_far_it_got():
    with pytest.raises(Preempted, match="stopped at step 5 of 12"):
        train(CASES["adam"], MemoryKeeper(5))
