"""What a sparse operator is expected to take: its kernel, as the library's own cost model says, and the call of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType

from sparsify_export.sparse.choice import Blob, Costs
from sparsify_export.sparse.layers import Window


def costs_by(native: ModuleType, call_ns: float) -> Costs:
    """The costs that `sparsify_kernels.native` states, on one thread, each with `call_ns` nanoseconds added."""

    def costs(blob: Blob, window: Window | None, source_shape: tuple[int, ...]) -> Mapping[str, float]:
        return {name: call_ns + ns for name, ns in of_kernels(blob, window, source_shape).items()}

    def of_kernels(blob: Blob, window: Window | None, source_shape: tuple[int, ...]) -> Mapping[str, float]:
        if window is None:
            return native.linear_costs(blob, n=math.prod(source_shape[:-1]))
        geometry = native.Geometry(
            window.kernel_shape, window.strides, window.pads, window.dilations, groups=window.group
        )
        height, width = (1, *source_shape[2:])[-2:]
        return native.convolution_costs(blob, geometry, height=height, width=width)

    return costs
