from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sparsify.errors import CorruptError, UsageError
from sparsify.store.digest import digest
from sparsify.store.sealed import write_sealed
from sparsify.store.stage import StageRecord, check_stage, read_stage, stage_key, write_stage

PARENTS = {"dense": {"path": "replicate_0/dense", "digest": "d" * 64}}


def make(final: Path, files: dict[str, str], **changes: object) -> StageRecord:
    arguments = {"kind": "level", "key": "k" * 64, "spec": {"model": "m"}, "parents": PARENTS, "seeds": {"init": 3}}
    with write_stage(final, **{**arguments, "versions": {"torch": "2"}, **changes}) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    record = read_stage(final)
    assert record is not None
    return record


def test_the_record_says_what_was_made_from_what(tmp_path: Path):
    record = make(tmp_path / "s", {"a": "x", "sub/b": "yy"})
    assert (record.kind, record.key, record.spec, record.parents) == ("level", "k" * 64, {"model": "m"}, PARENTS)
    assert (record.seeds, record.versions) == ({"init": 3}, {"torch": "2"})
    assert record.files == {
        "a": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1},
        "sub/b": {"sha256": hashlib.sha256(b"yy").hexdigest(), "size": 2},
    }
    assert record.digest == digest({"a": hashlib.sha256(b"x").hexdigest(), "sub/b": hashlib.sha256(b"yy").hexdigest()})
    assert record.elapsed_s >= 0
    assert record.created.endswith("+00:00")


def test_equal_outputs_have_equal_digests_whenever_they_were_made(tmp_path: Path):
    one, two = make(tmp_path / "1", {"a": "x"}), make(tmp_path / "2", {"a": "x"}, seeds={"init": 4})
    assert one.digest == two.digest
    assert one.record_sha256 != two.record_sha256


@pytest.mark.parametrize("files", [{"a": "y"}, {"b": "x"}, {"a": "x", "b": ""}])
def test_other_outputs_have_other_digests(tmp_path: Path, files: dict[str, str]):
    assert make(tmp_path / "1", {"a": "x"}).digest != make(tmp_path / "2", files).digest


def test_nothing_appears_when_the_body_fails(tmp_path: Path):
    stage = write_stage(tmp_path / "s", kind="k", key="", spec={}, parents={}, seeds={}, versions={})
    with pytest.raises(RuntimeError), stage as folder:
        (folder / "a").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    assert read_stage(tmp_path / "s") is None


def test_a_finished_stage_is_not_overwritten_unless_asked(tmp_path: Path):
    make(tmp_path / "s", {"a": "old"})
    with pytest.raises(UsageError, match="replace it on purpose"):
        make(tmp_path / "s", {"a": "new"})
    assert (tmp_path / "s" / "a").read_text() == "old"
    make(tmp_path / "s", {"a": "new"}, replace=True)
    assert (tmp_path / "s" / "a").read_text() == "new"


def test_an_intact_stage_passes(tmp_path: Path):
    check_stage(tmp_path / "s", make(tmp_path / "s", {"a": "x", "b": "y"}))


def test_the_first_changed_file_is_named(tmp_path: Path):
    record = make(tmp_path / "s", {"a": "x", "b": "y", "c": "z"})
    (tmp_path / "s" / "b").write_text("Y")
    (tmp_path / "s" / "c").write_text("Z")
    with pytest.raises(CorruptError, match=r"s/b: changed since it was written; remove the folder"):
        check_stage(tmp_path / "s", record)


def test_a_missing_file_is_named(tmp_path: Path):
    record = make(tmp_path / "s", {"a": "x"})
    (tmp_path / "s" / "a").unlink()
    with pytest.raises(CorruptError, match=r"s/a: missing"):
        check_stage(tmp_path / "s", record)


def test_an_unlisted_file_is_named(tmp_path: Path):
    record = make(tmp_path / "s", {"a": "x"})
    (tmp_path / "s" / "more").touch()
    with pytest.raises(CorruptError, match=r"s/more: not listed in stage\.json"):
        check_stage(tmp_path / "s", record)


def test_a_changed_record_is_named(tmp_path: Path):
    make(tmp_path / "s", {"a": "x"})
    path = tmp_path / "s" / "stage.json"
    path.write_text(path.read_text().replace('"level"', '"dense"'))
    with pytest.raises(CorruptError, match=r"s/stage\.json: .*was changed"):
        read_stage(tmp_path / "s")


@pytest.mark.parametrize("change", [{"files": []}, {"more": 1}, {"spec": "x"}])
def test_a_well_sealed_record_of_another_shape_is_refused(tmp_path: Path, change: dict[str, object]):
    make(tmp_path / "s", {"a": "x"})
    path = tmp_path / "s" / "stage.json"
    write_sealed(path, {**json.loads(path.read_text()), **change})
    with pytest.raises(CorruptError, match=f"got a wrong {next(iter(change))}"):
        read_stage(tmp_path / "s")


def test_the_key_follows_everything_that_determines_the_output():
    arguments = {"kind": "level", "spec": {"a": 1}, "inputs": {"dense": "d"}, "versions": {"torch": "2"}}
    changes = [{"kind": "x"}, {"spec": {"a": 2}}, {"inputs": {"dense": "e"}}, {"versions": {"torch": "3"}}]
    keys = [stage_key(**{**arguments, **change}) for change in [{}, *changes]]
    assert len(set(keys)) == len(keys)
    assert stage_key(**arguments) == keys[0]


def test_a_null_in_a_spec_does_not_count():
    def key(spec: dict[str, object]) -> str:
        return stage_key("level", spec, {}, {})

    assert key({"a": 1, "b": {"c": [{"d": 2}]}}) == key({"a": 1, "new": None, "b": {"c": [{"d": 2, "e": None}]}})
    assert key({"a": [None]}) != key({"a": []})


def test_a_record_is_frozen(tmp_path: Path):
    record = make(tmp_path / "s", {"a": "x"})
    with pytest.raises(AttributeError):
        record.key = "other"
    assert replace(record, key="other").key == "other"
