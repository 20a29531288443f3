from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sparsify.errors import CorruptError
from sparsify.lottery.network import Network
from sparsify.lottery.ticket import Ticket
from sparsify.masks.mask import Mask
from sparsify.models.build import prunable
from sparsify.pipeline.inspection.stage import describe_stage
from sparsify.store.network_weights import save_weights
from sparsify.store.run import Run
from sparsify.store.stage import read_stage, write_stage
from sparsify.store.weights import load_tensors, save_tensors

NETWORK = Network("mlp:64-6-4", (1, 8, 8), 4)


def add(root: Path, path: str, mask: Mask, *parents: tuple[str, str], precision: str | None = None) -> None:
    made_from = {}
    for role, parent in parents:
        record = read_stage(root / parent)
        assert record is not None
        made_from[role] = {"path": parent, "digest": record.digest}
    module = NETWORK.build(seed=len(parents))
    mask.apply_(module)
    with write_stage(
        root / path, kind="level", key=path, spec={}, parents=made_from, seeds={"init": 7}, versions={}, replace=True
    ) as folder:
        NETWORK.save(folder)
        mask.save(folder / Ticket.MASK)
        save_tensors(folder / Ticket.WEIGHTS, module.state_dict())
        if precision is not None:
            (folder / Ticket.HISTORY).write_text(json.dumps({"precision": precision}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Dense, then two levels; at level 2 half of the hidden units read nothing and have no bias."""
    root = Run.open(tmp_path / "run", "name: a\n", {}).root
    module = NETWORK.build()
    names = prunable(module)
    dense = Mask.dense(module, names)
    hidden = names[0]
    half = Mask(
        {name: (torch.arange(len(dense[name])) < 3)[:, None] & dense[name] for name in [hidden]}
        | {name: dense[name] for name in names[1:]}
    )
    add(root, "replicate_0/dense", dense, precision="bf16")
    add(root, "replicate_0/level_01", dense, ("dense", "replicate_0/dense"), ("previous", "replicate_0/dense"))
    add(root, "replicate_0/level_02", half, ("dense", "replicate_0/dense"), ("previous", "replicate_0/level_01"))
    return root


def test_layers_and_totals_are_the_masks(root: Path):
    document = describe_stage(root / "replicate_0/level_02")
    rows = [(one["shape"], one["elements"], one["kept"], one["sparsity"]) for one in document["layers"]]
    assert rows == [([6, 64], 384, 192, 0.5), ([4, 6], 24, 24, 0.0)]
    assert {one["dtype"] for one in document["layers"]} == {"float32"}, "of the weights, not of their mask"
    assert document["totals"] == {"elements": 408, "kept": 216, "sparsity": 1 - 216 / 408}
    assert document["network"] == {"model": "mlp:64-6-4", "input_shape": [1, 8, 8], "classes": 4}


def test_what_it_was_trained_in_is_told_where_its_history_says(root: Path):
    found = [describe_stage(root / f"replicate_0/{stage}")["precision"] for stage in ("dense", "level_02")]
    assert found == ["bf16", None]


def test_three_sizes(root: Path):
    """Three dead units of six (biases begin at 0): the shrunk network is 64-3-4."""
    sizes = describe_stage(root / "replicate_0/level_02")["sizes_bytes"]
    assert sizes["masked"] == 4 * (64 * 6 + 6 + 6 * 4 + 4)
    biases = [t for n, t in Ticket(root / "replicate_0/level_02").trained_weights.items() if n.endswith("bias")]
    assert not any(bias.any() for bias in biases[:1]), "the fixture's arithmetic rests on biases of 0"
    assert sizes["shrunk"] == 4 * (64 * 3 + 3 + 3 * 4 + 4)
    assert sizes["packed"] < sizes["masked"]


def test_sizes_that_are_known_are_not_made_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def never(state: object) -> int:
        raise AssertionError("packed again")

    monkeypatch.setattr("sparsify.pipeline.inspection.tensors.packed_bytes", never)
    (tmp_path / "sizes.json").write_text('{"masked": 3, "packed": 2, "shrunk": 1, "onnx": 9}')
    level = root / "replicate_0/level_02"
    assert describe_stage(level, tmp_path)["sizes_bytes"] == {"masked": 3, "packed": 2, "shrunk": 1}
    save_weights(tmp_path, load_tensors(level / Ticket.WEIGHTS), packed=True)
    (tmp_path / "sizes.json").unlink()
    assert describe_stage(tmp_path)["sizes_bytes"]["packed"] == (tmp_path / "weights.packed").stat().st_size


def test_lineage_is_nearest_first_and_each_once(root: Path):
    lineage = describe_stage(root / "replicate_0/level_02")["lineage"]
    assert [(one["path"], one["role"], one["state"], one["seeds"]) for one in lineage] == [
        ("replicate_0/dense", "dense", "intact", {"init": 7}),
        ("replicate_0/level_01", "previous", "intact", {"init": 7}),
    ]


def test_a_parent_that_was_made_again_is_stale(root: Path):
    add(root, "replicate_0/level_01", Mask.dense(NETWORK.build(), prunable(NETWORK.build())))
    states = {one["path"]: one["state"] for one in describe_stage(root / "replicate_0/level_02")["lineage"]}
    assert states == {"replicate_0/dense": "intact", "replicate_0/level_01": "stale"}


def test_a_stage_away_from_its_run(root: Path, tmp_path: Path):
    moved = (root / "replicate_0/level_02").rename(tmp_path / "moved")
    document = describe_stage(moved)
    assert {one["state"] for one in document["lineage"]} == {"absent"}
    assert document["totals"]["kept"] == 216


def test_a_folder_without_a_record(root: Path):
    (root / "replicate_0/level_02/stage.json").unlink()
    document = describe_stage(root / "replicate_0/level_02")
    assert document["record"] is None
    assert document["totals"]["kept"] == 216


def test_a_stage_without_weights_shows_the_sizes_it_recorded(tmp_path: Path):
    with write_stage(tmp_path / "s", kind="export", key="k", spec={}, parents={}, seeds={}, versions={}) as folder:
        (folder / "sizes.json").write_text('{"masked": 3, "packed": 2, "shrunk": 1}')
    document = describe_stage(tmp_path / "s")
    assert document["sizes_bytes"] == {"masked": 3, "packed": 2, "shrunk": 1}
    assert document["layers"] == []
    json.dumps(document)


def test_damage_is_named(root: Path):
    (root / "replicate_0/level_02/network.json").write_text("{")
    with pytest.raises(CorruptError, match=r"network\.json: expected JSON"):
        describe_stage(root / "replicate_0/level_02")
