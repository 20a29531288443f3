"""Attention against float64, in fp32 and with products of bfloat16.

The bound, to first order in each unit roundoff: a score is off by (depth + 2) u of the sum of its products' magnitudes,
and 2^-8 for each operand rounded to bfloat16; a weight by as much as its score, by its exponential's own error, and by
the total's, which has the same; a result by its weights', and by its sums' (keys u, and 2^-8 again).
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

native = pytest.importorskip("sparsify_kernels.native", reason="sparsify-kernels is not on the path")

from sparse_graphs import open_session, sparse_graph  # noqa: E402
from sparsify_kernels import library_path  # noqa: E402
from sparsify_kernels.attention import attention  # noqa: E402

try:
    ROUNDED = native.attention_kernel("bf16").endswith("bf16")
except native.KernelError as missing:
    pytest.skip(f"the kernels are not built: {missing}", allow_module_level=True)

PRECISIONS = ("f32", "bf16")
U = 2.0**-24
U_BF16 = 2.0**-8


def apart(x, heads):
    """[batch, tokens, heads * features] to [batch, heads, tokens, features], in float64."""
    return x.astype(np.float64).reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merged(y):
    """And back."""
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def expected(q, k, v, heads, scale, mask=None, *, rounded=False):
    """Results and bounds."""
    q, k, v = (apart(array, heads) for array in (q, k, v))
    turned = k.transpose(0, 1, 3, 2)
    scores = scale * (q @ turned) + (0 if mask is None else mask)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    of_product = (q.shape[-1] + 2) * U + (2 * U_BF16 if rounded else 0)
    size = abs(scale) * (abs(q) @ abs(turned))
    finite = np.where(np.isfinite(scores), abs(scores), 0)
    score = (of_product * size + 2 * U * finite).max(-1, keepdims=True)
    result = np.expm1(2 * score + 1e-6) + k.shape[2] * U + (2 * U_BF16 + 2e-4 if rounded else 0)
    return merged(weights @ v), merged(result * (weights @ abs(v))) + 1e-30


def floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def masks(rng, kind, batch, heads, queries, keys):
    if kind == "none":
        return None
    shape = {
        "keys": (keys,),
        "batch": (batch, 1, 1, keys),
        "queries": (queries, keys),
        "all": (batch, heads, queries, keys),
    }
    mask = np.where(rng.random(shape[kind]) < 0.3, -np.inf, floats(rng, *shape[kind])).astype(np.float32)
    mask[..., rng.integers(keys)] = 0  # no query is left without a key
    return mask


@settings(max_examples=150)
@given(
    *(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 4)),
    *(st.one_of(st.integers(1, 40), st.sampled_from((128, 191, 192, 193, 257))) for _ in range(1)),
    *(st.one_of(st.integers(1, 70), st.sampled_from((255, 256, 257, 520))) for _ in range(1)),
    *(st.integers(1, 130), st.integers(1, 130)),
    *(st.sampled_from(("none", "keys", "batch", "queries", "all")), st.sampled_from(PRECISIONS), st.integers(1, 3)),
)
def test_any_shape_is_within_the_bound(seed, batch, heads, queries, keys, depth, width, kind, precision, threads):
    rng = np.random.default_rng(seed)
    q, k = floats(rng, batch, queries, heads * depth), floats(rng, batch, keys, heads * depth)
    v, mask = floats(rng, batch, keys, heads * width), masks(rng, kind, batch, heads, queries, keys)
    y = attention(q, k, v, heads=heads, mask=mask, precision=precision, threads=threads)
    wanted, bound = expected(q, k, v, heads, depth**-0.5, mask, rounded=ROUNDED and precision == "bf16")
    assert y.shape == (batch, queries, heads * width)
    assert (abs(y - wanted) <= bound).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_beyond_what_exponentials_hold(precision):
    rng = np.random.default_rng(0)
    q, k, v = (floats(rng, 1, 40, 2 * 16) for _ in range(3))
    y = attention(1000 * q, k, v, heads=2, scale=1.0, precision=precision)
    # The largest score takes all but nothing, and rounding decides nothing here.
    nearest = (apart(q, 2) @ apart(k, 2).transpose(0, 1, 3, 2)).argmax(-1)
    wanted = merged(np.take_along_axis(apart(v, 2), nearest[..., None], 2))
    decided = np.isclose(y, wanted, rtol=0, atol=2e-2 if precision == "bf16" else 1e-5)
    assert decided.mean() > 0.9


def test_a_query_has_the_same_bits_among_any_others_and_for_any_threads():
    rng = np.random.default_rng(1)
    q, k, v = (floats(rng, 2, 300, 3 * 20) for _ in range(3))
    for precision in PRECISIONS:
        whole = attention(q, k, v, heads=3, precision=precision)
        np.testing.assert_array_equal(attention(q, k, v, heads=3, precision=precision, threads=3), whole)
        np.testing.assert_array_equal(attention(q[:, 17:31], k, v, heads=3, precision=precision), whole[:, 17:31])


@pytest.mark.parametrize("keys", [30, 600], ids=["one block of keys", "three"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_not_finite(precision, keys):
    rng = np.random.default_rng(2)
    q, k, v = floats(rng, 1, 7, 8), floats(rng, 1, keys, 8), floats(rng, 1, keys, 8)
    mask = np.zeros((7, keys), np.float32)
    mask[1], mask[2] = -np.inf, np.finfo(np.float32).min  # no keys at all; and the lowest number, which is one
    mask[3, :290], mask[4, 5], q[0, 5, 0] = -np.inf, np.nan, np.nan
    mask[3, -1] = 0
    y = attention(q, k, v, heads=2, mask=mask, precision=precision)
    assert np.isnan(y[0, 1]).all()
    assert np.isnan(y[0, 4]).all()
    assert np.isnan(y[0, 5, :4]).all()
    assert np.isfinite(y[0, [0, 2, 3, 6]]).all()
    np.testing.assert_allclose(y[0, 2], v[0].mean(0), atol=4e-3 if precision == "bf16" else 1e-6)
    if keys == 30:
        np.testing.assert_allclose(y[0, 3], v[0, -1], rtol=8e-3 if precision == "bf16" else 1e-6)


def test_of_no_keys_the_sum_is_zero_and_of_no_queries_there_is_none():
    x = np.ones((2, 3, 8), np.float32)
    assert (attention(x, x[:, :0], x[:, :0], heads=2) == 0).all()
    assert attention(x[:, :0], x, x, heads=2).shape == (2, 0, 8)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"heads": 3}, "3 heads"),
        ({"k": (2, 5, 4)}, "expected k of shape"),
        ({"v": (2, 4, 8)}, "expected v of shape"),
        ({"mask": (3, 5)}, "expected a mask that broadcasts"),
        ({"mask": (4, 1)}, "expected a mask that broadcasts"),
        ({"precision": "f16"}, "precision must be f32 or bf16"),
    ],
)
def test_bad_arguments(changed, words):
    arrays = {"q": (2, 4, 8), "k": (2, 5, 8), "v": (2, 5, 8)} | {
        k: v for k, v in changed.items() if isinstance(v, tuple)
    }
    others = {"heads": 2} | {k: v for k, v in changed.items() if not isinstance(v, tuple)}
    with pytest.raises(ValueError, match=words):
        attention(**{name: np.zeros(shape, np.float32) for name, shape in arrays.items()}, **others)


@pytest.mark.parametrize("limit", ["portable", "avx2", "avx512", "neon"])
def test_every_instruction_set_is_within_the_bound(tmp_path, limit):
    code = (
        "import numpy as np, sys\nfrom sparsify_kernels.attention import attention\n"
        "from sparsify_kernels.native import attention_kernel\n"
        "a = np.load(sys.argv[1])\n"
        "y = attention(a['q'], a['k'], a['v'], heads=3, mask=a['mask'], precision='bf16')\n"
        "print(attention_kernel('bf16'))\nnp.save(sys.argv[2], y)\n"
    )
    rng = np.random.default_rng(3)
    arrays = {name: floats(rng, 2, 77, 3 * 19) for name in "qkv"} | {"mask": masks(rng, "queries", 2, 3, 77, 77)}
    np.savez(tmp_path / "given.npz", **arrays)
    environment = os.environ | {"SPARSIFY_KERNELS_ISA": limit, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "given.npz"), str(tmp_path / "made.npy")]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    y = np.load(tmp_path / "made.npy")
    assert done.stdout.strip() in {f"attention-{limit}", "attention-portable", "attention-avx2"}
    wanted, bound = expected(*(arrays[name] for name in "qkv"), 3, 19**-0.5, arrays["mask"])
    assert (abs(y - wanted) <= bound).all()


def operator(shapes, *, threads=1, **attributes):
    order = list(shapes)
    model = sparse_graph("Attention", {name: list(shape) for name, shape in shapes.items()}, {}, order, **attributes)
    return open_session(model, library_path(), threads=threads)


@pytest.mark.parametrize("heads_first", [0, 1])
@pytest.mark.parametrize("together", ["q", "k", "v", "", "qkv"])
def test_the_operator_takes_heads_side_by_side_and_apart(together, heads_first):
    rng = np.random.default_rng(4)
    arrays = {"q": floats(rng, 2, 9, 3 * 8), "k": floats(rng, 2, 11, 3 * 8), "v": floats(rng, 2, 11, 3 * 5)}
    mask = masks(rng, "batch", 2, 3, 9, 11)
    wanted, bound = expected(arrays["q"], arrays["k"], arrays["v"], 3, 0.25, mask)
    feed = {
        name: array if name in together else apart(array, 3).astype(np.float32) for name, array in arrays.items()
    } | {"mask": mask}
    session = operator(
        {name: ["b", *array.shape[1:]] for name, array in feed.items()},
        **{"threads": 2, "heads": 3, "scale": 0.25, "heads_first": heads_first},
    )
    [y] = session.run(None, feed)
    got = merged(y) if heads_first else y
    assert (abs(got - wanted) <= bound).all()
    shape = session.get_outputs()[0].shape
    assert shape[1:] == ([3, 9, 5] if heads_first else [9, 15])


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"scale": 1.0}, "attribute 'heads' must be there"),
        ({"heads": 2}, "attribute 'scale' must be there"),
        ({"heads": 2, "scale": float("nan")}, "attribute 'scale' must be there and finite"),
        ({"heads": 2, "scale": 1.0, "precision": "i8"}, "precision must be f32 or bf16; got i8"),
        ({"heads": 2, "scale": 1.0, "heads_first": 2}, "attribute 'heads_first' must be 0 or 1"),
        ({"heads": 2, "scale": 1.0, "nan_is_zero": 2}, "attribute 'nan_is_zero' must be 0 or 1"),
    ],
)
def test_the_operator_says_what_is_wrong_with_its_attributes(attributes, words):
    with pytest.raises(Exception, match=words):
        operator(dict.fromkeys("qkv", (1, 4, 8)), **attributes)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("keys", [30, 600])
def test_of_weights_that_are_nan_zeros_are_made_where_asked(precision, keys):
    rng = np.random.default_rng(5)
    feed = {"q": floats(rng, 1, 8, 12), "k": floats(rng, 1, keys, 12), "v": floats(rng, 1, keys, 12)}
    feed["q"][0, 5] = np.nan
    feed["mask"] = np.zeros((8, keys), np.float32)
    feed["mask"][2] = -np.inf
    shapes = {name: array.shape for name, array in feed.items()}
    given = {"heads": 3, "scale": 0.5, "precision": precision}
    [kept] = operator(shapes, **given).run(None, feed)
    [zeroed] = operator(shapes, **given, nan_is_zero=1).run(None, feed)
    assert np.isnan(kept[0, [2, 5]]).all()
    assert np.array_equal(zeroed, np.where(np.isnan(kept), 0, kept))
    assert not np.isnan(np.delete(kept, [2, 5], 1)).any()


def test_heads_without_features_take_no_time_however_many_they_are():
    session = operator(dict.fromkeys("qkv", (1, 3, 0)), heads=2**62, scale=1.0)
    [y] = session.run(None, {name: np.zeros((1, 3, 0), np.float32) for name in "qkv"})
    assert y.shape == (1, 3, 0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"q": (1, 4, 9)}, "Q must have the shape"),
        ({"k": (1, 3, 4, 4)}, "K must have the shape .* with 2 heads"),
        ({"v": (4, 8)}, "V must have the shape"),
        ({"k": (1, 5, 8)}, "equally many tokens"),
        ({"v": (2, 4, 8)}, "one batch"),
        ({"mask": (4, 1)}, "mask must have all keys and broadcast"),
        ({"mask": (1, 1, 1, 1, 4)}, "mask must have all keys and broadcast"),
        ({"mask": ()}, "mask must have all keys and broadcast"),
    ],
)
def test_the_operator_says_what_is_wrong_with_its_inputs(changed, words):
    shapes = dict.fromkeys("qkv", (1, 4, 8)) | changed
    order = list(shapes)
    model = sparse_graph("Attention", dict.fromkeys(order), {}, order, heads=2, scale=1.0)
    session = open_session(model, library_path())
    with pytest.raises(Exception, match=words):
        session.run(None, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
