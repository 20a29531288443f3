"""What a folder of transformers says of the pictures its network takes: `preprocessor_config.json`, plain JSON.

Read of processors that resize, crop the centre and scale, and do nothing else; any other is refused by name. Where the
margins of a crop cannot be equal, transformers makes the upper one the smaller, and torchvision, as is done here, the
even one: a crop may then lie a pixel apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.models.published import SAY_YOURSELF, PublishedInput

FILE = "preprocessor_config.json"
_SQUASHING = frozenset({"vit", "deit", "beit", "pvt", "segformer", "siglip"})
_CROPPING = frozenset({"bit", "clip", "mobilenetv1", "mobilenetv2"})
_CONVNEXT = "convnext"  # has a share of the picture that is cropped, and squashes large ones
_WHOLE = 384
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # as Pillow numbers them


def read_published(folder: Path, channels: int, image_size: int | None) -> PublishedInput | None:
    """How the pictures of the network in `folder` are prepared; None where it does not say.

    Args:
        folder: Of transformers.
        channels: That the network takes.
        image_size: Side that is cropped instead of the network's own; the share of the picture that is cropped stays.

    Raises:
        UsageError: Pictures are prepared in a way that is not known here.
        CorruptError: The file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        values: Any = json.loads(path.read_bytes())
        size, resize, fit = _frame(values)
        mean, std = (0.0,), (1.0,)
        if _asked(values, "do_normalize"):
            mean, std = (tuple(map(float, values[key])) for key in ("image_mean", "image_std"))
        if not _asked(values, "do_rescale") or not math.isclose(values.get("rescale_factor", 1 / 255), 1 / 255):
            raise _Unknown(f"do_rescale {values.get('do_rescale')}, rescale_factor {values.get('rescale_factor')}")
        if (interpolation := _INTERPOLATIONS.get(values["resample"])) is None:
            raise _Unknown(f"resample {values['resample']}")
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    except _Unknown as error:
        raise _refusal(path, str(error)) from None
    except KeyError as error:
        raise _refusal(path, f"no {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptError(f"{path}: expected how pictures are prepared, got damage: {error!r}") from error
    wanted = image_size or size
    colour = "grey" if channels == 1 else "rgb"
    scaled = (values * channels if len(values) == 1 else values for values in (mean, std))
    return PublishedInput(FILE, colour, wanted, round(wanted * resize / size), fit, interpolation, *scaled)


class _Unknown(Exception):
    """A way to prepare pictures that is not known here."""


def _frame(values: Mapping[str, Any]) -> tuple[int, int, Any]:
    """The side that is cropped, the side that is resized to before, and whether that is both or the shorter one."""
    name = str(values.get("image_processor_type") or values.get("feature_extractor_type"))
    told = re.fullmatch(r"(\w+?)(?:ImageProcessor|FeatureExtractor)(?:Fast|Pil)?", name)
    kind = told[1].lower() if told else ""
    if kind not in _SQUASHING | _CROPPING | {_CONVNEXT} or not _asked(values, "do_resize"):
        raise _Unknown(f"{name}, do_resize {values.get('do_resize')}")
    side, squash = _side(values["size"], squash=kind in _SQUASHING)
    if kind == _CONVNEXT:
        share = values.get("crop_pct") or 224 / 256
        return (side, int(side / share), "crop") if side < _WHOLE else (side, side, "squash")
    crop = _side(values["crop_size"], squash=True)[0] if values.get("do_center_crop") else side
    if crop > side or not (squash or values.get("do_center_crop")):
        raise _Unknown(f"size {values['size']}, do_center_crop {values.get('do_center_crop')} to {crop}")
    return crop, side, "squash" if squash else "crop"


def _side(size: Any, *, squash: bool) -> tuple[int, bool]:
    """A side, and whether both are meant; older files have a number, which `squash` tells the meaning of."""
    match size:
        case int():
            return size, squash
        case {"shortest_edge": int(side), **more} if not any(more.values()):
            return side, False
        case {"height": int(height), "width": int(width), **more} if height == width and not any(more.values()):
            return height, True
        case _:
            raise _Unknown(f"size {size}")


def _asked(values: Mapping[str, Any], step: str) -> bool:
    """Whether a step is done, as it is where an older file does not say."""
    return values.get(step) is not False


def _refusal(path: Path, got: str) -> UsageError:
    return UsageError(
        f"{path}: expected pictures that are resized, cropped or squashed to a square, and scaled, got {got}; "
        f"{SAY_YOURSELF}"
    )
