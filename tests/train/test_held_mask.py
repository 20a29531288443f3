"""A mask that moves in training: exact counts, exact zeros, the optimiser's state with them, and bit-exact resuming."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from cases import MemoryKeeper, same_bits, short_training, stopped, tiny_data, tiny_model
from sparsify.criteria.registry import CRITERIA
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.masks.select import select
from sparsify.models.build import prunable
from sparsify.recipe.pattern import Pattern
from sparsify.recipe.prune_spec import MaskScheduleSpec
from sparsify.train.keeper import Keeper
from sparsify.train.loop import Trained, fit
from sparsify.train.mask_moves import Move, Prune, Restore, Rewire, Span
from sparsify.train.mask_schedule import MASK_SCHEDULES, Masking, by_criterion, by_magnitude, mask_schedule
from sparsify.train.removal import Removal
from sparsify.train.task import CLASSIFICATION

DATA = tiny_data(shape=(1, 8, 8))
MODEL = "mlp:64-16-8-4"  # 4 outputs, so that blocks tile every layer
DATA4 = tiny_data(shape=(1, 8, 8), classes=4)
SCHEDULES: dict[str, dict[str, Any]] = {
    "one-shot": {},
    "iterative": {"rounds": 4},
    "gradual": {"prunings": 5, "until": 0.7},
    "set": {"every": "3it"},
    "rigl": {"every": "3it"},
    "acdc": {"warmup": "2it", "phase": "3it", "final": "4it"},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "plain": {"name": "sgd", "lr": 0.1, "momentum": 0.0},
    "nesterov": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.5},
}
CLIPS = {"plain": None, "nesterov": 1.0, "adamw": 1.0}  # plain SGD, clipped, is torch's
PATTERNS = ["unstructured", "2:4", "block:4x1"]


def masking(schedule: str, pattern: str = "unstructured", model: nn.Module | None = None) -> Masking:
    spec = TypeAdapter[Any](MaskScheduleSpec).validate_python({"name": schedule} | SCHEDULES[schedule])
    parsed = Pattern.parse(pattern)
    removal = Removal(parsed, None if parsed.kind == "nm" else 0.8)
    return Masking(prunable(model or tiny_model(MODEL, DATA4)), mask_schedule(spec), removal)


def train(
    model: nn.Module, moving: Masking, optimizer: str = "nesterov", keeper: Keeper | None = None, **values: Any
) -> Trained:
    spec = short_training("20it", optimizer=OPTIMIZERS[optimizer], **values)
    return fit(model, DATA4, spec, seed=2, masking=moving, keeper=keeper)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("schedule", MASK_SCHEDULES)
def test_counts_are_exact_and_what_is_removed_is_zero_with_its_optimiser_state(
    schedule: str, pattern: str, optimizer: str
):
    model = tiny_model(MODEL, DATA4)
    keeper = Watcher(model)
    trained = train(model, masking(schedule, pattern), optimizer, keeper, gradient_clip=CLIPS[optimizer])
    removal = masking(schedule, pattern).removal
    anyhow = select(
        {name: torch.rand(model.get_parameter(name).shape) for name in prunable(model)},
        pattern=removal.pattern,
        sparsity=removal.sparsity,
    ).mask
    assert trained.mask is not None and trained.mask.kept == anyhow.kept
    assert keeper.masks[-1] == trained.mask
    for name, kept in trained.mask.items():
        weight = model.get_parameter(name)
        assert torch.count_nonzero(weight[~kept]) == 0
        assert torch.count_nonzero(weight[kept]) > 0.5 * int(kept.sum())  # what was grown on a dead unit stays zero
    moved = len({tuple(mask.layer_kept.values()) for mask in keeper.masks}) > 1
    assert moved == (schedule in {"iterative", "gradual", "acdc"})


class Watcher(MemoryKeeper):
    """After every step: the weights the kept mask removes are zero, and so is every optimiser tensor of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(save_every=1)
        self.masks: list[Mask] = []
        self._names = [name for name, _ in model.named_parameters()]

    def save(self, tensors: Any, state: Any) -> None:
        mask = Mask({name.removeprefix("mask/"): t for name, t in tensors.items() if name.startswith("mask/")})
        self.masks.append(mask)
        for name, tensor in tensors.items():
            part, rest = name.split("/")
            parameter = self._names[int(rest.split(".")[0])] if part == "optimizer" else rest
            if parameter in mask and tensor.shape == mask[parameter].shape and part != "mask":
                assert torch.count_nonzero(tensor[~mask[parameter]]) == 0, (name, state["step"])


