from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from sparsify.errors import CorruptError, UsageError
from sparsify_export.parity import FP32_EPS, Tolerance, check_parity, tolerance_of
from sparsify_export.runtimes.fake import FakeClock, FakeRuntime

IMAGES = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
LOOSE = Tolerance(1e-3, "a test's")


def fake(change: Callable[[np.ndarray], np.ndarray] = lambda out: out) -> FakeRuntime:
    return FakeRuntime(lambda: 1.0, lambda feed: {"logits": change(feed["input"] * 2)}, FakeClock())


def test_every_batch_size_is_compared_and_a_remainder_left_out():
    runtime = fake(lambda out: out + np.float32(1e-4))
    parity = check_parity(runtime, fake(), {4: IMAGES, 1: IMAGES[:3]}, LOOSE)
    assert [batch.batch_size for batch in parity.batches] == [1, 4]
    assert runtime.inferences == 3 + 2
    for batch, seen in zip(parity.batches, (IMAGES[:3], IMAGES[:8]), strict=True):
        assert batch.max_abs_error == pytest.approx(1e-4, rel=1e-2)
        assert batch.max_rel_error == pytest.approx(1e-4 / np.abs(seen * 2).max(), rel=1e-2)
        assert batch.argmax_agreement == 1.0
    assert parity.to_json()["tolerance"]["reason"] == "a test's"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: out + 0.1, r"expected errors up to .* \(a test's\), got 0\.1"),
        (lambda out: np.where(out == out.max(), np.nan, out), "got nan"),
        (lambda out: out[:, :2], r"expected outputs of shape \(8, 4\), got \(8, 2\)"),
    ],
    ids=["too far", "not a number", "another shape"],
)
def test_a_runtime_that_differs_is_not_to_be_trusted(change, message: str):
    with pytest.raises(CorruptError, match=message):
        check_parity(fake(change), fake(), {4: IMAGES}, LOOSE)


def test_a_reference_that_is_not_finite_never_passes():
    nan = fake(lambda out: out * np.float32("nan"))
    with pytest.raises(CorruptError):
        check_parity(nan, nan, {4: IMAGES}, LOOSE)


def test_zero_outputs_agree_with_zero_outputs():
    zero = fake(lambda out: out * 0)
    assert check_parity(zero, zero, {4: IMAGES}, LOOSE).batches[0].max_rel_error == 0


def test_too_few_inputs_for_a_batch():
    with pytest.raises(UsageError, match="at least one batch of 16 inputs, got 10"):
        check_parity(fake(), fake(), {16: IMAGES}, LOOSE)


def test_the_tolerance_states_depth_and_fan_in():
    module = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Linear(16, 2))
    tolerance = tolerance_of(module)
    assert tolerance.relative == pytest.approx(FP32_EPS * 2 * 75**0.5)
    assert "2 layers x sqrt(fan-in 75)" in tolerance.reason


def test_the_tolerance_holds_sums_in_another_order():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    images = torch.randn(64, 784)
    with torch.no_grad():
        difference = (module(images).double() - module.double()(images.double())).abs().max()
        largest = module(images.double()).abs().max()
    assert difference <= tolerance_of(module).relative * largest


def test_a_module_without_weights_has_no_tolerance():
    with pytest.raises(UsageError, match="one with none"):
        tolerance_of(nn.ReLU())
