"""A target and an ONNX file become a runtime. What a target needs is imported here, and its absence is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsify_export.runtimes.protocol import Runtime
from sparsify_export.targets import Target


def open_runtime(target: Target, onnx_path: Path, *, threads: int, batch_sizes: Sequence[int]) -> Runtime:
    """The runtime, to be entered; UnavailableError, then or now, says what is missing. There is no fallback."""
    if target.provider is not None:
        from sparsify_export.runtimes.onnxrt import OnnxRuntime

        return OnnxRuntime(onnx_path, target.provider, threads)
    from sparsify_export.runtimes.tensorrt import TensorRt

    return TensorRt(onnx_path, module=target.runtime, batch_sizes=batch_sizes)
