from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsify.criteria.compensation import Settings, prune_matrices
from sparsify.errors import UsageError
from sparsify.recipe.pattern import Pattern

UNSTRUCTURED, PAIRS = Pattern.parse("unstructured"), Pattern.parse("2:4")


def drawn(seed: int, rows: int, columns: int, samples: int = 40, groups: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A weight (groups, rows, columns), correlated inputs (groups, samples, columns) and their Hessian, in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(groups, rows, columns, dtype=torch.float64, generator=generator)
    mix = torch.randn(groups, columns, columns, dtype=torch.float64, generator=generator)
    inputs = torch.randn(groups, samples, columns, dtype=torch.float64, generator=generator) @ mix
    return weight, inputs, inputs.transpose(1, 2) @ inputs


def error(weight: Tensor, new: Tensor, inputs: Tensor) -> float:
    return float((((weight - new) @ inputs.transpose(1, 2)) ** 2).sum())


def least_squares(row: np.ndarray, kept: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    """The best values of the kept weights of a row, and the squared error that they leave."""
    new = np.zeros_like(row)
    if kept.any():
        new[kept] = np.linalg.lstsq(inputs[:, kept], inputs @ row, rcond=None)[0]
    return new, float(((inputs @ (row - new)) ** 2).sum())


@given(st.integers(0, 10**6), st.integers(2, 7))
def test_with_one_weight_removed_the_update_is_the_closed_form_of_optimal_brain_surgeon(seed: int, columns: int):
    """On the columns from the removed one on: dw = -w_p / [H^-1]_pp H^-1 e_p, the least-squares optimum too."""
    weight, inputs, hessian = drawn(seed, 1, columns)
    keep, new = prune_matrices(weight, hessian, Settings(UNSTRUCTURED, damping=0.0), 1 / columns, "w")
    [p] = (~keep[0, 0]).nonzero().flatten().tolist()
    inverse = torch.linalg.inv(hessian[0, p:, p:])
    expected = weight[0, 0].clone()
    expected[p:] -= weight[0, 0, p] / inverse[0, 0] * inverse[0]
    assert torch.allclose(new[0, 0], expected, rtol=1e-8, atol=1e-9)
    right, target = inputs[0, :, p + 1 :].numpy(), inputs[0, :, p:].numpy() @ weight[0, 0, p:].numpy()
    if p + 1 < columns:
        optimum = np.linalg.lstsq(right, target, rcond=None)[0]
        np.testing.assert_allclose(new[0, 0, p + 1 :].numpy(), optimum, rtol=1e-6, atol=1e-8)
    costs = [weight[0, 0, j] ** 2 / torch.linalg.inv(hessian[0, j:, j:])[0, 0] for j in range(columns)]
    assert int(torch.stack(costs).argmin()) == p


@given(
    st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([1, 3, 4, 128]), st.sampled_from([UNSTRUCTURED, PAIRS])
)
@settings(max_examples=40)
def test_the_new_weights_are_those_of_eliminating_column_after_column(
    seed: int, rows: int, blocksize: int, pattern: Pattern
):
    """The same mask, compensated column by column with a fresh inverse each time (equation 3): no Cholesky factor."""
    weight, _, hessian = drawn(seed, rows, 8)
    damping = 0.01
    keep, new = prune_matrices(weight, hessian, Settings(pattern, blocksize, damping), 0.5, "w")
    damped = hessian[0] + damping * hessian[0].diagonal().mean() * torch.eye(8, dtype=torch.float64)
    expected = weight[0].clone()
    for j in range(8):
        inverse = torch.linalg.inv(damped[j:, j:])
        removed = torch.where(keep[0, :, j], 0.0, expected[:, j])
        expected[:, j:] -= removed[:, None] / inverse[0, 0] * inverse[0]
    assert torch.allclose(new[0], expected.masked_fill(~keep[0], 0.0), rtol=1e-7, atol=1e-8)
    assert int((~keep).sum()) == rows * 4
    assert not bool(new[~keep].any())
    if pattern is PAIRS:
        assert bool((keep[0].view(rows, 2, 4).sum(2) == 2).all())


@pytest.mark.parametrize("pattern", [UNSTRUCTURED, PAIRS], ids=str)
def test_the_error_lies_between_the_best_mask_with_the_best_weights_and_magnitude(pattern: Pattern):
    """Brute force: every mask of a row of 8, each with its least-squares weights, is the bound from below."""
    ours, best, magnitude, same_mask = [], [], [], []
    for seed in range(40):
        weight, inputs, hessian = drawn(seed, 1, 8)
        keep, new = prune_matrices(weight, hessian, Settings(pattern, damping=1e-6), 0.5, "w")
        row, x = weight[0, 0].numpy(), inputs[0].numpy()
        masks = [np.isin(np.arange(8), kept) for kept in combinations(range(8), 4)]
        allowed = [mask for mask in masks if pattern is UNSTRUCTURED or mask[:4].sum() == 2]
        best.append(min(least_squares(row, mask, x)[1] for mask in allowed))
        same_mask.append(least_squares(row, keep[0, 0].numpy(), x)[1])
        ours.append(error(weight, new, inputs))
        absolute = np.abs(row)
        largest = max(allowed, key=lambda mask: absolute[mask].sum())
        magnitude.append(float(((x @ (row * ~largest)) ** 2).sum()))
    for low, mine in zip(best, ours, strict=True):
        assert low <= mine * (1 + 1e-9)
    for low, mine in zip(same_mask, ours, strict=True):
        assert low <= mine * (1 + 1e-9)
    assert np.mean(ours) < np.mean(magnitude)


def test_with_uncorrelated_inputs_it_removes_what_costs_least_and_changes_nothing_else():
    weight = torch.tensor([[[1.0, -2.0, 3.0, 0.5], [0.1, 4.0, -0.2, 5.0]]], dtype=torch.float64)
    hessian = torch.diag(torch.tensor([100.0, 1.0, 1.0, 1.0], dtype=torch.float64))[None]
    keep, new = prune_matrices(weight, hessian, Settings(UNSTRUCTURED, damping=0.0), 0.5, "w")
    assert keep.tolist() == [[[True, False, True, False], [False, True, False, True]]]  # 10 1 against 2, 3, ...
    assert torch.equal(new, weight.masked_fill(~keep, 0.0))


@given(st.integers(0, 99), st.integers(1, 4), st.floats(0, 0.999), st.integers(1, 9))
@settings(max_examples=50)
def test_counts_are_exact_over_all_groups(seed: int, groups: int, sparsity: float, blocksize: int):
    weight, _, hessian = drawn(seed, 3, 7, groups=groups)
    keep, _ = prune_matrices(weight, hessian, Settings(UNSTRUCTURED, blocksize), sparsity, "w")
    total = weight.numel()
    assert int((~keep).sum()) == min(int(np.floor(total * sparsity + 0.5)), total - 1)


def test_groups_are_compensated_each_by_its_own_inputs():
    weight, _, hessian = drawn(0, 2, 8, groups=3)
    together = prune_matrices(weight, hessian, Settings(PAIRS), 0.5, "w")[1]
    alone = [prune_matrices(weight[g : g + 1], hessian[g : g + 1], Settings(PAIRS), 0.5, "w")[1] for g in range(3)]
    assert torch.allclose(together, torch.cat(alone))


def test_equal_costs_remove_the_higher_index():
    weight, hessian = torch.ones(1, 2, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[None]
    keep, _ = prune_matrices(weight, hessian, Settings(UNSTRUCTURED), 0.5, "w")
    assert keep[0].tolist() == [[True] * 4, [False] * 4]
    keep, _ = prune_matrices(weight, hessian, Settings(PAIRS), 0.5, "w")
    assert keep[0].tolist() == [[True, True, False, False]] * 2


def test_inputs_of_zeros_cost_nothing_and_what_is_kept_of_them_keeps_its_value():
    weight, inputs, _ = drawn(0, 2, 4)
    inputs[..., 1] = 0.0
    hessian = inputs.transpose(1, 2) @ inputs
    keep, new = prune_matrices(weight, hessian, Settings(UNSTRUCTURED), 1 / 8, "w")
    assert not bool(keep[0, :, 1].all()) and bool(keep[0, :, [0, 2, 3]].all())
    assert torch.equal(new, weight.masked_fill(~keep, 0.0))
    nothing = torch.zeros(1, 4, 4, dtype=torch.float64)
    keep, new = prune_matrices(weight, nothing, Settings(PAIRS), 0.5, "w")
    smallest = weight.abs().argsort(-1)[..., :2]
    assert not bool(keep.gather(-1, smallest).any())


def test_a_singular_hessian_names_the_layer_and_the_mend():
    weight, inputs, _ = drawn(0, 1, 6, samples=3)
    hessian = inputs.transpose(1, 2) @ inputs
    assert bool(torch.isfinite(prune_matrices(weight, hessian, Settings(UNSTRUCTURED), 0.5, "w")[1]).all())
    with pytest.raises(UsageError, match=r"inputs of fc\.weight that span its 6 columns.*--calibration N.*damp"):
        prune_matrices(weight, 0 * hessian + torch.ones(6, 6), Settings(UNSTRUCTURED, damping=0.0), 0.5, "fc.weight")


def test_settings_are_checked():
    with pytest.raises(UsageError, match=r"unstructured or n:m, got block:4x1"):
        Settings(Pattern.parse("block:4x1"))
    with pytest.raises(UsageError, match=r"a blocksize from 1 and a damping from 0, got 0 and 0.01"):
        Settings(UNSTRUCTURED, 0)
    with pytest.raises(UsageError, match=r"got 128 and nan"):
        Settings(UNSTRUCTURED, damping=float("nan"))
    assert Settings(PAIRS, 5).columns == 8
