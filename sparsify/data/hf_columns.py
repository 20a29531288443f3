"""Which columns of a Hugging Face dataset are the inputs and which the labels, by their types and usual names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sparsify.errors import UsageError

LABELS = ("label", "labels", "target")
IDS, MASK = "input_ids", "attention_mask"
LISTS = ("List", "LargeList", "Sequence")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where things are.

    Attributes:
        kind: What the inputs are.
        inputs: The inputs' column.
        labels: The labels' column, if there is one.
        class_names: A name for each class, where the dataset has them.
    """

    kind: Literal["images", "ids", "text"]
    inputs: str
    labels: str | None
    class_names: tuple[str, ...]


def find_columns(name: str, features: Mapping[str, Any]) -> Columns:
    """The columns to use: the one of images, else `input_ids`, else the only one of text.

    Labels are the column `label`, `labels` or `target`, else the only one of classes (`ClassLabel`), else absent.

    Args:
        name: What errors call the dataset.
        features: Column name -> type, as `dataset_info.json` has it.

    Raises:
        UsageError: There are no such columns, or more than one would do.
    """
    labels = _labels(name, features)
    images = [column for column, feature in features.items() if _type(feature) == "Image"]
    texts = [column for column, feature in features.items() if _is_text(feature) and column != labels]
    names = () if labels is None else _class_names(features[labels])
    if not images and IDS in features:
        return Columns("ids", IDS, labels, names)
    candidates = images or texts
    if len(candidates) != 1:
        shown = ", ".join(f"{column} ({describe(feature)})" for column, feature in features.items())
        raise UsageError(
            f"{name}: expected one column of images, {IDS}, or one column of text, got {shown}; "
            "remove_columns those that are not wanted, and save again"
        )
    return Columns("images" if images else "text", candidates[0], labels, names)


def describe(feature: Any) -> str:
    """A column's type in a word or two."""
    element = _element(feature)
    if element is not None:
        return f"list of {describe(element)}"
    return str(feature.get("dtype") if _type(feature) == "Value" else _type(feature))


def brings_values(feature: Any) -> bool:
    """Whether a column of labels has numbers to regress on, one or several an example, and not classes."""
    return describe(feature).removeprefix("list of ").startswith("float")


def _labels(name: str, features: Mapping[str, Any]) -> str | None:
    named = [column for column in LABELS if column in features]
    if named and _is_text(features[named[0]]):
        raise UsageError(
            f"{name}: {named[0]}: expected labels that are classes or numbers, got text; "
            f'dataset.class_encode_column("{named[0]}") numbers its classes, then save again'
        )
    classes = [column for column, feature in features.items() if _class_names(feature)]
    if not named and len(classes) > 1:
        raise UsageError(
            f"{name}: expected one column of labels, got {', '.join(classes)}; "
            f"rename the one that is meant to {LABELS[0]}, and save again"
        )
    return next(iter(named or classes), None)


def _class_names(feature: Any) -> tuple[str, ...]:
    element = _element(feature) or feature
    return tuple(map(str, element.get("names") or ())) if _type(element) == "ClassLabel" else ()


def _is_text(feature: Any) -> bool:
    return _type(feature) == "Value" and feature.get("dtype") in ("string", "large_string")


def _element(feature: Any) -> Any:
    """What a column of lists has lists of; None for other columns. Before datasets 4 a list stood for itself."""
    if isinstance(feature, list):
        return feature[0] if feature else {}
    return feature.get("feature") if _type(feature) in LISTS else None


def _type(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""
