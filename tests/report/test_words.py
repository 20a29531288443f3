import pytest

from sparsify.report import words


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.0, "0.0%"), (1.0, "100.0%"), (0.5, "50.0%"), (0.9423, "94.2%"), (0.99971, "99.97%"), (0.0003, "0.03%")],
)
def test_percent_never_rounds_to_all_or_nothing(fraction, text):
    assert words.percent(fraction) == text


@pytest.mark.parametrize(("difference", "text"), [(-0.0042, "-0.42"), (0.01, "+1.00"), (0.0, "0.00"), (-1e-9, "0.00")])
def test_points_are_signed_and_zero_is_not(difference, text):
    assert words.points(difference) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_066_440, "1.07 MB"), (2.5e9, "2.5 GB")]
)
def test_sizes_are_decimal(count, text):
    assert words.size(count) == text


@pytest.mark.parametrize(("margin", "text"), [(0.005, "0.5 points"), (0.01, "1 point"), (0.02, "2 points")])
def test_a_margin_of_one_point_is_in_the_singular(margin, text):
    assert words.margin_in_points(margin) == text


@pytest.mark.parametrize(("value", "text"), [(0.04213, "0.0421 ms"), (12.34, "12.3 ms"), (1234.5, "1234 ms")])
def test_latency_has_three_figures(value, text):
    assert words.milliseconds(value) == text


@pytest.mark.parametrize(
    ("matching", "winning", "text"),
    [
        ("matching", "winning", "winning"),
        ("matching", "untested", "matching"),
        ("matching", "not shown", "matching, win not shown"),
        ("not shown", "not shown", "not shown"),
        ("undecided", "undecided", "undecided"),
        ("", "", ""),
    ],
)
def test_a_decision_in_a_word_or_two(matching, winning, text):
    assert words.decision(matching, winning) == text


def test_between_needs_both_bounds():
    assert words.between({"x.ci_low": 1.0, "x.ci_high": 2.0}, "x", words.ratio) == "1.000x to 2.00x"
    assert words.between({"x": 1.0}, "x", words.ratio) == ""


@pytest.mark.parametrize(("value", "text"), [(1.0123, "1.012x"), (0.5, "0.500x"), (2.345, "2.35x"), (250.4, "250x")])
def test_ratios_are_finer_near_one(value, text):
    assert words.ratio(value) == text
