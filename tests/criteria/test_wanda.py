from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from sparsify.criteria.context import Context
from sparsify.criteria.rows import within_rows
from sparsify.criteria.wanda import wanda
from sparsify.errors import UsageError
from sparsify.masks.nm import keep_n_of_m
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern


def context_of(model: nn.Module, *inputs: torch.Tensor) -> Context:
    return Context(model, ("weight",), 0, [(each, torch.zeros(len(each))) for each in inputs])


def test_by_hand():
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[1.0, -2.0], [-3.0, 0.5]])
    one, two = torch.tensor([[3.0, 1.0]]), torch.tensor([[4.0, 2.0], [0.0, -2.0]])  # norms 5 and 3 over all batches
    assert wanda(context_of(layer, one, two))["weight"].tolist() == [[5.0, 6.0], [15.0, 1.5]]


def test_inputs_that_are_not_finite_are_refused_and_not_ranked():
    with pytest.raises(UsageError, match="wanda: expected finite inputs of weight, got nan or inf"):
        wanda(context_of(nn.Linear(2, 2), torch.tensor([[1.0, float("nan")]])))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_is_scored_by_the_unfolded_inputs_of_its_group(groups: int):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, padding=1, stride=2, groups=groups)
    inputs = torch.randn(3, 4, 5, 5)
    scores = wanda(context_of(layer, inputs))["weight"]
    padded = np.pad(inputs.double().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    for out, into, row, column in np.ndindex(8, 4 // groups, 3, 3):
        channel = out // (8 // groups) * (4 // groups) + into
        seen = padded[:, channel, row : row + 5 : 2, column : column + 5 : 2]
        expected = abs(layer.weight[out, into, row, column].item()) * np.sqrt((seen**2).sum())
        assert scores[out, into, row, column].item() == pytest.approx(expected, rel=1e-6)


def test_with_uncorrelated_inputs_no_mask_of_the_same_rows_loses_less():
    """Brute force: where X X^T is diagonal, the squared error of a row is the sum of its removed squared scores."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(6, 3, bias=False)
    layer.weight.data = torch.randn(3, 6, generator=generator)
    inputs = torch.linalg.qr(torch.randn(20, 6, generator=generator)).Q * torch.tensor([0.1, 1.0, 5.0, 2.0, 0.5, 1.0])
    scores = within_rows(wanda(context_of(layer, inputs)))
    kept = select(scores, pattern=Pattern.parse("unstructured"), sparsity=0.5).mask["weight"]
    for row, keep in zip(layer.weight.data, kept, strict=True):
        errors = {
            removed: float(((inputs[:, list(removed)] @ row[list(removed)]) ** 2).sum())
            for removed in combinations(range(6), 3)
        }
        assert tuple((~keep).nonzero().flatten().tolist()) == min(errors, key=errors.__getitem__)


def layer_error(weight: np.ndarray, kept: np.ndarray, inputs: np.ndarray) -> float:
    return float((((weight * ~kept) @ inputs.T) ** 2).sum())


def test_on_correlated_inputs_the_error_lies_between_the_best_masks_and_magnitudes():
    """Against every mask of a row, enumerated; on the mean over layers, for unstructured and 2:4."""
    ours, best, magnitude = (np.zeros(2) for _ in range(3))
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        layer = nn.Linear(8, 2, bias=False)
        layer.weight.data = torch.randn(2, 8, generator=generator)
        scales = torch.exp(torch.randn(8, generator=generator))
        inputs = (torch.randn(50, 8, generator=generator) @ torch.randn(8, 8, generator=generator)) * scales
        weight, x = layer.weight.data.numpy(), inputs.numpy()
        scores = wanda(context_of(layer, inputs))["weight"]
        for which, scored in enumerate((scores, layer.weight.data.abs())):
            into = magnitude if which else ours
            rows = select(within_rows({"w": scored}), pattern=Pattern.parse("unstructured"), sparsity=0.5).mask["w"]
            into += [layer_error(weight, k.numpy(), x) for k in (rows, keep_n_of_m(scored, 2, 4, 1))]
        for row in weight:
            masks = [np.isin(np.arange(8), keep) for keep in combinations(range(8), 4)]
            errors = {mask.tobytes(): layer_error(row[None], mask[None], x) for mask in masks}
            of_pairs = [errors[m.tobytes()] for m in masks if m[:4].sum() == 2]
            best += [min(errors.values()), min(of_pairs)]
    assert bool((best <= ours).all()) and bool((ours < magnitude).all())
