"""Small networks with one trouble each for whoever removes channels, and the mask that a removal must agree with."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(7))
TOKENS = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(8))
IDS = torch.randint(0, 20, (3, 6), generator=torch.Generator().manual_seed(9))


class Residual(nn.Module):
    """A stem and one block: the sum couples the stem with the second convolution; its classifier comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.says = nn.Linear(8, 5)
        self.stem, self.norm0 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.conv2, self.norm2 = nn.Conv2d(12, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm0(self.stem(x)))
        x = torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))) + x)
        return self.says(x.mean(dim=(2, 3)))


class Plain(nn.Module):
    """Two convolutions and an output over flattened maps; `middle` acts between them on (N, channels, 8, 8)."""

    def __init__(self, middle: nn.Module | None = None, *, channels: int = 8, read: int | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.middle = middle or nn.ReLU()
        self.conv2 = nn.Conv2d(read or channels, 6, 3, padding=1)
        self.output = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2(self.middle(self.conv1(x))))
        return self.output(x.mean(dim=(2, 3)))


class Act(nn.Module):
    """A function as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # pyright: ignore[reportCallIssue]


class SelfAttention(nn.Module):
    """Attention over TOKENS with 4 heads of 4; `hides` recomputes the head size with a -1, as much code does."""

    def __init__(self, *, fused: bool = False, hides: bool = False, named: bool = True) -> None:
        super().__init__()
        self.hides = hides
        if named:
            self.num_heads = 4
        self._count = 4
        if fused:
            self.qkv = nn.Linear(16, 48)
        else:
            self.q_proj, self.k_proj, self.v_proj = (nn.Linear(16, 16) for _ in range(3))
        self.proj = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.num_heads if hasattr(self, "num_heads") else self._count
        size = -1 if self.hides else 4
        if hasattr(self, "qkv"):
            q, k, v = self.qkv(x).view(*x.shape[:2], 3, heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (
                layer(x).view(*x.shape[:2], heads, size).transpose(1, 2)
                for layer in (self.q_proj, self.k_proj, self.v_proj)
            )
        y = (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(*x.shape[:2], -1))


class Transformer(nn.Module):
    """A residual stream of 16 with one attention and one feed-forward layer, LayerNorm before each."""

    def __init__(self, attention: nn.Module | None = None, mlp: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 16)
        self.norm1, self.attn = nn.LayerNorm(16), attention or SelfAttention()
        self.norm2 = nn.LayerNorm(16)
        self.mlp = mlp or nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.norm3, self.output = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.output(self.norm3(x).mean(1))


class Mha(nn.Module):
    """torch's own attention, whose width is its heads times their size."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class PackedGlu(nn.Module):
    """Gate and value from one projection."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(16, 24), nn.Linear(12, 16)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)


class Recurrent(nn.Module):
    """A recurrent layer between two linear ones, over TOKENS."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embed, self.memory, self.output = nn.Linear(16, 12), kind(12, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.memory(self.embed(x))[0][:, -1])


class TiedText(nn.Module):
    """A text model whose output weight is its embedding; ids in, logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.fc1, self.fc2 = nn.Linear(16, 24), nn.Linear(24, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.head(x + self.fc2(torch.relu(self.fc1(x))))


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same model with every parameter and running statistic drawn anew, none of them at a neutral value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4 + 0.1)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


def outputs(model: nn.Module, example: Tensor) -> Tensor:
    """In float64 and evaluation mode, of a copy."""
    given = example.double() if example.is_floating_point() else example
    with torch.no_grad():
        return copy.deepcopy(model).double().eval()(given)


def silenced(model: nn.Module, removed: dict[tuple[str, int], list[int]]) -> nn.Module:
    """A copy with slices of tensors at zero: (tensor, axis) -> indices."""
    copied = copy.deepcopy(model)
    state = copied.state_dict()
    for (name, axis), indices in removed.items():
        state[name].index_fill_(axis, torch.tensor(indices), 0)
    return copied


def slices(history: list[dict[str, object]]) -> dict[tuple[str, int], list[int]]:
    """What a history cuts."""
    return {(e["tensor"], e["axis"]): e["removed"] for e in history if "tensor" in e}  # pyright: ignore


def agree(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-10)
