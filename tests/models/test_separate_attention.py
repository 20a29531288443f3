"""Attention in separate projections, beside torch's own of the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cases_channels import lively
from sparsify.models.history import replay
from sparsify.models.separate_attention import SeparateAttention

N, L, S, E, HEADS = 3, 5, 7, 8, 2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(**options: Any) -> tuple[nn.MultiheadAttention, SeparateAttention]:
    packed = lively(nn.MultiheadAttention(E, HEADS, dtype=torch.float64, **options)).eval()
    assert isinstance(packed, nn.MultiheadAttention)
    return packed, SeparateAttention(packed)


def given(batch_first: bool, kdim: int = E, vdim: int = E) -> tuple[Tensor, Tensor, Tensor]:
    three = drawn(N, L, E), drawn(N, S, kdim, seed=1), drawn(N, S, vdim, seed=2)
    return three if batch_first else tuple(each.transpose(0, 1) for each in three)  # pyright: ignore


def check_same(packed: nn.Module, separate: nn.Module, *args: Tensor, **more: Any) -> None:
    for one, other in zip(packed(*args, **more), separate(*args, **more), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.shape == other.shape and one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


PADDING = torch.arange(S) >= torch.tensor([[S], [4], [1]])
MASKS: dict[str, dict[str, Tensor]] = {
    "none": {},
    "padding": {"key_padding_mask": PADDING},
    "padding to add": {"key_padding_mask": drawn(N, S, seed=3)},
    "bool": {"attn_mask": torch.ones(L, S, dtype=torch.bool).triu(2)},
    "to add": {"attn_mask": drawn(L, S, seed=4)},
    "of each head": {"attn_mask": drawn(N * HEADS, L, S, seed=5)},
    "both": {"attn_mask": drawn(L, S, seed=4), "key_padding_mask": drawn(N, S, seed=3)},
    "both of bool": {
        "attn_mask": torch.ones(L, S, dtype=torch.bool).triu(3),
        "key_padding_mask": PADDING,
    },
}


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("weights", [False, True, "of each head"])
@pytest.mark.parametrize("more", [{}, {"add_bias_kv": True}, {"add_zero_attn": True, "add_bias_kv": True}], ids=str)
def test_it_gives_what_torchs_own_gives(masks: str, weights: bool | str, more: dict[str, bool]):
    wanted = {"need_weights": bool(weights), "average_attn_weights": weights is True}
    for batch_first in (False, True):
        check_same(*pair(batch_first=batch_first, **more), *given(batch_first), **MASKS[masks], **wanted)


@pytest.mark.parametrize("widths", [{"kdim": 6}, {"vdim": 10}, {"kdim": 3, "vdim": 9}], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_keys_and_values_may_have_widths_of_their_own(widths: dict[str, int], bias: bool):
    check_same(*pair(bias=bias, batch_first=True, **widths), *given(True, **widths))


@pytest.mark.parametrize("bias", [False, True])
def test_self_attention_gives_what_torchs_fast_path_gives(bias: bool):
    packed, separate = pair(bias=bias, batch_first=True)
    x = drawn(N, L, E)
    padding = torch.arange(L) >= torch.tensor([[L], [4], [1]])
    with torch.no_grad():
        for masks in ({}, {"key_padding_mask": padding}, {"attn_mask": torch.ones(L, L, dtype=torch.bool).triu(1)}):
            check_same(packed, separate, x, x, x, need_weights=False, **masks)


@pytest.mark.parametrize("masks", ["none", "bool", "to add"])
@pytest.mark.parametrize("weights", [False, True])
def test_one_example_without_a_batch(masks: str, weights: bool):
    one = drawn(L, E), drawn(S, E, seed=1), drawn(S, E, seed=2)
    for batch_first in (False, True):
        check_same(*pair(batch_first=batch_first), *one, **MASKS[masks], need_weights=weights)
    check_same(*pair(), *one, key_padding_mask=torch.arange(S) > 4, need_weights=weights)


def test_the_causal_hint_needs_its_mask_and_gives_the_same():
    x = drawn(N, L, E)
    causal = nn.Transformer.generate_square_subsequent_mask(L, dtype=torch.float64)
    packed, separate = pair(batch_first=True)
    check_same(packed, separate, x, x, x, attn_mask=causal, is_causal=True, need_weights=False)
    check_same(packed, separate, x, x, x, attn_mask=causal, is_causal=True)
    for attention in (packed, separate):
        with pytest.raises((RuntimeError, ValueError), match="attn_mask"):
            attention(x, x, x, is_causal=True)


@pytest.mark.parametrize(
    "masks",
    [
        {"attn_mask": torch.zeros(1, S)},
        {"attn_mask": torch.zeros(N, L, S)},
        {"attn_mask": torch.zeros(L, S, dtype=torch.int64)},
        {"key_padding_mask": torch.zeros(1, S)},
        {"key_padding_mask": torch.zeros(N, S, dtype=torch.int64)},
    ],
    ids=["a row", "of no head", "whole numbers", "of one", "padding in whole numbers"],
)
def test_a_mask_that_torch_refuses_is_refused(masks: dict[str, Tensor]):
    packed, separate = pair(batch_first=True)
    with pytest.raises((RuntimeError, AssertionError)):
        packed(*given(True), **masks)
    with pytest.raises((ValueError, TypeError), match=r"mask: expected .*, got"):
        separate(*given(True), **masks)


def test_gradients_are_those_of_the_packed_weights():
    packed, separate = pair(batch_first=True, add_bias_kv=True)
    alike = dict(separate.named_parameters())
    (drawn(N, L, E) * packed(*given(True))[0]).sum().backward()
    bias_k = packed.bias_k.grad.clone()
    packed.bias_k.grad = None
    (drawn(N, L, E) * separate(*given(True))[0]).sum().backward()
    for kind, whole in (("weight", packed.in_proj_weight), ("bias", packed.in_proj_bias)):
        parts = torch.cat([alike[f"{each}_proj.{kind}"].grad for each in "qkv"])
        torch.testing.assert_close(parts, whole.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(separate.bias_k.grad, bias_k, rtol=1e-12, atol=1e-12)


def test_dropout_acts_in_training_alone():
    packed, _ = pair(batch_first=True, dropout=0.5)
    separate = SeparateAttention(packed.train())
    assert separate.training
    x = drawn(N, L, E)
    for wanted in (False, True):
        one, other = (separate.train()(x, x, x, need_weights=wanted)[0] for _ in range(2))
        assert not torch.equal(one, other)
        check_same(packed.eval(), separate.eval(), x, x, x, need_weights=wanted)


def test_frozen_weights_stay_frozen_and_the_dtype_is_kept():
    packed = nn.MultiheadAttention(E, HEADS, dtype=torch.bfloat16)
    packed.in_proj_weight.requires_grad_(False)
    with torch.no_grad():
        separate = SeparateAttention(packed)
    trains = {name: value.requires_grad for name, value in separate.named_parameters()}
    assert not any(trains[f"{each}_proj.weight"] for each in "qkv")
    assert all(trains[f"{each}_proj.bias"] for each in "qkv") and trains["out_proj.weight"]
    assert {value.dtype for value in separate.state_dict().values()} == {torch.bfloat16}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_with_padding_takes_no_path_that_reads_packed_weights():
    """In evaluation torch's encoder skips padding, and its layers skip the attention module; the rest is alike."""
    layer = nn.TransformerEncoderLayer(E, HEADS, 16, batch_first=True, dtype=torch.float64)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    lively(encoder)
    holder = nn.ModuleDict({"encoder": encoder})
    padding = torch.arange(L) >= torch.tensor([[L], [4], [1]])
    x = drawn(N, L, E)
    with torch.no_grad():
        expected = encoder(x, src_key_padding_mask=padding)
        replay(holder, [{"module": f"encoder.layers.{i}.self_attn", "becomes": "SeparateAttention"} for i in (0, 1)])
        output = encoder(x, src_key_padding_mask=padding)
        torch.testing.assert_close(output[~padding], expected[~padding], rtol=1e-12, atol=1e-12)
        encoder.layers[1].self_attn.v_proj.weight.zero_()
        assert not torch.allclose(encoder(x, src_key_padding_mask=padding)[~padding], output[~padding])
    output = encoder(x, src_key_padding_mask=padding)  # with gradients torch looks at the weights' before it decides
    assert output.requires_grad and not expected[padding].any()


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoder_attends_to_itself_and_to_what_was_encoded(norm_first: bool):
    layer = nn.TransformerDecoderLayer(E, HEADS, 16, batch_first=True, norm_first=norm_first, dtype=torch.float64)
    decoder = lively(nn.TransformerDecoder(layer, 1)).eval()
    x, memory = drawn(N, L, E), drawn(N, S, E, seed=1)
    causal = nn.Transformer.generate_square_subsequent_mask(L, dtype=torch.float64)
    unseen = torch.zeros(N, S, dtype=torch.float64).masked_fill(PADDING, -torch.inf)
    more = {"tgt_mask": causal, "tgt_is_causal": True, "memory_key_padding_mask": unseen}
    with torch.no_grad():
        expected = decoder(x, memory, **more)
        names = ("layers.0.self_attn", "layers.0.multihead_attn")
        replay(decoder, [{"module": name, "becomes": "SeparateAttention"} for name in names])
        torch.testing.assert_close(decoder(x, memory, **more), expected, rtol=1e-12, atol=1e-12)
