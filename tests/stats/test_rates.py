import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from sparsify.errors import UsageError
from sparsify.stats import clopper_pearson


@settings(deadline=None)
@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95, 0.99])
)
def test_is_scipys_exact_interval(counts, level):
    k, n = counts
    expected = oracle.binomtest(k, n).proportion_ci(level, method="exact")
    found = clopper_pearson(k, n, level)
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))
    assert (found.estimate, found.n) == (k / n, n)


@pytest.mark.parametrize("n", [1, 5, 50])
def test_none_and_all_have_closed_forms(n):
    assert clopper_pearson(0, n).high == pytest.approx(1 - 0.025 ** (1 / n))
    assert clopper_pearson(n, n).low == pytest.approx(0.025 ** (1 / n))
    assert (clopper_pearson(0, n).low, clopper_pearson(n, n).high) == (0.0, 1.0)


@pytest.mark.parametrize("rate", [0.005, 0.3, 0.5])
def test_covers_at_least_its_level_summed_exactly(rate):
    n = 40
    covered = sum(
        oracle.binom.pmf(k, n, rate)
        for k in range(n + 1)
        if clopper_pearson(k, n).low <= rate <= clopper_pearson(k, n).high
    )
    assert covered >= 0.95


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(UsageError, match=f"got {k} of {n}"):
        clopper_pearson(k, n)
