"""One test for each way in which torch-pruning 1.6.1 was seen to go wrong, most of them without a word."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import sparsify
from cases_channels import (
    IDS,
    IMAGES,
    TOKENS,
    Act,
    PackedGlu,
    Plain,
    Recurrent,
    Residual,
    SelfAttention,
    TiedText,
    Transformer,
    agree,
    lively,
    outputs,
    silenced,
    slices,
)
from sparsify.channels.preflight import preflight
from sparsify.channels.remove import remove_channels
from sparsify.channels.untraceable import Untraceable
from sparsify.errors import UsageError


def statuses(module: nn.Module, example: Tensor) -> dict[str, str]:
    return {row.module: row.status for row in preflight(module, example).rows}


def test_ignored_layers_as_a_type_let_the_classifier_lose_outputs():
    removed = remove_channels(lively(Residual()), IMAGES, sparsity=0.7)
    assert removed.module.says.out_features == 5
    assert removed.report.skipped["says"] == "layer says gives the network's output"


def test_frozen_parameters_were_not_pruned():
    frozen = lively(Residual()).requires_grad_(False)
    removed = remove_channels(frozen, IMAGES, sparsity=0.5)
    assert removed.report.sparsity >= 0.5
    assert not any(parameter.requires_grad for parameter in removed.module.parameters())


def test_an_argmax_output_pruned_nothing():
    module = nn.Sequential(Residual(), Act(lambda x: x.argmax(1)))
    with pytest.raises(Untraceable, match=r"Sequential: .*no gradient reaches \(argmax"):
        preflight(module, IMAGES)


def test_under_no_grad_nothing_was_pruned():
    with torch.no_grad():
        assert remove_channels(lively(Residual()), IMAGES, sparsity=0.5).report.sparsity >= 0.5


def test_a_part_under_no_grad_was_pruned_in_part():
    class Half(Plain):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = torch.relu(self.conv1(x))
            return self.output(torch.relu(self.conv2(x)).mean(dim=(2, 3)))

    found = preflight(Half(), IMAGES)
    assert "runs without gradients" in found.skipped["conv1"]
    assert [group.root for group in found.groups] == ["conv2"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_model_was_pruned_in_nothing():
    module = Plain()
    module.middle = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()))
    with pytest.raises(Untraceable, match=r"middle: .*a scripted module") as raised:
        preflight(module, IMAGES)
    assert raised.value.module == "middle"


def test_round_to_rounded_down_to_nothing_and_skipped_the_layer():
    module = lively(Plain(channels=8))
    removed = remove_channels(module, IMAGES, sparsity=0.3, round_to=4)
    assert removed.module.conv1.out_channels == 4
    assert removed.module.conv2.out_channels == 6
    wide = lively(Plain(channels=16))
    narrow = remove_channels(wide, IMAGES, sparsity=0.3, round_to=8)
    assert (narrow.module.conv1.out_channels, narrow.module.conv2.out_channels) == (8, 6)
    assert "too few to leave a multiple" in narrow.report.skipped["conv2"]
    with pytest.raises(
        UsageError, match=r"asked for 0.9, but at most 0.4909 can go; .* round to fewer than 8 channels"
    ):
        remove_channels(wide, IMAGES, sparsity=0.9, round_to=8)


def test_pruning_ratio_0_pruned_no_head():
    removed = remove_channels(lively(Transformer()), TOKENS, sparsity=0.05, overrides={"*": 0, "attn.q_proj": 0.5})
    assert removed.module.attn.num_heads == 2
    assert {name for name, width in removed.report.widths.items() if width.after < width.before} == {"attn.q_proj"}


@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_a_stale_num_heads_hid_behind_a_view_of_minus_one(fused: bool):
    module = lively(Transformer(SelfAttention(fused=fused, hides=True)))
    removed = remove_channels(module, TOKENS, sparsity=0.2, overrides={"attn.q*": 0.5})
    assert removed.module.attn.num_heads == 2
    masked = silenced(module, {(n, a): i for (n, a), i in slices(removed.history).items() if n.startswith("attn")})
    assert slices(removed.history)["attn.proj.weight", 1] in (
        [i for h in pair for i in range(4 * h, 4 * h + 4)]
        for pair in ((a, b) for a in range(4) for b in range(a + 1, 4))
    )
    assert masked.attn.proj.weight.count_nonzero() < module.attn.proj.weight.count_nonzero()


def test_heads_that_cannot_be_told_apart_are_refused_by_name():
    found = preflight(lively(Transformer(SelfAttention(hides=True, named=False))), TOKENS)
    assert "attn" in found.skipped["attn.q_proj"] or "masked" in found.skipped["attn.q_proj"]
    assert {"mlp.0", "embed"} & {group.root for group in found.groups}


def test_isomorphic_groups_and_shared_defaults_made_one_removal_depend_on_another():
    module = lively(Residual())
    first = remove_channels(module, IMAGES, sparsity=0.6)
    remove_channels(lively(Residual(), 1), IMAGES, sparsity=0.3, overrides={"stem": 0.5})
    again = remove_channels(module, IMAGES, sparsity=0.6)
    assert first.history == again.history
    assert first.report == again.report


def test_the_model_was_left_in_eval():
    module = lively(Residual()).train()
    module.norm1.eval()
    removed = remove_channels(module, IMAGES, sparsity=0.5)
    for after in (module, removed.module):
        assert after.training and after.conv1.training and not after.norm1.training


def test_parameters_were_replaced_under_the_optimizer():
    module = lively(Residual())
    held = {name: (id(value), value.clone()) for name, value in module.state_dict(keep_vars=True).items()}
    remove_channels(module, IMAGES, sparsity=0.5)
    now = module.state_dict(keep_vars=True)
    assert all(id(now[name]) == where and torch.equal(now[name], value) for name, (where, value) in held.items())


def test_tied_weights_were_untied():
    module = lively(TiedText())
    removed = remove_channels(module, IDS, sparsity=0.5)
    assert removed.module.head.weight is removed.module.embed.weight
    assert removed.module.embed.embedding_dim == removed.module.head.in_features < 16
    assert agree(outputs(removed.module, IDS), outputs(silenced(module, slices(removed.history)), IDS))


def test_tied_weights_that_would_be_cut_differently_are_refused_by_name():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.output = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.output(torch.relu(self.second(torch.relu(self.first(x)))))

    found = preflight(Shared(), TOKENS)
    assert found.skipped["first"] == "second.weight is tied to first.weight, which would be cut differently"
    assert "second" in found.skipped


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_recurrent_layer_was_barely_pruned(kind: type[nn.RNNBase]):
    found = preflight(Recurrent(kind), TOKENS)
    assert f"a recurrent layer ({kind.__name__})" in found.skipped["memory"]
    assert "embed" in found.skipped  # what it reads stays too
    assert found.groups == ()


def test_a_batch_norms_beta_made_the_shrunk_network_differ_from_the_masked_one():
    module = lively(Residual())
    assert module.norm1.bias.abs().min() > 0 and module.norm1.running_mean.abs().min() > 0
    removed = remove_channels(module, IMAGES, sparsity=0.5)
    assert agree(outputs(removed.module, IMAGES), outputs(silenced(module, slices(removed.history)), IMAGES))
    only_weights = {
        (n, a): i for (n, a), i in slices(removed.history).items() if (a == 0 and "conv" in n) or "stem" in n
    }
    assert not agree(outputs(removed.module, IMAGES), outputs(silenced(module, only_weights), IMAGES))


def test_pruning_ratio_counted_channels():
    module = lively(Residual())
    half = remove_channels(module, IMAGES, sparsity=0.7, allocation="uniform")
    assert 0.7 <= half.report.sparsity < 0.75
    assert half.module.stem.out_channels == 4 and half.module.conv1.out_channels == 6
    kept = sum(module.weight.numel() for module in half.module.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    whole = sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    assert half.report.sparsity == pytest.approx(1 - kept / whole)


def test_fused_qkv_without_num_heads_is_refused_by_name():
    found = preflight(lively(Transformer(SelfAttention(fused=True, named=False))), TOKENS)
    assert "attn.qkv" in found.skipped


def test_a_packed_glu_is_cut_in_pairs():
    module = lively(Transformer(mlp=PackedGlu()))
    removed = remove_channels(module, TOKENS, sparsity=0.1, overrides={"*": 0, "mlp.fc1": 0.5})
    gone = slices(removed.history)
    assert gone["mlp.fc1.weight", 0] == sorted(
        [*gone["mlp.fc2.weight", 1], *(i + 12 for i in gone["mlp.fc2.weight", 1])]
    )
    assert agree(outputs(removed.module, TOKENS), outputs(silenced(module, gone), TOKENS))


@pytest.mark.parametrize("glu", [nn.GLU(dim=1), Act(lambda x: nn.functional.glu(x, dim=1))], ids=["module", "function"])
def test_a_glu_of_torchs_own_is_cut_in_pairs(glu: nn.Module):
    module = lively(Plain(glu, channels=12, read=6))
    removed = remove_channels(module, IMAGES, sparsity=0.2, overrides={"*": 0, "conv1": 0.5})
    gone = slices(removed.history)
    assert gone["conv1.weight", 0] == [*gone["conv2.weight", 1], *(i + 6 for i in gone["conv2.weight", 1])]
    assert len(gone["conv1.weight", 0]) == 6
    assert agree(outputs(removed.module, IMAGES), outputs(silenced(module, gone), IMAGES))


def test_an_uneven_split_is_cut_right_or_refused():
    def split(x: Tensor) -> Tensor:
        a, b = x.split([2, 6], dim=1)
        return torch.cat([torch.relu(b), torch.sigmoid(a)], dim=1)

    module = lively(Plain(Act(split)))
    found = preflight(module, IMAGES)
    assert "conv1" in found.skipped
    assert "conv2" in {group.root for group in found.groups}


def test_pixel_shuffle_is_refused_by_name():
    found = preflight(lively(Plain(nn.PixelShuffle(2), channels=16, read=4)), IMAGES)
    assert "conv1" in found.skipped
    assert [group.root for group in found.groups] == ["conv2"]


def test_a_hard_coded_view_is_refused_by_name():
    module = lively(Plain(Act(lambda x: x.view(-1, 2, 4, 8, 8).flatten(1, 2))))
    assert preflight(module, IMAGES).skipped["conv1"]


def test_a_gate_of_a_single_channel_was_taken_for_a_coupling():
    class Gated(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.normed = nn.Conv2d(8, 1, 1), nn.BatchNorm2d(1)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.conv1(x))
            hidden = hidden * torch.sigmoid(self.normed(self.gate(hidden)))
            return self.output(torch.relu(self.conv2(hidden)).mean(dim=(2, 3)))

    module = lively(Gated())
    found = preflight(module, IMAGES)
    assert [group.root for group in found.groups] == ["conv1", "conv2"]
    assert found.skipped["gate"] == "it has a single unit, and no layer can have none"
    removed = remove_channels(module, IMAGES, sparsity=0.5)
    assert removed.module.conv1.out_channels == removed.module.gate.in_channels < 8
    assert agree(outputs(removed.module, IMAGES), outputs(silenced(module, slices(removed.history)), IMAGES))


def test_a_recurrent_layer_of_many_steps_was_warned_of_at_each_of_them():
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.gru = nn.Conv1d(3, 8, 3, padding=1), nn.GRU(8, 8, num_layers=2, batch_first=True)
            self.body, self.says = nn.Linear(8, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.says(self.body(self.gru(self.stem(x).relu().transpose(1, 2))[1][-1]).relu())

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")  # an error, as elsewhere in the tests, torch-pruning's caller would catch
        found = statuses(Unrolled(), torch.randn(2, 3, 28))
    assert [str(one.message) for one in told] == []
    assert found == {"stem": "skipped", "gru": "skipped", "body": "prunable", "says": "skipped"}


def test_leftover_hooks_of_prune_are_refused_by_name():
    module = Residual()
    prune.l1_unstructured(module.conv1, "weight", amount=0.5)
    with pytest.raises(UsageError, match=r"conv1: expected plain weights, got leftover hooks.*prune.remove"):
        preflight(module, IMAGES)


def test_weight_norm_is_refused_by_name():
    module = Residual()
    parametrizations.weight_norm(module.conv1)
    with pytest.raises(UsageError, match=r"conv1: expected plain weights, got a parametrised.*remove_parametrizations"):
        preflight(module, IMAGES)


@pytest.mark.parametrize(
    "output", [lambda _: None, lambda x: {"logits": x}, lambda x: (x, x)], ids=["none", "dict", "tuple"]
)
def test_an_output_that_is_no_tensor_is_untraceable(output: object):
    with pytest.raises(Untraceable, match="wrap the model so that it returns one tensor"):
        preflight(nn.Sequential(Residual(), Act(output)), IMAGES)


def test_a_single_example_was_unpacked_along_its_batch():
    assert statuses(lively(Residual()), IMAGES[:1]) == statuses(lively(Residual()), IMAGES)


def test_a_branch_that_starts_at_zero_hides_no_fault():
    class Wrong(Plain):
        """The mean over channels counts them, so that removing any changes it; a zero scale hides that at first."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv1(x)
            return (
                self.output(torch.relu(self.conv2(y)).mean(dim=(2, 3))) + self.scale * y.mean(1).mean((1, 2))[:, None]
            )

    assert "conv1" in preflight(Wrong(), IMAGES).skipped


def test_nothing_is_loaded_or_saved_by_torch_prunings_pickles():
    sources = "\n".join(path.read_text() for path in Path(sparsify.__file__).parent.rglob("*.py"))
    assert not re.search(r"torch_pruning\.(load|save|state_dict|load_state_dict)|tp\.(load|save|state_dict)", sources)
