"""What a model source may be called, in plain data: no torch here, so that `validate` and `ls` stay quick.

A source is one text: `resnet-20`, `torchvision:resnet18`, `transformers:PATH#embedding`, `pkg.module:factory?size=2`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from sparsify.models.catalogue import check_model

Kind = Literal["zoo", "torchvision", "timm", "transformers", "plugin", "import"]

HEADS = (
    "embedding",
    "classification",
    "token-classification",
    "causal-language-model",
    "masked-language-model",
    "image-classification",
)

_IMPORT = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One kind of source beside the zoo; `name` is what one writes, `summary` a line for `sparsify ls models`."""

    name: str
    summary: str


SOURCES = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            SourceEntry("torchvision:NAME", "A classifier of torchvision, built by name; nothing is downloaded"),
            SourceEntry("timm:NAME", "A classifier of timm, built by name; nothing is downloaded"),
            SourceEntry(
                "transformers:PATH[#HEAD]",
                "A folder of Hugging Face transformers, or an id in its cache; HEAD such as embedding",
            ),
            SourceEntry(
                "plugin:NAME", "A model that an installed package offers under the entry points `sparsify.models`"
            ),
            SourceEntry("pkg.module:factory[?key=value]", "Your own function or class, with `--allow-import pkg`"),
        )
    }
)


@dataclass(frozen=True, slots=True)
class SourceName:
    """A source, taken apart.

    Attributes:
        text: The source as written.
        kind: Who knows how to build it.
        name: What it is called there: a zoo name, a torchvision name, a path, `pkg.module:factory`.
        head: What follows `#`, for transformers; else empty.
        arguments: What follows `?`, for import and plug-ins: keyword arguments as JSON values.
    """

    text: str
    kind: Kind
    name: str
    head: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def parse(cls, text: str) -> SourceName:
        """Read a source; ValueError says what was expected, what came and how to mend it."""
        kind, rest = kind_of(text), text.partition(":")[2]
        if kind == "zoo":
            check_model(text)
            return cls(text, kind, text)
        if kind == "transformers":
            name, _, head = rest.partition("#")
            if head and head not in HEADS:
                raise ValueError(
                    f"expected a head among {', '.join(HEADS)}, got {head!r}; write transformers:PATH#HEAD"
                )
            return cls(text, kind, _named(text, name), head=head)
        if kind in ("torchvision", "timm"):
            return cls(text, kind, _named(text, rest))
        name, _, query = (text if kind == "import" else rest).partition("?")
        return cls(text, kind, _named(text, name), arguments=_arguments(query, text))


def kind_of(text: str) -> Kind:
    """Who builds a source, told from its form alone."""
    prefix = text.partition(":")[0]
    match prefix:
        case "torchvision" | "timm" | "transformers" | "plugin" if ":" in text:
            return prefix
        case _:
            return "import" if prefix != "mlp" and _IMPORT.fullmatch(text.partition("?")[0]) else "zoo"


def check_source(text: str, allow_import: Iterable[str] = ()) -> None:
    """Refuse a source that cannot be meant, without importing anything; ValueError with the mend.

    Whether torchvision or timm has the name, and the folder is there, is found out when it is opened.
    """
    source = SourceName.parse(text)
    if source.kind == "import" and not is_allowed(source.name, allow_import):
        raise ValueError(why_not_imported(source.name))


def is_allowed(name: str, allow_import: Iterable[str]) -> bool:
    """Whether `pkg.module:factory` lies in one of the packages a person has allowed."""
    module = name.partition(":")[0]
    return any(module == package or module.startswith(f"{package}.") for package in allow_import)


def why_not_imported(name: str) -> str:
    """Why `pkg.module:factory` is refused, and how to allow it."""
    package = name.partition(":")[0].partition(".")[0]
    return (
        f"expected a source that runs nobody's code unasked, got {name!r}: importing {package} runs what is in it; "
        f"if you trust it, add --allow-import {package} (in Python: allow_import=({package!r},))"
    )


def _named(text: str, name: str) -> str:
    if not name:
        raise ValueError(f"expected a name after the colon, got {text!r}; `sparsify ls models` shows the forms")
    return name


def _arguments(query: str, text: str) -> dict[str, Any]:
    """`a=1&b=full` as keyword arguments: JSON where a value is JSON, else text."""
    arguments: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier() or key in arguments:
            raise ValueError(f"expected arguments such as ?model=tiny&width=2, each once, got {pair!r} in {text!r}")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return arguments
