from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sparsify.errors import CorruptError
from sparsify.store.resolved import differences, parse_resolved, read_resolved, write_resolved

TEXT = "name: é\ntrain:\n  lr: 1e-3\n  steps: 10ep\nlevels: [1, 2]\n"
RECIPE = {"name": "é", "train": {"lr": 0.001, "steps": "10ep"}, "levels": [1, 2]}


@pytest.mark.parametrize("text", [TEXT, TEXT.rstrip("\n")])
def test_what_was_written_reads_back(tmp_path: Path, text: str):
    write_resolved(tmp_path / "r", text)
    assert read_resolved(tmp_path / "r") == RECIPE


def test_the_seal_is_a_comment_to_any_reader(tmp_path: Path):
    write_resolved(tmp_path / "r", TEXT)
    assert YAML(typ="safe", pure=True).load(tmp_path / "r") == RECIPE


def test_every_single_byte_counts(tmp_path: Path):
    path = tmp_path / "r"
    write_resolved(path, TEXT)
    good = path.read_bytes()
    for place in range(len(good)):
        for flip in (0x01, 0x20, 0xFF):
            path.write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
            with pytest.raises(CorruptError, match="r: changed since it was written"):
                read_resolved(path)


def test_an_unsealed_file_is_refused(tmp_path: Path):
    (tmp_path / "r").write_text(TEXT)
    with pytest.raises(CorruptError, match="digest of its own lines"):
        read_resolved(tmp_path / "r")


@pytest.mark.parametrize(("text", "message"), [("- 1\n", "expected a mapping, got list"), ("a: [", "expected YAML")])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str):
    write_resolved(tmp_path / "r", text)
    with pytest.raises(CorruptError, match=message):
        read_resolved(tmp_path / "r")


def test_yaml_tags_make_no_objects():
    with pytest.raises(CorruptError, match="expected YAML"):
        parse_resolved(Path("r"), "a: !!python/object/apply:os.system ['true']\n")


def test_differences_name_each_leaf_with_both_values():
    old = {"seed": 0, "train": {"lr": 0.1, "steps": "1ep"}, "controls": [{"levels": [1]}]}
    new = {"seed": 0, "train": {"lr": 0.2, "steps": "1ep"}, "controls": [{"levels": [1, 2]}], "extra": True}
    assert list(differences(old, new)) == [
        'controls: the folder has [{"levels": [1]}], the recipe says [{"levels": [1, 2]}]',
        "extra: the folder has null, the recipe says true",
        "train.lr: the folder has 0.1, the recipe says 0.2",
    ]


def test_compute_changes_nothing_at_the_top_only():
    assert list(differences({"compute": {"workers": 1}}, {"compute": {"workers": 2}})) == []
    assert len(list(differences({"a": {"compute": 1}}, {"a": {"compute": 2}}))) == 1


def test_a_flag_and_a_number_differ():
    assert list(differences({"a": 1}, {"a": True})) == ["a: the folder has 1, the recipe says true"]
