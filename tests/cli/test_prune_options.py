from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sparsify.cli.prune_options import (
    by_option,
    data,
    difference,
    fraction,
    layers,
    number,
    pattern_for,
    recipe_of,
    run_name,
    told_by_option,
)
from sparsify.errors import UsageError
from sparsify.recipe.prune_recipe import KINDS


def target(**asked: float) -> dict[str, Any]:
    return dict.fromkeys(KINDS) | asked


def test_another_pattern_or_target_is_another_run():
    asked = [target(sparsity=0.9), target(sparsity=0.5), target(speedup=2.0), target(latency_ms=2.0), target(size=2000)]
    names = [run_name("lenet-300-100", pattern, each) for pattern in ("unstructured", "block:4x1") for each in asked]
    assert names[0] == "lenet-300-100-unstructured-sparsity-0.9" and names[-1] == "lenet-300-100-block-4x1-size-2000"
    assert len(set(names)) == len(names)


def test_another_criterion_or_a_shuffle_is_another_run():
    asked = target(sparsity=0.5)
    name = run_name("mlp:4-2", "2:4", asked, criterion="wanda", shuffled=True)
    assert name == "mlp-4-2-2-4-wanda-shuffled-sparsity-0.5"
    assert run_name("mlp:4-2", "2:4", asked, criterion="magnitude") == run_name("mlp:4-2", "2:4", asked)


def test_of_a_long_name_the_target_is_kept():
    named = [run_name("transformers:/some/where/" + "x" * 80, "channel", target(macs=each)) for each in (0.1, 0.2)]
    assert all(len(name) <= 64 for name in named)
    assert named[0].endswith("-channel-macs-0.1") and named[0] != named[1]


@pytest.mark.parametrize(
    ("asked", "runtime", "expected"),
    [
        (target(sparsity=0.9), "onnxruntime-cpu", "unstructured"),
        (target(size=1000), "onnxruntime-cpu", "unstructured"),
        (target(macs=0.5), "sparse-cpu", "channel"),
        (target(speedup=2.0), "onnxruntime-cpu", "channel"),
        (target(latency_ms=2.0), "onnxruntime-cpu", "channel"),
        (target(speedup=2.0), "sparse-cpu", "unstructured"),
    ],
)
def test_without_a_pattern_it_is_one_that_can_meet_the_target(asked: dict[str, Any], runtime: str, expected: str):
    assert pattern_for(None, asked, runtime) == expected
    assert pattern_for("2:4", asked, runtime) == "2:4"


def recipe_with(**said: Any):
    tree = {"kind": "prune", "name": "a", "trained": {"model": "mlp:4-3-2"}, "target": {"sparsity": 0.5}}
    asked = {"image_size": None, "resize": None, "normalize": None} | said
    return recipe_of(tree | {"data": data("image-folder:photos", **asked)}, [])


