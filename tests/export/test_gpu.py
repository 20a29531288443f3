"""The driver is asked through ctypes: a fake driver stands for each way that it can answer."""

from __future__ import annotations

from typing import Any

import pytest

from sparsify_export.runtimes import gpu


class FakeDriver:
    """Writes through the pointers it is given, as libcuda does."""

    def __init__(self, *, init: int = 0, names: tuple[bytes, ...] = (), version: int = 13010) -> None:
        self.init, self.names, self.version = init, names, version

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self.init

    def cuDeviceGetCount(self, out: Any) -> int:
        return write(out, len(self.names))

    def cuDeviceGet(self, out: Any, index: int) -> int:
        return write(out, 100 + index)  # a handle is not an index

    def cuDeviceGetName(self, buffer: Any, size: int, device: int) -> int:
        buffer.value = self.names[device - 100][: size - 1]
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: int) -> int:
        return write(out, 2**34 + device)

    def cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> int:
        return write(out, {75: 8, 76: device - 100 + 6}[attribute])

    def cuDriverGetVersion(self, out: Any) -> int:
        return write(out, self.version)


def write(out: Any, value: int) -> int:
    out._obj.value = value
    return 0


def test_gpus_are_described_by_their_driver() -> None:
    driver = FakeDriver(names=(b"NVIDIA A10", b"NVIDIA Something"))
    first, second = gpu.probe(lambda _: driver).gpus
    assert first == gpu.Gpu(0, "NVIDIA A10", (8, 6), 2**34 + 100, "13.1")
    assert (first.sm, second.sm, second.index) == ("SM86", "SM87", 1)


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (FakeDriver(init=100), "finds no GPU"),
        (FakeDriver(init=803), "does not start (cuInit answered 803)"),
        (FakeDriver(names=()), "finds no GPU"),
    ],
    ids=["no-device", "driver-mismatch", "all-hidden"],
)
def test_no_gpu_has_a_reason_and_a_mend(driver: FakeDriver, reason: str) -> None:
    found = gpu.probe(lambda _: driver)
    assert found.gpus == ()
    assert found.mend
    assert reason in found.reason


def test_no_driver_library_is_said() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    found = gpu.probe(load)
    assert found.gpus == ()
    assert "no NVIDIA driver here" in found.reason
    assert "install NVIDIA's driver" in found.mend


def test_the_real_probe_does_not_raise() -> None:
    found = gpu.probe()
    assert bool(found.gpus) != bool(found.reason)
