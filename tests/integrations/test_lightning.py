"""The callback in real Lightning trainings of a few steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from cases import tiny_data
from sparsify.models.build import prunable
from sparsify.recipe.prune_spec import GradualSpec

pytest.importorskip("torchvision_schemas")
pl = pytest.importorskip("pytorch_lightning", reason="needs the extra lightning")
from sparsify.integrations.lightning import PruningCallback  # noqa: E402

DATA = tiny_data()  # 80 images: 5 steps of 16 an epoch

# Lightning's own advice, and its use of what torch is about to drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path.:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning"),
]


class Module(pl.LightningModule):
    def __init__(self, optimizer=torch.optim.Adam):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 3))
        self._optimizer = optimizer
        self.seen: list[float] = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        return functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return self._optimizer(self.parameters(), lr=0.01, weight_decay=0.01)

    def on_train_batch_end(self, *_):
        self.seen.append(sparsity(self))


def sparsity(model) -> float:
    weights = [model.get_parameter(name) for name in prunable(model)]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def fit(module, callback, tmp_path, *, resume=None, callbacks=(), **values):
    values = {"max_epochs": 4, "enable_checkpointing": bool(callbacks)} | values
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(callbacks=[callback, *callbacks], default_root_dir=tmp_path, **quiet, **values)
    loader = DataLoader(TensorDataset(DATA.train.images, DATA.train.labels), batch_size=16)
    trainer.fit(module, loader, ckpt_path=resume)
    return trainer


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_one_shot_holds_through_the_whole_training(tmp_path, optimizer):
    module, callback = Module(optimizer), PruningCallback(sparsity=0.8, overrides={"net.3.weight": 0.5})
    before = module.net[1].weight.detach().abs().flatten().clone()
    fit(module, callback, tmp_path)
    expected = [pytest.approx((0.8 * 432 + 0.5 * 36) / 468, abs=0.002)] * 20
    assert module.seen == expected and sparsity(module) == pytest.approx(callback.mask.sparsity)
    smallest = before.argsort()[: round(0.8 * 432)]
    assert bool((module.net[1].weight.flatten()[smallest] == 0).all())


def test_gradual_follows_zhu_and_guptas_cubic(tmp_path):
    module, callback = Module(), PruningCallback(sparsity=0.9, schedule=GradualSpec(prunings=5))
    fit(module, callback, tmp_path)
    expected = [0.9 - 0.9 * (1 - min(step // 3, 5) / 5) ** 3 for step in range(20)]
    assert module.seen == pytest.approx(expected, abs=0.002)


def test_accumulated_steps_count_once(tmp_path):
    module, callback = Module(), PruningCallback(sparsity=0.9, schedule=GradualSpec(prunings=3))
    fit(module, callback, tmp_path, accumulate_grad_batches=5)  # one optimiser step an epoch, 4 in all
    assert module.seen[::5] == pytest.approx([0, 0.9 * 19 / 27, 0.9 * 26 / 27, 0.9], abs=0.002)


def test_in_bfloat16_too(tmp_path):
    module = Module()
    fit(module, PruningCallback(pattern="2:4"), tmp_path, precision="bf16-mixed", max_epochs=1)
    assert sparsity(module) >= 0.5


def test_resumed_from_a_checkpoint_it_ends_the_same(tmp_path):
    whole, kept = Module(), pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    fit(whole, PruningCallback(sparsity=0.9, schedule=GradualSpec(prunings=5)), tmp_path, callbacks=[kept])
    resumed, callback = Module(), PruningCallback(sparsity=0.9, schedule=GradualSpec(prunings=5))
    fit(resumed, callback, tmp_path, resume=tmp_path / "epoch=1.ckpt")
    assert len(resumed.seen) == 10 and resumed.seen == whole.seen[10:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor)


def test_a_failed_training_leaves_no_hook(tmp_path):
    class Broken(Module):
        def training_step(self, batch, at):
            if at == 2:
                raise ZeroDivisionError
            return super().training_step(batch, at)

    module, callback = Broken(), PruningCallback(sparsity=0.8)
    with pytest.raises(ZeroDivisionError):
        fit(module, callback, tmp_path)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    functional.cross_entropy(module(DATA.train.images), DATA.train.labels).backward()
    optimizer.step()
    assert sparsity(module) < 0.8


def test_a_training_stopped_early_says_what_was_reached(tmp_path):
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step >= 7

    module = Module()
    with pytest.warns(UserWarning, match=r"training ended before the pruning schedule: asked for sparsity 0\.9"):
        fit(module, PruningCallback(sparsity=0.9, schedule=GradualSpec(prunings=5)), tmp_path, callbacks=[Stop()])
