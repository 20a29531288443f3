"""Every model of the zoo: its parameters counted as its paper does, its initial weights, its names, its export."""

from __future__ import annotations

from math import prod, sqrt

import pytest
import torch
from torch import nn

from sparsify.errors import UsageError
from sparsify.models.build import BUILDERS, build, prunable, unprunable
from sparsify.models.catalogue import MODELS

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)
ZOO = [*BUILDERS, "mlp:784-512-10"]


def shape_of(name: str) -> tuple[int, int, int]:
    return MNIST if name in ("lenet-300-100", "lenet-5") or name.startswith("mlp:") else CIFAR


def make(name: str, *, seed: int = 0) -> nn.Module:
    return build(name, input_shape=shape_of(name), classes=10, seed=seed)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def dense(fan_in: int, fan_out: int) -> int:
    return fan_in * fan_out + fan_out


def vgg_by_hand(depth: int, shape: tuple[int, int, int]) -> int:
    """Frankle & Carbin 2019, figure 2, added up layer by layer."""
    channels, height, width = shape
    count = 0
    for maps in (64, 64, 128, 128, 256, 256)[:depth]:
        count += dense(9 * channels, maps)
        channels = maps
    for _ in range(depth // 2):
        height, width = height // 2, width // 2
    return count + dense(channels * height * width, 256) + dense(256, 256) + dense(256, 10)


def test_the_catalogue_and_the_builders_name_the_same_models():
    assert set(BUILDERS) | {"mlp"} == set(MODELS)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        ("lenet-300-100", MNIST, 10, 266_610),
        ("lenet-5", MNIST, 10, 431_080),
        ("resnet-20", CIFAR, 10, 272_474),
        ("mobilenet-v2", (3, 224, 224), 1000, 3_504_872),
        ("mobilenet-v2", (1, 28, 28), 10, 3_504_872 - 990 * 1281 - 2 * 9 * 32),
        ("mlp:784-512-10", MNIST, 10, 407_050),
        ("mlp:784-10", MNIST, 10, 7_850),
        *((f"conv-{depth}", shape, 10, vgg_by_hand(depth, shape)) for depth in (2, 4, 6) for shape in (CIFAR, MNIST)),
    ],
)
def test_parameter_counts(name, shape, classes, count):
    assert parameters(build(name, input_shape=shape, classes=classes, seed=0)) == count


@pytest.mark.parametrize(("name", "published"), [("conv-2", 4.3e6), ("conv-4", 2.4e6), ("conv-6", 2.26e6)])
def test_conv_nets_have_the_size_published(name, published):
    """Except Conv-6: the paper's table says 1.7M, but the layers it lists add up to 2.26M."""
    assert parameters(make(name)) == pytest.approx(published, rel=0.012)


def test_resnet_20_has_the_projection_shortcuts_that_272k_counts():
    """Without the two 1x1 convolutions and their batch norms it has 269,722, as option A of He et al. 2016."""
    model = make("resnet-20")
    shortcuts = sum(p.numel() for name, p in model.named_parameters() if ".shortcut." in name)
    assert shortcuts == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert parameters(model) - shortcuts == 269_722


@pytest.mark.parametrize("name", ZOO)
def test_weights_have_the_papers_distribution_and_biases_are_zero(name):
    model = make(name)
    fan_out = name == "mobilenet-v2"
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            weight = module.weight.detach().double()
            field = prod(weight.shape[2:])
            into, out = weight.shape[1] * field, weight.shape[0] * field
            if name == "resnet-20":
                expected = sqrt(2 / into)
            elif fan_out:
                expected = 0.01 if isinstance(module, nn.Linear) else sqrt(2 / out)
            else:
                expected = sqrt(2 / (into + out))
            # five standard errors of a mean and of a deviation of n Gaussian draws
            n = weight.numel()
            assert weight.mean().abs() < 5 * expected / sqrt(n)
            assert abs(weight.std() / expected - 1) < 5 / sqrt(2 * n)
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.bias.any()


@pytest.mark.parametrize("name", ["lenet-300-100", "resnet-20"])
def test_weights_are_gaussian_and_not_truncated(name):
    """The share beyond two and three deviations; a uniform or a truncated normal has none beyond two."""
    model = make(name)
    largest = max((model.get_parameter(w) for w in prunable(model)), key=lambda w: w.numel()).detach()
    scores = (largest / largest.std()).abs()
    assert (scores > 2).double().mean().item() == pytest.approx(0.0455, abs=0.005)
    assert (scores > 3).double().mean().item() == pytest.approx(0.0027, abs=0.0015)


