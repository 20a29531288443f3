"""`sparsify prune --file` and `--onnx`: what is zero afterwards is what `torch.topk` says; nothing else has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

import sparsify
from layer_graphs import normal, save_graph, tensors_of
from sparsify.cli.main import app
from sparsify.data.calibration import calibration_batches
from sparsify.data.load import load
from sparsify.data.preprocessing import Preprocessing
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.recipe.spec import DataSpec

SHAPES = {"embed.weight": (40, 8), "a.weight": (12, 8), "b.weight": (6, 12)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_file(weights(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return drawn | {"a.bias": torch.randn(12, generator=generator)}


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["prune", *map(str, arguments)], catch_exceptions=False)


def largest(values: Tensor, keep: int) -> Tensor:
    """True at the `keep` values of largest magnitude, by `torch.topk`."""
    kept = torch.zeros(values.numel(), dtype=torch.bool)
    kept[torch.topk(values.flatten().abs(), keep).indices] = True
    return kept


def test_the_smallest_of_all_layers_go_but_of_those_left_out(file: Path, tmp_path: Path):
    given = weights()
    out = tmp_path / "new" / "pruned.safetensors"
    done = invoke("--file", file, "--sparsity", 0.5, "--layer", "embed*=0", "--out", out, "--json")
    kept = largest(torch.cat([given["a.weight"].flatten(), given["b.weight"].flatten()]), 84)
    expected = given | {
        "a.weight": given["a.weight"] * kept[:96].view(12, 8),
        "b.weight": given["b.weight"] * kept[96:].view(6, 12),
    }
    found = load_file(out)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    document = json.loads(done.stdout)
    assert (document["sparsity"], document["allocation"], document["out"]) == (0.5, "global", str(out))
    assert document["skipped"] == {"embed.weight": "left dense by the override 'embed*': 0"}


def test_each_layer_has_its_share_where_they_do_not_compete(file: Path, tmp_path: Path):
    done = invoke("--file", file, "--sparsity", 0.75, "--allocation", "uniform")
    found = load_file(tmp_path / "model-pruned.safetensors")
    for name in SHAPES:
        weight = weights()[name]
        assert torch.equal(found[name].flatten() != 0, largest(weight, weight.numel() // 4))
    assert "75.00% of 488 weights removed, in 3 layers" in done.stderr
    assert "wrote model-pruned.safetensors" in done.stderr


def test_two_of_every_four_inputs_are_kept(file: Path, tmp_path: Path):
    invoke("--file", file, "--pattern", "2:4", "--sparsity", 0.5, "--out", "p.safetensors")
    found = load_file(tmp_path / "p.safetensors")
    for name in SHAPES:
        groups = weights()[name].view(-1, 4)
        kept = torch.zeros_like(groups, dtype=torch.bool).scatter(1, groups.abs().topk(2, dim=1).indices, value=True)
        assert torch.equal(found[name].view(-1, 4), groups * kept)


def sharded(folder: Path) -> Path:
    """The same network in two files and an index, as transformers writes it."""
    folder.mkdir()
    parts = {"1.safetensors": ["embed.weight", "b.weight"], "2.safetensors": ["a.weight", "a.bias"]}
    for name, names in parts.items():
        save_file({key: weights()[key] for key in names}, folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name, names in parts.items() for key in names}}))
    return index


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block:2x2"])
def test_several_files_are_pruned_as_the_one_they_make_up(file: Path, tmp_path: Path, pattern: str):
    index = sharded(tmp_path / "net")
    whole = sparsify.prune_file(file, tmp_path / "whole.safetensors", pattern=pattern, sparsity=0.5)
    done = invoke("--file", index, "--pattern", pattern, "--sparsity", 0.5, "--json")
    out = tmp_path / "net-pruned"
    assert sorted(path.name for path in out.iterdir()) == ["1.safetensors", "2.safetensors", index.name]
    assert (out / index.name).read_bytes() == index.read_bytes()
    found = load_file(out / "1.safetensors") | load_file(out / "2.safetensors")
    expected = load_file(tmp_path / "whole.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert json.loads(done.stdout)["layers"] == whole.to_json()["layers"]


def test_a_shard_that_fails_leaves_no_folder(file: Path, tmp_path: Path):
    index = sharded(tmp_path / "net")
    save_file(
        {"a.weight": weights()["a.weight"], "a.bias": torch.full((4, 4), float("nan"))},
        index.with_name("2.safetensors"),
    )
    with pytest.raises(UsageError, match=r"weights of a\.bias: expected finite numbers"):
        invoke("--file", index, "--sparsity", 0.5, "--allocation", "uniform")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "net"]


def test_a_tensor_in_two_files_is_refused(tmp_path: Path):
    index = sharded(tmp_path / "net")
    save_file(weights(), index.with_name("2.safetensors"))
    with pytest.raises(CorruptError, match=r"expected each tensor in one file, got \w+\.weight in two"):
        invoke("--file", index, "--sparsity", 0.5, "--out", tmp_path / "out")


def test_progress_tells_bytes_written_and_read(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[tuple[int, int, str]] = []
    save_file({"w": torch.randn(1500, 1000, generator=torch.Generator().manual_seed(0))}, file)
    sparsify.prune_file(file, tmp_path / "x", sparsity=0.5, progress=lambda *step: told.append(step))
    assert {whole for _, whole, _ in told} == {6}
    assert [step for step, _, _ in told] == sorted(step for step, _, _ in told) and told[-1][0] == 5
    read = [int(note.split()[2]) for _, _, note in told]
    assert read == sorted(read) and read[-1] >= 12  # once for the threshold, once to write


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", 0.5, "--out", "model.safetensors"], r"model\.safetensors: expected no such file yet"),
        (["--sparsity", 0.5, "--criterion", "wanda"], r"--criterion: expected magnitude with --file.*'wanda'"),
        (["--sparsity", 0.5, "--allocation", "searched"], r"--allocation: expected global, uniform, erk with --file"),
        (["--sparsity", 0.5, "--max-drop", 0.1], r"--max-drop: expected no such option beside --file"),
        (["--sparsity", 0.5, "--pattern", "3;4"], r"--pattern: .*expected a pattern"),
        (["--pattern", "channel", "--sparsity", 0.5], r"pattern channel: expected one that a mask can hold"),
        (["--pattern", "unstructured"], r"sparsity: expected a fraction from 0 to below 1, got None"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_written(
    file: Path, tmp_path: Path, options: list[object], message: str
):
    with pytest.raises(UsageError, match=message):
        invoke("--file", file, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph of pictures of 8x8 in grey: flattened, and one matrix of 64x10."""
    monkeypatch.chdir(tmp_path)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], name="head"),
    ]
    return save_graph(tmp_path / "d.onnx", nodes, {"image": ["n", 1, 8, 8]}, {"logits": None}, {"w": normal(64, 10)})


