"""The shared library through ctypes: its functions, its errors, its table of kernels. See native/c_api.h."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsify_kernels.packing import Blob, FormatError

Activation: TypeAlias = Literal["none", "relu", "relu6", "gelu", "gelu_tanh", "silu", "hardswish"]
Floats: TypeAlias = NDArray[np.float32]

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_USAGE, _FORMAT = 1, 2


class KernelError(RuntimeError):
    """The library is not there, or a layer that was asked for rightly could not be made or run."""


@dataclass(frozen=True)
class Geometry:
    """A convolution as ONNX writes it, of one or two spatial axes."""

    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    """All beginnings, then all ends."""
    dilations: tuple[int, ...] | None = None
    groups: int = 1


class _CGeometry(ctypes.Structure):
    _fields_ = [
        ("axes", c_int64),
        ("kernel_shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("pads", POINTER(c_int64)),
        ("dilations", POINTER(c_int64)),
        ("groups", c_int64),
    ]


class _CAttention(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("batch", "heads", "queries", "keys", "depth", "width")),
        ("scale", c_float),
        *((name, c_int64) for name in ("mask_batch", "mask_head", "mask_query")),
        ("precision", c_char_p),
        ("threads", c_int),
    ]


_SPEEDS = (
    *("fma_gflops", "read_l1_gb_s", "read_l2_gb_s", "read_beyond_l2_gb_s", "stream_gb_s"),
    *("tile_product_ns", "tile_step_ns"),
)


class _CMachine(ctypes.Structure):
    _fields_ = [(name, c_double) for name in _SPEEDS]


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "sk_last_error": (c_char_p, []),
    "sk_last_error_kind": (c_int, []),
    "sk_describe_cpu": (c_char_p, []),
    "sk_linear_create": (
        c_void_p,
        [c_void_p, c_size_t, c_void_p, c_void_p, c_void_p, c_float, c_char_p, c_char_p, c_int64, c_int],
    ),
    "sk_linear_run": (c_int, [c_void_p, c_void_p, c_int64, c_void_p, c_void_p]),
    "sk_linear_free": (None, [c_void_p]),
    "sk_linear_rows": (c_int32, [c_void_p]),
    "sk_linear_columns": (c_int32, [c_void_p]),
    "sk_linear_kernel": (c_char_p, [c_void_p]),
    "sk_linear_bytes": (c_size_t, [c_void_p]),
    "sk_conv_create": (
        c_void_p,
        [c_void_p, c_size_t, POINTER(_CGeometry), c_void_p, c_char_p, c_char_p, c_int64, c_int64, c_int],
    ),
    "sk_conv_output": (c_int, [c_void_p, c_int64, c_int64, c_int64, POINTER(c_int64)]),
    "sk_conv_run": (c_int, [c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int64, c_void_p, c_void_p]),
    "sk_conv_free": (None, [c_void_p]),
    "sk_conv_rows": (c_int32, [c_void_p]),
    "sk_conv_kernel": (c_char_p, [c_void_p]),
    "sk_conv_bytes": (c_size_t, [c_void_p]),
    "sk_attention_run": (c_int, [POINTER(_CAttention), c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "sk_attention_kernel": (c_char_p, [c_char_p]),
    "sk_measure_machine": (c_int, [POINTER(_CMachine)]),
    "sk_kernel_count": (c_size_t, []),
    "sk_kernel_name": (c_char_p, [c_size_t]),
    "sk_kernel_serves": (c_char_p, [c_size_t]),
    "sk_linear_costs": (c_int, [c_void_p, c_size_t, c_int64, c_int, POINTER(c_double)]),
    "sk_conv_costs": (
        c_int,
        [c_void_p, c_size_t, POINTER(_CGeometry), c_int64, c_int64, c_int, POINTER(c_double)],
    ),
}


def library_path() -> Path:
    """The shared library: what ONNX Runtime's `register_custom_ops_library` takes.

    Raises:
        KernelError: It is not beside this file: the package was copied, not installed.
    """
    path = Path(__file__).with_name(f"libsparsify_kernels{_SUFFIX}")
    if not path.is_file():
        raise KernelError(f"{path} is missing: install sparsify-kernels (in a checkout: `make kernels`)")
    return path


@cache
def library() -> ctypes.CDLL:
    """The library, loaded once, every function with its types."""
    loaded = ctypes.CDLL(str(library_path()))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def describe_cpu() -> str:
    """The instruction sets that may be used here, less what SPARSIFY_KERNELS_ISA switches off."""
    return library().sk_describe_cpu().decode()


def machine() -> dict[str, float]:
    """How fast this machine is at the moment, on one thread: the roofs under which every kernel stays.

    Measured anew at each call, in a tenth of a second: a shared machine, or one whose clock changes, is not always as
    fast, and a time means little without the state it was taken in.

    Returns:
        `fma_gflops`: fp32 multiply-adds, two operations each, at the vector unit's peak.
        `read_l1_gb_s`, `read_l2_gb_s`, `read_beyond_l2_gb_s`: reads from half the first cache, half the second, and
        four times the second.
        `stream_gb_s`: a copy of 6 MB, read and written bytes both counted.
        `tile_product_ns`, `tile_step_ns`, where AMX may be used: one product of 16 x 16 x 64 int8 multiply-adds with
        nothing to load, and the inner loop of the int8 kernels, four such products and four tile loads.
    """
    measured = _CMachine()
    if library().sk_measure_machine(ctypes.byref(measured)):
        raise_last_error()
    speeds = {name: float(getattr(measured, name)) for name in _SPEEDS}
    return {name: speed for name, speed in speeds.items() if speed}  # 0: there is no AMX


def kernel_names() -> dict[str, str]:
    """Every kernel of the table, and what it serves in one line."""
    loaded = library()
    return {
        loaded.sk_kernel_name(i).decode(): loaded.sk_kernel_serves(i).decode() for i in range(loaded.sk_kernel_count())
    }


def linear_costs(blob: Blob, *, n: int, threads: int = 1) -> dict[str, float]:
    """Nanoseconds that a call on `n` tokens is expected to take, by kernel that can serve the weights here."""
    return _costs(lambda costs: library().sk_linear_costs(address(blob), blob.nbytes, n, threads, costs))


def convolution_costs(blob: Blob, geometry: Geometry, *, height: int, width: int, threads: int = 1) -> dict[str, float]:
    """The same of a convolution of one image; with one axis the height is 1."""
    c_geometry = c_geometry_of(geometry)
    return _costs(
        lambda costs: library().sk_conv_costs(
            address(blob), blob.nbytes, ctypes.byref(c_geometry), height, width, threads, costs
        )
    )


def attention_kernel(precision: str) -> str:
    """What computes an attention of this precision here; ValueError for one that there is not."""
    return (library().sk_attention_kernel(precision.encode()) or raise_last_error()).decode()


def run_attention(shape: dict[str, Any], *arrays: Floats | None) -> None:
    """Compute q, k, v and mask into y, all contiguous; `shape` has the fields of `sk_attention`."""
    c_shape = _CAttention(**shape)
    if library().sk_attention_run(ctypes.byref(c_shape), *map(address, arrays)):
        raise_last_error()


def raise_last_error() -> NoReturn:
    """What the library said when it last failed in this thread."""
    message = library().sk_last_error().decode(errors="replace")
    kind = library().sk_last_error_kind()
    raise {_USAGE: ValueError, _FORMAT: FormatError}.get(kind, KernelError)(message)


def _costs(ask: Callable[[Any], int]) -> dict[str, float]:
    names = list(kernel_names())
    costs = (c_double * len(names))()
    if ask(costs):
        raise_last_error()
    return {name: cost for name, cost in zip(names, costs, strict=True) if np.isfinite(cost)}


def address(array: NDArray[Any] | None) -> int | None:
    """Where an array lies; it must be contiguous and outlive the call."""
    return None if array is None else array.ctypes.data


def c_geometry_of(geometry: Geometry) -> ctypes.Structure:
    """The geometry as the C ABI takes it; raises ValueError where a list has not one entry an axis (pads: two)."""
    axes = len(geometry.kernel_shape)
    lists = {
        "kernel_shape": (geometry.kernel_shape, axes),
        "strides": (geometry.strides, axes),
        "pads": (geometry.pads, 2 * axes),
        "dilations": (geometry.dilations, axes),
    }
    pointers: dict[str, Any] = {}
    for name, (values, count) in lists.items():
        if values is not None and len(values) != count:
            raise ValueError(f"expected {count} {name} for a kernel of {axes} axes, got {len(values)}")
        pointers[name] = None if values is None else (c_int64 * count)(*values)
    return _CGeometry(axes=axes, groups=geometry.groups, **pointers)


def checked_blob(blob: Blob) -> Blob:
    """Contiguous bytes, or FormatError; the library checks what they say."""
    array = np.ascontiguousarray(blob)
    if array.dtype != np.uint8 or array.ndim != 1:
        raise FormatError(f"expected packed weights as an array of bytes, got {array.dtype} {list(array.shape)}")
    return array


def checked_floats(name: str, values: NDArray[Any]) -> Floats:
    """Contiguous float32, or ValueError."""
    if np.asarray(values).dtype != np.float32:
        raise ValueError(f"expected {name} in float32, got {np.asarray(values).dtype}")
    return np.ascontiguousarray(values)


def checked_shape(name: str, values: NDArray[Any] | None, shape: Sequence[int]) -> Floats | None:
    """Contiguous float32 of this shape, or ValueError; None stays None."""
    if values is None:
        return None
    floats = checked_floats(name, values)
    if floats.shape != tuple(shape):
        raise ValueError(f"expected {name} of shape {list(shape)}, got {list(floats.shape)}")
    return floats


def checked_out(out: Floats, shape: Sequence[int], *read: Floats | None) -> Floats:
    """`out` itself where a result of this shape can be written to it while `read` is read, or ValueError."""
    if out.dtype != np.float32 or out.shape != tuple(shape):
        raise ValueError(f"expected out of shape {list(shape)} in float32, got {list(out.shape)} in {out.dtype}")
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise ValueError("expected out contiguous, aligned and writeable: a result is written as it lies in memory")
    if any(np.may_share_memory(out, array) for array in read if array is not None):
        raise ValueError("expected out to share no memory with x or the residual, which are read while it is written")
    return out
