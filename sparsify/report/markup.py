"""HTML that cannot be injected into: every text is escaped where it enters an element."""

from __future__ import annotations

from html import escape

_EMPTY = frozenset({"meta", "circle", "line", "path", "rect", "polyline"})


class Html(str):
    """Markup that `element` made; any other `str` is text."""

    __slots__ = ()


def element(name: str, *children: str | None, **attributes: str | float | None) -> Html:
    """One element. Children that are `Html` are kept, other strings are escaped, None is left out.

    Attribute names take `_` for `-`, and a trailing `_` for Python's keywords (`class_`). None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not children:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """Children one after the other, escaped unless they are `Html`."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None))


def _plain(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
