from __future__ import annotations

import pytest
import torch
import torch_pruning

from cases_channels import IMAGES, Plain, Residual, lively
from sparsify.channels.group import Cut, Group
from sparsify.channels.importance import check_scores, importance
from sparsify.channels.trace import trace_groups
from sparsify.criteria.context import Context
from sparsify.criteria.magnitude import magnitude
from sparsify.errors import UsageError
from sparsify.models.build import prunable


def test_scores_of_all_slices_are_summed_and_divided_by_the_mean():
    scores = {"a.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b.weight": torch.tensor([[1.0, 0.0], [0.0, 5.0]])}
    cuts = (
        Cut("a.weight", 0, ((0,), (1,)), "out"),
        Cut("a.bias", 0, ((0,), (1,)), "out"),
        Cut("b.weight", 1, ((0,), (1,)), "in"),
    )
    worth = importance(Group("a", "channels", cuts, (), 2), scores)
    assert worth.tolist() == [4.0 / 8.0, 12.0 / 8.0]


def test_a_unit_of_several_slices_has_the_sum_of_them():
    cuts = (Cut("a.weight", 0, ((0, 3), (1, 2)), "out"),)
    scores = {"a.weight": torch.tensor([[1.0], [2.0], [3.0], [10.0]])}
    assert importance(Group("a", "heads", cuts, (), 2), scores).tolist() == [11 / 8, 5 / 8]


@pytest.mark.parametrize("scores", [[-3.0, -2.0, 1.0], [3.0, -3.0, 0.1], [3.0, 2.0, 1.0]], ids=["loss", "even", "gain"])
def test_signed_scores_compete_at_one_scale_whatever_they_sum_to(scores: list[float]):
    cuts = (Cut("a.weight", 0, ((0,), (1,), (2,)), "out"),)
    group = Group("a", "channels", cuts, (), 3)
    for scale in (1e-6, 1.0, 1e6):
        worth = importance(group, {"a.weight": torch.tensor(scores, dtype=torch.float64).unsqueeze(1) * scale})
        assert float(worth.abs().mean()) == pytest.approx(1)
        assert worth.argsort().tolist() == torch.tensor(scores).argsort().tolist()


def test_without_any_score_all_units_are_worth_the_same():
    assert importance(Group("a", "channels", (), (), 3), {}).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("model", [Plain(), Residual()], ids=["plain", "residual"])
def test_of_magnitude_it_is_torch_prunings_group_norm(model: torch.nn.Module):
    model = lively(model).eval()
    scores = magnitude(Context(model, prunable(model), seed=0))
    ours = {g.root: importance(g, scores) for g in trace_groups(model, IMAGES)}
    graph = torch_pruning.DependencyGraph().build_dependency(model, [IMAGES], verbose=False)
    theirs = torch_pruning.importance.GroupMagnitudeImportance(
        p=1,
        group_reduction="sum",
        normalizer="mean",
        target_types=[torch.nn.modules.conv._ConvNd, torch.nn.Linear],
    )
    names = {module: name for name, module in model.named_modules()}
    for group in graph.get_all_groups():
        names_out = [names[d.target.module] for d, _ in group if names.get(d.target.module) in ours]
        root = next(name for name in names_out if len(ours[name]) == len(group[0].idxs))
        torch.testing.assert_close(ours[root].float(), theirs(group).detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "scores, message",
    [
        ({}, r"scores of conv1.weight: expected shape \(8, 3, 3, 3\), got none"),
        ({"conv1.weight": torch.zeros(2)}, r"got \(2,\)"),
        ({"conv1.weight": torch.full((8, 3, 3, 3), torch.nan)}, "expected finite numbers"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores: dict[str, torch.Tensor], message: str):
    with pytest.raises(UsageError, match=message):
        check_scores(Plain(), scores, ("conv1.weight",))