def outcome(model: nn.Module, trained: Trained) -> dict[str, Tensor]:
    assert trained.mask is not None
    return dict(model.state_dict()) | {f"mask/{name}": kept for name, kept in trained.mask.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", MASK_SCHEDULES)
def test_stopped_after_any_step_it_resumes_bit_for_bit(schedule: str, optimizer: str):
    def run(keeper: Keeper | None = None) -> dict[str, Tensor]:
        torch.seed()
        model = tiny_model(MODEL, DATA4)
        return outcome(model, train(model, masking(schedule), optimizer, keeper))

    whole = run()
    for first, second in ((1, 4), (2, 1), (3, 5), (6, 9), (14, 2), (18, 1)):
        keeper = stopped(run, MemoryKeeper(first))
        keeper = stopped(run, MemoryKeeper(second, saved=keeper.saved))
        assert same_bits(run(keeper), whole), (first, second)


def given(moves: dict[int, Move], pattern: str = "unstructured", sparsity: float = 0.5) -> Masking:
    """A user's own schedule."""

    def schedule(span: Span) -> dict[int, Move]:
        return moves

    return Masking(prunable(tiny_model(MODEL, DATA4)), schedule, Removal(Pattern.parse(pattern), sparsity))


def test_one_shot_at_the_start_is_training_under_that_mask():
    moving, still = tiny_model(MODEL, DATA4), tiny_model(MODEL, DATA4)
    trained = train(moving, masking("one-shot"))
    mask = select(by_magnitude(still, prunable(still), 0), pattern=Pattern.parse("unstructured"), sparsity=0.8).mask
    assert trained.mask == mask
    fit(still, DATA4, short_training("20it", optimizer=OPTIMIZERS["nesterov"]), seed=2, mask=mask)
    assert same_bits(moving.state_dict(), still.state_dict())


def test_a_pruning_on_the_way_is_two_trainings_with_the_momentum_of_what_stays():
    """Plain SGD has no state but the weights: train densely, prune by hand, train on."""
    ours, theirs = tiny_model(MODEL, DATA4), tiny_model(MODEL, DATA4)
    spec = short_training("20it", optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0})
    trained = fit(ours, DATA4, spec, seed=2, masking=given({9: Prune(1.0)}))
    fit(theirs, DATA4, short_training("9it", optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0}), seed=2)
    scores = by_magnitude(theirs, prunable(theirs), 9)
    mask = select(scores, pattern=Pattern.parse("unstructured"), sparsity=0.5).mask
    fit(theirs, DATA4, spec, seed=2, mask=mask, start_step=9)
    assert trained.mask == mask
    assert same_bits(ours.state_dict(), theirs.state_dict())


def test_restored_weights_start_at_zero_and_learn_again():
    model = tiny_model(MODEL, DATA4)
    keeper = MemoryKeeper(5)
    with pytest.raises(Exception, match="stopped at step 5"):
        train(model, given({0: Prune(1.0), 4: Restore(), 12: Prune(1.0)}), keeper=keeper)
    removed = ~select(
        by_magnitude(tiny_model(MODEL, DATA4), prunable(model), 0), pattern=Pattern.parse("unstructured"), sparsity=0.5
    ).mask["hidden1.weight"]
    weight, gradient = model.get_parameter("hidden1.weight"), model.get_parameter("hidden1.weight").grad
    assert gradient is not None
    # One step of Nesterov from zero weight and zero momentum: -lr (g + 0.9 g).
    assert torch.allclose(weight[removed], -0.1 * 1.9 * gradient[removed], rtol=1e-5)
    assert torch.count_nonzero(weight[removed]) > 0.9 * int(removed.sum())


def test_rigl_grows_the_largest_dense_gradients_at_zero_and_spends_the_step():
    before, after = tiny_model(MODEL, DATA4), tiny_model(MODEL, DATA4)
    moving = given({0: Prune(1.0), 5: Rewire(0.25, "gradient")})
    first, second = MemoryKeeper(5), MemoryKeeper(6)
    for model, keeper in ((before, first), (after, second)):
        stopped(lambda k, model=model: train(model, moving, keeper=k), keeper)
    for name in prunable(before):
        kept, grown_mask = first.saved[0][f"mask/{name}"], second.saved[0][f"mask/{name}"]
        weight = before.get_parameter(name).detach()
        drop = int(0.25 * int(kept.sum()))
        smallest = weight[kept].abs().sort().values[:drop]
        gone, grown = kept & ~grown_mask, grown_mask & ~kept
        assert set(weight[gone].abs().tolist()) <= set(smallest.tolist())
        assert int(grown.sum()) == int(gone.sum()) <= drop
        assert torch.count_nonzero(after.get_parameter(name)[grown]) == 0
        stays = kept & grown_mask
        assert torch.equal(after.get_parameter(name)[stays], weight[stays])  # no weight is trained in this step
        gradient = dense_gradient(before, name, step=5).abs()
        if int(grown.sum()):
            assert float(gradient[grown].min()) >= float(gradient[~grown_mask & ~gone].max())
    assert any(bool((first.saved[0][f"mask/{n}"] != second.saved[0][f"mask/{n}"]).any()) for n in prunable(before))


