"""`open_source` for what needs no other library: the zoo, allowed imports, plug-ins; what every source is held to."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cases import same_bits
from sparsify.errors import UnavailableError, UsageError
from sparsify.models.build import build, input_axes, prunable
from sparsify.models.network import Network
from sparsify.models.sources import check_training, open_source
from sparsify.store.weights import save_tensors

COUNTER = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module of a name of its own, which leaves a mark when it is run."""
    name = f"someones_nets_{next(COUNTER)}"
    (tmp_path / f"{name}.py").write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        import torch
        from torch import nn

        Path({str(tmp_path / "ran")!r}).touch()
        NUMBER = 3

        def make(width=4):
            return nn.Sequential(nn.Flatten(), nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 3))

        def plug(*, input_shape, classes, width=4):
            inputs = input_shape[0] * input_shape[1]
            return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.Linear(width, classes))

        def no_module():
            return 3

        class Pair(nn.Module):
            def forward(self, x):
                return x, x

        class Total(nn.Module):
            def forward(self, x):
                return x.sum()
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.fixture
def plugin(package: str, tmp_path: Path) -> str:
    """A distribution that offers `wide-net`."""
    info = tmp_path / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sparsify.models]\nwide-net = {package}:plug\n")
    return package


def test_the_zoo_opens_with_the_bits_that_build_gives():
    module, network = open_source("lenet-5", input_shape=(1, 28, 28), classes=10, seed=5)
    assert same_bits(module.state_dict(), build("lenet-5", input_shape=(1, 28, 28), classes=10, seed=5).state_dict())
    assert not module.training
    assert (network.model, network.input_shape, network.classes) == ("lenet-5", (1, 28, 28), 10)
    assert network.options == {} and network.channels == []


def test_a_checkpoint_fills_it(tmp_path):
    state = build("mlp:4-3-2", input_shape=(1, 2, 2), classes=2, seed=9).state_dict()
    save_tensors(tmp_path / "a.safetensors", {f"module.{key}": value for key, value in state.items()})
    module, _ = open_source("mlp:4-3-2", weights=tmp_path / "a.safetensors", input_shape=(1, 2, 2), classes=2)
    assert same_bits(module.state_dict(), state)


@pytest.mark.parametrize(
    ("source", "given", "says"),
    [
        ("lenet-5", {}, "expected an input shape and a number of classes, got None and None; name the data"),
        ("lenet-5", {"input_shape": (784,), "classes": 10}, r"expected input_shape \(channels, height, width\), got"),
        ("lenet5", {"input_shape": (1, 28, 28), "classes": 10}, "did you mean lenet-5"),
        ("lenet-5", {"input_shape": (1, 8, 8), "classes": 10}, "at least 16x16"),
    ],
)
def test_a_zoo_source_that_cannot_be_opened_says_why(source, given, says):
    with pytest.raises(UsageError, match=says):
        open_source(source, **given)


def test_nothing_is_imported_unless_allowed(package, tmp_path):
    with pytest.raises(UsageError, match=rf"importing {package} runs what is in it; .* --allow-import {package}"):
        open_source(f"{package}:make", input_shape=(8,), allow_import=("other",))
    assert not (tmp_path / "ran").exists()


def test_an_allowed_factory_is_called_with_its_arguments(package):
    module, network = open_source(f"{package}:make?width=6", input_shape=(8,), allow_import=(package,))
    assert [layer.out_features for layer in (module[1], module[3])] == [6, 3]
    assert (network.model, network.input_shape, network.classes) == (f"{package}:make?width=6", (8,), 3)
    with pytest.raises(UsageError, match="--allow-import"):
        network.build()
    assert network.build(allow_import=(package,)).state_dict().keys() == module.state_dict().keys()


def test_equal_seeds_give_equal_factories(package):
    first, second, third = (
        open_source(f"{package}:make", input_shape=(8,), allow_import=(package,), seed=seed)[0].state_dict()
        for seed in (1, 1, 2)
    )
    assert same_bits(first, second) and not same_bits(first, third)


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        ("make?depth=3", "expected a factory that takes depth, got: .*unexpected keyword argument"),
        ("none", "expected a function or class 'none' in .*, got none; "),
        ("maker", r"expected a function or class 'maker' in .*, got none; did you mean make\?"),
        ("NUMBER", "expected a function or class 'NUMBER' in .*, got 3"),
        ("no_module", r"expected it to return a torch\.nn\.Module, got int"),
        ("Pair", "expected one tensor of 2 rows for 2 inputs, got tuple; wrap the network"),
        ("Total", r"expected one tensor of 2 rows for 2 inputs, got a tensor of shape \(\)"),
        ("make?width=0.5", "expected"),
    ],
)
def test_what_a_factory_may_get_wrong(package, attribute, says):
    with pytest.raises(UsageError, match=says):
        open_source(f"{package}:{attribute}", input_shape=(8,), allow_import=(package,))


