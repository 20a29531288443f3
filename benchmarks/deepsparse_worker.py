"""One engine, one graph, one process: prints the seconds of each inference as JSON. Run by bench_deepsparse.py.

Needs NumPy and the engine, nothing of ours: DeepSparse 1.8 ends at Python 3.10.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Infer = Callable[[], NDArray[Any]]


def deepsparse(path: str, x: NDArray[np.float32]) -> Infer:
    """Dense graphs with zeros in them; the engine finds what to skip."""
    from deepsparse import Engine

    engine = Engine(model=path, batch_size=1, num_cores=1)
    return lambda: engine.run([x])[0]


def ours(path: str, x: NDArray[np.float32]) -> Infer:
    """What `sparsify export --target sparse-cpu` wrote."""
    import onnxruntime

    import sparsify_kernels

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(sparsify_kernels.library_path()))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def main() -> None:
    """ENGINE GRAPH SHAPE INFERENCES."""
    engine, path, shape, inferences = sys.argv[1:]
    x = np.random.default_rng(0).standard_normal(json.loads(shape)).astype(np.float32)
    infer = {"deepsparse": deepsparse, "ours": ours}[engine](path, x)
    for _ in range(3):
        y = infer()
    seconds = []
    for _ in range(int(inferences)):
        start = time.perf_counter()
        infer()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "rms": float(np.sqrt(np.mean(np.square(y))))}))


if __name__ == "__main__":
    main()
