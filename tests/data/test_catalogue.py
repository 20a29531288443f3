"""Sources are told apart without reading them, and their fingerprints tell content and split apart."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.data import fashion_mnist
from sparsify.data.catalogue import DATASETS, check_source, fingerprint, parse_source
from sparsify.errors import InputOutputError
from sparsify.recipe.spec import DataSpec


def test_fingerprints_of_named_data_need_neither_torch_nor_the_data():
    code = """
import sys
from sparsify.data.catalogue import fingerprint
from sparsify.data.prepare import prepare
from sparsify.recipe.spec import DataSpec
prepare(DataSpec(source="digits"))
for source in ("digits", "fashion-mnist"):
    fingerprint(DataSpec(source=source))
heavy = {"torch", "numpy", "sklearn", "PIL", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {"SPARSIFY_DATA": "/nonexistent", "PATH": "/nonexistent", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("source", ["digits", "fashion-mnist", "npz:a.npz", "npz:/a b/c:d.npz", "image-folder:x"])
def test_known_sources_pass(source):
    check_source(source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("digit", "did you mean digits"),
        ("fashion_mnist", "did you mean fashion-mnist"),
        ("zzzz", "known are digits"),
        ("npz", "expected npz:PATH, got 'npz'"),
        ("npz: ", "expected npz:PATH, got"),
        ("image-folder:", "expected image-folder:PATH, got"),
        ("digits:here", "expected digits alone, got 'digits:here'"),
        ("digits:", "remove the colon"),
    ],
)
def test_unknown_sources_are_refused_with_a_mend(source, says):
    with pytest.raises(ValueError, match="expected") as refusal:
        check_source(source)
    assert says in str(refusal.value)


def test_a_path_may_hold_colons_and_a_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    name, path = parse_source("npz:~/a:b.npz")
    assert (name, str(path)) == ("npz", "/home/someone/a:b.npz")


SPECS = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["digits", "fashion-mnist"]),
        "validation": st.sampled_from([0.1, 0.2]),
        "test": st.sampled_from([0.1, 0.2]),
        "split_seed": st.integers(0, 2),
        "normalize": st.sampled_from(["unit", "standard"]),
    }
)


@given(SPECS, SPECS)
def test_fingerprints_are_equal_exactly_when_specs_are(one, other):
    same = fingerprint(DataSpec(**one)) == fingerprint(DataSpec(**other))
    assert same == (one == other)


def test_fashion_mnists_fingerprint_is_that_of_the_digests_its_loader_checks():
    canonical = json.dumps(dict(fashion_mnist.SHA256), sort_keys=True, separators=(",", ":")).encode()
    assert DATASETS["fashion-mnist"].content == hashlib.sha256(canonical).hexdigest()


def test_an_archives_fingerprint_follows_its_bytes_and_not_its_name(tmp_path):
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    np.savez(one, x=np.zeros((4, 2, 2), np.uint8), y=np.array([0, 1, 0, 1]))
    two.write_bytes(one.read_bytes())
    first = fingerprint(DataSpec(source=f"npz:{one}"))
    assert fingerprint(DataSpec(source=f"npz:{two}")) == first
    two.write_bytes(two.read_bytes() + b"\0")
    assert fingerprint(DataSpec(source=f"npz:{two}")) != first


def test_a_folders_fingerprint_follows_names_and_bytes(tmp_path):
    for name, content in (("a/1.png", b"1"), ("a/2.png", b"2"), ("b/1.png", b"3")):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    spec = DataSpec(source=f"image-folder:{tmp_path}")
    first = fingerprint(spec)
    assert fingerprint(spec) == first
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    assert fingerprint(spec) == first
    (tmp_path / "a" / "2.png").rename(tmp_path / "b" / "2.png")
    moved = fingerprint(spec)
    (tmp_path / "b" / "2.png").write_bytes(b"4")
    assert len({first, moved, fingerprint(spec)}) == 3


def test_files_that_are_not_there_are_input_errors(tmp_path):
    for source in (f"npz:{tmp_path}/none.npz", f"image-folder:{tmp_path}/none"):
        with pytest.raises(InputOutputError, match="none"):
            fingerprint(DataSpec(source=source))


def test_fields_that_came_later_change_no_fingerprint_until_they_are_asked_for(tmp_path):
    assert fingerprint(DataSpec(source="digits")) == "0519921723d8c0835f08dec2fc0107a74bc4e14b6765845acd5abbd1027110b6"
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"1")
    sizes = {"image_size": 8}
    asked = ({}, sizes, {"colour": "rgb"}, *(sizes | more for more in ({"resize": 9}, {"fit": "squash"})))
    found = {fingerprint(DataSpec.model_validate({"source": f"image-folder:{tmp_path}", **each})) for each in asked}
    assert len(found) == len(asked)