def dense_gradient(model: nn.Module, name: str, *, step: int) -> Tensor:
    from sparsify.recipe.spec import AugmentSpec
    from sparsify.train.batches import Batches

    images, labels = Batches(DATA4.train, 16, AugmentSpec(), 2)(step)
    loss = nn.functional.cross_entropy(model(images), labels)
    return torch.autograd.grad(loss, [model.get_parameter(name)])[0]


def test_set_grows_at_random_by_seed():
    runs = [train(tiny_model(MODEL, DATA4), masking("set")).mask for _ in range(2)]
    assert runs[0] == runs[1]
    spec = short_training("20it", optimizer=OPTIMIZERS["nesterov"])
    other = fit(tiny_model(MODEL, DATA4), DATA4, spec, seed=3, masking=masking("set")).mask
    assert other != runs[0]


def test_a_schedule_begins_where_training_is_entered():
    model = tiny_model(MODEL, DATA4)
    spec = short_training("20it", optimizer=OPTIMIZERS["adamw"])
    trained = fit(model, DATA4, spec, seed=2, start_step=8, masking=masking("iterative"))
    assert trained.mask is not None and trained.mask.kept == round(0.2 * trained.mask.total)
    assert trained.history.step == [8 + 4, 16, 20]


def test_scores_may_be_anybodys():
    model = tiny_model(MODEL, DATA4)
    steps: list[int] = []

    def last_first(model: nn.Module, names: tuple[str, ...], step: int) -> dict[str, Tensor]:
        steps.append(step)
        return {
            name: torch.arange(model.get_parameter(name).numel()).view_as(model.get_parameter(name)) for name in names
        }

    trained = train(model, replace(given({3: Prune(1.0)}), scores=last_first))
    assert steps == [3] and trained.mask is not None
    assert not bool(trained.mask["hidden1.weight"].flatten()[: 16 * 64 // 4].any())


def test_a_criterion_scores_at_each_pruning_and_leaves_the_training_as_it_was():
    """Iterative pruning by magnitude through the registry is that of the default, bit for bit."""
    ours, theirs = tiny_model(MODEL, DATA4), tiny_model(MODEL, DATA4)
    scores = by_criterion(CRITERIA["magnitude"], (), None, seed=0)
    train(ours, replace(masking("iterative"), scores=scores))
    train(theirs, masking("iterative"))
    assert same_bits(ours.state_dict(), theirs.state_dict())
    images, labels = DATA4.train.images[:32], DATA4.train.labels[:32]
    by_gradient = by_criterion(CRITERIA["taylor"], [(images, labels)], CLASSIFICATION.loss, seed=0)
    trained = train(tiny_model(MODEL, DATA4), replace(masking("iterative"), scores=by_gradient))
    assert trained.mask is not None and trained.mask.kept == round(0.2 * trained.mask.total)


def test_a_batch_norm_network_with_bf16_and_clipping():
    data = tiny_data(train=48, validation=8, shape=(1, 8, 8))
    model = tiny_model("resnet-20", data)
    spec = short_training("9it", optimizer=OPTIMIZERS["nesterov"], precision="bf16", gradient_clip=1.0)
    trained = fit(model, data, spec, seed=2, masking=replace(masking("rigl"), names=prunable(model)))
    assert trained.mask is not None and trained.mask.kept == round(0.2 * trained.mask.total)
    assert all(torch.count_nonzero(model.get_parameter(n)[~kept]) == 0 for n, kept in trained.mask.items())


def test_a_first_mask_of_other_parameters_is_refused():
    model = tiny_model(MODEL, DATA4)
    with pytest.raises(UsageError, match=r"mask: expected the parameters that are pruned, hidden1.weight, .*; got "):
        fit(
            model,
            DATA4,
            short_training(),
            seed=2,
            mask=Mask.dense(model, ("output.weight",)),
            masking=masking("one-shot"),
        )
