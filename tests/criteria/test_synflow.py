from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from sparsify.criteria.context import Context
from sparsify.criteria.synflow import exponential_sparsities, synflow
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.masks.select import select
from sparsify.recipe.pattern import Pattern


def mlp(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def context_of(model: nn.Module, inputs: Tensor) -> Context:
    names = tuple(name for name, parameter in model.named_parameters() if parameter.dim() > 1)
    return Context(model, names, 0, [(inputs, torch.zeros(len(inputs)))])


def test_a_score_is_the_sum_over_paths_through_a_weight():
    model = mlp(3, 4, 2)
    scores = synflow(context_of(model, torch.randn(5, 3)))
    first, second = (model[index].weight.data.double().abs() for index in (0, 2))
    for i in range(4):
        for j in range(3):
            paths = sum(float(second[o, i] * first[i, j]) for o in range(2))
            assert float(scores["0.weight"][i, j]) == pytest.approx(paths, rel=1e-12)
    for o in range(2):
        for i in range(4):
            paths = sum(float(second[o, i] * first[i, j]) for j in range(3))
            assert float(scores["2.weight"][o, i]) == pytest.approx(paths, rel=1e-12)


def test_flow_is_conserved_from_layer_to_layer():
    """Tanaka et al., theorem 2: without biases every layer's scores sum to the flow."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3, bias=False)
    )
    model[1].running_var.uniform_(0.5, 2.0)
    scores = synflow(context_of(model, torch.randn(2, 1, 4, 4)))
    assert float(scores["0.weight"].sum()) == pytest.approx(float(scores["4.weight"].sum()), rel=1e-12)


def test_a_deep_wide_network_whose_flow_float32_cannot_hold():
    model = mlp(*[100] * 60)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.data.fill_(0.1)  # a factor of 10 a layer: 1e59, and float32 ends at 3e38
    scores = synflow(context_of(model, torch.randn(1, 100)))
    assert all(float(score.sum()) == pytest.approx(1e61, rel=1e-6) for score in scores.values())


def test_the_inputs_values_are_not_read():
    model = mlp(3, 4, 2)
    one, two = (synflow(context_of(model, torch.randn(5, 3) * scale)) for scale in (1, 100))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_relu6_counts_as_a_relu_and_is_left_as_it_was():
    capped, free = mlp(30, 30, 30, 2), mlp(30, 30, 30, 2)
    for index in (1, 3):
        capped[index] = nn.ReLU6(inplace=True)
    ours, theirs = (synflow(context_of(model, torch.randn(1, 30))) for model in (capped, free))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert capped(torch.full((1, 30), 1e6)).shape == (1, 2) and capped[1].max_val == 6.0


@pytest.mark.parametrize("cut", [nn.Sigmoid(), nn.Hardtanh()], ids=lambda cut: type(cut).__name__)
def test_a_layer_that_no_flow_reaches_is_named(cut: nn.Module):
    model = mlp(30, 30, 2)
    model[0].weight.data *= 1000
    model[1] = cut
    with pytest.raises(UsageError, match=r'flow through every layer, got none through 0\.weight.*"0\.weight": 0'):
        synflow(context_of(model, torch.randn(1, 30)))


def test_tokens_are_refused():
    with pytest.raises(UsageError, match=r"synflow: expected floating-point inputs, got torch.int64"):
        synflow(context_of(mlp(3, 2), torch.zeros(1, 3, dtype=torch.int64)))


def test_the_schedule_is_exponential_in_density():
    steps = exponential_sparsities(0.99, 100)
    densities = [1 - sparsity for sparsity in steps]
    assert steps[-1] == 0.99
    assert all(b / a == pytest.approx(0.01**0.01) for a, b in itertools.pairwise([1.0, *densities]))
    assert exponential_sparsities(0.5, 1) == (0.5,)
    for sparsity, count in ((1.0, 10), (-0.1, 10), (0.5, 0)):
        with pytest.raises(UsageError, match="expected a sparsity"):
            exponential_sparsities(sparsity, count)


def test_in_steps_no_layer_collapses_where_one_step_empties_one():
    """Tanaka et al., figures 1 and 3: maximal critical sparsity is reached by iterating alone."""
    model = mlp(40, 200, 2, 200, 4)
    sparsity = 0.9985

    def pruned(schedule: tuple[float, ...]) -> Mask:
        network = mlp(40, 200, 2, 200, 4)
        network.load_state_dict(model.state_dict())
        mask = Mask.dense(network, tuple(name for name, _ in network.named_parameters()))
        for target in schedule:
            scores = synflow(context_of(network, torch.randn(1, 40)))
            mask = select(scores, pattern=Pattern.parse("unstructured"), sparsity=target).mask
            mask.apply_(network)
        return mask

    assert min(pruned((sparsity,)).layer_kept.values()) == 0
    assert min(pruned(exponential_sparsities(sparsity, 100)).layer_kept.values()) > 0
