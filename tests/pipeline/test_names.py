from __future__ import annotations

import json

import numpy as np
import pytest

from sparsify.errors import RecipeError
from sparsify.pipeline.names import NAME_CHECKS, load_checked, load_checked_prune, solver_fits
from sparsify_export.targets import TARGETS

TEXT = "name: x\nmodel: {model}\ndata: {data}\ntrain:\n  steps: 1it\nexport: {{targets: {targets}}}\n"


@pytest.fixture
def faults(tmp_path):
    def of(model: str = "lenet-300-100", data: str = "digits", targets: str = "[tensorrt]") -> list[str]:
        path = tmp_path / "f"
        path.write_text(TEXT.format(model=model, data=data, targets=targets))
        try:
            load_checked(path)
        except RecipeError as error:
            return [str(fault).removeprefix(f"{path}:") for fault in error.faults]
        return []

    return of


def test_known_names_pass(faults):
    assert faults() == []
    assert faults(targets=f"[{', '.join(TARGETS)}]") == []
    assert faults(model="mlp:784-10", data="npz:~/my data.npz") == []


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (
            {"model": "lenet-300"},
            "2:8: model: expected a model's name (`sparsify ls models`) or mlp:784-512-10, got 'lenet",
        ),
        ({"model": "lenet-300"}, "did you mean lenet-300-100"),
        (
            {"model": "mlp:64-"},
            "2:8: model: expected widths from input to classes, such as mlp:784-512-10, got 'mlp:64-'; ",
        ),
        (
            {"data": "digit"},
            "3:7: data.source: expected a dataset's name (`sparsify ls datasets`), npz:PATH, image-fol",
        ),
        ({"data": "digit"}, "got 'digit'; did you mean digits"),
        ({"data": "{source: npz}"}, "3:16: data.source: expected npz:PATH"),
        ({"targets": "[tensort]"}, "6:20: export.targets.0: expected a target among onnxruntime-cpu, "),
        ({"targets": "[tensort]"}, "got 'tensort'; did you mean tensorrt"),
        ({"targets": "[tensorrt, gpu-of-mine]"}, "6:30: export.targets.1: expected a target among"),
        ({"model": "mlp:784-10"}, "2:8: model: expected a model that fits digits, got mlp:784-10 takes 784 inputs"),
        ({"model": "mlp:784-10"}, "; write mlp:64-10"),
        ({"model": "lenet-5"}, "2:8: model: expected a model that fits digits, got lenet-5 takes at least 16x16"),
    ],
)
def test_an_unknown_name_is_located_and_its_neighbours_named(faults, names, fault):
    [found] = faults(**names)
    assert fault in found
    assert "; " in found


def test_all_of_them_are_reported_at_once(faults):
    found = faults(model="a", data="b", targets="[c, d]")
    assert [fault.split(": ")[1] for fault in found] == ["model", "data.source", "export.targets.0", "export.targets.1"]


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [3], {"source": 3, "targets": 4}, {"targets": [None]}])
def test_ill_typed_parts_are_left_to_their_own_faults(value):
    tree = {"model": 3, "data": value, "export": value}
    found = [misfit.path for check in NAME_CHECKS for misfit in check(tree)]
    assert found == []


def test_a_shipped_recipe_is_loaded_by_name_with_overrides():
    assert load_checked("digits", ["prune.levels=8", "seed=3"]).seed == 3


@pytest.mark.parametrize(
    ("model", "arrays", "expected"),
    [
        ("lenet-300-100", {"x": float, "y": int}, "classification"),
        ("lenet-300-100", {"x": float, "y": float}, "regression"),
        ("transformers:a#classification", {"x": float, "y": float}, "regression"),
        ("transformers:a#token-classification", {"x": float, "y": float}, "token-classification"),
        ("lenet-300-100", {"x": float}, "agreement"),
        ("transformers:a#token-classification", {"x": float}, "agreement"),
        ("transformers:a#embedding", {"x": float}, "embedding"),
        ("lenet-300-100", {}, "classification"),  # the file is not there yet
    ],
)
def test_the_task_left_open_is_the_labels_own_and_without_them_agreement_with_the_dense_network(
    model, arrays, expected, tmp_path
):
    path = tmp_path / "a.npz"
    if arrays:
        np.savez(path, **{name: np.zeros((3, 2), kind) for name, kind in arrays.items()})
    tree = {
        "kind": "prune",
        "name": "a",
        "trained": {"model": model},
        "data": f"npz:{path}",
        "target": {"sparsity": 0.5},
    }
    assert load_checked_prune(json.dumps(tree), "here").task == expected
    given = load_checked_prune(json.dumps({**tree, "task": "classification"}), "here")
    assert given.task == "classification"


@pytest.mark.parametrize(
    ("removal", "what"),
    [
        ({"shuffled": True}, "shuffled"),
        ({"schedule": {"name": "gradual"}}, "the schedule gradual"),
        ({"pattern": "channel"}, "the pattern channel"),
        ({"pattern": "2:4", "schedule": {"name": "one-shot"}}, ""),
    ],
)
def test_a_criterion_that_solves_for_weights_is_left_to_its_own_mask(removal, what):
    found = list(solver_fits({"removal": {"criterion": "sparsegpt", **removal}}))
    assert [misfit.expected for misfit in found] == [f"a criterion that scores weights beside {what}"] * bool(what)
    assert list(solver_fits({"removal": {"criterion": "wanda", **removal}})) == []


@pytest.mark.parametrize(
    ("removal", "fault"),
    [
        ({"criterion": "sparsegpt"}, "sparsegpt"),
        ({"criterion": "wanda"}, "wanda"),
        ({"criterion": "taylor", "pattern": "channel"}, "taylor"),
        ({"criterion": "magnitude"}, ""),
    ],
    ids=["solver", "inputs", "labels", "weights alone"],
)
def test_a_criterion_that_looks_at_data_is_left_examples(removal, fault):
    tree = {"kind": "prune", "name": "a", "trained": {"model": "lenet-300-100"}, "data": "digits"}
    tree |= {"target": {"sparsity": 0.5}, "removal": {**removal, "calibration": 0}}
    if not fault:
        assert load_checked_prune(json.dumps(tree), "here").removal.calibration == 0
        return
    with pytest.raises(RecipeError, match=rf"removal\.calibration: expected examples for {fault} to look at, got 0"):
        load_checked_prune(json.dumps(tree), "here")


@pytest.mark.parametrize(
    ("targets", "fault"),
    [
        ("[onnxruntime-cpu, sparse-cpu]", ""),
        ("[tensorrt]", "export.sparse: expected the target sparse-cpu beside it, got tensorrt; add it to export."),
        ("[]", "export.targets: expected at least 1 of them, got 0"),
    ],
)
def test_what_is_asked_of_sparse_operators_needs_a_target_that_has_them(faults, targets: str, fault: str):
    found = faults(targets=f"{targets}, sparse: {{precision: i8}}")
    assert len(found) == bool(fault)
    assert fault in "".join(found)


def test_without_targets_it_is_the_default_ones_that_hear_nothing():
    [misfit] = [misfit for check in NAME_CHECKS for misfit in check({"export": {"sparse": {}}})]
    assert misfit.got == "onnxruntime-cpu"
