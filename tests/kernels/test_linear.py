"""The layers for NumPy and PyTorch against float64: any shape, any argument, and what they refuse."""

from __future__ import annotations

import copy
import gc
import pickle
import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparse_graphs import activated, sparse_weights
from sparsify_kernels import (
    FormatError,
    SparseConv,
    SparseLinear,
    describe_cpu,
    kernel_names,
    library_path,
    pack,
    unpack,
)
from sparsify_kernels.native import Activation, Geometry, convolution_costs, linear_costs
from sparsify_kernels.packing import PRECISIONS, Pattern
from sparsify_kernels.torch_operator import SparseLinearModule, linear, replace_linears

ACTIVATIONS = get_args(Activation)


@given(
    rows=st.integers(1, 80),
    columns=st.integers(1, 200),
    tokens=st.integers(0, 40),
    density=st.sampled_from([0.0, 0.03, 0.2, 1.0]),
    activation=st.sampled_from(ACTIVATIONS),
    precision=st.sampled_from(PRECISIONS),
    pattern=st.sampled_from(get_args(Pattern)),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150)
def test_any_layer_is_its_float64_product(
    rows, columns, tokens, density, activation, precision, pattern, threads, seed
):
    rng = np.random.default_rng(seed)
    weights = sparse_weights(rng, rows, columns, density=density)
    x, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((tokens, columns), rows))
    residual = rng.standard_normal((tokens, rows)).astype(np.float32)
    layer = SparseLinear(
        weights, bias=bias, activation=activation, precision=precision, pattern=pattern, threads=threads
    )
    stored = unpack(layer.packed).astype(np.float64)
    before = x.astype(np.float64) @ stored.T + bias + residual
    bound = 4e-6 * (np.abs(x) @ np.abs(stored.T)) + 1e-5
    if precision == "i8":  # activations are rounded to 127 steps of the token's largest
        bound = bound + 0.51 / 127 * np.abs(x).max(axis=1, keepdims=True) * np.abs(stored).sum(axis=1)
    if layer.kernel.startswith("f16"):  # rounds x, products and sums to 11 bits: the whole bound is in test_f16.py
        bound = bound + (columns + 2) / 1840 * (np.abs(x) @ np.abs(stored.T))
        bound = bound + 1e-7 * np.abs(x).max(axis=1, keepdims=True) * np.abs(stored).sum(axis=1)
    # No activation is steeper than 1.5.
    assert (np.abs(layer(x, residual) - activated(activation, before)) <= 1.5 * bound).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_activation_hides_a_nan(activation, precision):
    x = np.ones((9, 40), np.float32)
    x[3, 5] = np.nan
    y = SparseLinear(np.ones((24, 40), np.float32), activation=activation, precision=precision)(x)
    assert np.isnan(y[3]).all()
    assert np.isfinite(np.delete(y, 3, 0)).all()


def test_layer_norm_comes_last():
    rng = np.random.default_rng(0)
    weights, x = sparse_weights(rng, 24, 40), rng.standard_normal((5, 40)).astype(np.float32)
    scale, shift = rng.standard_normal((2, 24)).astype(np.float32)
    y = SparseLinear(weights, norm=(scale, shift, 1e-5), activation="gelu")(x)
    expected = torch.nn.functional.layer_norm(
        torch.nn.functional.gelu(torch.tensor(x).double() @ torch.tensor(weights).double().T),
        (24,),
        torch.tensor(scale).double(),
        torch.tensor(shift).double(),
        1e-5,
    )
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_convolution_is_torchs(axes, precision):
    rng = np.random.default_rng(1)
    weights = sparse_weights(rng, 12, 4, *[3] * axes)
    x = rng.standard_normal((2, 8, 11, 13)[: axes + 2]).astype(np.float32)
    layer = SparseConv(
        weights, pads=(1,) * 2 * axes, strides=(2,) * axes, groups=2, activation="relu", precision=precision
    )
    stored = unpack(layer.packed).reshape(weights.shape)
    function = torch.nn.functional.conv2d if axes == 2 else torch.nn.functional.conv1d
    expected = function(torch.tensor(x).double(), torch.tensor(stored).double(), stride=2, padding=1, groups=2)
    bound = 0.61 / 127 * np.abs(x).max() * np.abs(stored).sum(axis=(1, 2, 3)[: axes + 1]) if precision == "i8" else 1e-4
    difference = np.abs(layer(x) - np.maximum(expected.numpy(), 0))
    assert (difference <= np.reshape(bound, (-1, *[1] * axes))).all()


