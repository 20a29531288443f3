"""Makes torchvision's wheel importable beside a CPU build of torch, for tests only.

The wheel is compiled for another build, so that its operators do not load, and it dies while it registers their
shapes. The models need none of them: schemas alone are enough. Import this module before torchvision, timm or whatever
imports them.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch


def _are_missing() -> bool:
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        return "torchvision::" in str(error)
    except ImportError:
        return False
    return False


def _define() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


LIBRARY = _define() if find_spec("torchvision") and _are_missing() else None
