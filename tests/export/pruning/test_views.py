from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify_export.pruning.views import Reshaped, Transposed, View, put_back, seen, shapes_along, swapped

_SHAPES = [(2, 3, 4), (6, 4), (24,), (4, 1, 6), (2, 2, 2, 3), (1, 24)]


@st.composite
def _views(draw: st.DrawFn) -> tuple[tuple[int, ...], View]:
    shape = draw(st.sampled_from(_SHAPES))
    view: list[Reshaped | Transposed] = []
    for _ in range(draw(st.integers(0, 4))):
        axes = len(shapes_along(tuple(view), shape)[-1])
        step = st.builds(Reshaped, st.sampled_from(_SHAPES)) | st.builds(
            Transposed, st.permutations(range(axes)).map(tuple)
        )
        view.append(draw(step))
    return shape, tuple(view)


@given(_views())
def test_what_is_put_back_is_where_it_was(case: tuple[tuple[int, ...], View]):
    shape, view = case
    stored = torch.arange(24).reshape(shape)
    shown = seen(view, stored)
    assert tuple(shown.shape) == shapes_along(view, shape)[-1]
    assert torch.equal(put_back(view, shown, shape), stored)


def test_the_last_two_axes_are_exchanged():
    assert torch.equal(seen((swapped(3),), torch.arange(24).reshape(2, 3, 4)), torch.arange(24).reshape(2, 3, 4).mT)


@pytest.mark.parametrize("step", [Reshaped((5, 5)), Transposed((0, 0)), Transposed((1, 0, 2))], ids=str)
def test_a_rearrangement_that_does_not_fit(step: Reshaped | Transposed):
    with pytest.raises(ValueError, match=r"cannot be reshaped|no order of the axes"):
        shapes_along((step,), (4, 6))
