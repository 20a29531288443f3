"""A sparse convolution for NumPy, of one or two spatial axes: y = activation(conv(x, W) + bias + residual)."""

from __future__ import annotations

import ctypes
from ctypes import c_int64
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify_kernels import native
from sparsify_kernels.native import Activation, Floats, Geometry
from sparsify_kernels.packing import Blob, Pattern, Precision, pack, read_header


class SparseConv:
    """Weights laid out for the fastest kernel that serves them here. Any thread may call it.

    >>> layer = SparseConv(weight, pads=(1, 1, 1, 1), bias=bias, activation="relu")  # weight [rows, channels, 3, 3]
    >>> y = layer(x)  # [batch, channels, height, width] -> [batch, rows, height, width]
    """

    def __init__(
        self,
        weight: NDArray[Any],
        *,
        strides: tuple[int, ...] | None = None,
        pads: tuple[int, ...] | None = None,
        dilations: tuple[int, ...] | None = None,
        groups: int = 1,
        bias: Floats | None = None,
        activation: Activation = "none",
        precision: Precision = "f32",
        pattern: Pattern = "unstructured",
        kernel: str = "auto",
        expected_size: tuple[int, int] = (0, 0),
        threads: int = 1,
    ) -> None:
        """Pack `weight` and prepare it.

        Args:
            weight: [rows, channels of a group, (kernel height,) kernel width], as ONNX has it.
            strides: One an axis.
            pads: All beginnings, then all ends.
            dilations: One an axis.
            groups: How many parts of the input's channels meet only their part of the rows.
            bias: [rows], float32.
            activation: Done last.
            precision: How weights are stored.
            pattern: Which weights share one bit of the mask.
            kernel: "auto" or one of `kernel_names()`.
            expected_size: Height and width of a typical image, 0 where unknown: what "auto" chooses for.
            threads: How many threads share a call, of a pool that all layers have together.

        Raises:
            FormatError: A weight that the precision cannot hold.
            ValueError: A bad argument, or a kernel that cannot serve this layer here.
        """
        if weight.ndim not in (3, 4):
            raise ValueError(f"expected weights of 3 or 4 axes, got {list(weight.shape)}")
        blob = pack(weight.reshape(weight.shape[0], -1), precision=precision, pattern=pattern)
        geometry = Geometry(weight.shape[2:], strides, pads, dilations, groups)
        self._open(blob, geometry, bias, activation, kernel, expected_size, threads)

    @classmethod
    def from_packed(
        cls,
        blob: Blob,
        geometry: Geometry,
        *,
        bias: Floats | None = None,
        activation: Activation = "none",
        kernel: str = "auto",
        expected_size: tuple[int, int] = (0, 0),
        threads: int = 1,
    ) -> SparseConv:
        """From what `pack` made of [rows, channels of a group * kernel positions]; the blob is kept, not copied."""
        layer = cls.__new__(cls)
        layer._open(blob, geometry, bias, activation, kernel, expected_size, threads)
        return layer

    def _open(
        self,
        blob: Blob,
        geometry: Geometry,
        bias: Floats | None,
        activation: Activation,
        kernel: str,
        expected_size: tuple[int, int],
        threads: int,
    ) -> None:
        self.packed = native.checked_blob(blob)
        self._geometry = geometry
        self._options = {"bias": bias, "activation": activation}
        self._options |= {"kernel": kernel, "expected_size": expected_size, "threads": threads}
        self.rows: int = read_header(self.packed).rows
        self._axes = len(geometry.kernel_shape)
        c_geometry = native.c_geometry_of(geometry)
        bias = native.checked_shape("bias", bias, (self.rows,))
        self._library = native.library()
        self._handle: int | None = self._library.sk_conv_create(
            native.address(self.packed),
            self.packed.nbytes,
            ctypes.byref(c_geometry),
            native.address(bias),
            activation.encode(),
            kernel.encode(),
            *expected_size,
            threads,
        )
        if not self._handle:
            native.raise_last_error()
        self.kernel: str = self._library.sk_conv_kernel(self._handle).decode()
        self.nbytes: int = self.packed.nbytes + self._library.sk_conv_bytes(self._handle)
        """All it holds in memory."""

    def __call__(self, x: Floats, residual: Floats | None = None) -> Floats:
        """[batch, channels, (height,) width] float32 -> [batch, rows, (height,) width]; ValueError for another."""
        x = native.checked_floats("x", x)
        if x.ndim != self._axes + 2:
            raise ValueError(f"expected x of {self._axes + 2} axes, got {list(x.shape)}")
        batch, channels = x.shape[:2]
        height, width = (1, *x.shape[2:])[-2:]
        out = (c_int64 * 2)()
        if self._library.sk_conv_output(self._handle, channels, height, width, out):
            native.raise_last_error()
        y = np.empty((batch, self.rows, *tuple(out)[2 - self._axes :]), np.float32)
        residual = native.checked_shape("a residual", residual, y.shape)
        pointers = native.address(residual), native.address(y)
        if self._library.sk_conv_run(self._handle, native.address(x), batch, channels, height, width, *pointers):
            native.raise_last_error()
        return y

    def __repr__(self) -> str:
        """What it multiplies, and by which kernel."""
        shape = "x".join(map(str, self._geometry.kernel_shape))
        return f"SparseConv({self.rows} rows, {shape}, kernel={self.kernel!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as what it was made of; made anew where it is read, by a kernel of that machine."""
        return partial(SparseConv.from_packed, **self._options), (self.packed, self._geometry)

    def __del__(self) -> None:
        """Free what the library holds."""
        if getattr(self, "_handle", None):
            self._library.sk_conv_free(self._handle)
