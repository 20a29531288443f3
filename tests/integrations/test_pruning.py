"""The schedule as a caller sees it: moves at their steps, from any step on, and no silence where it was cut short."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from cases import MLP, tiny_data, tiny_model
from sparsify.errors import UsageError
from sparsify.integrations.pruning import Pruning
from sparsify.models.build import prunable
from sparsify.recipe.prune_spec import AcdcSpec, GradualSpec, IterativeSpec

DATA = tiny_data()
TOTAL = 12


def sparsity(model) -> float:
    weights = [model.get_parameter(name) for name in prunable(model)]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def train(model, pruning, steps=range(TOTAL)) -> list[float]:
    """Sparsity of the mask after each step; what it removes is zero."""
    optimizer, found = torch.optim.SGD(model.parameters(), lr=0.1), []
    for step in steps:
        pruning.before(step)
        optimizer.zero_grad()
        functional.cross_entropy(model(DATA.train.images[:16]), DATA.train.labels[:16]).backward()
        optimizer.step()
        if pruning.mask is not None:
            assert all(bool((model.get_parameter(name)[~kept] == 0).all()) for name, kept in pruning.mask.items())
            found.append(pruning.mask.sparsity)
    return found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("one-shot", [0.8] * 12),
        # 0.8 - 0.8 (1 - k/3)^3 at k = 0, 1, 2, 3, that is at steps 0, 3, 6 and 9
        (GradualSpec(prunings=3), [0.0] * 3 + [0.8 * 19 / 27] * 3 + [0.8 * 26 / 27] * 3 + [0.8] * 3),
        (IterativeSpec(rounds=2), [1 - 0.2**0.5] * 6 + [0.8] * 6),
        (AcdcSpec(phase="3it", final="3it"), [0.8] * 3 + [0.0] * 3 + [0.8] * 6),
    ],
    ids=["one-shot", "gradual", "iterative", "acdc"],
)
def test_each_schedule_moves_at_its_steps_and_holds_between(schedule, expected):
    model, pruning = tiny_model(MLP), Pruning(sparsity=0.8, schedule=schedule)
    pruning.start(model, step=0, total=TOTAL, per_epoch=4)
    assert train(model, pruning) == pytest.approx(expected, abs=0.002)
    pruning.finish()
    assert pruning.mask.sparsity == pytest.approx(0.8, abs=0.002) and sparsity(model) == pruning.mask.sparsity


@pytest.mark.parametrize("known", [True, False], ids=["mask-known", "from-zeros"])
@pytest.mark.parametrize("at", [2, 4, 9, 11])
def test_resumed_at_any_step_it_ends_the_same(at, known):
    weights = {}
    for name in ("whole", "resumed"):
        model, pruning = tiny_model(MLP), Pruning(sparsity=0.8, schedule=GradualSpec(prunings=3, initial=0.3))
        pruning.start(model, step=0, total=TOTAL, per_epoch=4)
        train(model, pruning, range(at))
        if name == "resumed":
            mask = pruning.mask if known else None
            pruning.stop()
            pruning = Pruning(sparsity=0.8, schedule=GradualSpec(prunings=3, initial=0.3))
            pruning.start(model, step=at, total=TOTAL, per_epoch=4, mask=mask)
        train(model, pruning, range(at, TOTAL))
        pruning.finish()
        weights[name] = model.state_dict()
    assert all(torch.equal(weights["whole"][name], tensor) for name, tensor in weights["resumed"].items())


def test_a_training_that_ends_before_the_schedule_says_so():
    model, pruning = tiny_model(MLP), Pruning(sparsity=0.8, schedule=GradualSpec(prunings=3))
    pruning.start(model, step=0, total=TOTAL, per_epoch=4)
    train(model, pruning, range(5))
    with pytest.warns(UserWarning, match=r"asked for sparsity 0\.8 .* got 0\.56\d+ of all"):
        pruning.finish()


def test_steps_may_be_told_twice_or_left_out():
    model, pruning = tiny_model(MLP), Pruning(sparsity=0.8, schedule=GradualSpec(prunings=3))
    pruning.start(model, step=0, total=TOTAL, per_epoch=4)
    found = train(model, pruning, [0, 0, 7, 7, 11])
    assert found == pytest.approx([0, 0, 0.8 * 26 / 27, 0.8 * 26 / 27, 0.8], abs=0.002)
    pruning.finish()


def test_n_of_m_is_reached_by_way_of_less():
    model, pruning = tiny_model(MLP), Pruning(pattern="1:4", schedule=GradualSpec(prunings=3))
    pruning.start(model, step=0, total=TOTAL, per_epoch=4)
    found = train(model, pruning)
    assert found == sorted(found) and found[0] == 0 and found[-1] == pytest.approx(0.75, abs=0.01)
    pruning.finish()


def test_one_that_is_started_again_lets_go_of_the_first_network():
    first, second = tiny_model(MLP), tiny_model(MLP, seed=1)
    pruning = Pruning(sparsity=0.8)
    pruning.start(first, step=0, total=TOTAL, per_epoch=4)
    pruning.start(second, step=0, total=TOTAL, per_epoch=4)
    pruning.before(0)
    train(first, Pruning(sparsity=0.5), range(1))
    assert sparsity(first) == 0 and sparsity(second) == pytest.approx(0.8, abs=0.002)
    pruning.stop()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "sparsity: expected a fraction"),
        ({"sparsity": 0.5, "pattern": "channel"}, "in training, got channel; prune before it"),
        ({"sparsity": 0.5, "criterion": "wanda"}, "wanda: expected batches to look at"),
        ({"sparsity": 0.5, "criterion": "snip", "batches": [(torch.ones(1, 1), 2)]}, "snip: expected a loss"),
        ({"sparsity": 0.5, "criterion": "sparsegpt", "batches": [(torch.ones(1, 1), 2)]}, "one that solves for them"),
        ({"sparsity": 0.5, "schedule": "cubic"}, "schedule: expected one of one-shot, gradual.* got 'cubic'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_training(values, says):
    with pytest.raises(UsageError, match=says):
        Pruning(**values)


def test_a_training_too_short_for_the_schedule_is_refused():
    with pytest.raises(UsageError, match="expected at least 20 steps from begin to until"):
        Pruning(sparsity=0.5, schedule="gradual").start(tiny_model(MLP), step=0, total=9, per_epoch=4)
