"""A target and an ONNX file become a runtime. What a target needs is imported here, and its absence is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsify.errors import UnavailableError
from sparsify_export.runtimes.protocol import Runtime
from sparsify_export.targets import Target


def open_runtime(target: Target, onnx_path: Path, *, threads: int, batch_sizes: Sequence[int]) -> Runtime:
    """The runtime, to be entered; UnavailableError, then or now, says what is missing. There is no fallback."""
    if target.provider is not None:
        from sparsify_export.runtimes.onnxrt import OnnxRuntime

        return OnnxRuntime(onnx_path, target.provider, threads)
    from sparsify_export.runtimes.tensorrt import TensorRt

    return TensorRt(onnx_path, module=target.runtime, batch_sizes=batch_sizes)


def require_export(target: Target) -> None:
    """Raise UnavailableError, which says what is missing, where nothing can be made for `target` here."""
    if target.provider is not None:
        require_run(target)
        return
    from sparsify_export.runtimes.tensorrt_module import build_lacks, refuse_lacks

    refuse_lacks(f"building for {target.name}", build_lacks(target.runtime))


def require_run(target: Target) -> None:
    """Raise UnavailableError, which says what is missing, where `target` cannot run here as far as is seen beforehand.

    ONNX Runtime tells only when a session opens whether a GPU is there.
    """
    if target.provider is not None:
        from sparsify_export.runtimes.onnxrt import require_provider
        from sparsify_export.sparse.available import kernels

        require_provider(target.provider)
        if target.sparse:
            kernels()
        return
    from sparsify_export.runtimes.tensorrt_module import refuse_lacks, run_lacks

    refuse_lacks(f"running {target.name}", run_lacks(target.runtime))


def why_not_run(target: Target) -> str | None:
    """What keeps `target` from running here, in words; None where nothing is seen to."""
    try:
        require_run(target)
    except UnavailableError as error:
        return str(error)
    return None
