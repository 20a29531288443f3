"""`nn.MultiheadAttention` loses heads, and the network around it hidden sizes; or it stays as it is, and says why."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torchvision_schemas as torchvision_schemas
from cases_attention import WORDS, Language, Reader, Text, without_heads
from cases_channels import TOKENS, Mha, Transformer, agree, lively, outputs, slices
from sparsify.channels.macs import count_macs
from sparsify.channels.preflight import preflight
from sparsify.channels.remove import Removed, remove_channels
from sparsify.channels.separate import separated
from sparsify.channels.untraceable import Untraceable
from sparsify.channels.verify import Fault, Verifier
from sparsify.models.history import History, replay

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")


def check_heads(module: nn.Module, example: Tensor, attention: str, others: str = "*") -> Removed:
    """Half of the heads of one attention gone; the packed original with zeros for them must give the same."""
    overrides = {others: 0, f"{attention}.q_proj": 0.5}
    removed = remove_channels(module, example, sparsity=0.001, overrides=overrides)
    left = removed.module.get_submodule(attention)
    assert left.num_heads == 2 == module.get_submodule(attention).num_heads // 2
    expected = outputs(without_heads(module, slices(removed.history)), example)
    assert agree(outputs(removed.module, example), expected)
    assert not agree(outputs(module, example), expected)
    again = replay(copy.deepcopy(module), removed.history)
    again.load_state_dict(removed.module.state_dict())
    assert torch.equal(outputs(again, example), outputs(removed.module, example))
    return removed


def test_heads_of_torchs_own_attention_go():
    removed = check_heads(lively(Transformer(Mha())), TOKENS, "attn.inner")
    left = removed.module.attn.inner
    assert (left.q_proj.weight.shape, left.v_proj.bias.shape, left.out_proj.weight.shape) == ((8, 16), (8,), (16, 8))
    assert removed.history[0] == {"module": "attn.inner", "becomes": "SeparateAttention"}


@pytest.mark.parametrize("pool", ["first", "words"])
@pytest.mark.parametrize("layer", [0, 1])
def test_heads_of_torchs_encoder_go_beside_padding(pool: str, layer: int):
    check_heads(lively(Text(pool)), WORDS, f"encoder.layers.{layer}.self_attn")


@pytest.mark.parametrize("attention", ["self_attn", "multihead_attn"])
def test_heads_of_torchs_decoder_go(attention: str):
    check_heads(lively(Language()), WORDS, f"decoder.layers.0.{attention}")


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True, "bias": False}], ids=str)
def test_heads_go_whose_keys_and_values_have_widths_of_their_own(options: dict[str, bool]):
    removed = check_heads(lively(Reader(**options)), TOKENS, "attend")
    assert removed.module.attend.k_proj.weight.shape == (4, 6)
    assert removed.module.attend.v_proj.weight.shape == (4, 10)
    if options.get("add_bias_kv"):
        assert removed.module.attend.bias_k.shape == removed.module.attend.bias_v.shape == (1, 1, 4)


def test_heads_and_the_hidden_size_of_torchvisions_vit_go():
    torchvision = pytest.importorskip("torchvision")
    module = lively(torchvision.models.VisionTransformer(16, 8, 2, 4, 16, 24, num_classes=3))
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    check_heads(module, images, "encoder.layers.encoder_layer_1.self_attention")
    found = preflight(module, images)
    assert found.skipped.keys() == {"heads.head"}
    (stream,) = [group for group in found.groups if "conv_proj" in group.writers]
    removed = remove_channels(module, images, sparsity=0.001, overrides={"*": 0, stream.root: 0.5})
    attention = removed.module.encoder.layers.encoder_layer_0.self_attention
    assert removed.module.hidden_dim == attention.q_proj.in_features == attention.out_proj.out_features == 8
    assert (attention.num_heads, attention.q_proj.out_features) == (4, 16)


def test_attention_that_loses_nothing_stays_packed():
    """Of torch's encoder: of two layers one loses heads; then only the linear layers between lose some."""
    for pool in ("first", "words"):
        module = lively(Text(pool))
        picked = {"*": 0, "encoder.layers.1.self_attn.q_proj": 0.5}
        removed = remove_channels(module, WORDS, sparsity=0.001, overrides=picked)
        taken = [entry["module"] for entry in removed.history if "becomes" in entry]
        assert taken == ["encoder.layers.1.self_attn"]
        assert type(removed.module.encoder.layers[0].self_attn) is nn.MultiheadAttention
        expected = outputs(without_heads(module, slices(removed.history)), WORDS)
        assert agree(outputs(removed.module, WORDS), expected) and not agree(outputs(module, WORDS), expected)
        again = replay(copy.deepcopy(module), removed.history)
        assert torch.equal(outputs(again, WORDS), outputs(removed.module, WORDS))
    only_between = {"*": 0, "encoder.layers.0.linear1": 0.5, "encoder.layers.1.linear1": 0.5}
    removed = remove_channels(module, WORDS, sparsity=0.001, overrides=only_between)
    assert not [entry for entry in removed.history if "becomes" in entry]
    assert removed.module.state_dict().keys() == module.state_dict().keys()


