"""2:4 on the ONNX graph, against a definition written out with plain loops."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from sparsify.errors import CorruptError, InputOutputError
from sparsify_export.runtimes.tensorrt_sparsity import two_of_four_report, violations
from tensorrt_graphs import convnet, mlp, save, two_of_four


def broken_groups(weight: np.ndarray, axis: int) -> int:
    """By the definition: walk every position off the axis, and its groups of 4 along the axis."""
    others = [range(size) for index, size in enumerate(weight.shape) if index != axis]
    count = 0
    for place in product(*others):
        for start in range(0, weight.shape[axis], 4):
            group = [weight[(*place[:axis], start + step, *place[axis:])] for step in range(4)]
            count += sum(value != 0 for value in group) > 2
    return count


@given(
    seed=st.integers(0, 10**6),
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    groups=st.integers(1, 3),
    axis=st.integers(0, 3),
    density=st.floats(0, 1),
)
def test_violations_equal_the_definition(seed: int, shape: list[int], groups: int, axis: int, density: float) -> None:
    axis %= len(shape) + 1
    full = (*shape[:axis], 4 * groups, *shape[axis:])
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(full) * (rng.random(full) < density)
    assert violations(weight, axis) == broken_groups(weight, axis)


@pytest.mark.parametrize(
    ("make", "axes"), [(mlp, {"hidden": 1, "output": 0}), (convnet, {"conv1": 1, "conv2": 1, "output": 1})]
)
def test_each_operator_is_read_along_its_own_axis(make, axes, tmp_path: Path) -> None:
    sparse, dense = (
        two_of_four_report(make(tmp_path / "s.onnx", sparse=True)),
        two_of_four_report(make(tmp_path / "d.onnx")),
    )
    assert {layer.node: layer.axis for layer in sparse} == axes
    for layer in sparse:
        assert (layer.two_of_four, layer.violations, layer.sparsity) == (True, 0, 0.5)
    for layer in dense:
        groups = int(np.prod(layer.shape)) // 4
        assert not layer.two_of_four
        assert layer.reason == f"{groups} of {groups} groups of 4 have more than two nonzero weights"


def test_zeros_along_the_wrong_axis_do_not_count(tmp_path: Path) -> None:
    weight = two_of_four(np.ones((8, 8), np.float32), 1)  # along the outputs of a MatMul
    node = helper.make_node("MatMul", ["input", "w"], ["logits"], name="m")
    report = two_of_four_report(save(tmp_path / "m.onnx", [node], {"w": weight}, ["batch", 8], ["batch", 8]))
    assert not report[0].two_of_four
    node = helper.make_node("Gemm", ["input", "w"], ["logits"], name="g", transB=1)
    report = two_of_four_report(save(tmp_path / "g.onnx", [node], {"w": weight}, ["batch", 8], ["batch", 8]))
    assert report[0].two_of_four


def test_channels_no_multiple_of_four_are_named(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["input", "w"], ["logits"], name="stem")
    weight = np.zeros((8, 3, 1, 1), np.float32)
    report = two_of_four_report(save(tmp_path / "c.onnx", [node], {"w": weight}, ["b", 3, 4, 4], ["b", 8, 4, 4]))
    assert report[0].reason == "3 input channels are no multiple of 4"
    assert report[0].sparsity == 1.0


def test_weights_behind_constants_transposes_and_casts_are_found(tmp_path: Path) -> None:
    weight = two_of_four(np.ones((6, 8), np.float16), 1)
    nodes = [
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(weight)),
        helper.make_node("Cast", ["half"], ["single"], to=1),
        helper.make_node("Transpose", ["single"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["input", "turned"], ["logits"], name="m"),
    ]
    report = two_of_four_report(save(tmp_path / "t.onnx", nodes, {}, ["batch", 8], ["batch", 6]))
    assert (report[0].shape, report[0].axis, report[0].two_of_four) == ((8, 6), 0, True)


def test_a_weight_on_the_left_and_none_at_all(tmp_path: Path) -> None:
    weight = two_of_four(np.ones((6, 8), np.float32), 1)
    nodes = [
        helper.make_node("MatMul", ["w", "input"], ["h"], name="left"),
        helper.make_node("Transpose", ["h"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "t"], ["logits"]),
    ]
    left, neither = two_of_four_report(save(tmp_path / "l.onnx", nodes, {"w": weight}, [8, 5], [6, 6]))
    assert (left.axis, left.two_of_four) == (1, True)
    assert (neither.node, neither.shape) == ("(output logits)", ())
    assert neither.reason == "its weight is no constant of two or more dimensions"


def test_file_that_is_no_onnx(tmp_path: Path) -> None:
    with pytest.raises(InputOutputError, match=r"nothing\.onnx: expected an ONNX file, found none"):
        two_of_four_report(tmp_path / "nothing.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"noise" * 40)
    with pytest.raises(CorruptError, match=r"noise\.onnx: .*export it again"):
        two_of_four_report(tmp_path / "noise.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(CorruptError, match=r"empty\.onnx: .*without nodes"):
        two_of_four_report(tmp_path / "empty.onnx")
