from __future__ import annotations

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sparsify.recipe.scalar import text_of, value_of


# The left column is YAML 1.2.2, section 10.3.2 and its example 10.9, and the traps of YAML 1.1.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("nULL", "nULL"),
        ("true", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("0", 0),
        ("-19", -19),
        ("+3", 3),
        ("012", 12),
        ("0o7", 7),
        ("0x3A", 58),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("190:20:30", "190:20:30"),
        ("0.", 0.0),
        ("-0.0", -0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        ("1e-3", 0.001),
        ("1.2e-3", 0.0012),
        (".", "."),
        ("e3", "e3"),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("+.INF", math.inf),
        ("inf", "inf"),
        ("nan", "nan"),
        ("2001-12-14", "2001-12-14"),
        ("10ep", "10ep"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text, value):
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_number():
    found = value_of(".NaN")
    assert isinstance(found, float)
    assert math.isnan(found)


def test_a_number_of_absurd_length_is_text_and_costs_nothing():
    assert value_of("9" * 100_000) == "9" * 100_000


tricky = st.one_of(
    st.text(),
    st.text(alphabet="0123456789eE+-._:x#&*!|>'\"%@`,[]{}? \t\n\r\x85\u2028\ud7ff\U0001f600\x07\x7f~aeinflNtru"),
    st.from_regex(r"[A-Za-z0-9_./:+-]{1,12}", fullmatch=True),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), tricky
)


@given(scalars)
def test_text_of_a_scalar_is_read_back_by_an_independent_reader(value):
    text = text_of(value)
    read = YAML(typ="safe", pure=True).load(f"key: {text}\nlist: [{text}, {text}]\n")
    assert read == {"key": value, "list": [value, value]}
    assert type(read["key"]) is type(value)


@given(st.text(alphabet=string.ascii_letters + string.digits + "._-*", min_size=1))
def test_text_of_a_key_is_read_back_by_an_independent_reader(key):
    assert YAML(typ="safe", pure=True).load(f"{text_of(key)}: 1\n") == {key: 1}
