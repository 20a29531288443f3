from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from cases_channels import IMAGES, TOKENS, Plain, Residual, lively
from sparsify.channels.preflight import preflight
from sparsify.errors import UsageError
from sparsify.models.build import build, prunable

ZOO = {
    "lenet-300-100": (1, 28, 28),
    "lenet-5": (1, 28, 28),
    "conv-2": (1, 16, 16),
    "resnet-20": (3, 16, 16),
    "mobilenet-v2": (3, 32, 32),
}


def test_every_layer_is_named_with_what_becomes_of_it():
    found = preflight(lively(Residual()), IMAGES)
    assert [str(row) for row in found.rows] == [
        "says: skipped (layer says gives the network's output)",
        "stem: prunable",
        "conv1: prunable",
        "conv2: coupled with stem",
    ]
    assert [(row.kind, row.width) for row in found.rows] == [("Linear", 5), *[("Conv2d", w) for w in (8, 12, 8)]]
    assert json.loads(json.dumps(found.to_json()))[1]["status"] == "prunable"


@pytest.mark.parametrize("name", ZOO)
def test_of_the_zoo_everything_but_the_output_can_lose_channels(name: str):
    module = build(name, input_shape=ZOO[name], classes=10, seed=0)
    found = preflight(module, torch.randn(2, *ZOO[name]))
    assert [f"{row.module}.weight" for row in found.rows] == list(prunable(module))
    assert list(found.skipped) == [found.rows[-1].module]


def test_what_is_to_be_kept_is_kept_with_all_that_is_coupled_to_it():
    found = preflight(lively(Residual()), IMAGES, keep=["conv2*"])
    assert found.skipped["stem"] == found.skipped["conv2"] == "kept, because conv2 matches 'conv2*'"
    assert [group.root for group in found.groups] == ["conv1"]


def test_a_glob_that_matches_nothing_is_refused():
    with pytest.raises(UsageError, match=r"keep: 'conv9' matches no layer; there are says, stem, conv1, conv2"):
        preflight(Residual(), IMAGES, keep=["conv9"])


def test_a_layer_of_one_channel_stays():
    found = preflight(lively(Plain(channels=1)), IMAGES)
    assert found.skipped["conv1"] == "it has a single unit, and no layer can have none"


def test_a_layer_that_does_not_run_is_named():
    module = lively(Residual())
    module.spare = nn.Linear(8, 8)
    assert "does not run" in preflight(module, IMAGES).skipped["spare"]


def test_a_layer_whose_weight_is_used_without_it_is_named():
    class Borrowed(Residual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + nn.functional.linear(x.mean((1, 2, 3))[:, None], self.lent.weight)

    module = Borrowed()
    module.lent = nn.Linear(1, 5)
    assert "used by other code" in preflight(lively(module), IMAGES).skipped["lent"]


@pytest.mark.parametrize(
    ("inner", "rows"),
    [
        (nn.GRUCell(8, 8), {"inner.weight_ih": "skipped (", "inner.weight_hh": "skipped ("}),
        (nn.Embedding(5, 8), {"inner": "it does not run on the examples"}),
        (nn.ParameterList([torch.ones(1, 5, 8)]), {"inner.0": "coupled with first"}),
        (nn.ParameterList([torch.ones(8, 8)]), {"inner.0": "does not run with fewer channels"}),
    ],
    ids=["cell", "embedding", "added", "multiplied"],
)
def test_every_parameter_of_two_axes_has_a_row(inner: nn.Module, rows: dict[str, str]):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner, self.says = nn.Linear(16, 8), inner, nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.first(x))
            if isinstance(self.inner, nn.GRUCell):
                hidden = torch.stack([self.inner(each) for each in hidden])
            elif isinstance(self.inner, nn.ParameterList):
                weight = self.inner[0]
                hidden = hidden + weight if weight.ndim == 3 else hidden @ weight
            return self.says(hidden)

    module = lively(Net())
    found = preflight(module, TOKENS)
    told = {row.module: str(row) for row in found.rows}
    matrices = {name for name, value in module.named_parameters() if value.ndim > 1}
    assert {name.removesuffix(".weight") for name in matrices} == set(told)
    assert all(why in told[name] for name, why in rows.items()), told


def test_widths_that_code_takes_to_be_equal_are_told_though_half_of_each_would_agree():
    class Alike(nn.Module):
        """The output of one layer is shaped by the width of another, which nothing else ties to it."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(16, 12), nn.Linear(16, 12)
            self.output, self.other = nn.Linear(12, 3), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            a, b = torch.relu(self.first(x)), torch.relu(self.second(x))
            if a.shape[-1] != b.shape[-1]:
                raise ValueError("widths differ")
            return self.output(a) + self.other(b)

    found = preflight(lively(Alike()), TOKENS)
    for name in ("first", "second"):
        assert "does not run with fewer channels: widths differ" in found.skipped[name]
