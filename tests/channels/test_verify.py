from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from cases_channels import IMAGES, Plain, Residual, lively
from sparsify.channels.group import Group
from sparsify.channels.trace import trace_groups
from sparsify.channels.verify import Verifier, jittered


def group_of(module: nn.Module, name: str) -> Group:
    return next(group for group in trace_groups(module, IMAGES) if name in group.writers)


def test_a_right_cut_has_no_fault():
    module = lively(Residual())
    verifier = Verifier(module, IMAGES, jitter=False)
    groups = trace_groups(module, IMAGES)
    cut = [group for group in groups if not group.obstacle]
    assert verifier.fault(cut, {group.root: (0, 3) for group in cut}) is None
    assert 0 <= verifier.difference < 1e-12 and verifier.dtype == torch.float64


def test_a_cut_of_the_wrong_columns_is_a_fault():
    module = lively(Residual())
    group = group_of(module, "conv1")
    moved = [replace(cut, places=(*cut.places[1:], cut.places[0])) if cut.side == "in" else cut for cut in group.cuts]
    wrong = replace(group, cuts=tuple(moved))
    twin = Verifier(module, IMAGES, jitter=True).fault([wrong], {wrong.root: (2,)})
    assert twin is not None and "differs from the masked one" in twin.reason


def test_a_cut_that_leaves_a_reader_too_wide_is_a_fault_of_the_reader():
    module = lively(Residual())
    group = group_of(module, "conv1")
    wrong = replace(group, cuts=tuple(cut for cut in group.cuts if cut.side != "in"))
    fault = Verifier(module, IMAGES, jitter=False).fault([wrong], {wrong.root: (2,)})
    assert fault is not None and fault.module == "conv2"
    assert fault.reason.startswith("conv2 does not run with fewer channels")


def test_a_cut_of_everything_is_a_fault():
    module = lively(Residual())
    group = group_of(module, "conv1")
    assert Verifier(module, IMAGES, jitter=False).fault([group], {group.root: tuple(range(12))}) is not None


def test_a_masked_network_that_is_not_finite_vouches_for_nothing():
    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            scale = self.weight.std((1, 2, 3), keepdim=True)  # 0 of a row of zeros
            return nn.functional.conv2d(input, self.weight / scale, self.bias, padding="same")

    module = lively(nn.Sequential(Standardised(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    group = group_of(module, "0")
    fault = Verifier(module, IMAGES, jitter=False).fault([group], {group.root: (2,)})
    assert fault is not None and "the masked one gives no finite output" in fault.reason


def test_a_model_that_makes_float32_of_its_own_is_compared_in_float32():
    class Single(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.output(torch.ones(len(x), 6, dtype=torch.float32))

    module = lively(Single())
    verifier = Verifier(module, IMAGES, jitter=True)
    group = group_of(module, "conv1")
    assert verifier.dtype == torch.float32
    assert verifier.fault([group], {group.root: (1,)}) is None


def test_jitter_moves_every_parameter_and_leaves_the_original():
    module = Residual()
    nn.init.zeros_(module.norm2.weight)
    moved = jittered(module)
    assert moved.norm2.weight.abs().min() > 0
    assert not module.norm2.weight.any()
    assert torch.equal(moved.norm2.running_var, module.norm2.running_var)


def test_weights_that_overflow_once_moved_are_tried_as_they_are():
    class Steep(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / (self.output.bias[0] == 0)

    module = Steep()
    nn.init.zeros_(module.output.bias)
    group = group_of(module, "conv1")
    assert Verifier(module, IMAGES, jitter=True).fault([group], {group.root: (1,)}) is None
