from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import InputOutputError
from sparsify.store.digest import canonical_json, digest, file_sha256

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(json_values)
def test_canonical_json_reads_back_to_the_same_value(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), st.integers()))
def test_order_of_insertion_does_not_matter(value):
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_spelling_is_fixed():
    assert canonical_json({"b": (1, 2.5), "a": "é"}) == b'{"a":"\\u00e9","b":[1,2.5]}'


def test_digest_is_the_sha256_of_the_spelling():
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_whole_numbers_and_floats_stay_apart():
    assert digest(1) != digest(1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_lacks_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": value})


def test_file_sha256(tmp_path: Path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 300_000)
    assert file_sha256(path) == hashlib.sha256(b"x" * 300_000).hexdigest()


def test_an_absent_file_is_named(tmp_path: Path):
    with pytest.raises(InputOutputError, match=r"gone: expected a readable file"):
        file_sha256(tmp_path / "gone")
