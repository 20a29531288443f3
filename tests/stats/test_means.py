import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from sparsify.errors import UsageError
from sparsify.stats import mean_interval, non_inferior, paired_difference, superior

values = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)
# Student's sleep data (1908): extra hours under two drugs, the paired t test of every textbook.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_sleep_data_gives_the_published_interval_and_p():
    found = paired_difference(DRUG_2, DRUG_1)
    assert found.estimate == pytest.approx(1.58)
    assert (found.low, found.high) == (pytest.approx(0.7001142, abs=1e-6), pytest.approx(2.4598858, abs=1e-6))
    assert superior(DRUG_2, DRUG_1) == pytest.approx(0.002833 / 2, abs=1e-6)


@given(values, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_mean_interval_is_scipys(sample, level):
    spread = np.std(sample, ddof=1)
    found = mean_interval(sample, level)
    low, high = oracle.t.interval(level, len(sample) - 1, np.mean(sample), max(spread, 1e-300) / math.sqrt(len(sample)))
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)
    assert (found.n, found.level, found.method) == (len(sample), level, "Student t")


def test_one_value_has_no_interval_and_says_so():
    found = mean_interval([0.9])
    assert (found.estimate, found.low, found.high, found.width) == (0.9, None, None, None)
    assert found.method == "one value: no interval"
    assert found.to_json()["ci_low"] is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16)), min_size=3, max_size=10))
def test_tests_agree_with_ttest_rel_wherever_there_is_spread(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    if np.std(a - b, ddof=1) < 1e-6:
        return
    assert superior(a, b) == pytest.approx(oracle.ttest_rel(a, b, alternative="greater").pvalue, abs=1e-9)
    expected = oracle.ttest_rel(a + 0.01, b, alternative="greater").pvalue
    assert non_inferior(a, b, 0.01) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("shift", "p"),
    [
        pytest.param(0.01, 0.0, id="all above the bound"),
        pytest.param(-0.005, 1.0, id="all exactly on the bound counts as the null"),
        pytest.param(-0.01, 1.0, id="all below the bound"),
        pytest.param(0.0, 0.0, id="all equal to dense"),
    ],
)
def test_equal_differences_take_the_limit_of_t(shift, p):
    dense = np.array([0.9, 0.8, 0.7, 0.85, 0.95])
    assert non_inferior(dense + shift, dense, 0.005) == p


def test_equality_is_never_evidence_of_superiority():
    assert superior([0.9, 0.8], [0.9, 0.8]) == 1.0


def test_spread_made_of_rounding_alone_is_no_spread():
    dense = np.array([0.1, 0.2, 0.3, 0.7, 0.9])
    ticket = dense + 0.1 + 0.2 - 0.3
    assert (ticket - dense).std() > 0
    assert superior(ticket, dense) == 1.0


def test_resolution_keeps_a_small_validation_set_from_deciding_by_luck():
    dense = [0.9] * 5
    ticket = [0.91] * 5
    assert superior(ticket, dense) == 0.0
    expected = oracle.t.sf(0.01 / (0.01 / math.sqrt(6) / math.sqrt(5)), 4)
    assert superior(ticket, dense, resolution=0.01) == pytest.approx(expected)
    assert superior(dense, dense, resolution=0.01) == 0.5


def test_resolution_changes_nothing_where_the_spread_is_larger():
    assert superior(DRUG_2, DRUG_1, resolution=0.1) == superior(DRUG_2, DRUG_1)


def test_interval_covers_its_level():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = mean_interval(rng.normal(0.9, 0.01, 5))
        hits += found.low <= 0.9 <= found.high
    assert 0.935 < hits / 2000 < 0.965


def test_non_inferiority_errs_at_alpha_on_its_boundary():
    rng = np.random.default_rng(1)
    rejected = sum(non_inferior(rng.normal(-0.005, 0.01, 5), np.zeros(5), 0.005) <= 0.05 for _ in range(2000))
    assert 0.04 < rejected / 2000 < 0.06


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "expected one or more numbers"),
        (lambda: mean_interval([0.1, math.nan]), "expected finite numbers, got nan; leave failed runs out"),
        (lambda: mean_interval([0.1, 0.2], 1.0), "expected a confidence level between 0 and 1, got 1.0"),
        (lambda: paired_difference([1, 2], [1]), "expected equally many values, got 2 and 1; pair by replicate"),
        (lambda: superior([1], [1]), "expected 2 pairs or more, got 1; add replicates"),
        (lambda: non_inferior([1, 2], [1, 2], -0.1), "margin: expected 0 or more, got -0.1"),
    ],
)
def test_impossible_calls_say_what_to_mend(call, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        call()