@pytest.mark.parametrize("name", ZOO)
def test_equal_seeds_give_equal_bits_and_others_other_weights(name):
    torch.manual_seed(1)
    first = make(name, seed=7).state_dict()
    torch.manual_seed(2)
    again, other = make(name, seed=7).state_dict(), make(name, seed=8)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(not torch.equal(first[key], other.get_parameter(key)) for key in prunable(other))


@pytest.mark.parametrize("name", ZOO)
def test_the_global_random_state_is_untouched(name):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    make(name)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("lenet-300-100", ["hidden1", "hidden2", "output"]),
        ("mlp:784-10", ["output"]),
        ("lenet-5", ["conv1", "conv2", "fc1", "output"]),
        ("conv-2", ["conv1", "conv2", "fc1", "fc2", "output"]),
        ("conv-4", ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2", "output"]),
        ("conv-6", ["conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc1", "fc2", "output"]),
    ],
)
def test_prunable_names_in_order(name, weights):
    assert prunable(make(name)) == tuple(f"{weight}.weight" for weight in weights)


@pytest.mark.parametrize("name", ZOO)
def test_prunable_is_every_weight_matrix_and_kernel(name):
    """No bias, no batch norm: exactly the parameters of two dimensions or more."""
    model = make(name)
    assert list(prunable(model)) == [key for key, parameter in model.named_parameters() if parameter.dim() > 1]


@pytest.mark.parametrize("name", ZOO)
def test_the_last_layer_gives_the_logits_and_has_the_name_recipes_use(name):
    model = make(name)
    expected = "classifier.1" if name == "mobilenet-v2" else "output"
    assert prunable(model)[-1] == f"{expected}.weight"
    assert model.get_submodule(expected).weight.shape[0] == 10


@pytest.mark.parametrize("name", ZOO)
def test_logits_and_gradients_reach_every_parameter(name):
    model = make(name)
    logits = model(torch.randn(8, *shape_of(name), generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (8, 10) and logits.isfinite().all()
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (name, (channels, entry.min_side, entry.min_side))
        for name, entry in MODELS.items()
        if name != "mlp"
        for channels in (1, 3)
    ],
)
def test_the_smallest_images_promised_are_taken(name, shape):
    model = build(name, input_shape=shape, classes=2, seed=0).eval()
    assert model(torch.zeros(2, *shape)).shape == (2, 2)


def test_models_that_do_not_fit_are_usage_errors():
    with pytest.raises(UsageError, match=r"model: mlp:784-10 takes 784 inputs .* write mlp:64-10"):
        build("mlp:784-10", input_shape=(1, 8, 8), classes=10, seed=0)
    with pytest.raises(UsageError, match="did you mean conv-2"):
        build("conv2", input_shape=CIFAR, classes=10, seed=0)


@pytest.mark.parametrize("name", ZOO)
def test_exports_with_a_dynamic_batch(name):
    model, shape = make(name).eval(), shape_of(name)
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(model, (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},)).module()
    for n in (1, 3):
        images = torch.randn(n, *shape, generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            torch.testing.assert_close(program(images), model(images))


def test_every_matrix_that_is_not_pruned_is_named_with_the_reason():
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(20, 8)
            self.memory, self.attention = nn.LSTM(8, 8), nn.MultiheadAttention(8, 2)
            self.experts = nn.Parameter(torch.zeros(3, 8, 8))
            self.small = nn.Parameter(torch.zeros(1, 2))
            self.inner, self.output = nn.Linear(8, 8), nn.Linear(8, 20)
            self.output.weight = self.words.weight

    model = Text()
    found = unprunable(model)
    assert set(found) == {
        "experts",
        "small",
        "words.weight",
        "memory.weight_ih_l0",
        "memory.weight_hh_l0",
        "attention.in_proj_weight",
        "output.weight",
    }
    assert "tied to the embedding words" in found["output.weight"]
    assert "looked up in" in found["words.weight"]
    assert "MultiheadAttention" in found["attention.in_proj_weight"]
    assert set(prunable(model)).isdisjoint(found)
    normed = nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 3)), nn.Conv2d(1, 2, 3))
    assert prunable(normed) == ("1.weight",)
    assert {name: "hooks compute the weight of this Linear" in why for name, why in unprunable(normed).items()} == {
        "0.weight_orig": True
    }
    assert unprunable(nn.Sequential(nn.Linear(3, 3), nn.Conv2d(1, 2, 3))) == {}
