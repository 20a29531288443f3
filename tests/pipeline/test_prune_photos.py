"""`sparsify prune` whole on a folder of photos of mixed sizes: what it asks for, warns of, and says to who deploys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import sparsify as library
from sparsify.pipeline.inspection import inspect

pytestmark = pytest.mark.slow
QUICK = ("--recover", "2it", "--set", "latency.pairs=20", "--set", "latency.launches=1", "--set", "compute.workers=1")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Forty photos in two classes, and a network that takes every one of them for the first."""
    root, drawn = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for number in range(40):
        width, height = drawn.integers(10, 30, 2)
        file = root / f"photos/{'ab'[number % 2]}/{number:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.integers(0, 256, (height, width, 3), np.uint8)).save(file)
    generator = torch.Generator().manual_seed(0)
    weights = {
        "hidden1.weight": torch.randn(6, 192, generator=generator) / 100,
        "hidden1.bias": torch.zeros(6),
        "output.weight": torch.randn(2, 6, generator=generator) / 100,
        "output.bias": torch.tensor([1.0, 0.0]),
    }
    save_file(weights, root / "net.safetensors")
    data = ("--data", f"image-folder:{root / 'photos'}", "--sparsity", "0.5", *QUICK)
    return ("prune", "--model", "mlp:192-6-2", "--weights", str(root / "net.safetensors"), *data)


@pytest.fixture(scope="module")
def run(options: tuple[str, ...], sparsify: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "r"
    asked = ("--image-size", 8, "--resize", 9, "--normalize", "0.5,0.5,0.4/0.2,0.2,0.3", "--run-dir", root)
    done = sparsify(*options, *asked)
    assert done.returncode == 0, done.stderr
    (root.parent / "stderr").write_text(done.stderr)
    return root


def test_sizes_that_differ_are_refused_with_the_option_that_mends_it(
    options: tuple[str, ...], sparsify: Callable[..., Any], tmp_path: Path
):
    done = sparsify(*options, "--run-dir", tmp_path / "r")
    assert done.returncode == 2 and "--image-size 224" in done.stderr


def test_photos_in_no_folders_are_held_against_the_dense_network(
    options: tuple[str, ...], sparsify: Callable[..., Any], tmp_path: Path
):
    folder = tmp_path / "flat"
    folder.mkdir()
    for file in Path(options[options.index("--data") + 1].partition(":")[2]).rglob("*.jpg"):
        (folder / file.name).write_bytes(file.read_bytes())
    asked = list(options)
    asked[options.index("--data") + 1] = f"image-folder:{folder}"
    done = sparsify(*asked, "--image-size", 8, "--run-dir", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r/metrics.json").read_text())["run.task"] == "agreement"


def test_a_dry_run_shows_the_network_its_photos(options: tuple[str, ...], sparsify: Callable[..., Any], tmp_path: Path):
    done = sparsify(*options, "--image-size", 8, "--run-dir", tmp_path / "r", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "r").exists()


def test_a_network_no_better_than_chance_is_warned_of_once_before_any_work(run: Path):
    told = (run.parent / "stderr").read_text()
    assert told.count("warning: the network as given is right on") == 1
    assert told.index("warning: the network") < told.index("/pruned")
    assert "(data.normalize: by the mean and std given; --normalize)" in told


def test_the_kept_network_and_the_graph_say_how_to_feed_them(run: Path):
    """A photo goes through the kept network and through the ONNX file fed as its own metadata says."""
    said = json.loads((run / "model/preprocessing.json").read_text())
    graph = run / "export/onnxruntime-cpu/model.onnx"
    for one in (graph, graph.with_name("dense.onnx")):
        [text] = [entry.value for entry in onnx.load(one).metadata_props if entry.key == "sparsify.preprocessing"]
        assert json.loads(text) == said
    source = json.loads((run / "dense/stage.json").read_text())["spec"]["data"]["source"]
    photo = Image.open(min(Path(source.partition(":")[2]).glob("a/*.jpg")))
    fed = library.preprocessing(run)(photo)
    with torch.no_grad():
        expected = library.load(run)(fed)
    pixels = np.asarray(fed_by_hand(photo, said), np.float32)
    found = onnxruntime.InferenceSession(graph).run(None, {"input": pixels})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def fed_by_hand(photo: Image.Image, said: dict[str, Any]) -> np.ndarray[Any, Any]:
    longer = int(said["resize"] * max(photo.size) / min(photo.size))
    resized = photo.resize([said["resize"] if side == min(photo.size) else longer for side in photo.size], 2)
    left, top = (round((side - said["shape"][1]) / 2) for side in resized.size)
    cropped = resized.crop((left, top, left + said["shape"][1], top + said["shape"][1]))
    return np.moveaxis((np.asarray(cropped, float) - said["mean"]) / said["std"], 2, 0)[np.newaxis]


def test_the_report_and_inspect_say_it_in_a_line(run: Path):
    told = "pictures, rgb, shorter side to 9 (bilinear), centre 3x8x8, (value - [127.5 127.5 102]) / [51 51 76.5] of"
    assert json.loads((run / "metrics.json").read_text())["run.preprocessing"].startswith(told)
    assert told in (run / "report.html").read_text()
    graph = run / "export/onnxruntime-cpu/model.onnx"
    for place in (run, run / "model", graph):
        assert inspect(place)["preprocessing"].startswith(told)