def wanda_by_hand(examples: Tensor, weight: Tensor) -> Tensor:
    """Of each output, the half of |w| times the norm of its input that is largest (Sun et al. 2024, equation 1)."""
    scores = weight.abs() * examples.flatten(1).norm(dim=0)[:, None]
    return torch.zeros_like(weight, dtype=torch.bool).scatter(0, scores.topk(32, dim=0).indices, value=True)


def test_a_graph_takes_examples_of_a_data_set_by_its_name(graph: Path, tmp_path: Path):
    done = invoke(
        "--onnx", graph, "--data", "digits", "--calibration", 96, "--criterion", "wanda", "--sparsity", "50%", "--json"
    )
    data = load(DataSpec(source="digits"))
    examples = torch.cat([inputs for inputs, _ in calibration_batches(data, 96, 0)])
    kept = torch.from_numpy(tensors_of(tmp_path / "d-pruned.onnx")["w"] != 0)
    assert torch.equal(kept, wanda_by_hand(examples, torch.from_numpy(normal(64, 10))))
    assert json.loads(done.stdout)["calibration_examples"] == 96


def test_pictures_are_brought_to_the_size_that_the_graph_takes(graph: Path, tmp_path: Path):
    for i in range(20):
        (tmp_path / "photos" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (12 + i, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / str(i % 2) / f"{i}.png")
    done = invoke("--onnx", graph, "--data", "image-folder:photos", "--criterion", "wanda", "--sparsity", 0.5, "--json")
    document = json.loads(done.stdout)
    assert document["calibration_examples"] == len(load(DataSpec(source="image-folder:photos", image_size=8)).train)


@pytest.fixture
def photos(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / "photos" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (14, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / str(i % 2) / f"{i}.png")


FED = Preprocessing("pictures", (1, 8, 8), (120.0,), (60.0,), 255.0, "grey", 10, "crop", "bicubic")


@pytest.mark.parametrize(
    ("more", "told", "changed"),
    [
        ((), "(value - 120) / 60 of pixels 0 to 255, as the graph's metadata says", {}),
        (("--normalize", "unit"), "as --normalize says", {"mean": (0.0,), "std": (255.0,)}),
    ],
    ids=["as it says", "unless told otherwise"],
)
def test_pictures_are_fed_as_the_graphs_metadata_says(
    graph: Path, tmp_path: Path, photos: None, more: tuple[str, ...], told: str, changed: dict[str, Any]
):
    model = onnx.load(graph)
    helper.set_model_props(model, {Preprocessing.KEY: FED.text()})
    onnx.save(model, graph)
    done = invoke("--onnx", graph, "--data", "image-folder:photos", "--criterion", "wanda", "--sparsity", 0.5, *more)
    assert told in " ".join(done.stderr.split())
    raw = DataSpec(
        source="image-folder:photos", normalize="none", colour="grey", image_size=8, resize=10, interpolation="bicubic"
    )
    data = load(raw)
    values = torch.cat([inputs for inputs, _ in calibration_batches(data, len(data.train), 0)])
    fed = replace(FED, **changed)
    kept = torch.from_numpy(tensors_of(tmp_path / "d-pruned.onnx")["w"] != 0)
    assert torch.equal(kept, wanda_by_hand((values - fed.mean[0]) / fed.std[0], torch.from_numpy(normal(64, 10))))
    assert not torch.equal(kept, wanda_by_hand(values - values.mean(), torch.from_numpy(normal(64, 10))))


def test_how_examples_were_fed_is_said_where_the_graph_does_not(graph: Path):
    done = invoke("--onnx", graph, "--data", "digits", "--criterion", "wanda", "--sparsity", 0.5)
    assert "calibrated on arrays 1x8x8" in done.stderr and "the graph does not say, --normalize does" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "digit"], r"--data: expected a dataset's name .*did you mean digits\?; or FILE\.npz"),
        (["--data", "none.npz"], r"none\.npz: expected calibration data, an \.npy or \.npz file, found none"),
        (["--data", "x.npy", "--image-size", 8], r"--image-size: expected pictures, got x\.npy"),
        (["--data", "fold.txt"], r"--data: expected a dataset's name"),
    ],
    ids=str,
)
def test_other_data_for_a_graph_is_refused_by_its_option(graph: Path, options: list[object], message: str):
    with pytest.raises((UsageError, InputOutputError), match=message):
        invoke("--onnx", graph, "--sparsity", 0.5, *options)
