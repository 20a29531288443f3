import numpy as np
import pytest
from scipy import stats as oracle

from sparsify.errors import UsageError
from sparsify.stats import clustered_bootstrap, mean_interval, summary_bootstrap


def pooled_mean(clusters):
    return float(np.concatenate(clusters).mean())


def mean_of_first(table):
    return table[..., 0].mean(axis=1)


def test_many_clusters_agree_with_scipys_percentile_bootstrap():
    sample = np.random.default_rng(0).gamma(2.0, size=300)
    found = summary_bootstrap(sample[:, None], mean_of_first, seed=1)
    expected = oracle.bootstrap((sample,), np.mean, method="percentile", n_resamples=10_000, rng=2).confidence_interval
    assert found.low == pytest.approx(expected.low, rel=0.01)
    assert found.high == pytest.approx(expected.high, rel=0.01)


def test_vectorised_and_general_forms_draw_the_same_clusters():
    sample = np.random.default_rng(0).normal(size=(7, 3))
    general = clustered_bootstrap(list(sample), lambda c: float(np.mean([x[0] for x in c])), n_boot=500, seed=4)
    fast = summary_bootstrap(sample, mean_of_first, n_boot=500, seed=4)
    assert (fast.low, fast.high) == (pytest.approx(general.low), pytest.approx(general.high))


def test_same_seed_same_interval_other_seed_other_interval():
    sample = np.random.default_rng(0).normal(size=(20, 1))
    assert summary_bootstrap(sample, mean_of_first, seed=3) == summary_bootstrap(sample, mean_of_first, seed=3)
    assert summary_bootstrap(sample, mean_of_first, seed=3) != summary_bootstrap(sample, mean_of_first, seed=5)


def test_clusters_are_kept_whole():
    # Ten tickets whose five redraws are identical: fifty numbers, but ten facts.
    rng = np.random.default_rng(0)
    tickets = [np.full(5, x) for x in rng.normal(size=10)]
    by_ticket = clustered_bootstrap(tickets, pooled_mean, n_boot=2000)
    as_if_independent = clustered_bootstrap([np.array([x]) for x in np.concatenate(tickets)], pooled_mean, n_boot=2000)
    assert by_ticket.n == 10
    assert by_ticket.width > 1.8 * as_if_independent.width


def test_one_cluster_has_no_interval_and_says_so():
    found = clustered_bootstrap([np.array([1.0, 2.0])], pooled_mean)
    assert (found.estimate, found.low, found.high, found.method) == (1.5, None, None, "one cluster: no interval")
    assert summary_bootstrap(np.array([[2.0]]), mean_of_first).low is None


def test_clusters_may_be_dicts():
    found = clustered_bootstrap([{"x": 1.0}, {"x": 3.0}], lambda c: sum(d["x"] for d in c) / len(c), n_boot=100)
    assert (found.estimate, found.low, found.high) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(("clusters", "least"), [(5, 0.90), (10, 0.925)])
def test_expanded_tails_cover_where_plain_percentiles_do_not(clusters, least):
    rng = np.random.default_rng(7)
    samples = rng.normal(size=(600, clusters))
    hits = plain = 0
    for i, sample in enumerate(samples):
        found = summary_bootstrap(sample[:, None], mean_of_first, n_boot=1000, seed=i)
        hits += found.low <= 0 <= found.high
        means = rng.choice(sample, size=(1000, clusters)).mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        plain += low <= 0 <= high
    assert least < hits / 600 < 0.98
    assert plain < hits


def test_expanded_width_is_students_for_normal_data():
    sample = np.random.default_rng(3).normal(size=40)
    ratio = summary_bootstrap(sample[:, None], mean_of_first).width / mean_interval(sample).width
    assert ratio == pytest.approx(1.0, abs=0.06)


def test_nothing_to_resample_is_refused():
    with pytest.raises(UsageError, match="expected one cluster or more, got none"):
        clustered_bootstrap([], pooled_mean)
    with pytest.raises(UsageError, match=r"expected summaries of shape \(clusters, numbers\)"):
        summary_bootstrap(np.zeros(3), mean_of_first)
