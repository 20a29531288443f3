import numpy as np
import pytest
from scipy import stats as oracle

from sparsify.errors import UsageError
from sparsify.stats import decide_levels

DENSE = np.array([0.890, 0.893, 0.888, 0.891, 0.894])
NOISE = np.array([0.0010, -0.0012, 0.0004, -0.0006, 0.0003])


def words(decisions):
    return {level: (d.matching, d.winning) for level, d in decisions.items()}


def test_every_outcome_of_enough_replicates():
    found = decide_levels(
        DENSE,
        {1: DENSE + NOISE, 2: DENSE + NOISE, 3: DENSE + NOISE, 4: DENSE - 0.05 + NOISE, 5: DENSE - 0.05 + NOISE},
        {2: DENSE - 0.02 - NOISE, 3: DENSE + 2 * NOISE, 4: DENSE - 0.2},
    )
    assert words(found) == {
        1: ("matching", "untested"),
        2: ("matching", "winning"),
        3: ("matching", "not shown"),
        4: ("not shown", "not shown"),
        5: ("not shown", "untested"),
    }
    assert found[4].p_winning < 0.05, "better than redrawn weights alone does not win"
    assert "a drop of 0.005 or more is ruled out" in found[1].reason
    assert "is not ruled out" in found[4].reason


@pytest.mark.parametrize("replicates", [1, 2, 4])
def test_under_five_replicates_is_undecided_and_says_so(replicates):
    dense = DENSE[:replicates]
    found = decide_levels(dense, {1: dense, 2: dense - 0.5}, {1: dense - 0.5})
    assert words(found) == {1: ("undecided", "undecided"), 2: ("undecided", "untested")}
    assert found[1].reason.startswith(f"undecided: {replicates} replicate")
    assert found[1].p_matching is None
    assert (found[1].difference.low is None) == (replicates == 1)


def test_p_values_are_holms_over_the_levels_tested():
    rng = np.random.default_rng(0)
    levels = {k: DENSE - 0.001 * k + 0.002 * rng.normal(size=5) for k in (1, 2, 3)}
    raw = {k: oracle.ttest_rel(v + 0.005, DENSE, alternative="greater").pvalue for k, v in levels.items()}
    ranked = sorted(raw, key=raw.__getitem__)
    expected, running = {}, 0.0
    for i, k in enumerate(ranked):
        running = max(running, (3 - i) * raw[k])
        expected[k] = min(1, running)
    found = decide_levels(DENSE, levels, {})
    assert {k: d.p_matching for k, d in found.items()} == pytest.approx(expected)


def test_the_family_of_wins_holds_only_levels_with_the_control():
    ticket, redrawn = DENSE + NOISE, DENSE - 0.004 - 3 * NOISE
    alone = decide_levels(DENSE, {7: ticket}, {7: redrawn})[7].p_winning
    crowd = decide_levels(DENSE, dict.fromkeys(range(1, 9), ticket), {7: redrawn, 8: redrawn})[7].p_winning
    assert crowd == pytest.approx(2 * alone)


def test_intervals_stand_beside_the_words():
    found = decide_levels(DENSE, {1: DENSE - 0.01 + NOISE}, {1: DENSE - 0.03})[1]
    assert found.difference.estimate == pytest.approx(-0.01 + NOISE.mean())
    assert found.gain.estimate == pytest.approx(0.02 + NOISE.mean())
    expected = oracle.ttest_rel(DENSE - 0.01 + NOISE, DENSE).confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_replicates_exactly_as_good_as_dense_match():
    assert decide_levels(DENSE, {1: DENSE}, {1: DENSE})[1].matching == "matching"
    assert decide_levels(DENSE, {1: DENSE}, {1: DENSE})[1].winning == "not shown"


def test_a_coarse_validation_set_cannot_show_a_fine_margin():
    assert decide_levels(DENSE, {1: DENSE}, {}, resolution=0.02)[1].matching == "not shown"


def test_family_wise_error_stays_at_alpha_on_the_boundary():
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(400):
        dense = rng.normal(0.9, 0.003, 5)
        levels = {k: dense - 0.005 + rng.normal(0, 0.003, 5) for k in range(1, 6)}
        wrong += any(d.matching == "matching" for d in decide_levels(dense, levels, {}).values())
    assert wrong / 400 < 0.08


def test_replicates_must_be_as_many_everywhere():
    with pytest.raises(UsageError, match="got 4 and 5; pair by replicate"):
        decide_levels(DENSE, {1: DENSE[:4]}, {})


def test_no_levels_no_decisions():
    assert decide_levels(DENSE, {}, {}) == {}