def test_a_result_is_written_where_it_is_wanted():
    rng = np.random.default_rng(8)
    layer = SparseLinear(sparse_weights(rng, 24, 24), activation="gelu")
    x, residual = (rng.standard_normal((2, 5, 24)).astype(np.float32) for _ in range(2))
    out = np.full((3, 5, 24), 7, np.float32)
    assert layer(x, residual, out=out[:2]).base is out
    np.testing.assert_array_equal(out[:2], layer(x, residual))
    assert (out[2] == 7).all()
    frozen = np.empty((2, 5, 24), np.float32)
    frozen.flags.writeable = False
    refused = {
        r"out of shape \[2, 5, 24\] in float32, got \[3, 5, 24\]": out,
        "in float64": np.empty((2, 5, 24)),
        "contiguous": np.empty((2, 24, 5), np.float32).swapaxes(1, 2),
        "writeable": frozen,
        "share no memory": x,
        "with x or the residual": residual,
    }
    for message, array in refused.items():
        with pytest.raises(ValueError, match=message):
            layer(x, residual, out=array)


def test_what_is_packed_is_kept_and_not_copied():
    packed = pack(sparse_weights(np.random.default_rng(2), 24, 40))
    layer = SparseLinear.from_packed(packed)
    assert np.shares_memory(layer.packed, packed)
    assert layer.nbytes > packed.nbytes
    assert (layer.rows, layer.columns) == (24, 40)


def test_packed_weights_may_lie_at_any_address():
    rng = np.random.default_rng(3)
    weights, x = sparse_weights(rng, 24, 40), rng.standard_normal((5, 40)).astype(np.float32)
    packed = pack(weights)
    for shift in range(9):
        memory = np.zeros(packed.size + shift, np.uint8)
        memory[shift:] = packed
        np.testing.assert_allclose(SparseLinear.from_packed(memory[shift:])(x), x @ weights.T, rtol=1e-4, atol=1e-5)


