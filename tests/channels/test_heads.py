"""Attention as the libraries write it: heads go whole, what the modules keep of them is right, or they are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchvision_schemas as torchvision_schemas
from cases_channels import TOKENS, Mha, SelfAttention, Transformer, agree, lively, outputs, silenced, slices
from sparsify.channels.heads import attentions
from sparsify.channels.preflight import preflight
from sparsify.channels.remove import Removed, remove_channels
from sparsify.models.history import replay

SMALL = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
IDS = torch.randint(1, 30, (3, 7), generator=torch.Generator().manual_seed(3))


class Text(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids).logits


def hugging_face(model: str, config: str, **values: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return lively(Text(getattr(transformers, model)(getattr(transformers, config)(**{**SMALL, **values}))))


def only_heads(module: nn.Module, example: Tensor, projection: str) -> Removed:
    """Half of the units of one attention gone, and nothing else; it must be what a mask of them does."""
    removed = remove_channels(module, example, sparsity=0.001, overrides={"*": 0, projection: 0.5})
    assert [name for name, width in removed.report.widths.items() if width.after < width.before] == [projection]
    assert agree(outputs(removed.module, example), outputs(silenced(module, slices(removed.history)), example))
    fresh = replay(lively(type_like(module), 5), removed.history)
    fresh.load_state_dict(removed.module.state_dict())
    assert torch.equal(outputs(fresh, example), outputs(removed.module, example))
    return removed


def type_like(module: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(module)


def test_timm_vit_loses_heads_of_its_fused_qkv():
    timm = pytest.importorskip("timm")
    module = lively(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=48, num_heads=4))
    removed = only_heads(module, torch.randn(2, 3, 32, 32), "blocks.0.attn.qkv")
    attention = removed.module.blocks[0].attn
    assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (2, 12, 24)
    assert attention.qkv.weight.shape == (72, 48) and attention.proj.weight.shape == (48, 24)
    assert attention.scale == 12**-0.5


def test_heads_that_code_shapes_by_the_width_around_them_stay_though_half_of_each_would_run():
    """EVA and DINOv3 reshape heads to their input's width: heads alone do not run, nor does the width alone."""
    timm = pytest.importorskip("timm")
    small = {"img_size": 32, "depth": 1, "embed_dim": 64, "num_heads": 4, "num_classes": 3}
    module = lively(timm.create_model("vit_small_patch16_dinov3", **small))
    example = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = preflight(module, example)
    assert [group.root for group in found.groups] == ["blocks.0.mlp.fc1"]
    for name in ("patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc2"):
        assert found.skipped[name].startswith("blocks.0.attn does not run with fewer channels: shape")
    removed = remove_channels(module, example, sparsity=0.1)
    assert agree(outputs(removed.module, example), outputs(silenced(module, slices(removed.history)), example))


def test_bert_loses_heads_of_query_key_and_value_and_the_output_beside_them():
    module = hugging_face("BertForSequenceClassification", "BertConfig")
    layer = "model.bert.encoder.layer.0.attention"
    removed = only_heads(module, IDS, f"{layer}.self.query")
    attention = removed.module.get_submodule(f"{layer}.self")
    assert (attention.num_attention_heads, attention.attention_head_size, attention.all_head_size) == (2, 8, 16)
    assert {attention.query.out_features, attention.key.out_features, attention.value.out_features} == {16}
    assert removed.module.get_submodule(f"{layer}.output.dense").weight.shape == (32, 16)


