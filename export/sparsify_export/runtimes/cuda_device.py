"""A GPU's memory, stream and clock as torch gives them: what a TensorRT engine is run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, final

import torch
from numpy.typing import NDArray
from torch import Tensor


class Device(Protocol):
    """Buffers that an engine can be pointed at, and one stream to run it on."""

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A new buffer, its contents undefined."""
        ...

    def upload(self, array: NDArray[Any], buffer: Tensor) -> None:
        """Copy a host array of the buffer's shape into it."""
        ...

    def download(self, buffer: Tensor) -> NDArray[Any]:
        """A host copy of the buffer; bfloat16, which NumPy lacks, as float32."""
        ...

    def timed(self, enqueue: Callable[[int], bool]) -> tuple[bool, float]:
        """Call `enqueue` with the stream's handle and wait; its answer, and the milliseconds it took on the device."""
        ...


@final
class CudaDevice:
    """The first GPU that the process sees (choose with `CUDA_VISIBLE_DEVICES`), on a stream of its own.

    TensorRT adds synchronisation on the default stream, so it is never used.
    """

    def __init__(self) -> None:
        self._device = torch.device("cuda", 0)
        self._stream: Any = torch.cuda.Stream(self._device)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A new buffer in the GPU's memory."""
        with torch.cuda.stream(self._stream):
            return torch.empty(shape, dtype=dtype, device=self._device)

    def upload(self, array: NDArray[Any], buffer: Tensor) -> None:
        """Copy a host array into `buffer`, in the stream's order."""
        with torch.cuda.stream(self._stream):
            buffer.copy_(from_host(array))

    def download(self, buffer: Tensor) -> NDArray[Any]:
        """A host copy of `buffer`, after all that the stream was given before."""
        with torch.cuda.stream(self._stream):
            return to_host(buffer)

    def timed(self, enqueue: Callable[[int], bool]) -> tuple[bool, float]:
        """Run between two CUDA events on the stream and wait for the second."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record(self._stream)
        accepted = enqueue(self._stream.cuda_stream)
        end.record(self._stream)
        end.synchronize()
        return accepted, float(start.elapsed_time(end))


def from_host(array: NDArray[Any]) -> Tensor:
    """A tensor over a host array; a read-only array is copied, since torch knows no read-only memory."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def to_host(buffer: Tensor) -> NDArray[Any]:
    """A host array of a tensor's values."""
    return (buffer.float() if buffer.dtype == torch.bfloat16 else buffer).cpu().numpy()
