from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.stats import holm


def step_down(pvalues, alpha):
    """Holm's paper, literally: reject from the smallest while p_(i) <= alpha / (m - i + 1)."""
    order = sorted(range(len(pvalues)), key=lambda i: pvalues[i])
    rejected = set()
    for i, index in enumerate(order):
        if pvalues[index] > alpha / (len(pvalues) - i):
            break
        rejected.add(index)
    return rejected


def closed_testing(pvalues, alpha):
    """Reject i when every intersection that holds i is rejected by Bonferroni: enumerated, and equal to Holm."""
    m = len(pvalues)
    subsets = [[i for i in range(m) if bits[i]] for bits in product([0, 1], repeat=m) if any(bits)]
    return {i for i in range(m) if all(min(pvalues[j] for j in s) * len(s) <= alpha for s in subsets if i in s)}


@given(st.lists(st.integers(0, 64).map(lambda k: k / 64), max_size=7), st.sampled_from([1 / 64, 1 / 16, 1 / 4]))
def test_agrees_with_the_paper_and_with_closed_testing(pvalues, alpha):
    found = holm(dict(enumerate(pvalues)), alpha)
    rejected = {key for key, result in found.items() if result.reject}
    assert rejected == step_down(pvalues, alpha) == closed_testing(pvalues, alpha)


@given(st.dictionaries(st.text(), st.floats(0, 1), max_size=8))
def test_adjusted_values_are_monotone_and_never_below_p(pvalues):
    found = holm(pvalues, 0.05)
    assert list(found) == list(pvalues)
    ranked = sorted(found.values(), key=lambda r: r.p)
    assert [r.adjusted for r in ranked] == sorted(r.adjusted for r in ranked)
    assert all(r.p <= r.adjusted <= 1 for r in ranked)


def test_textbook_values():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, 0.05)
    assert {k: r.adjusted for k, r in found.items()} == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert {k for k, r in found.items() if r.reject} == {"a", "d"}


def test_no_hypotheses_no_results():
    assert holm({}, 0.05) == {}


@pytest.mark.parametrize(("p", "alpha"), [(1.5, 0.05), (-0.1, 0.05), (0.1, 0.0), (0.1, 1.0)])
def test_impossible_probabilities_are_refused(p, alpha):
    with pytest.raises(UsageError, match="expected"):
        holm({"a": p}, alpha)
