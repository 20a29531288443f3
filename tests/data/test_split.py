"""Splits share out every image once, in the counts asked for, by their own seed."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from sparsify.data.split import draw_split
from sparsify.errors import UsageError

SHARES = st.floats(0, 0.9)


@given(st.integers(3, 300), SHARES, SHARES, st.integers(0, 2**63 - 1))
def test_parts_are_disjoint_cover_all_and_have_their_counts(images, validation, test, seed):
    n_test = round(test * images)
    n_validation = round(validation * (images - n_test))
    try:
        split = draw_split("x", images, validation=validation, test=test, seed=seed)
    except UsageError:
        empty = (test > 0 and n_test == 0) or (validation > 0 and n_validation == 0)
        assert empty or images - n_test - n_validation == 0 or n_test == images
        return
    assert (len(split.test), len(split.validation)) == (n_test, n_validation)
    everything = np.concatenate([split.train, split.validation, split.test])
    assert sorted(everything.tolist()) == list(range(images))
    for part in (split.train, split.validation, split.test):
        assert (np.diff(part) > 0).all()


@given(st.integers(50, 300), st.integers(0, 2**32), st.integers(0, 2**32))
def test_a_split_depends_on_its_seed_and_on_nothing_else(images, seed, other):
    assume(seed != other)
    torch.manual_seed(1)
    first = draw_split("x", images, validation=0.3, test=0.2, seed=seed)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = draw_split("x", images, validation=0.3, test=0.2, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.test, again.test)
    assert first.train.tolist() != draw_split("x", images, validation=0.3, test=0.2, seed=other).train.tolist()


def test_each_image_lands_in_test_as_often_as_its_share():
    """200 seeds, share 1/4: each image's count is binomial(200, 1/4), within five deviations of 50."""
    counts = np.zeros(40)
    for seed in range(200):
        counts[draw_split("x", 40, validation=0.1, test=0.25, seed=seed).test] += 1
    assert counts.sum() == 200 * 10
    assert np.abs(counts - 50).max() < 5 * (200 * 0.25 * 0.75) ** 0.5


def test_the_draw_itself_is_pinned():
    """Cached runs belong to this permutation: should torch come to draw another, raise `catalogue.LAYOUT`."""
    split = draw_split("x", 1797, validation=0.2, test=0.2, seed=0)
    drawn = b"".join(part.astype("<i8").tobytes() for part in (split.train, split.validation, split.test))
    assert hashlib.sha256(drawn).hexdigest() == "a39d264834b8fa3ab2ffbc5246457d4cb190ea09962df082fd88301a02c13009"


@pytest.mark.parametrize(
    ("images", "validation", "test", "says"),
    [
        (10, 0.01, 0.2, r"x: data.validation = 0.01 of 8 images is 0, which leaves 8"),
        (10, 0.99, 0.2, r"data.validation = 0.99 of 8 images is 8, which leaves 0"),
        (2, 0.5, 0.1, r"data.test = 0.1 of 2 images is 0"),
        (1, 0.5, 0.5, r"data.test = 0.5 of 1 images is 0"),
    ],
)
def test_too_few_images_are_a_usage_error(images, validation, test, says):
    with pytest.raises(UsageError, match=says):
        draw_split("x", images, validation=validation, test=test, seed=0)


def test_a_twelfth_of_sixty_thousand_is_five_thousand():
    split = draw_split("x", 60_000, validation=float(Fraction(1, 12)), test=0, seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (55_000, 5_000, 0)


def test_a_seed_beyond_63_bits_is_a_usage_error():
    with pytest.raises(UsageError, match=r"data.split_seed: expected at most"):
        draw_split("x", 10, validation=0.2, test=0.2, seed=2**63)
