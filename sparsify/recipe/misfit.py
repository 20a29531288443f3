"""`Misfit`: one value of a recipe that does not fit, before anyone knows which line it stands on."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_PLAIN_KEY = re.compile(r"[\w*?.\[\]-]+")
_LONGEST_SHOWN = 60
_LONGEST_NAME = 64


class Misfit(ValueError):
    """What was expected at `path`, what came, and how to mend it.

    `path` holds mapping keys and list indices from the top of the recipe (or, raised inside a pydantic validator, from
    the value being validated). `at_key` says that the key itself is at fault, not its value.
    """

    def __init__(
        self, path: tuple[str | int, ...], *, expected: str, got: str, mend: str, at_key: bool = False
    ) -> None:
        super().__init__(f"expected {expected}, got {got}; {mend}")
        self.path = path
        self.expected = expected
        self.got = got
        self.mend = mend
        self.at_key = at_key


# A semantic check takes the recipe's plain tree, which may be ill-typed anywhere, and yields what does not fit.
Check = Callable[[Mapping[str, Any]], Iterable[Misfit]]


def dotted(path: Iterable[str | int]) -> str:
    """The path as `--set` writes it: `controls.0.levels`; the top of the recipe is `recipe`."""
    keys = [str(key) for key in path]
    return ".".join(key if _PLAIN_KEY.fullmatch(key) else json.dumps(key) for key in keys) or "recipe"


def shown(value: object) -> str:
    """A value as a message names it: its kind and, where short, its text."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {_clipped(repr(value))}"
        case str():
            return _clipped(repr(value))
        case dict():
            return f"a mapping of {_count(len(value), 'key')}"
        case list() | tuple():
            return f"a list of {_count(len(value), 'item')}"
        case _:
            return _clipped(repr(value))


def near(name: str, names: Iterable[str]) -> str:
    """`did you mean X?` for the names closest to a mistyped one, or an empty string where none is close."""
    if len(name) > _LONGEST_NAME:
        return ""
    close = difflib.get_close_matches(name, list(names), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
