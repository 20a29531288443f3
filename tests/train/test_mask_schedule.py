"""Each schedule beside its paper's formula: moves are plain values, so the oracle is arithmetic."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import MaskScheduleSpec
from sparsify.train.mask_moves import Move, Prune, Restore, Rewire, Span, check_moves
from sparsify.train.mask_schedule import MASK_SCHEDULES, mask_schedule


def moves(span: Span, **spec: Any) -> dict[int, Move]:
    return mask_schedule(TypeAdapter[Any](MaskScheduleSpec).validate_python(spec))(span)


def span(steps: int = 100, *, start: int = 0, per_epoch: int = 10, sparsity: float = 0.9) -> Span:
    return Span(start, start + steps, per_epoch, sparsity)


def test_every_spec_has_a_schedule():
    kinds = TypeAdapter[Any](MaskScheduleSpec).json_schema()["discriminator"]["mapping"]
    assert set(kinds) == set(MASK_SCHEDULES)


def test_one_shot_prunes_before_the_first_step():
    assert moves(span(start=7), name="one-shot") == {7: Prune(1.0)}


@given(rounds=st.integers(2, 9), steps=st.integers(9, 60), sparsity=st.floats(0.01, 0.99), start=st.integers(0, 5))
def test_each_iterative_round_leaves_the_same_fraction_of_what_remained(
    rounds: int, steps: int, sparsity: float, start: int
):
    made = moves(span(steps, start=start, sparsity=sparsity), name="iterative", rounds=rounds)
    densities = [1.0] + [1 - sparsity * move.share for move in made.values() if isinstance(move, Prune)]
    ratios = [b / a for a, b in pairwise(densities)]
    assert list(made) == [start + r * steps // rounds for r in range(rounds)]
    assert ratios == pytest.approx([(1 - sparsity) ** (1 / rounds)] * rounds)
    assert made[max(made)] == Prune(1.0)


@pytest.mark.parametrize("begin", [0, 20])
@pytest.mark.parametrize("initial", [0.0, 0.25])
def test_gradual_follows_the_cubic(initial: float, begin: int):
    s_f, n, end = 0.9, 5, 70
    made = moves(span(start=3), name="gradual", prunings=n, until=0.7, initial=initial, begin=f"{begin}it")
    delta = (end - begin) // n
    t_0 = 3 + begin
    assert list(made) == [t_0 + k * delta for k in range(n + 1)]
    for t, move in made.items():
        s_t = s_f + (initial - s_f) * (1 - (t - t_0) / (n * delta)) ** 3
        assert isinstance(move, Prune) and move.share * s_f == pytest.approx(s_t, abs=1e-12)
    assert made[t_0 + n * delta] == Prune(1.0)


def test_set_rewires_the_same_fraction_every_epoch_until_the_mask_stays():
    made = moves(span(), name="set", fraction=0.2, until=0.5)
    rewire = Rewire(0.2, "random")
    assert made == {0: Prune(1.0), 10: rewire, 20: rewire, 30: rewire, 40: rewire}


def test_rigls_fraction_falls_by_cosine_to_zero_at_the_end():
    made = moves(span(200, start=5), name="rigl", fraction=0.3, every="25it", until=0.75)
    assert list(made) == [5, 30, 55, 80, 105, 130] and made[5] == Prune(1.0)
    for t in range(25, 150, 25):
        move = made[5 + t]
        assert isinstance(move, Rewire) and move.grow == "gradient"
        assert move.fraction == pytest.approx(0.3 / 2 * (1 + math.cos(t * math.pi / 150)))


@pytest.mark.parametrize(("steps", "every"), [(4, 1), (40, 3), (1000, 75), (2000, 100)])
def test_left_to_itself_rigl_rewires_ten_times_at_the_least_and_every_100_steps_at_the_most(steps: int, every: int):
    made = [step for step, move in moves(span(steps), name="rigl", until=0.75).items() if isinstance(move, Rewire)]
    assert made == list(range(every, int(0.75 * steps), every))


@pytest.mark.parametrize(
    ("final", "sparse"), [("10it", (20, 40, 60, 80)), ("20it", (20, 40, 60, 80)), ("21it", (20, 40, 60))]
)
def test_acdc_alternates_phases_and_ends_sparse(final: str, sparse: tuple[int, ...]):
    made = moves(span(), name="acdc", warmup="20it", phase="10it", final=final)
    assert {step for step, move in made.items() if move == Prune(1.0)} == set(sparse)
    assert {step for step, move in made.items() if move == Restore()} == {step + 10 for step in sparse[:-1]}


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ({"name": "iterative", "rounds": 5}, "at least one step a round, got 4 steps for 5 rounds"),
        ({"name": "gradual"}, "at least 20 steps from begin to until for 20 prunings, got 3 of 4"),
        ({"name": "gradual", "prunings": 1, "initial": 0.95}, "initial sparsity below the target's 0.9, got 0.95"),
        ({"name": "set"}, "every to be from one step to below until, step 3 of 4, got 1ep, 10 steps"),
        ({"name": "rigl", "every": "3it"}, "every to be from one step to below until, step 3 of 4, got 3it, 3 steps"),
        ({"name": "acdc"}, "room for warmup and the final sparse phase, 20 steps, got 4"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_a_training_too_short_for_its_schedule_is_refused(spec: dict[str, Any], match: str):
    with pytest.raises(UsageError, match=match):
        moves(span(4), **spec)


@pytest.mark.parametrize(
    "bad", [{}, {0: Prune(0.5)}, {0: Prune(1.0), 5: Restore()}, {100: Prune(1.0)}, {0: Rewire(0.1, "random")}]
)
def test_moves_that_do_not_end_in_the_target_are_refused(bad: dict[int, Move]):
    with pytest.raises(UsageError, match=r"expected moves from step 0 to 99 that end in the whole target"):
        check_moves(bad, span())
