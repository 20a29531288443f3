"""One batch through ONNX Runtime, its errors made ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import UsageError
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.runtimes.protocol import Feed


def run(runtime: OnnxRuntime, feed: Feed, path: Path) -> dict[str, NDArray[Any]]:
    """The outputs that are arrays of numbers or booleans, by name.

    Raises:
        UsageError: ONNX Runtime fails on this feed; says where.
    """
    try:
        outputs: dict[str, Any] = runtime.infer(feed)
    except UsageError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[-1]  # `path` says it better than the runtime can
        raise UsageError(
            f"{path}: ONNX Runtime fails on the examples: {reason}; feed it as it is fed in use"
        ) from error
    return {name: out for name, out in outputs.items() if isinstance(out, np.ndarray) and out.dtype.kind in "fiub"}
