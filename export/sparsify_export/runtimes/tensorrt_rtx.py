"""What only TensorRT RTX does: plans ahead of time for GPUs that are not here, and kernels compiled where it runs.

https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/
"""

from __future__ import annotations

from typing import Any

AOT_TARGETS = ("SM86", "SM89")
"""Architectures that `export --target tensorrt-rtx` builds for: Ampere (GeForce RTX 30, A10) and Ada (RTX 40, L4)."""


def execution_context(trt: Any, engine: Any) -> Any:
    """A context to run `engine` in; for either module.

    TensorRT RTX compiles kernels for the shapes at hand where it runs, by default in the background while a slower
    fallback serves. A timing would mix both, so compilation is made eager: it happens in the warm-up.
    """
    strategy = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    if strategy is None:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
    return engine.create_execution_context(config)
