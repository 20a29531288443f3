from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.masks.outputs import select_outputs


def test_the_weakest_outputs_go_first_whatever_a_layers_scale():
    scores = {"a": torch.tensor([[1.0, 1.0], [3.0, 3.0]]), "b": torch.tensor([[600.0], [500.0], [100.0]])}
    mask = select_outputs(scores, 1 / 7)  # b's third output: 100 of a mean of 400, against a's 1 of 2
    assert mask["a"].all()
    assert mask["b"].flatten().tolist() == [True, True, False]
    assert select_outputs(scores, 3 / 7)["a"].tolist() == [[False, False], [True, True]]


@given(st.integers(0, 1000), st.integers(0, 70).map(lambda percent: percent / 100))
def test_at_least_as_much_goes_as_asked_and_no_more_than_one_output_too_much(seed: int, sparsity: float):
    generator = torch.Generator().manual_seed(seed)
    scores = {"a": torch.rand(6, 4, generator=generator), "b": torch.rand(8, 3, 3, generator=generator)}
    mask = select_outputs(scores, sparsity)
    removed = mask.total - mask.kept
    assert sparsity * mask.total <= removed < sparsity * mask.total + 9
    for name in mask:
        rows = mask[name].flatten(1)
        assert (rows.all(1) | ~rows.any(1)).all()
        assert rows.any()


def test_ties_take_the_higher_index():
    assert select_outputs({"a": torch.ones(3, 2)}, 0.3)["a"].any(1).tolist() == [True, True, False]


def test_what_is_kept_stays_and_too_much_is_refused():
    scores = {"a": torch.rand(4, 2), "output": torch.rand(2, 4)}
    assert select_outputs(scores, 0.3, keep=("output",))["output"].all()
    with pytest.raises(UsageError, match=r"expected at most 0\.375"):
        select_outputs(scores, 0.5, keep=("output",))
