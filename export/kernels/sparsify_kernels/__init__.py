"""Sparse matrix products on the CPU, for ONNX Runtime, NumPy and PyTorch.

`library_path()` is what `onnxruntime.SessionOptions.register_custom_ops_library` takes; every other language gives the
same file to its own `RegisterCustomOpsLibrary`.
"""

from __future__ import annotations

from sparsify_kernels.attention import attention as attention
from sparsify_kernels.convolution import SparseConv as SparseConv
from sparsify_kernels.linear import SparseLinear as SparseLinear
from sparsify_kernels.native import KernelError as KernelError
from sparsify_kernels.native import describe_cpu as describe_cpu
from sparsify_kernels.native import kernel_names as kernel_names
from sparsify_kernels.native import library_path as library_path
from sparsify_kernels.native import machine as machine
from sparsify_kernels.packing import FormatError as FormatError
from sparsify_kernels.packing import pack as pack
from sparsify_kernels.packing import unpack as unpack

__all__ = [
    "FormatError",
    "KernelError",
    "SparseConv",
    "SparseLinear",
    "attention",
    "describe_cpu",
    "kernel_names",
    "library_path",
    "machine",
    "pack",
    "unpack",
]
__version__ = "0.1.0"
