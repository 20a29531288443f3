from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sparsify.errors import UsageError
from sparsify.recipe.pattern import Pattern

ADAPTER = TypeAdapter(Pattern)


@pytest.mark.parametrize(
    ("text", "pattern", "sparsity"),
    [
        ("unstructured", Pattern("unstructured"), None),
        ("channel", Pattern("channel"), None),
        ("2:4", Pattern("nm", n=2, m=4), 0.5),
        ("1:4", Pattern("nm", n=1, m=4), 0.75),
        ("4:8", Pattern("nm", n=4, m=8), 0.5),
        ("block:4x1", Pattern("block", rows=4, cols=1), None),
        ("block:16x1", Pattern("block", rows=16, cols=1), None),
        ("block:4x4", Pattern("block", rows=4, cols=4), None),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, pattern: Pattern, sparsity: float | None):
    assert Pattern.parse(text) == pattern
    assert str(pattern) == text
    assert pattern.sparsity == sparsity


@given(n=st.integers(1, 9999), m=st.integers(1, 9999), block=st.booleans())
def test_a_pattern_reads_back_as_written(n: int, m: int, block: bool):
    pattern = Pattern("block", rows=n, cols=m) if block or n == m else Pattern("nm", n=min(n, m), m=max(n, m))
    assert Pattern.parse(str(pattern)) == pattern
    assert ADAPTER.validate_python(str(pattern), strict=True) == pattern
    assert ADAPTER.dump_python(pattern, mode="json") == str(pattern)
    assert re.search(ADAPTER.json_schema()["pattern"], str(pattern))


@pytest.mark.parametrize(
    "text",
    ["", "2;4", "0:4", "4:4", "02:4", "2:4\n", " 2:4", "-2:4", "2:4:8", "block", "block:4", "block:0x4", "block:4x",
     "block:4X4", "Unstructured", "channels", "٢:4", "2:99999", "1e1:4"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match=r"expected a pattern: unstructured, n:m such as 2:4, .*, got "):
        Pattern.parse(text)


@pytest.mark.parametrize("value", [2, None, 0.5, ["2:4"]])
def test_what_is_no_text_is_refused(value: object):
    with pytest.raises(ValidationError, match="expected a pattern"):
        ADAPTER.validate_python(value)


def test_one_who_writes_it_backwards_is_told_so():
    with pytest.raises(ValueError, match=r"got '4:2'; write 2:4 to keep 2 of every 4"):
        Pattern.parse("4:2")


def test_a_pattern_made_by_hand_is_checked_too():
    for wrong in (
        {"kind": "nm", "n": 4, "m": 2},
        {"kind": "nm"},
        {"kind": "block", "rows": 4},
        {"kind": "channel", "n": 1, "m": 2},
    ):
        with pytest.raises(ValueError, match="expected a pattern"):
            Pattern(**wrong)


def test_in_python_a_wrong_pattern_is_a_usage_error():
    with pytest.raises(UsageError, match=r"pattern: expected a pattern.*got 'rows'"):
        Pattern.of("rows")
    assert Pattern.of(Pattern.of("2:4")) == Pattern("nm", n=2, m=4)
