"""Makes torchvision's wheel importable beside a CPU build of torch, for tests only.

The wheel is compiled for another build, so that its operators do not load, and it dies while it registers their
shapes. The models need none of them: schemas alone are enough. Import this module before torchvision, timm or whatever
imports them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


def _operators_load() -> bool:
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    try:
        for path in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(path)
    except OSError:
        return False
    return True


def _define() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


LIBRARY = None if _operators_load() else _define()
