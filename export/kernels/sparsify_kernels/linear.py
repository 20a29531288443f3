"""A sparse linear layer for NumPy: y = LayerNorm(activation(x W^T + bias + residual))."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify_kernels import native
from sparsify_kernels.native import Activation, Floats
from sparsify_kernels.packing import Blob, Pattern, Precision, pack, read_header


class SparseLinear:
    """Weights [rows, columns] laid out for the fastest kernel that serves them here. Any thread may call it.

    >>> layer = SparseLinear(weight, bias=bias, activation="relu")  # zeros of `weight` are not multiplied
    >>> y = layer(x)  # [..., columns] -> [..., rows]
    """

    def __init__(
        self,
        weight: NDArray[Any],
        *,
        bias: Floats | None = None,
        norm: tuple[Floats, Floats, float] | None = None,
        activation: Activation = "none",
        precision: Precision = "f32",
        pattern: Pattern = "unstructured",
        kernel: str = "auto",
        expected_n: int = 0,
        threads: int = 1,
    ) -> None:
        """Pack `weight` and prepare it.

        Args:
            weight: [rows, columns], finite; what is zero costs nothing.
            bias: [rows], float32.
            norm: Scale [rows], shift [rows] and epsilon of a LayerNorm over the last axis, done last.
            activation: Done before the norm.
            precision: How weights are stored; i8 also rounds each token to 8 bits.
            pattern: Which weights share one bit of the mask.
            kernel: "auto" or one of `kernel_names()`.
            expected_n: Tokens of a typical call, 0 where unknown: what "auto" chooses for.
            threads: How many threads share a call, of a pool that all layers have together.

        Raises:
            FormatError: A weight that the precision cannot hold.
            ValueError: A bad argument, or a kernel that cannot serve this layer here.
        """
        blob = pack(weight, precision=precision, pattern=pattern)
        self._open(blob, bias, norm, activation, kernel, expected_n, threads)

    @classmethod
    def from_packed(
        cls,
        blob: Blob,
        *,
        bias: Floats | None = None,
        norm: tuple[Floats, Floats, float] | None = None,
        activation: Activation = "none",
        kernel: str = "auto",
        expected_n: int = 0,
        threads: int = 1,
    ) -> SparseLinear:
        """From what `pack` made; the blob is kept, not copied. Raises FormatError for one that is damaged."""
        layer = cls.__new__(cls)
        layer._open(blob, bias, norm, activation, kernel, expected_n, threads)
        return layer

    def _open(
        self,
        blob: Blob,
        bias: Floats | None,
        norm: tuple[Floats, Floats, float] | None,
        activation: Activation,
        kernel: str,
        expected_n: int,
        threads: int,
    ) -> None:
        self.packed = native.checked_blob(blob)
        self._options = {"bias": bias, "norm": norm, "activation": activation}
        self._options |= {"kernel": kernel, "expected_n": expected_n, "threads": threads}
        rows = read_header(self.packed).rows
        scale, shift, epsilon = norm or (None, None, 0.0)
        given = (("bias", bias), ("the norm's scale", scale), ("the norm's shift", shift))
        vectors = [native.checked_shape(name, vector, (rows,)) for name, vector in given]
        self._library = native.library()
        self._handle: int | None = self._library.sk_linear_create(
            native.address(self.packed),
            self.packed.nbytes,
            *map(native.address, vectors),
            epsilon,
            activation.encode(),
            kernel.encode(),
            expected_n,
            threads,
        )
        if not self._handle:
            native.raise_last_error()
        self.rows: int = rows
        self.columns: int = self._library.sk_linear_columns(self._handle)
        self.kernel: str = self._library.sk_linear_kernel(self._handle).decode()
        self.nbytes: int = self.packed.nbytes + self._library.sk_linear_bytes(self._handle)
        """All it holds in memory."""

    def __call__(self, x: Floats, residual: Floats | None = None, *, out: Floats | None = None) -> Floats:
        """[..., columns] float32 -> [..., rows] float32, in `out` where given; ValueError for another shape or type."""
        x = native.checked_floats("x", x)
        if x.ndim == 0 or x.shape[-1] != self.columns:
            raise ValueError(f"expected x of shape [..., {self.columns}], got {list(x.shape)}")
        shape = (*x.shape[:-1], self.rows)
        residual = native.checked_shape("a residual", residual, shape)
        y = np.empty(shape, np.float32) if out is None else native.checked_out(out, shape, x, residual)
        pointers = native.address(residual), native.address(y)
        if self._library.sk_linear_run(self._handle, native.address(x), y.size // self.rows, *pointers):
            native.raise_last_error()
        return y

    def __repr__(self) -> str:
        """What it multiplies, and by which kernel."""
        return f"SparseLinear({self.rows}x{self.columns}, kernel={self.kernel!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as what it was made of; made anew where it is read, by a kernel of that machine."""
        return partial(SparseLinear.from_packed, **self._options), (self.packed,)

    def __del__(self) -> None:
        """Free what the library holds."""
        if getattr(self, "_handle", None):
            self._library.sk_linear_free(self._handle)
