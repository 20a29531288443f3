from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sparsify.data.load import Split
from sparsify.recipe.spec import AugmentSpec
from sparsify.train.batches import Batches, augment, steps_per_epoch


def numbered(count: int) -> Split:
    """Image i is filled with i, and its label is i."""
    return Split(torch.arange(count).float()[:, None, None, None].expand(count, 1, 2, 2).clone(), torch.arange(count))


def labels_of(batches: Batches, steps: range) -> list[list[int]]:
    return [batches(step)[1].tolist() for step in steps]


@given(count=st.integers(1, 30), batch_size=st.integers(1, 40), seed=st.integers(0, 2**63 - 1))
def test_each_epoch_shows_different_images_in_whole_batches(count: int, batch_size: int, seed: int):
    batches = Batches(numbered(count), batch_size, AugmentSpec(), seed)
    assert batches.per_epoch == steps_per_epoch(count, batch_size) == max(count // batch_size, 1)
    for epoch in range(3):
        seen = labels_of(batches, range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch))
        assert {len(batch) for batch in seen} == {min(batch_size, count)}
        flat = list(itertools.chain(*seen))
        assert len(set(flat)) == len(flat)
        assert set(flat) <= set(range(count))
        assert count - len(flat) < min(batch_size, count)


def test_images_come_with_their_own_labels():
    images, labels = Batches(numbered(20), 8, AugmentSpec(), 3)(1)
    assert images.shape == (8, 1, 2, 2)
    assert torch.equal(images[:, 0, 0, 0].long(), labels)


@given(steps=st.lists(st.integers(0, 40), max_size=6), seed=st.integers(0, 2**63 - 1))
def test_a_batch_depends_on_seed_and_step_alone(steps: list[int], seed: int):
    spec = AugmentSpec(flip=True, crop=1)
    entered_anywhere = Batches(numbered(20), 6, spec, seed)
    for step in steps:
        torch.manual_seed(step)  # the global generator plays no part
        fresh = Batches(numbered(20), 6, spec, seed)
        for a, b in zip(entered_anywhere(step), fresh(step), strict=True):
            assert torch.equal(a, b)


def test_epochs_and_seeds_have_orders_of_their_own():
    batches, other = (Batches(numbered(64), 64, AugmentSpec(), seed) for seed in (0, 1))
    orders = labels_of(batches, range(3)) + labels_of(other, range(3))
    assert len({tuple(order) for order in orders}) == 6


def test_augmentation_leaves_the_order_as_it_is():
    plain, augmented = (Batches(numbered(20), 6, AugmentSpec(flip=f), 5) for f in (False, True))
    assert labels_of(plain, range(6)) == labels_of(augmented, range(6))


def test_each_step_draws_an_augmentation_of_its_own():
    image = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    alike = Split(image.repeat(64, 1, 1, 1), torch.zeros(64, dtype=torch.int64))
    batches = Batches(alike, 16, AugmentSpec(flip=True, crop=2), 0)
    drawn = {tuple(batches(step)[0].flatten().tolist()) for step in range(8)}  # two epochs
    assert len(drawn) == 8


def test_batches_are_copies():
    split = numbered(6)
    images, _ = Batches(split, 6, AugmentSpec(), 0)(0)
    images.fill_(-1)
    assert float(split.images.min()) == 0


def possible(image: torch.Tensor, spec: AugmentSpec) -> list[torch.Tensor]:
    """Every mirrored crop of one image (C, H, W), by slicing."""
    _, height, width = image.shape
    mirrored = [image, image.flip(2)] if spec.flip else [image]
    return [
        functional.pad(m, (spec.crop,) * 4)[:, top : top + height, left : left + width]
        for m in mirrored
        for top in range(2 * spec.crop + 1)
        for left in range(2 * spec.crop + 1)
    ]


@pytest.mark.parametrize("spec", [AugmentSpec(flip=True), AugmentSpec(crop=2), AugmentSpec(flip=True, crop=1)], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 4, 5)], ids=str)
def test_each_image_becomes_one_of_its_own_crops_and_all_of_them_occur(spec: AugmentSpec, shape: tuple[int, ...]):
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    choices = possible(image, spec)
    count = 60 * len(choices)
    out = augment(image.expand(count, *shape), spec, seed=1)
    matches = torch.stack([(out == choice).flatten(1).all(1) for choice in choices], dim=1)  # (image, choice)
    assert bool((matches.sum(1) == 1).all())
    expected = count / len(choices)
    chi_squared = float(((matches.sum(0) - expected) ** 2 / expected).sum())
    assert chi_squared < len(choices) + 4.5 * (2 * len(choices)) ** 0.5  # uniform, as far as one can see


def test_images_of_a_batch_are_changed_one_by_one():
    images = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    spec = AugmentSpec(flip=True, crop=1)
    out = augment(images, spec, seed=2)
    for before, after in zip(images, out, strict=True):
        assert any(torch.equal(after, choice) for choice in possible(before, spec))
    assert out.is_contiguous()


def test_augmentation_repeats_by_seed_and_leaves_its_input():
    images = torch.randn(8, 1, 4, 4)
    before = images.clone()
    spec = AugmentSpec(flip=True, crop=2)
    state = torch.get_rng_state()
    assert torch.equal(augment(images, spec, 3), augment(images, spec, 3))
    assert not torch.equal(augment(images, spec, 3), augment(images, spec, 4))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
