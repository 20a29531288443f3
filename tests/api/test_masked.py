"""A mask holds exactly at every step, whatever optimiser steps and however; the oracle is the weight itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from cases import MLP, random_mask, tiny_data, tiny_model
from sparsify.api.masked import Masked
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask

DATA = tiny_data()


class Langevin(torch.optim.Optimizer):
    """Somebody else's optimiser: moves every weight at random, whatever its gradient (Welling & Teh 2011)."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                weight.add_(torch.randn_like(weight), alpha=group["lr"])


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum-decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adam-fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "rprop": lambda p: torch.optim.Rprop(p),
    "somebody-elses": Langevin,
}


def loss_of(model: nn.Module) -> torch.Tensor:
    return functional.cross_entropy(model(DATA.train.images[:16]), DATA.train.labels[:16])


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def holds(model: nn.Module, mask: Mask) -> bool:
    weights = dict(model.named_parameters())
    return all(bool((weights[name][~kept] == 0).all()) for name, kept in mask.items())


@pytest.fixture
def network() -> tuple[nn.Module, Mask]:
    model = tiny_model(MLP)
    return model, random_mask(model)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("made", ["before", "inside", "after-momentum"])
def test_removed_weights_are_zero_after_every_step_and_the_others_train(network, name, made):
    model, mask = network
    torch.manual_seed(0)
    optimizer = None if made == "inside" else OPTIMIZERS[name](model.parameters())
    if made == "after-momentum":
        for _ in range(3):
            step(model, optimizer)
    with Masked(model, mask):
        assert holds(model, mask)
        before = copy.deepcopy(model.state_dict())
        optimizer = optimizer or OPTIMIZERS[name](model.parameters())
        for _ in range(3):
            step(model, optimizer)
            assert holds(model, mask)
    assert holds(model, mask)
    weights = dict(model.named_parameters())
    assert all(bool((weights[name] != before[name])[kept].any()) for name, kept in mask.items())


def test_training_is_that_of_a_network_whose_removed_weights_do_not_exist(network):
    """The oracle: the same steps by hand, with the mask multiplied into the weights of a functional forward."""
    model, mask = network
    twin = copy.deepcopy(model)
    with Masked(model, mask):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        for _ in range(5):
            step(model, optimizer)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(5):
        named = dict(twin.named_parameters())
        effective = {name: weight * mask[name] if name in mask else weight for name, weight in named.items()}
        optimizer.zero_grad()
        output = torch.func.functional_call(twin, effective, (DATA.train.images[:16],))
        functional.cross_entropy(output, DATA.train.labels[:16]).backward()
        optimizer.step()
    for name, weight in twin.named_parameters():
        expected = weight * mask[name] if name in mask else weight
        torch.testing.assert_close(model.get_parameter(name), expected)


def test_a_grad_scaler_that_skips_and_one_that_steps(network):
    model, mask = network
    with Masked(model, mask):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for scale in (1.0, float("inf"), 1.0):
            optimizer.zero_grad()
            before = copy.deepcopy(model.state_dict())
            scaler.scale(loss_of(model) * scale).backward()
            scaler.step(optimizer)
            scaler.update()
            assert holds(model, mask)
            moved = any(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
            assert moved == (scale == 1.0)


def test_gradients_are_zero_where_weights_are_removed_also_over_accumulation_and_at_entry(network):
    model, mask = network
    loss_of(model).backward()
    with Masked(model, mask):
        for _ in range(2):
            weights = dict(model.named_parameters())
            assert all(bool((weights[name].grad[~kept] == 0).all()) for name, kept in mask.items())
            assert all(bool((weights[name].grad[kept] != 0).any()) for name, kept in mask.items())
            loss_of(model).backward()


def test_lbfgs_steps_by_a_closure(network):
    model, mask = network
    with Masked(model, mask):
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1)

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        optimizer.step(closure)
        assert holds(model, mask)


def test_after_leaving_nothing_is_held_and_it_can_be_entered_again(network):
    model, mask = network
    masked = Masked(model, mask)
    with masked:
        pass
    step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert not holds(model, mask)
    with masked:
        assert holds(model, mask)


