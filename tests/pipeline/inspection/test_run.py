from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sparsify.errors import CorruptError, InputOutputError
from sparsify.masks.mask import Mask
from sparsify.pipeline.inspection.run import describe_run
from sparsify.store.run import Run
from sparsify.store.stage import write_stage

TEXT = """
name: tiny
model: lenet-300-100
seed: 3
replicates: 2
data: {source: digits}
prune: {levels: 2}
controls: [{name: reinit, levels: [1, 2]}]
probes: [{name: perturb-rest, levels: [1]}]
export: {targets: [onnxruntime-cpu]}
"""


def add(run: Run, path: str, kind: str, kept: int | None = None) -> None:
    with write_stage(
        run.root / path, kind=kind, key=path, spec={}, parents={}, seeds={"init": 1}, versions={}
    ) as folder:
        (folder / "f").write_text("x")
        if kept is not None:
            Mask({"w": torch.arange(8).reshape(2, 4) < kept}).save(folder / "mask.safetensors")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.open(tmp_path / "run", TEXT, {})
    add(run, "replicate_0/dense", "dense", 8)
    add(run, "replicate_1/dense", "dense", 8)
    add(run, "replicate_1/level_01", "level", 6)
    add(run, "replicate_1/controls/level_01/reinit", "control", 6)
    add(run, "probes/perturb-rest/result", "probe")
    add(run, "export/onnxruntime-cpu", "export")
    return run


def test_levels_by_replicates_with_the_masks_sparsity(run: Run):
    assert describe_run(run.root)["levels"] == [
        {"level": 0, "sparsity": 0.0, "complete": 2, "replicates": 2},
        {"level": 1, "sparsity": 0.25, "complete": 1, "replicates": 2},
        {"level": 2, "sparsity": None, "complete": 0, "replicates": 2},
    ]


def test_controls_and_the_rest(run: Run):
    document = describe_run(run.root)
    assert document["controls"] == [
        {"name": "reinit", "level": 1, "complete": 1, "replicates": 2},
        {"name": "reinit", "level": 2, "complete": 0, "replicates": 2},
    ]
    assert document["other_stages"] == {
        "probes/perturb-rest/result": True,
        "test": False,
        "export/onnxruntime-cpu": True,
        "latency/onnxruntime-cpu": False,
    }
    assert document["complete"] == {"control": 1, "dense": 2, "export": 1, "level": 1, "probe": 1}


def test_the_head_says_what_it_is(run: Run):
    document = describe_run(run.root)
    head = {name: document[name] for name in ("name", "model", "seed", "finished")}
    assert head == {"name": "tiny", "model": "lenet-300-100", "seed": 3, "finished": False}
    assert document["bytes"] == sum(path.stat().st_size for path in run.root.rglob("*") if path.is_file())
    json.dumps(document, allow_nan=False)


def test_a_finished_run_shows_where_it_ran(run: Run):
    run.write_manifest({"environment": {"processor": "p"}})
    document = describe_run(run.root)
    assert document["finished"]
    assert document["environment"] == {"processor": "p"}


def test_a_damaged_mask_is_named(run: Run):
    (run.root / "replicate_1/level_01/mask.safetensors").write_bytes(b"no mask")
    with pytest.raises(CorruptError, match=r"level_01/mask\.safetensors: expected a mask"):
        describe_run(run.root)


def test_no_run(tmp_path: Path):
    with pytest.raises(InputOutputError, match="expected a run folder"):
        describe_run(tmp_path)
