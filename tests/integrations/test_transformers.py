"""The callback in real trainings of the Hugging Face Trainer, of a few steps each."""

from __future__ import annotations

import gc

import pytest
import torch
from torch.optim.optimizer import _global_optimizer_post_hooks as hooks

from sparsify.models.build import prunable
from sparsify.recipe.prune_spec import GradualSpec

pytest.importorskip("torchvision_schemas")
transformers = pytest.importorskip("transformers", reason="needs the extra hf")
pytest.importorskip("accelerate", reason="the Trainer needs accelerate: pip install accelerate")
from sparsify.integrations.transformers import PruningCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.utils.data")
STEPS = 12


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=30, **sizes, **dropout))


def gpt2():
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 30, "n_positions": 8}
    config = transformers.GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, pad_token_id=0)
    return transformers.GPT2ForSequenceClassification(config)


def sparsity(model) -> float:
    weights = [model.get_parameter(name) for name in prunable(model)]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


class Watch(transformers.TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, model=None, **_):
        self.seen.append(sparsity(model))


def fit(model, callback, tmp_path, *, resume=None, others=(), **values):
    generator = torch.Generator().manual_seed(0)
    rows = [{"input_ids": torch.randint(1, 30, (6,), generator=generator), "labels": i % 2} for i in range(24)]
    values = {"max_steps": STEPS, "save_strategy": "no", "weight_decay": 0.01, "learning_rate": 0.01} | values
    quiet = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "logging_strategy": "no"}
    arguments = transformers.TrainingArguments(str(tmp_path), per_device_train_batch_size=4, **quiet, **values)
    watch = Watch()
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[callback, watch, *others])
    trainer.train(resume_from_checkpoint=resume)
    return watch.seen


@pytest.mark.parametrize(
    ("make", "optimizer"), [(bert, "adamw_torch"), (gpt2, "adafactor")], ids=["linear", "conv1d-adafactor"]
)
def test_one_shot_holds_through_the_whole_training(tmp_path, make, optimizer):
    model, callback = make(), PruningCallback(sparsity=0.7)
    assert fit(model, callback, tmp_path, optim=optimizer) == pytest.approx([0.7] * STEPS, abs=0.001)
    assert sparsity(model) == pytest.approx(callback.mask.sparsity)


def test_gradual_follows_zhu_and_guptas_cubic(tmp_path):
    callback = PruningCallback(sparsity=0.9, schedule=GradualSpec(prunings=3))
    seen = fit(bert(), callback, tmp_path, max_grad_norm=1.0)
    expected = [0.9 - 0.9 * (1 - min(step // 3, 3) / 3) ** 3 for step in range(STEPS)]
    assert seen == pytest.approx(expected, abs=0.001)


def test_conv1d_is_pruned_along_its_inputs(tmp_path):
    model = gpt2()
    fit(model, PruningCallback(pattern="2:4"), tmp_path, max_steps=2)
    weight = model.get_parameter("transformer.h.0.mlp.c_fc.weight").detach()  # (in, out)
    assert bool(((weight.T.reshape(weight.shape[1], -1, 4) == 0).sum(2) >= 2).all())


class Broken(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 2:
            raise ZeroDivisionError


def moves(model) -> bool:
    """Whether a step of another optimiser moves removed weights."""
    before = sparsity(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(input_ids=torch.arange(6)[None], labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    return sparsity(model) < before


def test_a_failed_training_leaves_no_hook(tmp_path):
    model = bert()
    with pytest.raises(ZeroDivisionError), PruningCallback(sparsity=0.8) as callback:
        fit(model, callback, tmp_path, others=[Broken()])
    assert sparsity(model) == pytest.approx(0.8, abs=0.001)
    assert moves(model)


def test_what_is_forgotten_after_a_failed_training_leaves_no_hook_either(tmp_path):
    before = len(hooks)
    try:
        fit(bert(), PruningCallback(sparsity=0.8), tmp_path, others=[Broken()])
    except ZeroDivisionError:
        assert len(hooks) == before + 1
    gc.collect()
    assert len(hooks) == before


def test_accumulated_steps_count_once(tmp_path):
    callback = PruningCallback(sparsity=0.9, schedule=GradualSpec(prunings=3))
    seen = fit(bert(), callback, tmp_path, gradient_accumulation_steps=2, max_steps=4)
    assert seen == pytest.approx([0, 0.9 * 19 / 27, 0.9 * 26 / 27, 0.9], abs=0.001)


def test_resumed_from_a_checkpoint_it_ends_the_same(tmp_path):
    def callback():
        return PruningCallback(sparsity=0.9, schedule=GradualSpec(prunings=3))

    whole, resumed, saving = bert(), bert(), {"save_strategy": "steps", "save_steps": 5}
    seen = fit(whole, callback(), tmp_path, **saving)
    again = fit(resumed, callback(), tmp_path, resume=str(tmp_path / "checkpoint-5"), **saving)
    assert again == seen[5:]
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor)
        assert torch.equal(resumed.state_dict()[name] == 0, tensor == 0)