def test_hooks_go_and_the_weights_stay_zero_when_training_fails(network):
    model, mask = network
    with pytest.raises(ZeroDivisionError), Masked(model, mask):
        raise ZeroDivisionError
    assert holds(model, mask)
    step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert not holds(model, mask)


def test_another_networks_optimiser_is_left_alone(network):
    model, mask = network
    other = copy.deepcopy(model)
    before = copy.deepcopy(other.state_dict())
    with Masked(model, mask):
        step(other, torch.optim.SGD(other.parameters(), lr=0.1))
        model.get_parameter("output.weight").data.fill_(1.0)
        step(other, torch.optim.SGD(other.parameters(), lr=0.1))
        assert bool((model.get_parameter("output.weight") == 1).all()), "not this network's step"
    assert not torch.equal(before["output.weight"], other.get_parameter("output.weight"))


def test_a_sparser_mask_from_here_on_and_a_regrown_one(network):
    model, mask = network
    sparser = Mask({name: kept & random_mask(model, seed=5)[name] for name, kept in mask.items()})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with Masked(model, mask) as masked:
        step(model, optimizer)
        masked.update(sparser)
        assert masked.mask == sparser
        step(model, optimizer)
        assert holds(model, sparser)
        masked.update(mask)
        step(model, optimizer)
        assert holds(model, mask) and not holds(model, sparser)


def test_two_masks_on_one_network_keep_what_both_keep(network):
    model, mask = network
    other = random_mask(model, seed=9)
    with Masked(model, mask), Masked(model, other):
        step(model, torch.optim.Adam(model.parameters(), lr=0.01))
        assert holds(model, mask) and holds(model, other)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model, backend="aot_eager"),
        nn.DataParallel,
        lambda model: nn.DataParallel(torch.compile(model, backend="aot_eager")),
    ],
    ids=["compiled", "data-parallel", "both"],
)
def test_a_wrapped_network_is_held_as_the_one_inside(network, wrap):
    model, mask = network
    wrapped = wrap(model)
    with Masked(wrapped, mask):
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            step(wrapped, optimizer)
            assert holds(model, mask)


def test_a_network_compiled_and_run_before_is_held_too(network):
    model, mask = network
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step(compiled, optimizer)
    with Masked(compiled, mask):
        step(compiled, optimizer)
        assert holds(model, mask)
        assert all(bool((model.get_parameter(name).grad[~kept] == 0).all()) for name, kept in mask.items())


def test_replaced_parameters_and_another_type_are_followed(network):
    """Moving a module may give it new parameters; their optimiser is new too."""
    model, mask = network
    with Masked(model, mask):
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(module.weight.detach().double())
                module.bias = nn.Parameter(module.bias.detach().double())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        functional.cross_entropy(model(DATA.train.images[:16].double()), DATA.train.labels[:16]).backward()
        optimizer.step()
        assert holds(model, mask)


def test_frozen_layers_and_sparse_gradients_pass():
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Flatten(), nn.Linear(8, 3))
    model[2].weight.requires_grad_(False)
    mask = Mask({f"{i}.weight": torch.rand(model[i].weight.shape) < 0.5 for i in (0, 2)})
    with Masked(model, mask):
        optimizer = torch.optim.SparseAdam([model[0].weight], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randint(9, (5, 2))).square().sum().backward()
            optimizer.step()
            assert holds(model, mask)


def test_a_copy_made_inside_is_free_and_can_be_saved(network, tmp_path):
    model, mask = network
    with Masked(model, mask):
        twin = copy.deepcopy(model)
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        step(twin, torch.optim.SGD(twin.parameters(), lr=0.1))
    assert not holds(twin, mask)


def test_a_mask_of_another_network_is_refused_and_leaves_no_hook(network):
    model, mask = network
    wrong = Mask({"output.weight": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(UsageError, match=r"mask output\.weight: expected shape \(2, 2\), got \(3, 8\)"):
        Masked(model, wrong).__enter__()
    with Masked(model, mask) as masked:
        with pytest.raises(UsageError, match="expected shape"):
            masked.update(wrong)
        assert masked.mask == mask
        with pytest.raises(UsageError, match="make a second"):
            masked.__enter__()
        step(model, torch.optim.SGD(model.parameters(), lr=0.1))
        assert holds(model, mask)
