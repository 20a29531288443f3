"""A TensorRT engine on a device: loaded from a plan, fed from the host, timed on the device.

The calls are those of TensorRT 10, 11 and RTX alike: https://docs.nvidia.com/deeplearning/tensorrt/latest/
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsify.errors import CorruptError, UnavailableError, UsageError
from sparsify_export.runtimes.cuda_device import Device
from sparsify_export.runtimes.protocol import Feed
from sparsify_export.runtimes.tensorrt_log import Messages, recording_logger
from sparsify_export.runtimes.tensorrt_rtx import execution_context

# TensorRT's DataType -> torch's; fp8, int4 and fp4 inputs and outputs have no torch or NumPy form that is fed here
_DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT8": torch.int8,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}
# what a host array must be; NumPy has no bfloat16, which is fed from float32
_NUMPY_NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in _DTYPES.values()} | {torch.bfloat16: "float32"}


@final
class Engine:
    """An engine that is loaded, its context, and buffers that are kept from one inference to the next.

    `plan` must come from the cache or from the builder: it is executable code.
    """

    def __init__(self, trt: Any, plan: bytes, device: Device) -> None:
        self._device = device  # its CUDA context exists before TensorRT is called for the first time
        self._messages = Messages()
        # the logger outlives the runtime, the runtime the engine, the engine the context: see `close`
        self._logger = recording_logger(trt, self._messages, verbose=False)
        self._runtime: Any = trt.Runtime(self._logger)
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise CorruptError(
                f"TensorRT {trt.__version__} cannot load its plan: {self._messages.last_error}; "
                "remove it from the cache"
            )
        self._context: Any = execution_context(trt, self._engine)
        if self._context is None:
            raise UnavailableError(
                f"TensorRT made no execution context: {self._messages.last_error}; free some GPU memory"
            )
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self._inputs = tuple(name for name in names if is_input[name])
        self._outputs = tuple(name for name in names if not is_input[name])
        self._dtypes = {name: self._dtype(name) for name in names}
        self._buffers: dict[str, Tensor] = {}

    def infer(self, feed: Feed) -> tuple[dict[str, NDArray[Any]], float]:
        """Outputs by name, and milliseconds on the device between enqueueing and the end.

        Raises:
            UsageError: If the feed's names, types or shapes are not the engine's.
            UnavailableError: If TensorRT refuses to run.
        """
        if set(feed) != set(self._inputs):
            raise UsageError(f"feed: expected the inputs {sorted(self._inputs)}, got {sorted(feed)}")
        for name in self._inputs:
            self._feed(name, np.ascontiguousarray(feed[name]))
        if unset := self._context.infer_shapes():
            raise UsageError(f"feed: TensorRT still lacks the shape of {', '.join(unset)}")
        for name in self._outputs:
            self._bind(name, tuple(self._context.get_tensor_shape(name)))
        accepted, elapsed_ms = self._device.timed(self._context.execute_async_v3)
        if not accepted:
            raise UnavailableError(f"TensorRT refused to run: {self._messages.last_error}")
        return {name: self._device.download(self._buffers[name]) for name in self._outputs}, elapsed_ms

    def _feed(self, name: str, array: NDArray[Any]) -> None:
        expected = _NUMPY_NAMES[self._dtypes[name]]
        if array.dtype.name != expected:
            raise UsageError(f"feed: {name}: expected {expected}, got {array.dtype.name}")
        if array.size == 0 or not self._context.set_input_shape(name, tuple(array.shape)):
            raise UsageError(f"feed: {name}: expected {self._served(name)}, got {list(array.shape)}")
        self._device.upload(array, self._bind(name, tuple(array.shape)))

    def _served(self, name: str) -> str:
        """The shapes of an input that the engine serves, in words."""
        fixed = list(self._engine.get_tensor_shape(name))
        if -1 not in fixed:
            return f"shape {fixed}"
        smallest, usual, largest = (list(shape) for shape in self._engine.get_tensor_profile_shape(name, 0))
        return f"a shape from {smallest} to {largest} (tuned for {usual}; other batch sizes are named when it is built)"

    def _bind(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor's buffer of that shape, which the context is pointed at."""
        if any(size < 0 for size in shape):
            raise UnavailableError(
                f"output {name!r} has a shape that depends on the data, {list(shape)}: not supported here"
            )
        buffer = self._buffers.get(name)
        if buffer is None or tuple(buffer.shape) != shape:
            buffer = self._buffers[name] = self._device.empty(shape, self._dtypes[name])
            if not self._context.set_tensor_address(name, buffer.data_ptr()):
                raise UnavailableError(f"TensorRT refused the buffer of {name!r}: {self._messages.last_error}")
        return buffer

    def _dtype(self, name: str) -> torch.dtype:
        dtype = self._engine.get_tensor_dtype(name).name
        if dtype not in _DTYPES or self._engine.is_shape_inference_io(name):
            kind = "shape tensor" if dtype in _DTYPES else dtype
            raise UnavailableError(
                f"tensor {name!r} is a {kind}: expected one of {', '.join(_DTYPES)} in device memory"
            )
        return _DTYPES[dtype]

    def close(self) -> None:
        """Free in the order that TensorRT asks for."""
        self._buffers.clear()
        self._context = None
        self._engine = None
        self._runtime = None