def test_inputs_that_the_network_does_not_take_are_told_with_their_shape(package):
    with pytest.raises(
        UsageError, match=r"expected a network that takes inputs of shape \(9,\), got RuntimeError: mat1"
    ):
        open_source(f"{package}:make", input_shape=(9,), allow_import=(package,))
    with pytest.raises(UsageError, match="expected an output for each of 5 classes, got 3; name a network"):
        open_source(f"{package}:make", input_shape=(8,), classes=5, allow_import=(package,))
    with pytest.raises(UsageError, match="expected the shape of one input, got none"):
        open_source(f"{package}:make", allow_import=(package,))


def test_a_factory_may_have_more_outputs_than_the_data_has_classes(package):
    module, network = open_source(f"{package}:make", input_shape=(8,), classes=2, allow_import=(package,))
    assert network.classes == module(torch.zeros(1, 8)).shape[1] == 3


def test_a_package_that_is_not_there_is_unavailable():
    with pytest.raises(UnavailableError, match=r"an importable module no_such_package\.nets, got: No module named"):
        open_source("no_such_package.nets:make", input_shape=(8,), allow_import=("no_such_package",))


def test_a_plug_in_is_built_by_its_name(plugin):
    module, network = open_source("plugin:wide-net?width=7", input_shape=(2, 3), classes=5)
    assert module[1].in_features == 6 and module[2].out_features == 5 and module[1].out_features == 7
    assert same_bits(network.build(weights=module.state_dict()).state_dict(), module.state_dict())


def test_a_plug_in_that_nobody_offers_is_unavailable_with_the_names_that_are(plugin):
    with pytest.raises(UnavailableError, match="did you mean wide-net"):
        open_source("plugin:wide-nets", input_shape=(2, 3), classes=5)
    with pytest.raises(UnavailableError, match="offered are wide-net; install the package"):
        open_source("plugin:zzz", input_shape=(2, 3), classes=5)
    with pytest.raises(UsageError, match="expected an input shape and a number of classes"):
        open_source("plugin:wide-net")


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 4)
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.output = torch.nn.Linear(4, 5)
        self.output.weight = self.embedding.weight


def test_tied_weights_are_prunable_once_and_embeddings_never():
    assert prunable(Tied()) == ("first.weight",)


def test_a_bare_layer_is_prunable_by_the_name_its_parameter_has():
    layer = torch.nn.Linear(2, 2)
    assert prunable(layer) == ("weight",) and input_axes(layer) == {}


class TwoFaced(nn.Sequential):
    """In training mode `changed` is done to what it returns in eval mode."""

    def __init__(self, changed: Callable[[torch.Tensor], object]) -> None:
        super().__init__(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
        self.changed = changed

    def forward(self, x: torch.Tensor) -> object:
        output = super().forward(x)
        return self.changed(output) if self.training else output


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        (lambda x: (x, x), "in training mode as in eval mode, got tuple; wrap"),
        (lambda x: x.unsqueeze(1), r"expected one tensor of shape \(2, 3\).*got a tensor of shape \(2, 1, 3\); wrap"),
        (lambda x: x @ x, "got RuntimeError: mat1 and mat2 .*; wrap.*--recover none"),
    ],
    ids=["a tuple", "a shape", "a failure"],
)
def test_a_network_that_returns_something_else_in_training_is_refused(changed: Callable[..., object], got: str):
    with pytest.raises(UsageError, match=got):
        check_training(TwoFaced(changed), Network("pkg:net", (6,), 3))


def test_a_network_that_trains_as_it_evaluates_is_left_as_it_was():
    module = TwoFaced(lambda x: x).eval()
    before, drawn = {name: value.clone() for name, value in module.state_dict().items()}, torch.get_rng_state()
    check_training(module, Network("pkg:net", (6,), 3))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not module.training and torch.equal(torch.get_rng_state(), drawn)
