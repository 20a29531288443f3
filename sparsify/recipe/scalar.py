"""Plain YAML scalars to values and back, by the YAML 1.2 core schema (YAML 1.2.2, section 10.3.2).

`1e-3` is a number, `no` is text, `012` is twelve: the traps of YAML 1.1 are not there.
"""

from __future__ import annotations

import json
import re

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_WORDS = {
    word: value
    for value, words in {
        None: ("", "~", "null", "Null", "NULL"),
        True: ("true", "True", "TRUE"),
        False: ("false", "False", "FALSE"),
    }.items()
    for word in words
}
_SAFE_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*(:[A-Za-z0-9_./+-]+)*|[0-9]+(ep|it)")
_LONGEST_NUMBER = 400  # characters; Python itself stops at 4300 digits, and no recipe needs more


def value_of(text: str) -> bool | int | float | str | None:
    """The value of a plain (unquoted) scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", "", 1))
    return float("nan") if text in (".nan", ".NaN", ".NAN") else text


def text_of(value: bool | int | float | str | None) -> str:
    """The scalar as YAML that reads back to the same value; text is quoted only where it must be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if _SAFE_PLAIN.fullmatch(value) and value_of(value) == value:
        return value
    return _quoted(value)


def _quoted(text: str) -> str:
    """JSON's quoting, which is YAML's, with everything unprintable escaped as YAML escapes it (section 5.7)."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(
        character
        if character.isprintable()
        else f"\\u{ord(character):04x}"
        if ord(character) < 0x10000
        else f"\\U{ord(character):08x}"
        for character in quoted
    )