def test_what_is_said_of_pictures_is_spelled_out_in_the_recipe_and_nothing_else():
    assert recipe_with().data.model_fields_set == {"source"}
    said = recipe_with(image_size=96, resize=110, normalize="0.5,0.4,0.3/0.2,0.2,0.1").data
    assert (said.image_size, said.resize) == (96, 110)
    assert said.normalize.mean == (0.5, 0.4, 0.3) and said.normalize.std == (0.2, 0.2, 0.1)
    assert recipe_with(normalize="unit").data.normalize == "unit"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"image_size": 0}, "^--image-size: expected a number of at least 1, got the number 0"),
        ({"resize": -1}, "^--resize: expected a number of at least 1"),
        (
            {"normalize": "imagnet"},
            "^--normalize: expected unit or standard or imagenet or none.* did you mean imagenet",
        ),
        ({"normalize": "0.5/0"}, "^--normalize: expected a number above 0"),
        ({"normalize": "0.5,0.5"}, "^--normalize: expected a word or MEAN/STD such as .*, got '0.5,0.5'$"),
        ({"normalize": "a/0.1"}, "^--normalize: expected a number such as 0.5, got 'a'"),
    ],
    ids=str,
)
def test_a_fault_in_what_is_said_of_pictures_names_the_option(said: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        recipe_with(**said)


@pytest.mark.parametrize(
    ("text", "expected"), [("50%", 0.5), ("28%", 0.28), (" 0.3 ", 0.3), ("99.5 %", 0.995), ("0", 0.0), (None, None)]
)
def test_a_share_is_a_number_or_a_percentage(text: str | None, expected: float | None):
    assert fraction("--sparsity", text) == expected


def test_layers_take_percentages_too():
    assert layers(["a*=30%", "b=x=0"]) == {"a*": 0.3, "b=x": 0.0}


@pytest.mark.parametrize(("text", "example"), [("half", "0.5"), ("half%", "50%"), ("%", "50%")])
def test_what_is_no_share_is_told_by_its_option(text: str, example: str):
    with pytest.raises(UsageError, match=rf"^--macs: expected a number such as {example}, got '{text}'"):
        fraction("--macs", text)


@pytest.mark.parametrize("read", [lambda text: fraction("--layer", text), lambda text: layers([f"a*={text}"])])
def test_a_percentage_without_its_sign_is_told_the_sign(read: Callable[[str], object]):
    with pytest.raises(UsageError, match=r"^--layer: expected a fraction such as 0.5, got '50'; .* write 50%$"):
        read("50")


def test_a_drop_may_be_above_1_as_a_metric_may():
    assert [difference("--max-drop", text) for text in ("1%", "2.5", None)] == [0.01, 2.5, None]


@pytest.mark.parametrize(
    ("asked", "got"),
    [({"latency_ms": 2, "macs": 0.5}, "--macs and --latency"), ({}, "none of them")],
)
def test_targets_are_told_by_their_options(asked: dict[str, float], got: str):
    tree = {"kind": "prune", "name": "a", "trained": {"model": "mlp:4-3-2"}, "data": "digits", "target": asked}
    every = "--sparsity, --macs, --size, --latency, --speedup"
    with pytest.raises(UsageError, match=f"expected one of {every}, got {got}; write for example --sparsity 0.5"):
        recipe_of(tree, [])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("trials/sparsity_0.5000/pruned: overrides: 'a*' matches nothing", "--layer: 'a*' matches nothing"),
        ("preflight: pattern: expected one that fits", "--pattern: expected one that fits"),
        ("trials/sparsity_0.5000/pruned: sparsity: asked for 1", "--sparsity: asked for 1"),
        ("trials/most/pruned: macs: asked for 1", "trials/most/pruned: macs: asked for 1"),  # nobody asked for MACs
        (
            "dense: data.image_size is for image-folder, and digits keeps its size; remove data.image_size",
            "--image-size is for image-folder, and digits keeps its size; remove --image-size",
        ),
        ("trained.weights: expected the file, got none", "--weights: expected the file, got none"),
        ("r: expected a run of the same recipe, got another", "r: expected a run of the same recipe, got another"),
    ],
)
def test_what_a_stage_refuses_is_told_by_the_option(said: str, told: str):
    assert str(by_option(UsageError(said), recipe_with())) == told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("overrides: 'foo' matches no weight", "--layer: 'foo' matches no weight"),
        ("criterion wanda: expected data", "--criterion wanda: expected data"),
        ("sparsity: expected a fraction", "--sparsity: expected a fraction"),
        ("net.onnx: expected weights", "net.onnx: expected weights"),
    ],
)
def test_what_cannot_be_done_to_a_file_is_told_by_the_option(said: str, told: str):
    with pytest.raises(UsageError, match=f"^{told}$"), told_by_option():
        raise UsageError(said)


@pytest.mark.parametrize("text", ["nan", "inf ms", "-Infinity"])
def test_a_number_is_finite(text: str):
    with pytest.raises(UsageError, match=r"^--latency: expected a number such as 5ms, got"):
        number("--latency", text, "ms")
