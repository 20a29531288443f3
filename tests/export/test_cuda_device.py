"""What crosses between host and device keeps its values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsify_export.runtimes.cuda_device import CudaDevice, from_host, to_host


def test_read_only_arrays_are_taken_without_a_warning() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.flags.writeable = False
    torch.testing.assert_close(from_host(array), torch.arange(6.0).reshape(2, 3))


def test_bfloat16_comes_back_as_float32() -> None:
    array = to_host(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [1.5, -2.0])


@pytest.mark.gpu
def test_gpu_a_copy_there_and_back_and_its_time() -> None:
    device = CudaDevice()
    buffer = device.empty((2, 3), torch.float32)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    def double(handle: int) -> bool:
        with torch.cuda.stream(torch.cuda.ExternalStream(handle)):
            buffer.mul_(2)
        return True

    device.upload(array, buffer)
    accepted, elapsed_ms = device.timed(double)
    assert accepted
    assert 0 < elapsed_ms < 10_000
    np.testing.assert_array_equal(device.download(buffer), 2 * array)
