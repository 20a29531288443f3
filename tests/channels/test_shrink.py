from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparsify.channels.shrink import shrink
from sparsify.errors import UsageError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "sigmoid": torch.sigmoid, "gelu": nn.GELU()}


class Mlp(nn.Module):
    def __init__(self, activation: str = "relu") -> None:
        super().__init__()
        self.fc1, self.fc2, self.output = nn.Linear(12, 8), nn.Linear(8, 6), nn.Linear(6, 3)
        self.act = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.act(self.fc2(self.act(self.fc1(x.flatten(1))))))


class Cnn(nn.Module):
    """Convolutions, then a flatten: one channel is four inputs of the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)
        self.output = nn.Linear(4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.conv2(torch.relu(self.conv1(x)))), 2)
        return self.output(x.flatten(1))


class Heads(nn.Module):
    """Attention that derives the number of heads from a width, as transformers do, before a layer that loses units."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.inner, self.output = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1).reshape(len(x), -1, 8)
        shape = (*tokens.shape[:2], -1, 4)
        q, k, v = (layer(tokens).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(tokens.shape)
        return self.output(torch.relu(self.inner(mixed)))


class Residual(nn.Module):
    """A stem and one block whose sum couples stem and second convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv1, self.norm1 = nn.Conv2d(6, 7, 3, padding=1, bias=False), nn.BatchNorm2d(7)
        self.conv2, self.norm2 = nn.Conv2d(7, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.output = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm0(self.stem(x)))
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return self.output(torch.relu(x + y).mean((2, 3)))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def agree(module: nn.Module, smaller: nn.Module, shape: tuple[int, ...]) -> bool:
    """Equal within 1e-6 on inputs that `shrink` did not see."""
    x = torch.randn(16, *shape, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        return torch.allclose(module.eval()(x), smaller(x), rtol=0, atol=1e-6)


def silence(layer: nn.Linear | nn.Conv2d, *channels: int, bias: float = 0.0) -> None:
    with torch.no_grad():
        layer.weight[list(channels)] = 0
        if layer.bias is not None:
            layer.bias[list(channels)] = bias


def test_a_network_without_dead_channels_is_left_whole():
    module = Mlp()
    shrunk = shrink(module, torch.randn(4, 1, 3, 4))
    assert (shrunk.removed, shrunk.skipped) == ({}, {})
    assert shrunk.bytes == sum(value.nbytes for value in module.state_dict().values())


def test_silent_unread_and_rectified_channels_go_and_constants_stay():
    module = Mlp()
    silence(module.fc1, 1)
    silence(module.fc1, 2, bias=-0.5)  # below 0: gone after the ReLU
    silence(module.fc1, 3, bias=0.5)  # a constant that is read: stays
    with torch.no_grad():
        module.fc2.weight[:, 4] = 0  # unread
    shrunk = shrink(module, torch.randn(4, 1, 3, 4))
    assert shrunk.removed == {"fc1": (1, 2, 4)}
    assert shrunk.model.fc1.weight.shape == (5, 12)
    assert shrunk.model.fc2.weight.shape == (6, 5)
    assert agree(module, shrunk.model, (1, 3, 4))


def test_what_only_the_dead_read_dies_too():
    module = Mlp()
    with torch.no_grad():
        module.output.weight[:, 2] = 0
        module.fc2.weight[:, 5] = 0
        module.fc2.weight[2, 5] = 1.0
    assert shrink(module, torch.randn(4, 1, 3, 4)).removed == {"fc1": (5,), "fc2": (2,)}


def test_the_outputs_of_the_last_layer_stay():
    module = Mlp()
    silence(module.output, 0)
    shrunk = shrink(module, torch.randn(4, 1, 3, 4))
    assert shrunk.removed == {}
    assert shrunk.model(torch.randn(2, 1, 3, 4)).shape == (2, 3)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_cannot_be_traced_or_runs_in_float32_alone_is_left_whole_and_reported():
    class Unfollowed(Mlp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    class Narrow(Mlp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.float())

    def scripted() -> nn.Module:
        network = Mlp()
        network.act = torch.jit.script(nn.ReLU())
        return network

    for kind, module, why in [
        (Unfollowed, "Unfollowed", "its channels cannot be traced, so none was removed: .* no gradient reaches"),
        (Narrow, "fc1", "it does not run in float64: RuntimeError"),
        (scripted, "act", "it is a scripted module"),
    ]:
        network = kind()
        silence(network.fc1, 1)
        shrunk = shrink(network, torch.randn(4, 1, 3, 4))
        assert shrunk.removed == {} and re.search(why, shrunk.skipped[module])
        assert agree(network, shrunk.model, (1, 3, 4))


def test_a_layer_keeps_one_channel():
    module = Mlp()
    silence(module.fc1, *range(8))
    shrunk = shrink(module, torch.randn(4, 1, 3, 4))
    assert len(shrunk.removed["fc1"]) == 7
    assert agree(module, shrunk.model, (1, 3, 4))


def test_a_channel_that_is_not_zero_after_its_activation_is_rolled_back_and_reported():
    module = Mlp("sigmoid")  # sigmoid(0) is 0.5: silent channels matter
    silence(module.fc1, 1)
    with torch.no_grad():
        module.fc2.weight[:, 4] = 0  # unread: gone whatever the activation
    shrunk = shrink(module, torch.randn(4, 1, 3, 4))
    assert agree(module, shrunk.model, (1, 3, 4))
    assert 1 not in shrunk.removed.get("fc1", ())
    assert "matter to what follows" in shrunk.skipped["fc1"]


def test_a_negative_constant_survives_where_no_relu_follows():
    module = Mlp("gelu")
    silence(module.fc1, 1, bias=-0.5)
    silence(module.fc1, 2)
    shrunk = shrink(module, torch.randn(4, 1, 3, 4))
    assert shrunk.removed == {"fc1": (2,)}
    assert agree(module, shrunk.model, (1, 3, 4))


def test_convolutions_and_the_flatten_behind_them():
    module = Cnn()
    silence(module.conv1, 0)
    with torch.no_grad():
        module.output.weight[:, 2 * 4 : 3 * 4] = 0
        module.output.weight[0, 3 * 4] = 0  # one of the four readers of channel 3
    shrunk = shrink(module, torch.randn(4, 3, 4, 4))
    assert shrunk.removed == {"conv1": (0,), "conv2": (2,)}
    assert shrunk.model.output.weight.shape == (3, 12)
    assert agree(module, shrunk.model, (3, 4, 4))


def test_a_residual_sum_needs_both_branches_silent():
    module = Residual()
    silence(module.stem, 1, 2)
    silence(module.conv2, 1, 3)  # 1 is silent in both; 2 and 3 in one only
    silence(module.conv1, 4)
    shrunk = shrink(module, torch.randn(4, 3, 8, 8))
    assert shrunk.removed == {"stem": (1,), "conv1": (4,), "conv2": (1,)}
    assert agree(module, shrunk.model, (3, 8, 8))


def test_a_batch_norm_that_shifts_a_silent_channel_upward_keeps_it():
    module = Residual()
    silence(module.conv1, 2, 3, 4)
    with torch.no_grad():
        module.norm1.bias[2], module.norm1.bias[3] = 0.5, -0.5
        module.norm1.running_mean[4], module.norm1.running_var[4] = -0.7, 2.0  # 0.7 / sqrt(2): above 0
    shrunk = shrink(module, torch.randn(4, 3, 8, 8))
    assert shrunk.removed == {"conv1": (3,)}
    assert agree(module, shrunk.model, (3, 8, 8))


def test_a_grouped_convolution_is_reported_not_cut():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(64, 3))
    silence(module[0], 1)
    shrunk = shrink(module, torch.randn(4, 3, 4, 4))
    assert shrunk.removed == {}
    assert "grouped convolution" in shrunk.skipped["0"]


def test_a_layer_norm_is_reported_not_cut():
    module = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))
    silence(module[0], 1)
    shrunk = shrink(module, torch.randn(4, 5))
    assert shrunk.removed == {}
    assert "LayerNorm" in shrunk.skipped["0"]


def test_tied_weights_are_not_parted():
    module = Mlp()
    module.fc2 = nn.Linear(8, 8)
    module.output = nn.Linear(8, 8)
    module.output.weight = module.fc2.weight
    silence(module.fc1, 1)
    shrunk = shrink(module, torch.randn(4, 1, 3, 4))
    assert shrunk.removed == {}
    assert shrunk.skipped == {"fc2.weight = output.weight": "tied weights would be parted"}


def test_frozen_parameters_are_no_obstacle_and_stay_frozen():
    module = Mlp().requires_grad_(False)
    silence(module.fc1, 1)
    shrunk = shrink(module, torch.randn(4, 1, 3, 4))
    assert shrunk.removed == {"fc1": (1,)}
    assert not any(parameter.requires_grad for parameter in shrunk.model.parameters())


def test_under_no_grad_the_same_goes():
    module = Mlp()
    silence(module.fc1, 1)
    with torch.no_grad():
        assert shrink(module, torch.randn(4, 1, 3, 4)).removed == {"fc1": (1,)}


def test_the_model_itself_its_mode_and_dtypes_are_kept():
    module = Residual().train()
    silence(module.conv1, 4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    shrunk = shrink(module, torch.randn(4, 3, 8, 8))
    assert module.training and not shrunk.model.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    dtypes = {name: value.dtype for name, value in shrunk.model.state_dict().items()}
    assert dtypes == {name: value.dtype for name, value in before.items()}
    assert shrunk.bytes == sum(value.nbytes for value in shrunk.model.state_dict().values())


def test_weights_that_are_not_finite_are_refused():
    module = Mlp()
    with torch.no_grad():
        module.fc1.weight[0, 0] = float("nan")
    with pytest.raises(UsageError, match="expected finite weights"):
        shrink(module, torch.randn(4, 1, 3, 4))


@pytest.mark.parametrize("seed", range(6))
def test_random_masks_shrink_to_equal_outputs(seed: int):
    generator = torch.Generator().manual_seed(seed)
    module = Residual().eval()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1:
                weight *= torch.rand(weight.shape, generator=generator) < 0.02
            elif "norm" in name:
                weight += torch.randn(weight.shape, generator=generator) * 0.3
    shrunk = shrink(module, torch.randn(4, 3, 8, 8, generator=generator))
    assert shrunk.removed
    assert agree(module, shrunk.model, (3, 8, 8))


def test_channels_whose_number_the_network_counts_on_are_rolled_back_and_what_else_is_dead_goes():
    model = Heads()
    with torch.no_grad():
        for layer, channel in ((model.q, 1), (model.k, 1), (model.v, 1), (model.inner, 2)):
            layer.weight[channel], layer.bias[channel] = 0, 0
    shrunk = shrink(model, torch.randn(2, 40))
    assert shrunk.removed == {"inner": (2,)}
    assert any("are counted on by what follows" in why for why in shrunk.skipped.values())
    assert shrunk.model.q.out_features == 8


def test_a_cut_that_torch_pruning_cannot_make_leaves_the_network_whole_and_is_told():
    """Behind ShuffleNet's shuffles it divides by zero; the network was refused whole for that."""
    pytest.importorskip("torchvision_schemas")
    models = pytest.importorskip("torchvision.models", reason="needs torchvision")
    network = models.shufflenet_v2_x0_5(weights=None, num_classes=3).eval()
    with torch.no_grad():
        network.conv5[0].weight[1:] = 0
    shrunk = shrink(network, torch.randn(2, 3, 32, 32))
    assert "torch-pruning ends in ZeroDivisionError" in shrunk.skipped["conv5.0"]
    assert agree(network, shrunk.model, (3, 32, 32)) and shrunk.removed == {}
