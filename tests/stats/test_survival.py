import numpy as np
import pytest

from sparsify.errors import UsageError
from sparsify.stats import survival_verdict


def arm(mean, tickets=10, redraws=5, spread=0.01, seed=0):
    rng = np.random.default_rng(seed)
    return mean + spread * (rng.normal(size=(tickets, 1)) + rng.normal(size=(tickets, redraws)))


def judge(kept, ceiling, random, **shape):
    return survival_verdict(
        arm(kept, seed=1, **shape), arm(ceiling, seed=2, **shape), arm(random, seed=3, **shape), n_boot=2000
    )


@pytest.mark.parametrize(
    ("kept", "ceiling", "random", "word"),
    [
        pytest.param(0.50, 0.52, 0.20, "survives", id="near the ceiling"),
        pytest.param(0.22, 0.52, 0.20, "fails", id="near a random set"),
        pytest.param(0.35, 0.52, 0.20, "undecided", id="between"),
        pytest.param(0.22, 0.23, 0.20, "undecided", id="the ceiling is chance itself"),
    ],
)
def test_the_rule(kept, ceiling, random, word):
    found = judge(kept, ceiling, random)
    assert found.word == word
    assert ("ceiling itself" in found.caveat) == (ceiling - random < 0.05)
    assert found.ratio.estimate == pytest.approx(kept / ceiling, rel=0.05)
    assert found.difference.estimate == pytest.approx(kept - random, abs=0.02)


def test_ceiling_at_chance_says_that_iou_cannot_tell():
    found = judge(0.22, 0.23, 0.20)
    assert "cannot tell" in found.reason
    assert found.tickets_needed is None


def test_no_number_of_tickets_decides_what_lies_between():
    assert judge(0.35, 0.52, 0.20).tickets_needed is None


def test_the_tickets_that_would_decide_do_decide():
    # Copies of the same tickets hold the estimates and their spread, as the number promised assumes.
    arms = [arm(mean, tickets=8, spread=0.06, seed=seed) for seed, mean in enumerate((0.43, 0.52, 0.20), start=1)]
    found = survival_verdict(*arms)
    assert found.word == "undecided"
    copies = -(-found.tickets_needed // 8)
    assert copies >= 3
    fewer, more = (survival_verdict(*[np.tile(a, (c, 1)) for a in arms]) for c in (copies // 3, copies))
    assert (fewer.word, more.word) == ("undecided", "survives")


def test_tickets_needed_is_the_square_root_law():
    found = judge(0.44, 0.52, 0.20, tickets=8, spread=0.06)
    r = found.ratio
    assert found.tickets_needed == int(np.ceil(8 * ((r.estimate - r.low) / (r.estimate - 0.8)) ** 2))


@pytest.mark.parametrize("tickets", [1, 2, 4])
def test_under_five_tickets_is_undecided_whatever_the_numbers(tickets):
    found = judge(0.50, 0.52, 0.20, tickets=tickets)
    assert found.word == "undecided"
    assert found.reason.startswith(f"{tickets} ticket")
    assert found.tickets_needed == 5


@pytest.mark.parametrize(
    ("tickets", "redraws", "short"), [(10, 5, False), (9, 5, True), (10, 4, True), (5, 2, True), (12, 6, False)]
)
def test_caveat_exactly_when_short_of_the_protocol(tickets, redraws, short):
    found = judge(0.50, 0.52, 0.20, tickets=tickets, redraws=redraws)
    assert bool(found.caveat) == short
    if short:
        assert f"{tickets} tickets x {redraws} redraws fall short" in found.caveat


def test_one_ticket_and_one_redraw_are_told_in_the_singular():
    assert judge(0.50, 0.52, 0.20, tickets=1, redraws=1).caveat.startswith("1 ticket x 1 redraw fall short")


def test_redraws_are_clustered_by_ticket():
    # The same fifty numbers, once as ten tickets that differ, once dealt out so that tickets do not.
    kept = np.repeat(np.linspace(0.3, 0.7, 10)[:, None], 5, axis=1)
    dealt = kept.reshape(5, 10).T
    ceiling, random = np.full((10, 5), 0.6), np.full((10, 5), 0.2)
    assert (
        survival_verdict(kept, ceiling, random).ratio.width > 1.5 * survival_verdict(dealt, ceiling, random).ratio.width
    )


def test_arms_may_hold_unlike_numbers_of_redraws():
    found = survival_verdict([[0.5], [0.5, 0.6]], [[0.5]] * 2, [[0.1]] * 2)
    assert "2 tickets x 1 redraw fall short" in found.caveat


def test_a_ceiling_of_nothing_is_no_division_by_zero():
    zero = np.zeros((6, 5))
    found = survival_verdict(zero, zero, zero)
    assert found.ratio.estimate == 0.0
    assert found.word == "fails"
    assert "the ceiling itself lies within 0.05 of a random set" in found.caveat


def test_a_far_ceiling_needs_no_caveat():
    assert judge(0.22, 0.52, 0.20).caveat == ""


@pytest.mark.parametrize(
    ("kept", "ceiling", "message"),
    [
        ([[0.5]], [[0.5], [0.5]], "expected the same tickets in each, got 1, 2 and 1"),
        ([[1.5]], [[0.5]], r"IoU of kept: expected values in \[0, 1\]"),
        ([[]], [[0.5]], "IoU of kept: expected one or more numbers"),
    ],
)
def test_impossible_arms_are_refused(kept, ceiling, message):
    with pytest.raises(UsageError, match=message):
        survival_verdict(kept, ceiling, [[0.1]])
