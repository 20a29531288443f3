"""The engine's control flow on a fake TensorRT that computes through the pointers it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fake_tensorrt import DataType, FakeDevice, FakeEngine, Severity, fake_module
from sparsify.errors import CorruptError, UnavailableError, UsageError
from sparsify_export.runtimes.tensorrt_engine import Engine

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def engine(device: FakeDevice | None = None, **how: Any) -> Engine:
    return Engine(fake_module(lambda _, logger: FakeEngine(WEIGHT, logger, **how)), b"plan", device or FakeDevice())


def batch(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((size, 4)).astype(np.float32)


def test_outputs_and_the_devices_milliseconds() -> None:
    outputs, elapsed_ms = engine().infer({"input": batch(3)})
    np.testing.assert_allclose(outputs["logits"], batch(3) @ WEIGHT, rtol=1e-6)
    assert elapsed_ms == 0.5


def test_dynamic_batches_reuse_buffers_of_equal_shape() -> None:
    device = FakeDevice()
    running = engine(device)
    for seed, size in enumerate((1, 8, 8, 2, 1)):
        outputs, _ = running.infer({"input": batch(size, seed)})
        np.testing.assert_allclose(outputs["logits"], batch(size, seed) @ WEIGHT, rtol=1e-5, atol=1e-5)
    assert device.allocated == [(1, 4), (1, 3), (8, 4), (8, 3), (2, 4), (2, 3), (1, 4), (1, 3)]


def test_an_earlier_output_is_not_overwritten_by_a_later_run() -> None:
    running = engine()
    first = running.infer({"input": batch(2, 0)})[0]["logits"]
    kept = first.copy()
    running.infer({"input": batch(2, 1)})
    np.testing.assert_array_equal(first, kept)


def test_strided_and_read_only_feeds_are_taken() -> None:
    feed = np.repeat(batch(4), 2, axis=1)[:, ::2]
    feed.flags.writeable = False
    np.testing.assert_allclose(engine().infer({"input": feed})[0]["logits"], batch(4) @ WEIGHT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, r"feed: expected the inputs \['input'\], got \[\]"),
        ({"input": batch(1), "more": batch(1)}, r"got \['input', 'more'\]"),
        (
            {"input": batch(9)},
            r"feed: input: expected a shape from \[1, 4\] to \[8, 4\] \(tuned for \[2, 4\].*got \[9, 4\]",
        ),
        ({"input": batch(0)}, r"got \[0, 4\]"),
        ({"input": batch(1)[0]}, r"got \[4\]"),
        ({"input": batch(1).astype(np.float64)}, "feed: input: expected float32, got float64"),
        ({"input": np.array([["a"] * 4])}, "feed: input: expected float32, got str32"),
    ],
    ids=["none", "too-many", "large-batch", "empty-batch", "rank", "double", "text"],
)
def test_a_feed_that_does_not_fit_is_usage(feed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        engine().infer(feed)


def test_a_fixed_shape_is_named_as_such() -> None:
    running = engine(static=True)
    assert running.infer({"input": batch(2)})[0]["logits"].shape == (2, 3)
    with pytest.raises(UsageError, match=r"expected shape \[2, 4\], got \[3, 4\]"):
        running.infer({"input": batch(3)})


def test_types_that_cannot_be_fed_are_unavailable() -> None:
    with pytest.raises(UnavailableError, match="tensor 'input' is a FP8"):
        engine(dtype=DataType.FP8)


def test_a_plan_that_does_not_load_is_corrupt_and_says_why() -> None:
    def refuse(_: bytes, logger: Any) -> None:
        logger.log(Severity.INFO, "Loaded engine size: 0 MiB")
        logger.log(Severity.ERROR, "Version tag does not match")

    with pytest.raises(CorruptError, match=r"TensorRT 10\.99 cannot load its plan: Version tag does not match"):
        Engine(fake_module(refuse), b"plan", FakeDevice())


def test_a_refused_run_says_why() -> None:
    running = engine()
    running._context.accepts = False
    with pytest.raises(UnavailableError, match="TensorRT refused to run: out of scratch memory"):
        running.infer({"input": batch(1)})


def test_output_shapes_that_depend_on_the_data_are_refused() -> None:
    running = engine()
    running._context.get_tensor_shape = lambda _: (-1, 3)
    with pytest.raises(UnavailableError, match=r"output 'logits' has a shape that depends on the data, \[-1, 3\]"):
        running.infer({"input": batch(1)})