def test_attention_comes_apart_together_where_one_apart_alone_changes_the_answer(monkeypatch: pytest.MonkeyPatch):
    changed = Verifier.changed
    monkeypatch.setattr(Verifier, "changed", lambda own, history: changed(own, history) or _alone(history))
    picked = {"*": 0, "encoder.layers.1.self_attn.q_proj": 0.5}
    removed = remove_channels(lively(Text()), WORDS, sparsity=0.001, overrides=picked)
    assert len([entry for entry in removed.history if "becomes" in entry]) == 2


def _alone(history: History) -> Fault | None:
    return Fault("planted") if len(history) == 1 else None


@pytest.mark.parametrize(
    ("module", "example"),
    [
        (Transformer(Mha()), TOKENS),
        (Text(), WORDS),
        (Text(norm_first=True), WORDS),
        (Language(), WORDS),
        (Reader(), TOKENS),
    ],
    ids=["mha", "encoder", "norm first", "decoder", "reader"],
)
def test_everything_goes_together_and_counts_the_work_that_is_left(module: nn.Module, example: Tensor):
    removed = remove_channels(lively(module), example, sparsity=0.4, allocation="uniform")
    report = removed.report
    assert report.sparsity >= 0.4 and report.difference <= 1e-9
    assert report.macs_dense == count_macs(module, example[:1]).total
    assert report.macs_left == count_macs(removed.module, example[:1]).total


def test_the_network_given_stays_packed_and_shares_what_is_not():
    module = lively(Transformer(Mha()))
    before = copy.deepcopy(module.state_dict())
    ready = separated(module, TOKENS)
    assert ready.module.attn.inner.out_proj.weight is module.attn.inner.out_proj.weight
    assert ready.module.embed.weight is module.embed.weight and not ready.faults
    remove_channels(module, TOKENS, sparsity=0.3)
    assert isinstance(module.attn.inner, nn.MultiheadAttention)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_scores_are_asked_of_the_separate_projections():
    module = lively(Transformer(Mha()))
    asked: list[str] = []

    def scores(given: nn.Module) -> dict[str, Tensor]:
        found = {name: torch.ones_like(value) for name, value in given.named_parameters() if value.ndim == 2}
        asked.extend(found)
        found["attn.inner.k_proj.weight"] = torch.repeat_interleave(torch.tensor([5.0, 1, 9, 2]), 4).expand(16, 16).T
        return found

    picked = {"sparsity": 0.01, "overrides": {"*": 0, "attn.inner.q_proj": 0.5}}
    removed = remove_channels(module, TOKENS, scores=scores, **picked)
    assert {f"attn.inner.{each}_proj.weight" for each in "qkv"} <= set(asked)
    assert slices(removed.history)["attn.inner.v_proj.weight", 0] == [4, 5, 6, 7, 12, 13, 14, 15]


class Kin(nn.MultiheadAttention):
    """A class of somebody's, which may compute something else."""


def of_somebodys_class() -> nn.Module:
    module = Transformer(Mha())
    module.attn.inner = Kin(16, 4, batch_first=True)
    return module


def with_hooks() -> nn.Module:
    module = Transformer(Mha())
    module.attn.inner.register_forward_hook(lambda *_: None)
    return module


