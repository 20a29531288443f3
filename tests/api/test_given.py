"""What a caller gives is taken in every form that can be meant, and refused by its argument's name otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count, islice
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.utils.data import DataLoader, TensorDataset

from cases import same_bits
from sparsify.api.preflight import preflight
from sparsify.api.prune import prune
from sparsify.api.sensitivity import sensitivity
from sparsify.errors import UsageError

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(24, 16, generator=GENERATOR), torch.arange(24) % 3
PAIRS = [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3)).eval()


@pytest.mark.parametrize(
    "given",
    [
        lambda: DataLoader(TensorDataset(X, Y), batch_size=8),
        lambda: iter(PAIRS),
        lambda: (pair for pair in PAIRS),
        lambda: islice(DataLoader(TensorDataset(X, Y), batch_size=8), 3),
    ],
    ids=["loader", "iterator", "generator", "slice"],
)
@pytest.mark.parametrize("asked", [{"criterion": "wanda"}, {"pattern": "channel"}], ids=["wanda", "channel"])
def test_any_iterable_of_pairs_does_what_a_list_does(model, given: Callable[[], Any], asked: dict[str, Any]):
    expected = prune(model, sparsity=0.5, batches=PAIRS, **asked)
    found = prune(model, sparsity=0.5, batches=given(), **asked)
    assert same_bits(found.model.state_dict(), expected.model.state_dict())


def test_a_loader_that_nothing_looks_at_is_not_read(model):
    endless = ((X, Y) for _ in count())
    prune(model, sparsity=0.5, batches=endless)
    prune(model, sparsity=0.5, batches=endless, pattern="channel")  # one
    read = iter(PAIRS)
    prune(model, sparsity=0.5, batches=read, pattern="channel")
    assert next(read)[0] is PAIRS[1][0]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (X, r"^batches: expected an iterable of \(inputs, targets\) pairs, got Tensor; write \[\(inputs, targets\)\]"),
        (3, "^batches: .* got int"),
        ([X], "^batches: .* got a Tensor in it; .*wrap yours"),
        ([(X,)], "^batches: .* got a tuple of 1 in it"),
        ([{"input_ids": X, "attention_mask": X}], r"got a dict with input_ids, attention_mask in it.*self.net\("),
        ([((X, X), Y)], r"^batches: expected inputs that are one tensor \(N, ...\), got tuple; .*wrap yours"),
        ([({"input_ids": X}, Y)], "^batches: expected inputs that are one tensor .*, got dict"),
        ([(X / 0, Y)], "^batches: expected finite inputs, got nan or inf"),
        ([(X[:0], Y[:0])], r"^batches: expected inputs \(N, ...\) of some examples, got shape \(0, 16\)"),
        ([(X[:, :9], Y)], r"^batches: expected inputs that the network takes, .* \('N', 9\), .*RuntimeError: mat1"),
    ],
    ids=["a tensor", "a number", "tensors", "alone", "dicts", "two inputs", "a dict", "infinite", "nothing", "width"],
)
def test_what_is_no_pair_of_tensors_is_refused_by_name(model, batches: Any, message: str):
    with pytest.raises(UsageError, match=message):
        prune(model, sparsity=0.5, criterion="wanda", batches=batches)


@pytest.mark.parametrize("asked", [{"criterion": "wanda"}, {"pattern": "channel"}], ids=["wanda", "channel"])
def test_outputs_that_are_not_finite_are_refused(model, asked: dict[str, Any]):
    model[0].bias.data[3] = float("inf")
    with pytest.raises(UsageError, match=r"^model: expected finite outputs for these batches, got nan or inf"):
        prune(model, sparsity=0.5, batches=PAIRS, **asked)


def test_a_loss_that_looks_at_no_targets_needs_none(model):
    def peaked(output: torch.Tensor, _: object) -> torch.Tensor:
        return output.square().mean()

    found = prune(model, sparsity=0.5, criterion="snip", batches=[(X, None)], loss=peaked)
    assert found.mask == prune(model, sparsity=0.5, criterion="snip", batches=[(X, Y)], loss=peaked).mask


def test_inputs_of_preflight_are_held_to_the_same(model):
    with pytest.raises(UsageError, match=r"^example: expected inputs that are one tensor .*, got dict; .*wrap yours"):
        preflight(model, {"x": X})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=r"^example: expected inputs that the network takes"):
        preflight(model, X[:, :9])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sparsity": "0.5"}, r"^sparsity: expected a number, got '0.5' \(str\)"),
        ({"sparsity": True}, "^sparsity: expected a number, got True"),
        ({"macs": "half", "pattern": "channel"}, "^macs: expected a number"),
        ({"sparsity": 0.5, "seed": "a"}, "^seed: expected a whole number, got 'a'"),
        ({"sparsity": 0.5, "pattern": "channel", "round_to": 1.5}, "^round_to: expected a whole number, got 1.5"),
        ({"sparsity": 0.5, "evaluate": lambda _: {"accuracy": 1}}, "^evaluate: expected .* one number, .* got dict"),
        ({"sparsity": 0.5, "evaluate": lambda _: X}, "^evaluate: expected .* one number, .* got Tensor"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value,
)
def test_other_arguments_of_another_type_are_named(model, asked: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        prune(model, batches=PAIRS, **asked)


def test_what_measures_returns_a_number(model):
    with pytest.raises(UsageError, match=r"^measure: expected a function that returns one number.* got NoneType"):
        sensitivity(model, lambda _: None)  # pyright: ignore[reportArgumentType, reportReturnType]


def locked() -> nn.Module:
    module = nn.Linear(4, 4)
    module.lock = threading.Lock()
    return module


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda: nn.Linear(3, 3).state_dict(),
            "^model: expected a torch.nn.Module, got OrderedDict; build .*load_state",
        ),
        (lambda: 42, "^model: expected a torch.nn.Module, got int"),
        (lambda: nn.Linear(4, 4, device="meta"), "^model: expected weights, got weight on the device meta"),
        (lambda: nn.Sequential(nn.LazyLinear(4)), r"^model: expected weights, got 0.weight without a shape yet"),
        (locked, "^model: expected a network that copy.deepcopy can copy, got TypeError: cannot pickle"),
    ],
    ids=["a state", "a number", "meta", "lazy", "a lock"],
)
def test_what_is_no_network_with_weights_is_refused(given: Callable[[], Any], message: str):
    for ask in (lambda model: prune(model, sparsity=0.5), lambda model: preflight(model, X[:, :4])):
        with pytest.raises(UsageError, match=message):
            ask(given())


def hooked(module: nn.Sequential, how: str) -> nn.Sequential:
    match how:
        case "prune":
            torch_prune.l1_unstructured(module[0], "weight", 0.5)
        case "bias":
            torch_prune.identity(module[0], "bias")
        case "weight_norm":
            nn.utils.weight_norm(module[0])
        case "spectral_norm":
            nn.utils.spectral_norm(module[0])
            module.train()(X)
        case _:
            module[0].seen = module(X)
    return module


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "channel"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("prune", r"leftover hooks of torch.nn.utils.prune.*call torch.nn.utils.prune.remove\(layer, 'weight'\) first"),
        ("bias", r"call torch.nn.utils.prune.remove\(layer, 'bias'\) first"),
        ("weight_norm", r"call torch.nn.utils.remove_weight_norm\(layer, 'weight'\) first"),
        ("spectral_norm", r"call torch.nn.utils.remove_spectral_norm\(layer, 'weight'\) first"),
        ("seen", "got seen, a tensor that a forward pass computed and autograd follows; detach it, or delete it"),
    ],
    ids=["prune", "bias", "weight_norm", "spectral_norm", "an output"],
)
def test_what_hooks_left_is_named_with_its_mend_before_anything_is_copied(model, how: str, message: str, pattern: str):
    target = {} if pattern == "2:4" else {"sparsity": 0.5}
    with pytest.raises(UsageError, match=f"^0: expected .*{message}"):
        prune(hooked(model, how), pattern=pattern, batches=PAIRS, **target)
