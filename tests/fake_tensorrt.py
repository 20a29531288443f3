"""A TensorRT that computes `logits = input @ W` on the CPU, through the very pointers it is given.

It is as strict as the real one where a mistake would otherwise pass: shapes outside the profile are refused, running
needs every address, and nothing is resized behind the caller's back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor


class DataType(Enum):
    FLOAT, HALF, BF16, INT32, FP8 = range(5)


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


class Severity(Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    pass


class FakeEngine:
    num_io_tensors = 2

    def __init__(
        self, weight: np.ndarray, logger: Any, *, static: bool = False, dtype: DataType = DataType.FLOAT
    ) -> None:
        self.weight, self.logger, self.static, self.dtype = weight, logger, static, dtype

    def get_tensor_name(self, index: int) -> str:
        return ("input", "logits")[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "input" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.dtype if name == "input" else DataType.FLOAT

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (2 if self.static else -1, self.weight.shape[0] if name == "input" else self.weight.shape[1])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("input", 0)
        return [(size, self.weight.shape[0]) for size in (1, 2, 8)]

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.accepts = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, high = (2, 2) if self.engine.static else (1, 8)
        if len(shape) != 2 or shape[1] != self.engine.weight.shape[0] or not low <= shape[0] <= high:
            return False
        self.shapes = {"input": shape, "logits": (shape[0], self.engine.weight.shape[1])}
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self.shapes else ["input"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == FakeDevice.STREAM
        if not self.accepts:
            self.engine.logger.log(Severity.ERROR, "out of scratch memory")
            return False
        source, sink = (self._view(name) for name in ("input", "logits"))
        sink[...] = source @ self.engine.weight
        return True

    def _view(self, name: str) -> np.ndarray:
        pointer = ctypes.cast(self.addresses[name], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape=self.shapes[name])


class FakeDevice:
    """Ordinary memory in a device's place; each run takes half a millisecond."""

    STREAM = 0xBEEF

    def __init__(self) -> None:
        self.allocated: list[tuple[int, ...]] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        self.allocated.append(shape)
        return torch.full(shape, float("nan"), dtype=dtype)

    def upload(self, array: np.ndarray, buffer: Tensor) -> None:
        buffer.copy_(torch.tensor(array))

    def download(self, buffer: Tensor) -> np.ndarray:
        return buffer.numpy().copy()

    def timed(self, enqueue: Callable[[int], bool]) -> tuple[bool, float]:
        return enqueue(self.STREAM), 0.5


def fake_module(make: Callable[[bytes, Any], FakeEngine | None]) -> Any:
    """A module whose runtime turns a plan's bytes and a logger into an engine by `make`."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            return make(plan, self.logger)

    class Module:
        __version__ = "10.99"

    for thing in (DataType, TensorIOMode, ILogger, Runtime):
        setattr(Module, thing.__name__, thing)
    return Module