WEIGHTS = sparse_weights(np.random.default_rng(4), 24, 40)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SparseLinear(WEIGHTS, kernel="fastest"), ValueError, "no kernel is named 'fastest'; there are auto, "),
        (lambda: SparseLinear(WEIGHTS, activation="swish"), ValueError, "activation must be one of none, relu"),
        (lambda: SparseLinear(WEIGHTS, threads=0), ValueError, "threads must be 1 to 1024; got 0"),
        (lambda: SparseLinear(WEIGHTS, expected_n=-1), ValueError, "expected_n must not be negative; got -1"),
        (
            lambda: SparseLinear(WEIGHTS, bias=np.zeros(23, np.float32)),
            ValueError,
            "expected bias of shape [24], got [23]",
        ),
        (lambda: SparseLinear(WEIGHTS, bias=np.zeros(24)), ValueError, "expected bias in float32, got float64"),
        (lambda: SparseLinear(WEIGHTS)(np.zeros((3, 39), np.float32)), ValueError, "expected x of shape [..., 40]"),
        (lambda: SparseLinear(WEIGHTS)(np.zeros((3, 40))), ValueError, "expected x in float32, got float64"),
        (lambda: SparseLinear(WEIGHTS * np.nan), FormatError, "expected finite weights"),
        (lambda: SparseLinear.from_packed(pack(WEIGHTS)[:-1]), FormatError, "expected sections"),
        (lambda: SparseConv(WEIGHTS), ValueError, "expected weights of 3 or 4 axes"),
        (
            lambda: SparseConv(np.ones((4, 3, 3, 3), np.float32), pads=(1, 1)),
            ValueError,
            "expected 4 pads for a kernel of 2 axes, got 2",
        ),
        (
            lambda: SparseConv(np.ones((4, 3, 3, 3), np.float32))(np.ones((1, 3, 2, 2), np.float32)),
            ValueError,
            "does not fit into 2, padding included",
        ),
        (lambda: SparseConv(np.ones((4, 3, 3, 3), np.float32), groups=3), ValueError, "do not divide into 3 groups"),
    ],
)
def test_what_is_wrong_is_named(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_damage_inside_is_refused_by_the_library_itself():
    packed = pack(WEIGHTS).copy()
    packed[-1] ^= 1
    with pytest.raises(FormatError, match="packed weights: "):
        SparseLinear.from_packed(packed)


def test_the_table_says_what_can_run_and_for_how_much():
    packed, geometry = pack(WEIGHTS), Geometry((1, 1))
    for costs in (
        linear_costs(packed, n=8),
        convolution_costs(packed, geometry, height=4, width=4),
    ):
        assert costs
        assert set(costs) <= set(kernel_names())
        assert all(cost > 0 for cost in costs.values())
    costs = linear_costs(packed, n=8)
    assert SparseLinear(WEIGHTS, expected_n=8).kernel == min(costs, key=costs.__getitem__)
    for name in costs:
        assert SparseLinear(WEIGHTS, kernel=name).kernel == name
    assert library_path().is_file()
    assert describe_cpu()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_group_is_expected_to_take_its_own_time(precision):
    """A depthwise convolution is as many small products: none of them fills what multiplies."""
    channels, one = 64, Geometry((3, 3), pads=(1, 1, 1, 1))
    weights = np.ones((channels, 9), np.float32)
    packed, alone = pack(weights, precision=precision), pack(weights[:1], precision=precision)
    every = convolution_costs(packed, replace(one, groups=channels), height=14, width=14)
    for name, cost in convolution_costs(alone, one, height=14, width=14).items():
        assert 0.8 * channels * cost < every[name] < 1.2 * channels * cost, name


def test_what_a_stride_leaves_out_is_read_and_quantised_all_the_same():
    packed = pack(np.ones((8, 256), np.float32), precision="i8")
    half = convolution_costs(packed, Geometry((1, 1), strides=(2, 2)), height=28, width=28)
    whole = convolution_costs(packed, Geometry((1, 1)), height=14, width=14)
    assert all(half[name] > 1.5 * whole[name] for name in whole if name in ("i8-amx", "i8-vnni-1x4"))


def test_pytorchs_operator_is_the_linear_layer_and_its_fake_agrees():
    packed, bias = torch.from_numpy(pack(WEIGHTS)), torch.randn(24)
    x = torch.randn(2, 5, 40)
    expected = torch.nn.functional.silu(x.double() @ torch.from_numpy(WEIGHTS).double().T + bias)
    torch.testing.assert_close(linear(x, packed, bias, 24, "silu").double(), expected, rtol=1e-5, atol=2e-5)
    torch.library.opcheck(linear, (x, packed, bias, 24, "silu"))
    torch.library.opcheck(linear, (x[:0], packed, None, 24, "none"))


def test_pytorchs_operator_sees_that_weights_were_written_to():
    packed = torch.from_numpy(pack(WEIGHTS))
    x = torch.randn(3, 40)
    before = linear(x, packed, None, 24, "none")
    packed.copy_(torch.from_numpy(pack(-WEIGHTS)))
    torch.testing.assert_close(linear(x, packed, None, 24, "none"), -before)


def test_pytorchs_operator_refuses_what_does_not_fit():
    packed = torch.from_numpy(pack(WEIGHTS))
    with pytest.raises(ValueError, match="expected packed weights of 23 rows, got 24"):
        linear(torch.zeros(1, 40), packed, None, 23, "none")
    with pytest.raises(ValueError, match="expected an activation among none, relu"):
        linear(torch.zeros(1, 40), packed, None, 24, "swish")


def test_sparse_linears_of_a_model_are_replaced_and_dense_ones_stay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Sequential(nn.Linear(24, 30, bias=False)), nn.Linear(30, 4))
    with torch.no_grad():
        for layer in (model[0], model[2][0]):
            layer.weight *= torch.rand_like(layer.weight) < 0.1
    x = torch.randn(5, 40)
    with torch.no_grad():
        expected = model(x)
        assert replace_linears(model) == ["0", "2.0"]
        assert isinstance(model[0], SparseLinearModule)
        assert type(model[3]) is nn.Linear
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_layer_is_copied_and_pickled_with_all_it_was_made_of(again):
    rng = np.random.default_rng(0)
    bias, scale, shift = rng.standard_normal((3, 24)).astype(np.float32)
    x = rng.standard_normal((5, 40)).astype(np.float32)
    layer = SparseLinear(WEIGHTS, bias=bias, norm=(scale, shift, 1e-3), activation="gelu", expected_n=5, threads=2)
    other = again(layer)
    assert repr(other) == repr(layer) == f"SparseLinear(24x40, kernel={layer.kernel!r})"
    assert np.array_equal(other(x), layer(x))

    images = rng.standard_normal((2, 4, 7, 9)).astype(np.float32)
    convolution = SparseConv(
        sparse_weights(rng, 24, 2, 3, 3), strides=(2, 1), pads=(1, 0, 0, 2), groups=2, bias=bias, activation="relu"
    )
    other = again(convolution)
    assert repr(other) == repr(convolution) == f"SparseConv(24 rows, 3x3, kernel={convolution.kernel!r})"
    assert np.array_equal(other(images), convolution(images))


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("inference", [False, True], ids=["with gradients", "without"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_of_pytorch_runs_its_sparse_layers(padded, inference):
    """PyTorch's fused path, taken without gradients, looks at the weights of `linear1`; padded batches are nested."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    for name, weight in encoder.named_parameters():
        if "linear" in name and weight.ndim == 2:
            weight.data[torch.rand_like(weight) < 0.9] = 0
    x, mask = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.set_grad_enabled(not inference):
        expected = encoder(x, src_key_padding_mask=mask if padded else None)
        assert len(replace_linears(encoder)) == 4
        got = encoder(x, src_key_padding_mask=mask if padded else None)
    seen = ~mask if padded else torch.ones_like(mask)
    torch.testing.assert_close(got[seen], expected[seen], rtol=1e-5, atol=1e-5)


def test_a_linear_layer_of_several_names_is_packed_once():
    torch.manual_seed(0)
    layer = nn.Linear(40, 40)
    layer.weight.data[torch.rand_like(layer.weight) < 0.9] = 0
    model = nn.Sequential(layer, nn.ReLU(), layer)
    x = torch.randn(3, 40)
    with torch.no_grad():
        expected = model(x)
        assert replace_linears(model) == ["0", "2"]
        assert isinstance(model[0], SparseLinearModule)
        assert model[0] is model[2]
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)
    assert (model[0].weight.shape, model[0].weight.dtype) == ((40, 40), torch.float32)


def test_what_was_prepared_goes_with_its_tensor():
    from sparsify_kernels import torch_operator

    gc.collect()
    held = len(torch_operator._prepared)
    packed = torch.from_numpy(pack(WEIGHTS))
    linear(torch.zeros(1, 40), packed, None, 24, "none")
    assert len(torch_operator._prepared) == held + 1
    del packed
    gc.collect()
    assert len(torch_operator._prepared) == held
