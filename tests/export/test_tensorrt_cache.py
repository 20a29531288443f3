"""The plan cache: told apart by what matters, and never loading what this user's own build did not seal."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparsify.errors import CorruptError, InputOutputError, SparsifyError, UnavailableError
from sparsify_export.runtimes import tensorrt_cache
from sparsify_export.runtimes.onnx_file import graph_digest
from sparsify_export.runtimes.tensorrt_cache import PlanCache, PlanIdentity
from tensorrt_graphs import mlp

IDENTITY = PlanIdentity("ab" * 32, "tensorrt", "10.13.3", "NVIDIA A10 SM86", {"profiles": {"input": [[1], [2], [4]]}})


class Builder:
    """Counts how often it is asked; every build's bytes differ, as TensorRT's do."""

    def __init__(self) -> None:
        self.builds = 0

    def __call__(self, out: Path) -> dict[str, Any]:
        self.builds += 1
        out.write_bytes(b"plan %d" % self.builds)
        return {"layers": ["one", "two"], "seconds": 0.25}


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "cache", tmp_path / "state" / "plan.key")


def test_a_hit_does_not_build_again(cache: PlanCache) -> None:
    builder = Builder()
    first, second = cache.get(IDENTITY, builder), cache.get(IDENTITY, builder)
    assert (first.hit, second.hit, builder.builds) == (False, True, 1)
    assert first.plan == second.plan == b"plan 1"
    assert second.report == {"layers": ["one", "two"], "seconds": 0.25}


@pytest.mark.parametrize(
    "other",
    [
        {"graph_sha256": "cd" * 32},
        {"module": "tensorrt-rtx"},
        {"module_version": "10.14"},
        {"device": "NVIDIA L4 SM89"},
        {"options": {"profiles": {}}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_matters_makes_another_plan(cache: PlanCache, other: dict[str, Any]) -> None:
    builder = Builder()
    assert cache.get(IDENTITY, builder).plan != cache.get(replace(IDENTITY, **other), builder).plan
    assert builder.builds == 2


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: flip(folder / "model.plan"), r"model\.plan: .*SHA-256"),
        (lambda folder: (folder / "model.plan").unlink(), r"model\.plan: .*cannot be read"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json: .*cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), r"manifest\.json: .*no JSON object"),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"manifest\.json: .*cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 10**6), r"manifest\.json: .*cannot be read"),
        (lambda folder: edit(folder / "manifest.json", seal="0" * 64), r"manifest\.json: .*seal is not ours"),
        (lambda folder: edit(folder / "manifest.json", seal=None), r"manifest\.json: .*seal is not ours"),
        (lambda folder: edit(folder / "manifest.json", report={}), r"manifest\.json: .*seal is not ours"),
        (lambda folder: edit(folder / "manifest.json", more=float("nan")), r"manifest\.json: .*JSON has no NaN"),
    ],
    ids=[
        "flipped-plan",
        "no-plan",
        "no-manifest",
        "list",
        "cut-short",
        "deep",
        "other-seal",
        "no-seal",
        "edited",
        "nan",
    ],
)
def test_damage_is_refused_and_named(cache: PlanCache, damage: Callable[[Path], None], named: str) -> None:
    cache.get(IDENTITY, Builder())
    damage(cache.root / IDENTITY.key)
    with pytest.raises(CorruptError, match=named) as caught:
        cache.get(IDENTITY, Builder())
    assert caught.value.exit_code == 7
    assert f"remove the folder {cache.root / IDENTITY.key} to build it again" in str(caught.value)


def test_a_swapped_plan_with_a_manifest_to_match_is_refused(cache: PlanCache, tmp_path: Path) -> None:
    """An attacker who can write the cache, and knows its format, lacks the key."""
    cache.get(IDENTITY, Builder())
    theirs = PlanCache(tmp_path / "theirs", tmp_path / "their.key")
    theirs.get(IDENTITY, Builder())
    for name in ("model.plan", "manifest.json"):
        (cache.root / IDENTITY.key / name).write_bytes((theirs.root / IDENTITY.key / name).read_bytes())
    with pytest.raises(CorruptError, match="its seal is not ours"):
        cache.get(IDENTITY, Builder())


def test_a_sealed_plan_of_another_identity_is_refused(cache: PlanCache) -> None:
    other = replace(IDENTITY, device="NVIDIA L4 SM89")
    cache.get(IDENTITY, Builder())
    (cache.root / IDENTITY.key).rename(cache.root / other.key)
    with pytest.raises(CorruptError, match="it describes another plan"):
        cache.get(other, Builder())


def test_the_key_is_the_users_alone_and_stays(cache: PlanCache) -> None:
    cache.get(IDENTITY, Builder())
    key = cache.key_path.read_bytes()
    cache.get(replace(IDENTITY, module_version="11"), Builder())
    assert (len(key), cache.key_path.read_bytes()) == (32, key)
    assert stat.S_IMODE(cache.key_path.stat().st_mode) == 0o600
    assert [path.name for path in cache.key_path.parent.iterdir()] == ["plan.key"]


def test_a_damaged_key_is_named(cache: PlanCache) -> None:
    cache.get(IDENTITY, Builder())
    cache.key_path.write_bytes(b"short")
    with pytest.raises(CorruptError, match=r"plan\.key: expected 32 bytes, got 5; remove it"):
        cache.get(IDENTITY, Builder())


def test_a_key_made_meanwhile_by_another_process_wins(cache: PlanCache) -> None:
    cache.get(IDENTITY, Builder())
    key = cache.key_path.read_bytes()
    tensorrt_cache._write_key(cache.key_path)
    assert cache.key_path.read_bytes() == key


def test_a_key_that_cannot_be_kept_is_input_output(cache: PlanCache) -> None:
    cache.key_path.parent.write_text("a file where a folder should be")
    with pytest.raises(InputOutputError, match=r"plan\.key: .*cannot be kept.*XDG_STATE_HOME"):
        cache.get(IDENTITY, Builder())


def test_a_failed_build_leaves_nothing(cache: PlanCache) -> None:
    def fail(out: Path) -> dict[str, Any]:
        out.write_bytes(b"half")
        raise UnavailableError("no")

    with pytest.raises(SparsifyError, match="no"):
        cache.get(IDENTITY, fail)
    assert list(cache.root.iterdir()) == []
    assert cache.get(IDENTITY, Builder()).plan == b"plan 1"


def test_a_plan_built_meanwhile_by_another_process_is_taken(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.get(IDENTITY, Builder())
    real, looks = Path.is_dir, [False]  # not there at the first look, there when it comes to write

    def is_dir(path: Path) -> bool:
        return looks.pop() if path.name == IDENTITY.key and looks else real(path)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    builder = Builder()
    assert (cache.get(IDENTITY, builder).plan, looks, builder.builds) == (b"plan 1", [], 0)


def test_graph_digest_follows_content_and_not_the_name(tmp_path: Path) -> None:
    first = graph_digest(mlp(tmp_path / "a.onnx"))
    (tmp_path / "b.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())
    assert graph_digest(tmp_path / "b.onnx") == first
    assert graph_digest(mlp(tmp_path / "c.onnx", seed=1)) != first


def test_graph_digest_covers_weights_in_other_files(tmp_path: Path) -> None:
    import onnx

    path = mlp(tmp_path / "m.onnx")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    first = graph_digest(path)
    flip(tmp_path / "m.data")
    assert graph_digest(path) != first
    (tmp_path / "m.data").unlink()
    with pytest.raises(InputOutputError, match=r"m\.data: expected a readable file"):
        graph_digest(path)


def test_weights_outside_the_graphs_folder_are_refused(tmp_path: Path) -> None:
    import onnx

    path = mlp(tmp_path / "m.onnx")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CorruptError, match="outside its own folder"):
        graph_digest(path)