def tied() -> nn.Module:
    module = nn.Sequential(Transformer(Mha()), nn.Linear(3, 3))
    module[0].mlp[0] = nn.Linear(16, 48)
    module[0].mlp[2] = nn.Linear(48, 16)
    module[0].mlp[0].weight = module[0].attn.inner.in_proj_weight
    return module


def read_by_other_code() -> nn.Module:
    class Reads(Mha):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x @ self.inner.in_proj_weight[:16]

    return Transformer(Reads())


@pytest.mark.parametrize(
    ("make", "attention", "reason"),
    [
        (of_somebodys_class, "attn.inner", "Kin is not torch's own nn.MultiheadAttention"),
        (with_hooks, "attn.inner", "it has forward hooks"),
        (tied, "0.attn.inner", "attn.inner.in_proj_weight is tied to another weight"),
        (read_by_other_code, "attn.inner", "it cannot be taken apart.*attn does not run with it"),
    ],
    ids=["another class", "hooks", "tied", "read by other code"],
)
def test_what_cannot_be_taken_apart_stays_and_says_why(make: Callable[[], nn.Module], attention: str, reason: str):
    module = lively(make())
    found = preflight(module, TOKENS)
    assert found.rewritten == []
    skipped = found.skipped
    assert re.search(reason, skipped[attention]) and re.search(reason, skipped[f"{attention}.out_proj"])
    assert remove_channels(module, TOKENS, sparsity=0.02).report.skipped[attention] == skipped[attention]


def test_an_attention_that_stays_keeps_no_other_from_losing_heads():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = of_somebodys_class(), Transformer(Mha())
            self.first.output, self.second.output = nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(x + self.first(x)[:, None])

    found = preflight(lively(Both()), TOKENS)
    assert "Kin" in found.skipped["first.attn.inner"]
    assert "second.attn.inner.q_proj" in {group.root for group in found.groups}


def test_zeros_that_the_fast_path_leaves_at_padding_are_noticed_where_they_are_read():
    """torch's encoder skips padding in evaluation, and gives zeros there; in training it gives something else."""
    module = lively(Text("all"))
    found = preflight(module, WORDS)
    reason = found.skipped["encoder.layers.0.self_attn"]
    assert "cannot be taken apart into separate projections: the network differs from what it was" in reason
    assert {group.root for group in found.groups} == {"encoder.layers.0.linear1", "encoder.layers.1.linear1"}
    unpadded = WORDS.clamp(min=1)
    assert preflight(module, unpadded).rewritten


def test_a_mask_of_each_head_keeps_the_heads():
    module = lively(Reader(mask=torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(1))))
    found = preflight(module, TOKENS)
    assert found.skipped["attend.q_proj"].startswith("attend does not run with fewer channels: attn_mask: expected")
    assert {group.root for group in found.groups} == {"keys", "values", "attend.out_proj"}


def test_weights_of_attention_that_are_read_keep_the_heads():
    class Shows(Mha):
        def forward(self, x: Tensor) -> Tensor:
            y, weights = self.inner(x, x, x)
            return y * weights.max(-1).values[..., None]

    found = preflight(lively(Transformer(Shows())), TOKENS)
    assert found.rewritten and "attn.inner.q_proj" in found.skipped


def test_a_frozen_network_in_half_precision_stays_so():
    module = lively(Transformer(Mha())).to(torch.bfloat16).requires_grad_(False)
    removed = remove_channels(module, TOKENS.to(torch.bfloat16), sparsity=0.4)
    assert removed.history[0]["becomes"] == "SeparateAttention"
    assert {value.dtype for value in removed.module.state_dict().values()} == {torch.bfloat16}
    assert not any(value.requires_grad for value in removed.module.parameters())
    assert removed.module.training == module.training


def test_layers_that_share_one_attention_lose_its_heads_once():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = Mha()
            self.two, self.output = self.one, nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.output(self.two(torch.tanh(self.one(x))).mean(1))

    removed = check_heads(lively(Shared()), TOKENS, "one.inner")
    assert removed.module.one is removed.module.two


def test_a_network_that_does_not_run_is_untraceable():
    with pytest.raises(Untraceable, match=r"^embed: "):
        separated(Transformer(Mha()), TOKENS[..., :3])


def test_a_network_without_attention_is_left_as_it_is():
    module = Transformer()
    assert separated(module, TOKENS).module is module