@pytest.mark.parametrize("model", ["Llama", "Qwen2", "Qwen3"])
def test_grouped_queries_go_with_their_key_value_head(model: str):
    more = {"num_key_value_heads": 2, "head_dim": 8}
    module = hugging_face(f"{model}ForCausalLM", f"{model}Config", **more)
    removed = only_heads(module, IDS, "model.model.layers.0.self_attn.q_proj")
    attention = removed.module.get_submodule("model.model.layers.0.self_attn")
    assert attention.q_proj.out_features == 16 == attention.o_proj.in_features
    assert attention.k_proj.out_features == 8 == attention.v_proj.out_features
    assert attention.num_key_value_groups == 2 and attention.head_dim == 8


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
@pytest.mark.parametrize("width", [4, 16])
def test_a_norm_over_all_queries_loses_a_heads_part_and_one_over_a_head_does_not(norm: type[nn.Module], width: int):
    class Normed(SelfAttention):
        def __init__(self) -> None:
            super().__init__()
            self.q_norm, self.k_norm = norm(width), norm(width)

        def forward(self, x: Tensor) -> Tensor:
            def heads(y: Tensor, over: nn.Module | None) -> Tensor:
                if over is not None and width == 16:
                    y = over(y)
                y = y.view(*x.shape[:2], self.num_heads, 4).transpose(1, 2)
                return over(y) if over is not None and width == 4 else y

            q, k, v = (
                heads(self.q_proj(x), self.q_norm),
                heads(self.k_proj(x), self.k_norm),
                heads(self.v_proj(x), None),
            )
            return self.proj(((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).reshape(*x.shape[:2], -1))

    module = lively(Transformer(Normed()))
    removed = remove_channels(module, TOKENS, sparsity=0.001, overrides={"*": 0, "attn.q_proj": 0.5})
    left = removed.module.attn
    assert left.num_heads == 2 and removed.report.difference <= 1e-9
    kept = [i for i in range(16) if i not in slices(removed.history)["attn.q_proj.weight", 0]]
    expected = module.attn.q_norm.weight[kept] if width == 16 else module.attn.q_norm.weight
    assert torch.equal(left.q_norm.weight, expected)


def test_of_one_key_value_head_the_queries_go():
    module = hugging_face("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=1)
    removed = only_heads(module, IDS, "model.model.layers.0.self_attn.q_proj")
    attention = removed.module.get_submodule("model.model.layers.0.self_attn")
    assert attention.q_proj.out_features == 16 and attention.k_proj.out_features == 8
    assert attention.num_key_value_groups == 2


def test_gpt_2_loses_heads_of_its_transposed_layers():
    module = hugging_face("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=1, n_head=4, n_inner=40)
    removed = only_heads(module, IDS, "model.transformer.h.0.attn.c_attn")
    attention = removed.module.get_submodule("model.transformer.h.0.attn")
    assert (attention.num_heads, attention.split_size, attention.c_attn.nf, attention.c_proj.nx) == (2, 16, 48, 16)


def test_gpt_neox_holds_query_key_and_value_of_a_head_side_by_side():
    module = hugging_face("GPTNeoXForCausalLM", "GPTNeoXConfig")
    name = "model.gpt_neox.layers.0.attention.query_key_value"
    removed = only_heads(module, IDS, name)
    gone = slices(removed.history)[f"{name}.weight", 0]
    assert len(gone) == 48 and all(len({i // 24 for i in gone[k : k + 24]}) == 1 for k in (0, 24))


def test_torchs_own_packed_attention_is_not_taken_for_one_of_these():
    assert list(attentions(Transformer(Mha()))) == []


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_read_of_an_attention_module(fused: bool):
    (found,) = attentions(Transformer(SelfAttention(fused=fused)))
    assert (found.name, found.output, found.heads, found.key_value_heads, found.size) == ("attn", "attn.proj", 4, 4, 4)
    assert found.is_fused == fused


def test_heads_of_a_given_score_go():
    module = lively(Transformer())
    scores = {n: torch.ones_like(p) for n, p in module.named_parameters() if n.endswith("weight") and p.ndim == 2}
    for name in ("attn.q_proj.weight", "attn.k_proj.weight"):
        scores[name] = torch.repeat_interleave(torch.tensor([5.0, 1.0, 9.0, 2.0]), 4)[:, None].expand(16, 16)
    removed = remove_channels(
        module, TOKENS, sparsity=0.01, scores=lambda _: scores, overrides={"*": 0, "attn.q_proj": 0.5}
    )
    assert slices(removed.history)["attn.proj.weight", 1] == [4, 5, 6, 7, 12, 13, 14, 15]


def test_a_hidden_size_is_cut_everywhere_at_once():
    module = lively(Transformer())
    found = preflight(module, TOKENS)
    (stream,) = [group for group in found.groups if "embed" in group.writers]
    assert set(stream.writers) == {"embed", "attn.proj", "mlp.2"}
    removed = remove_channels(module, TOKENS, sparsity=0.01, overrides={"*": 0, stream.root: 0.5})
    small = removed.module
    assert {small.embed.out_features, small.attn.proj.out_features, small.attn.q_proj.in_features} == {8}
    assert small.norm2.normalized_shape == (8,) and small.attn.q_proj.out_features == 16
