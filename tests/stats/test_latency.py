import numpy as np
import pytest
from scipy import stats as oracle

from sparsify.errors import UsageError
from sparsify.stats import PERCENTILE_FLOOR, Interval, latency_verdict, paired_log_ratio, percentiles


def ratio(low, high):
    return Interval((low + high) / 2, low, high, 0.95, 200, "stated")


def noisy_pairs(rng, n, slowdown=1.0, noise=0.05, drift=0.5):
    """Pairs of one machine: drift is shared within a pair, noise is not, and one time in twenty is an outlier."""
    shared = 1 + drift * np.sin(np.linspace(0, 9, n))
    a, b = (shared * np.exp(noise * rng.normal(size=n)) * np.where(rng.random(n) < 0.05, 3, 1) for _ in range(2))
    return a, b * slowdown


def test_a_constant_ratio_is_found_exactly_whatever_the_drift():
    b = np.linspace(1, 9, 30)
    found = paired_log_ratio(3 * b, b)
    assert (found.estimate, found.low, found.high) == tuple(pytest.approx(3) for _ in range(3))
    assert found.n == 30


def test_swapping_the_networks_inverts_the_ratio():
    a, b = noisy_pairs(np.random.default_rng(0), 201, 1.3)
    there, back = paired_log_ratio(a, b), paired_log_ratio(b, a)
    assert there.estimate == pytest.approx(1 / back.estimate)
    assert there.low == pytest.approx(1 / back.high, rel=2e-3)


def test_one_launch_agrees_with_scipys_bootstrap_of_the_median():
    a, b = noisy_pairs(np.random.default_rng(1), 400, 1.1)
    found = paired_log_ratio(a, b, seed=0)
    expected = oracle.bootstrap(
        (np.log(a / b),), np.median, method="percentile", n_resamples=3000, rng=1
    ).confidence_interval
    assert np.log(found.low) == pytest.approx(expected.low, abs=1.5e-3)
    assert np.log(found.high) == pytest.approx(expected.high, abs=1.5e-3)
    assert found.method == "median log-ratio, bootstrap over pairs"


def test_launches_that_disagree_widen_the_interval_and_are_reported():
    rng = np.random.default_rng(2)
    parts = [noisy_pairs(rng, 100, slowdown) for slowdown in (0.9, 1.0, 1.1)]
    a, b = (np.concatenate(side) for side in zip(*parts, strict=True))
    launch = np.repeat([0, 1, 2], 100)
    clustered = paired_log_ratio(a, b, launch=launch, n_boot=2000)
    pooled = paired_log_ratio(a, b, n_boot=2000)
    assert clustered.width > 2 * pooled.width
    assert clustered.method == "median log-ratio, bootstrap over 3 launches, then pairs within"


def test_launches_of_unlike_length_weigh_the_same():
    # Ninety pairs at 1 and ten at 2: redrawn by launch, half of all resamples hold one of each or two of either.
    b = np.ones(100)
    a = np.r_[np.ones(90), np.full(10, 2.0)]
    found = paired_log_ratio(a, b, launch=[0] * 90 + [1] * 10, n_boot=2000)
    assert (found.estimate, found.low, found.high) == (1.0, 1.0, pytest.approx(2.0))


@pytest.mark.parametrize("launches", [1, 3])
def test_the_same_network_twice_is_seldom_called_different(launches):
    rng = np.random.default_rng(3)
    out = 0
    for trial in range(100):
        a, b = noisy_pairs(rng, 60 * launches)
        found = paired_log_ratio(a, b, launch=np.repeat(range(launches), 60), n_boot=400, seed=trial)
        out += not found.low <= 1 <= found.high
    assert out <= 10


@pytest.mark.parametrize("launches", [1, 3])
def test_a_tenth_slower_is_called_slower(launches):
    rng = np.random.default_rng(4)
    words = []
    for trial in range(20):
        pairs = 200 * launches
        launch = np.repeat(range(launches), 200)
        aa = paired_log_ratio(*noisy_pairs(rng, pairs), launch=launch, n_boot=300, seed=trial)
        ab = paired_log_ratio(*noisy_pairs(rng, pairs, 1.1), launch=launch, n_boot=300, seed=trial)
        words.append(latency_verdict(ab, aa, 0.05).word)
    assert words.count("slower") >= 17
    assert set(words) <= {"slower", "inconclusive"}


def test_one_pair_has_no_interval():
    found = paired_log_ratio([2.0], [1.0])
    assert (found.estimate, found.low, found.method) == (2.0, None, "one pair: no interval")


@pytest.mark.parametrize(
    ("low", "high", "aa", "word", "reason"),
    [
        (1.20, 1.40, (0.99, 1.01), "faster", "lies above 1"),
        (0.70, 0.90, (0.99, 1.01), "slower", "lies below 1"),
        (0.97, 1.03, (0.99, 1.01), "equivalent", "lies inside"),
        (1.01, 1.03, (0.99, 1.01), "equivalent", "lies inside"),
        (0.95, 1.05, (0.99, 1.01), "equivalent", "lies inside"),
        (1.02, 1.08, (0.99, 1.01), "faster", "lies above 1"),
        (0.92, 0.98, (0.99, 1.01), "slower", "lies below 1"),
        (0.90, 1.20, (0.99, 1.01), "inconclusive", "leaves the band"),
        (1.00, 1.20, (0.99, 1.01), "inconclusive", "leaves the band"),
        (2.00, 2.10, (1.01, 1.02), "inconclusive", "excludes 1"),
        (2.00, 2.10, (0.97, 0.99), "inconclusive", "excludes 1"),
        (2.00, 2.10, (0.97, 1.03), "inconclusive", "wider than 0.05"),
        (2.00, 2.10, None, "inconclusive", "no A/A interval"),
    ],
)
def test_verdict_follows_the_rule(low, high, aa, word, reason):
    verdict = latency_verdict(ratio(low, high), None if aa is None else ratio(*aa), 0.05)
    assert verdict.word == word
    assert reason in verdict.reason


def test_verdict_without_an_interval_is_inconclusive():
    assert latency_verdict(paired_log_ratio([2.0], [1.0]), ratio(0.99, 1.01), 0.05).word == "inconclusive"


@pytest.mark.parametrize(("percent", "floor"), PERCENTILE_FLOOR.items())
def test_percentile_floor_is_loadgens_rule(percent, floor):
    def at_most_one_beyond(n):
        return oracle.binom.cdf(1, n, 1 - percent / 100)

    assert at_most_one_beyond(floor) <= 0.01 < at_most_one_beyond(floor - 1)


@pytest.mark.parametrize(
    ("n", "given"), [(10, []), (11, [50]), (64, [50, 90]), (129, [50, 90]), (662, [50, 90, 95, 99])]
)
def test_percentiles_only_with_samples_enough(n, given):
    samples = np.arange(n, dtype=float)
    assert percentiles(samples) == {p: pytest.approx(np.percentile(samples, p)) for p in given}


def test_times_must_be_above_zero_and_launches_complete():
    with pytest.raises(UsageError, match="expected times above 0 ms, got 0"):
        paired_log_ratio([1.0, 0.0], [1.0, 1.0])
    with pytest.raises(UsageError, match=r"expected one launch a pair \(2\), got 1"):
        paired_log_ratio([1.0, 1.0], [1.0, 1.0], launch=[0])
