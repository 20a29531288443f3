"""The operators inside ONNX Runtime, against float64; shapes it infers, and what it says of a node that is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import get_args

import numpy as np
import onnx
import pytest
import torch

from sparse_graphs import activated, open_session, sparse_graph, sparse_weights
from sparsify_kernels import library_path, pack
from sparsify_kernels.native import Activation

ACTIVATIONS = get_args(Activation)


def _floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _linear(rng, rows=24, columns=40, *, order=("x", "w"), shape=("batch", "tokens", 40), threads=1, **attributes):
    """A session of one SparseLinear, its dense weights and its constants."""
    weights = sparse_weights(rng, rows, columns)
    constants = {
        "w": pack(weights),
        "bias": _floats(rng, rows),
        "scale": _floats(rng, rows),
        "shift": _floats(rng, rows),
    }
    inputs = {"x": None if shape is None else list(shape)}
    if "residual" in order:
        inputs["residual"] = None
    attributes = {"rows": rows, "columns": columns} | attributes
    model = sparse_graph(
        "SparseLinear", inputs, {k: v for k, v in constants.items() if k in order}, list(order), **attributes
    )
    return open_session(model, library_path(), threads=threads), weights, constants


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_residual", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("with_bias", [False, True], ids=["no-bias", "bias"])
def test_linear_is_product_bias_residual_activation(activation, with_bias, with_residual):
    rng = np.random.default_rng(1)
    order = ["x", "w", "bias" if with_bias else "", "residual"][: 4 if with_residual else 3 if with_bias else 2]
    session, weights, constants = _linear(rng, order=order, activation=activation)
    x, residual = _floats(rng, 3, 5, 40), _floats(rng, 3, 5, 24)
    [y] = session.run(None, {"x": x, "residual": residual} if with_residual else {"x": x})
    before = x.astype(np.float64) @ weights.T + with_bias * constants["bias"] + with_residual * residual
    np.testing.assert_allclose(y, activated(activation, before), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_ends_in_a_layer_norm(activation):
    rng = np.random.default_rng(2)
    order = ["x", "w", "bias", "residual", "scale", "shift"]
    session, weights, constants = _linear(rng, order=order, norm_epsilon=1e-5, activation=activation)
    x, residual = _floats(rng, 3, 5, 40), _floats(rng, 3, 5, 24)
    [y] = session.run(None, {"x": x, "residual": residual})
    before = activated(activation, x.astype(np.float64) @ weights.T + constants["bias"] + residual)
    deviation = np.sqrt(before.var(axis=-1, keepdims=True) + 1e-5)
    expected = (before - before.mean(axis=-1, keepdims=True)) / deviation * constants["scale"] + constants["shift"]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5)


def test_half_a_layer_norm_is_refused():
    rng = np.random.default_rng(2)
    session, _, _ = _linear(rng, order=["x", "w", "", "", "scale"], shape=None)
    with pytest.raises(Exception, match="norm_scale and norm_shift come together or not at all"):
        session.run(None, {"x": _floats(rng, 3, 40)})


@pytest.mark.parametrize("shape", [(40,), (1, 40), (7, 40), (2, 3, 4, 40), (0, 40)], ids=str)
def test_linear_takes_any_leading_axes(shape):
    rng = np.random.default_rng(3)
    session, weights, _ = _linear(rng, shape=None)
    x = _floats(rng, *shape)
    [y] = session.run(None, {"x": x})
    assert y.shape == (*shape[:-1], 24)
    np.testing.assert_allclose(y, x.astype(np.float64) @ weights.T, rtol=1e-5, atol=1e-5)


CONVOLUTIONS = {
    "pointwise": ((16, 12, 1, 1), (2, 12, 9, 11), {}),
    "3x3": ((16, 12, 3, 3), (2, 12, 9, 11), {"pads": [1, 1, 1, 1]}),
    "strided": ((16, 12, 3, 3), (1, 12, 9, 11), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "dilated": ((16, 12, 3, 3), (1, 12, 9, 11), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    "uneven": ((8, 3, 5, 2), (1, 3, 9, 11), {"pads": [2, 1, 2, 1], "strides": [1, 3]}),
    "groups": ((12, 4, 3, 3), (2, 12, 9, 11), {"pads": [1, 1, 1, 1], "group": 3}),
    "pointwise-groups": ((12, 4, 1, 1), (1, 12, 9, 11), {"group": 3}),
    "pointwise-strided": ((16, 12, 1, 1), (1, 12, 9, 11), {"strides": [2, 2]}),
    "1-d": ((16, 12, 5), (2, 12, 31), {"pads": [2, 2], "strides": [2]}),
    "1-d-pointwise": ((16, 12, 1), (2, 12, 31), {}),
}


def _expected_convolution(x, weights, bias, attributes):
    axes = weights.ndim - 2
    pads = attributes.get("pads", [0] * 2 * axes)
    function = torch.nn.functional.conv2d if axes == 2 else torch.nn.functional.conv1d
    return function(
        torch.tensor(x, dtype=torch.float64),
        torch.tensor(weights, dtype=torch.float64),
        torch.tensor(bias, dtype=torch.float64),
        stride=tuple(attributes.get("strides", [1] * axes)),
        padding=tuple(pads[:axes]),
        dilation=tuple(attributes.get("dilations", [1] * axes)),
        groups=attributes.get("group", 1),
    ).numpy()


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_convolution_is_torchs(name, static):
    weight_shape, x_shape, attributes = CONVOLUTIONS[name]
    rng = np.random.default_rng(4)
    weights, x, bias = sparse_weights(rng, *weight_shape), _floats(rng, *x_shape), _floats(rng, weight_shape[0])
    expected = _expected_convolution(x, weights, bias, attributes)
    residual = _floats(rng, *expected.shape)
    packed = pack(weights.reshape(weight_shape[0], -1))
    names = list(x_shape) if static else ["batch", x_shape[1], *["height", "width"][: len(x_shape) - 2]]
    model = sparse_graph(
        "SparseConv",
        {"x": names, "residual": None},
        {"w": packed, "bias": bias},
        ["x", "w", "bias", "residual"],
        rows=weight_shape[0],
        columns=int(np.prod(weight_shape[1:])),
        kernel_shape=list(weight_shape[2:]),
        activation="relu",
        **attributes,
    )
    [y] = open_session(model, library_path()).run(None, {"x": x, "residual": residual})
    np.testing.assert_allclose(y, np.maximum(expected + residual, 0), rtol=1e-5, atol=2e-5)


def _inferred(session):
    return session.get_outputs()[0].shape


def test_shapes_are_inferred():
    rng = np.random.default_rng(5)
    assert _inferred(_linear(rng, shape=("batch", 5, 40))[0]) == ["batch", 5, 24]
    assert _inferred(_linear(rng, shape=(2, 5, 40))[0]) == [2, 5, 24]
    packed = pack(sparse_weights(rng, 16, 27))
    common = {"rows": 16, "columns": 27, "kernel_shape": [3, 3]}
    for x, attributes, expected in (
        ([2, 3, 9, 11], {}, [2, 16, 7, 9]),
        (["batch", 3, 9, 11], {"strides": [2, 2], "pads": [1, 1, 1, 1]}, ["batch", 16, 5, 6]),
        (["batch", 3, "height", 11], {"pads": [1, 1, 1, 1]}, ["batch", 16, "height", 11]),
        (["batch", 3, "height", 11], {}, ["batch", 16, "(height + -3) / 1 + 1", 9]),
    ):
        model = sparse_graph("SparseConv", {"x": x}, {"w": packed}, ["x", "w"], **common, **attributes)
        assert _inferred(open_session(model, library_path())) == expected


LINEAR = {"rows": 24, "columns": 40}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 23}, "W holds [24, 40] weights; the attributes say [23, 40]"),
        ({"columns": 41}, "W holds [24, 40] weights; the attributes say [24, 41]"),
        ({"rows": 0}, "attribute 'rows' must be at least 1; got 0"),
        ({"rows": 2.5}, "attribute 'rows' must be of type int"),
        ({"activation": "swish"}, f"activation must be one of {', '.join(ACTIVATIONS)}; got 'swish'"),
        ({"activation": 3}, "attribute 'activation' must be of type string"),
        ({"kernel": "fastest"}, "no kernel is named 'fastest'; there are auto, "),
        ({"expected_n": -1}, "attribute 'expected_n' must not be negative"),
        ({"norm_epsilon": -1.0}, "attribute 'norm_epsilon' must not be negative"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_attribute_is_named_at_load(change, message):
    packed = pack(sparse_weights(np.random.default_rng(6), 24, 40))
    model = sparse_graph("SparseLinear", {"x": None}, {"w": packed}, ["x", "w"], **(LINEAR | change))
    with pytest.raises(Exception, match=re.escape(message)):
        open_session(model, library_path())


def test_a_missing_attribute_is_named_at_load():
    packed = pack(sparse_weights(np.random.default_rng(6), 24, 40))
    model = sparse_graph("SparseLinear", {"x": None}, {"w": packed}, ["x", "w"], rows=24)
    with pytest.raises(Exception, match="attribute 'columns' is missing"):
        open_session(model, library_path())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_shape": [3, 3, 3]}, "kernel_shape must have 1 or 2 entries; got 3"),
        ({"strides": [2]}, "strides must have 2 entries for this kernel_shape; got 1"),
        ({"strides": [0, 1]}, "strides must be 1 or more"),
        ({"pads": [1, 1]}, "pads must have 4 entries"),
        ({"pads": [-1, 0, 0, 0]}, "pads must be 0 or more"),
        ({"dilations": [1, 0]}, "dilations must be 1 or more"),
        ({"group": 0}, "group must be 1 or more"),
        ({"group": 5}, "attribute 'rows' must divide into 'group' parts"),
        ({"kernel_shape": [2, 2]}, "attribute 'columns' must be channels times kernel positions"),
    ],
    ids=lambda value: str(next(iter(value.items()))) if isinstance(value, dict) else "",
)
def test_a_wrong_geometry_is_named_at_load(change, message):
    packed = pack(sparse_weights(np.random.default_rng(7), 16, 27))
    attributes = {"rows": 16, "columns": 27, "kernel_shape": [3, 3]} | change
    model = sparse_graph("SparseConv", {"x": None}, {"w": packed}, ["x", "w"], **attributes)
    with pytest.raises(Exception, match=re.escape(message)):
        open_session(model, library_path())


def test_damaged_weights_are_refused_at_load():
    packed = pack(sparse_weights(np.random.default_rng(8), 24, 40)).copy()
    packed[200] ^= 1
    model = sparse_graph("SparseLinear", {"x": None}, {"w": packed}, ["x", "w"], **LINEAR)
    with pytest.raises(Exception, match="packed weights: "):
        open_session(model, library_path())


def test_computed_weights_are_refused_at_load():
    packed = pack(sparse_weights(np.random.default_rng(8), 24, 40))
    model = sparse_graph("SparseLinear", {"x": None}, {"stored": packed}, ["x", "w"], **LINEAR)
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.UINT8, [packed.size]))
    with pytest.raises(Exception, match="W must be a constant of the graph"):
        open_session(model, library_path())


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 41), "X must have the shape [..., 40]; got [3, 41]"), ((), "X must have the shape [..., 40]; got []")],
    ids=["columns", "scalar"],
)
def test_a_wrong_input_is_named_when_run(shape, message):
    rng = np.random.default_rng(9)
    session, _, _ = _linear(rng, shape=None)
    with pytest.raises(Exception, match=re.escape(message)):
        session.run(None, {"x": np.zeros(shape, np.float32)})


def test_a_wrong_residual_and_bias_are_named_when_run():
    rng = np.random.default_rng(10)
    session, _, _ = _linear(rng, shape=None, order=("x", "w", "", "residual"))
    with pytest.raises(Exception, match=re.escape("residual must have the shape [3, 24]; got [24]")):
        session.run(None, {"x": _floats(rng, 3, 40), "residual": _floats(rng, 24)})
    packed, bias = pack(sparse_weights(rng, 24, 40)), _floats(rng, 23)
    model = sparse_graph("SparseLinear", {"x": None}, {"w": packed, "bias": bias}, ["x", "w", "bias"], **LINEAR)
    with pytest.raises(Exception, match=re.escape("bias must have the shape [24]; got [23]")):
        open_session(model, library_path()).run(None, {"x": _floats(rng, 3, 40)})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 9), "X must have 4 axes; got [1, 3, 9]"),
        ((1, 4, 9, 9), "the weights are for 3 input channels; got 4"),
        ((1, 3, 2, 9), "a kernel that reaches over 3 positions does not fit into 2, padding included"),
    ],
    ids=["rank", "channels", "size"],
)
def test_a_wrong_image_is_named_when_run(shape, message):
    packed = pack(sparse_weights(np.random.default_rng(7), 16, 27))
    attributes = {"rows": 16, "columns": 27, "kernel_shape": [3, 3]}
    session = open_session(
        sparse_graph("SparseConv", {"x": None}, {"w": packed}, ["x", "w"], **attributes), library_path()
    )
    with pytest.raises(Exception, match=re.escape(message)):
        session.run(None, {"x": np.zeros(shape, np.float32)})


def test_another_release_of_onnx_runtime_loads_the_same_library(tmp_path):
    """An optional input left out in the middle is what older releases stumble over when they infer shapes."""
    other = os.environ.get("SPARSIFY_OTHER_ORT")
    if not other:
        pytest.skip("SPARSIFY_OTHER_ORT names no folder: pip install --no-deps --target FOLDER 'onnxruntime<1.24'")
    rng = np.random.default_rng(11)
    weights, x, residual = sparse_weights(rng, 24, 40), _floats(rng, 3, 40), _floats(rng, 3, 24)
    model = sparse_graph(
        "SparseLinear", {"x": ["n", 40], "residual": None}, {"w": pack(weights)}, ["x", "w", "", "residual"], **LINEAR
    )
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "feed.npz", x=x, residual=residual)
    script = """
import sys
other, folder, library = sys.argv[1:]
sys.path.insert(0, other)
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(library)
session = onnxruntime.InferenceSession(folder + "/model.onnx", options, providers=["CPUExecutionProvider"])
numpy.save(folder + "/y.npy", session.run(None, dict(numpy.load(folder + "/feed.npz")))[0])
print(onnxruntime.__version__)
"""
    asked = [sys.executable, "-c", script, other, str(tmp_path), str(library_path())]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import onnxruntime

    assert done.stdout.split()[-1] != onnxruntime.__version__
    expected = x.astype(np.float64) @ weights.T + residual
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-5, atol=1e-5)
