from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cases import MLP, MemoryKeeper, Search, same_bits, stopped, tiny_data, tiny_model, tiny_recipe
from sparsify.errors import UsageError
from sparsify.lottery.search import rewind_step
from sparsify.lottery.ticket import Ticket
from sparsify.masks.mask import Mask
from sparsify.recipe.spec import ScheduleSpec
from sparsify.recipe.step import Step
from sparsify.train.evaluate import evaluate
from sparsify.train.history import History
from sparsify.train.loop import fit

LAYERS = {"hidden1.weight": 36 * 12, "hidden2.weight": 12 * 8, "output.weight": 8 * 3}
PRUNE = {"levels": 3, "prune_fraction": 0.3, "overrides": {"output.weight": 0.15}}
CONTROLS = ("reinit", "shuffled-mask", "random-mask", "one-shot")
REWINDS = ("0it", "5it", "learning-rate", "none")
COSINE = {"name": "cosine", "warmup": "2it"}
TRAIN = {
    "steps": "12it",
    "batch_size": 16,
    "eval_every": "4it",
    "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.01},
    "schedule": COSINE,
}


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Search]:
    return {
        rewind: Search(tmp_path_factory.mktemp(rewind), tiny_recipe(train=TRAIN, prune=PRUNE | {"rewind": rewind}))
        for rewind in REWINDS
    }


every_rewind = pytest.mark.parametrize("rewind", REWINDS)


def masked(weights: dict[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    return {name: tensor * mask[name] if name in mask else tensor for name, tensor in weights.items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal values; zeros of either sign are equal."""
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@every_rewind
def test_counts_of_each_level_are_exact(searches: dict[str, Search], rewind: str):
    expected = dict(LAYERS)
    for level in range(4):
        assert searches[rewind].ticket(level).mask.layer_kept == expected
        # 30% of the remaining in the hidden layers, 15% in the output layer; halves up.
        expected = {
            name: kept - math.floor(kept * (0.15 if name == "output.weight" else 0.3) + 0.5)
            for name, kept in expected.items()
        }


@every_rewind
def test_masks_are_nested_and_keep_the_largest_trained_weights_of_the_level_before(
    searches: dict[str, Search], rewind: str
):
    for level in (1, 2, 3):
        previous, ticket = searches[rewind].ticket(level - 1), searches[rewind].ticket(level)
        assert ticket.mask.issubset(previous.mask)
        for name in ticket.mask:
            trained, kept = previous.trained_weights[name].abs(), ticket.mask[name]
            lost = previous.mask[name] & ~kept
            assert float(trained[kept].min()) >= float(trained[lost].max())


@every_rewind
def test_removed_weights_are_exactly_zero_before_and_after_training(searches: dict[str, Search], rewind: str):
    search = searches[rewind]
    for ticket in [search.ticket(2), *(search.ticket(2, control) for control in CONTROLS)]:
        for name, kept in ticket.mask.items():
            for weights in (ticket.rewind_weights, ticket.trained_weights):
                assert torch.count_nonzero(weights[name][~kept]) == 0
            assert torch.count_nonzero(ticket.trained_weights[name]) == ticket.mask.layer_kept[name]


@pytest.mark.parametrize("rewind", ["0it", "5it"])
def test_survivors_return_to_the_dense_networks_weights_at_the_rewind_step(searches: dict[str, Search], rewind: str):
    search = searches[rewind]
    dense = search.ticket()
    at_step = tiny_model(seed=search.spec().init_seed)
    if steps := Step.parse(rewind).count:
        # The schedule's length is part of its shape, so the training that ends at step k is one stopped there.
        keeper = stopped(
            lambda k: fit(at_step, search.data, search.spec().train, seed=search.spec().order_seed, keeper=k),
            MemoryKeeper(steps),
        )
        assert keeper.saved is not None
    assert same_bits(dense.rewind_weights, at_step.state_dict())
    for level in (1, 2, 3):
        ticket = search.ticket(level)
        assert equal(ticket.rewind_weights, masked(dense.rewind_weights, ticket.mask))


def test_learning_rate_rewinding_and_fine_tuning_keep_the_trained_weights_of_the_level_before(
    searches: dict[str, Search],
):
    for rewind in ("learning-rate", "none"):
        for level in (1, 2, 3):
            ticket, previous = searches[rewind].ticket(level), searches[rewind].ticket(level - 1)
            assert equal(ticket.rewind_weights, masked(previous.trained_weights, ticket.mask))


@pytest.mark.parametrize(
    ("rewind", "start_step", "constant_lr"),
    [
        ("0it", 0, None),
        ("5it", 5, None),
        ("learning-rate", 0, None),
        # The last of 10 cosine steps after 2 of warm-up: progress 9 / 10.
        ("none", 0, 0.1 * 0.5 * (1 + math.cos(math.pi * 9 / 10))),
    ],
)
def test_a_level_is_the_masked_training_from_where_its_rewinding_says(
    searches: dict[str, Search], rewind: str, start_step: int, constant_lr: float | None
):
    search = searches[rewind]
    ticket, spec = search.ticket(2), search.spec(2)
    model = tiny_model()
    model.load_state_dict(ticket.rewind_weights)
    trained = fit(
        model,
        search.data,
        spec.train,
        seed=spec.order_seed,
        mask=ticket.mask,
        start_step=start_step,
        constant_lr=constant_lr,
    )
    assert same_bits(ticket.trained_weights, model.state_dict())
    assert ticket.history == trained.history.to_json()


def test_the_dense_network_is_an_unmasked_training_from_the_replicates_initial_weights(searches: dict[str, Search]):
    search = searches["5it"]
    dense, spec = search.ticket(), search.spec()
    model = tiny_model(seed=spec.init_seed)
    trained = fit(model, search.data, spec.train, seed=spec.order_seed)
    assert same_bits(dense.trained_weights, model.state_dict())
    assert dense.history == trained.history.to_json()
    assert dense.mask == Mask.dense(model, tuple(LAYERS))


@every_rewind
def test_controls_have_the_masks_they_promise(searches: dict[str, Search], rewind: str):
    search = searches[rewind]
    ticket, dense = search.ticket(3), search.ticket()
    masks = {control: search.ticket(3, control).mask for control in CONTROLS}
    assert all(mask.layer_kept == ticket.mask.layer_kept for mask in masks.values())
    assert masks["reinit"] == ticket.mask
    assert len({str({n: m[n].tolist() for n in m}) for m in (*masks.values(),)}) == 4
    for name, kept in masks["one-shot"].items():
        trained = dense.trained_weights[name].abs()
        assert float(trained[kept].min()) >= float(trained[~kept].max())


@every_rewind
def test_controls_start_from_the_weights_they_promise(searches: dict[str, Search], rewind: str):
    search = searches[rewind]
    dense = search.ticket()
    source = dense.rewind_weights if rewind.endswith("it") else dense.trained_weights
    for control in ("shuffled-mask", "one-shot"):
        start = search.ticket(3, control)
        assert equal(start.rewind_weights, masked(source, start.mask))
        # Every connection that the control keeps has a value, whatever levels before removed.
        assert all(bool((start.rewind_weights[name][kept] != 0).all()) for name, kept in start.mask.items())
    for control in ("reinit", "random-mask"):
        start = search.ticket(3, control)
        seed = search.spec(3, control).control_seed
        assert seed is not None
        assert equal(start.rewind_weights, masked(tiny_model(seed=seed).state_dict(), start.mask))
        assert not equal(start.rewind_weights, masked(source, start.mask))


def test_redrawn_controls_train_the_whole_schedule_and_the_others_as_the_ticket_does(searches: dict[str, Search]):
    search = searches["5it"]
    steps = {control: search.ticket(3, control).history["step"] for control in CONTROLS}
    assert steps["reinit"] == steps["random-mask"] == [4, 8, 12]
    assert steps["shuffled-mask"] == steps["one-shot"] == search.ticket(3).history["step"] == [8, 12]
    ticket, spec = search.ticket(3, "reinit"), search.spec(3, "reinit")
    model = tiny_model()
    model.load_state_dict(ticket.rewind_weights)
    fit(model, search.data, spec.train, seed=search.spec().order_seed, mask=ticket.mask)
    assert same_bits(ticket.trained_weights, model.state_dict())


@pytest.mark.parametrize("what", [(0, None), (2, None), (2, "reinit")], ids=["dense", "level", "control"])
@pytest.mark.parametrize("stop", [1, 5, 11])
def test_a_stage_stopped_and_resumed_writes_the_same_bytes(tmp_path: Path, what: tuple[int, str | None], stop: int):
    recipe = tiny_recipe(train=TRAIN, prune=PRUNE | {"rewind": "5it"})
    whole, broken = (Search(tmp_path / name, recipe) for name in ("whole", "broken"))
    level, control = what
    if level:
        broken.ticket(level - 1)
        if control:
            broken.ticket(level)
    # From step 5 on, seven steps are left for a level.
    stop = min(stop, 6) if level and not control else stop
    keeper = stopped(lambda k: broken.ticket(level, control, k), MemoryKeeper(stop))
    assert not (broken.path(level, control) / Ticket.HISTORY).exists()
    resumed = broken.ticket(level, control, keeper)
    expected = whole.ticket(level, control)
    assert files(resumed) == files(expected)
    assert set(files(resumed)) == {
        "mask.safetensors",
        "rewind.safetensors",
        "weights.safetensors",
        "history.json",
        "network.json",
    }


def files(ticket: Ticket) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ticket.folder.iterdir()}


def test_global_scope_keeps_the_largest_over_layers_and_one_shot_has_their_count(tmp_path: Path):
    prune = {"levels": 2, "prune_fraction": 0.4, "scope": "global", "overrides": {"output.weight": 0.0}}
    search = Search(tmp_path, tiny_recipe(train=TRAIN, prune=prune))
    dense, ticket, control = search.ticket(), search.ticket(1), search.ticket(2, "one-shot")
    hidden = ("hidden1.weight", "hidden2.weight")
    trained = torch.cat([dense.trained_weights[name].abs().flatten() for name in hidden])
    kept = torch.cat([ticket.mask[name].flatten() for name in hidden])
    assert int(kept.sum()) == 528 - 211
    assert float(trained[kept].min()) >= float(trained[~kept].max())
    assert ticket.mask.layer_kept["output.weight"] == 24
    assert control.mask.kept == search.ticket(2).mask.kept


def test_the_random_criterion_draws_anew_at_each_level_and_the_same_each_time(tmp_path: Path):
    recipe = tiny_recipe(train=TRAIN, prune={"levels": 2, "prune_fraction": 0.5, "criterion": "random"})
    first, again = Search(tmp_path / "a", recipe), Search(tmp_path / "b", recipe)
    assert first.ticket(2).mask == again.ticket(2).mask
    trained = first.ticket().trained_weights["hidden1.weight"].abs()
    kept = first.ticket(1).mask["hidden1.weight"]
    assert float(trained[kept].min()) < float(trained[~kept].max())  # it is not magnitude
    # Were the draw the same at each level, pruning in two steps would be pruning in one.
    assert first.ticket(2).mask != first.ticket(2, "one-shot").mask
    other = Search(tmp_path / "c", recipe, replicate=1)
    assert other.ticket(1).mask != first.ticket(1).mask


def test_replicates_differ_in_initial_weights_and_in_data_order(tmp_path: Path):
    recipe = tiny_recipe()
    first, second = (Search(tmp_path, recipe, replicate=replicate) for replicate in (0, 1))
    assert not same_bits(first.ticket().rewind_weights, second.ticket().rewind_weights)
    assert first.spec().order_seed != second.spec().order_seed
    assert first.spec().init_seed != second.spec().init_seed


def test_a_convolutional_network_with_batch_norm_is_rewound_with_its_buffers(tmp_path: Path):
    data = tiny_data(train=32, validation=8, shape=(1, 8, 8))
    train = TRAIN | {"steps": "4it", "optimizer": {"name": "sgd"}, "schedule": {}}
    recipe = tiny_recipe(model="resnet-20", train=train, prune={"levels": 1, "rewind": "2it"})
    search = Search(tmp_path, recipe, data)
    dense, ticket = search.ticket(), search.ticket(1)
    assert int(dense.rewind_weights["bn.num_batches_tracked"]) == 2
    assert equal(ticket.rewind_weights, masked(dense.rewind_weights, ticket.mask))
    assert int(ticket.trained_weights["bn.num_batches_tracked"]) == 4
    module = ticket.module()
    assert not module.training
    assert evaluate(module, data.validation).accuracy == ticket.history["final_accuracy"]


@pytest.mark.parametrize(("rewind", "step"), [("0it", 0), ("11it", 11), ("2ep", 10), ("learning-rate", 0), ("none", 0)])
def test_rewind_step(tmp_path: Path, rewind: str, step: int):
    search = Search(tmp_path, tiny_recipe(prune={"levels": 1, "rewind": rewind}))
    assert rewind_step(search.spec(), search.data) == step


@pytest.mark.parametrize(("steps", "rewind"), [("12it", "3ep"), ("10it", "2ep"), ("2ep", "10it")])
def test_a_rewind_step_not_before_the_end_is_refused_once_epochs_are_counted(tmp_path: Path, steps: str, rewind: str):
    recipe = tiny_recipe(train=TRAIN | {"steps": steps}, prune={"levels": 1, "rewind": rewind})
    search = Search(tmp_path, recipe)
    message = rf"prune\.rewind: expected a step before the end, 1[02]it, got {rewind}; rewind earlier, or train longer"
    with pytest.raises(UsageError, match=message) as raised:
        search.ticket()
    assert raised.value.exit_code == 2
    assert list(search.path().iterdir()) == []


def test_a_rewind_step_beyond_the_end_in_the_same_unit_is_refused_by_the_recipe():
    with pytest.raises(ValidationError, match=r"a step before the end of training, train\.steps = 12it"):
        tiny_recipe(prune={"levels": 1, "rewind": "12it"})


def test_early_stopping_counts_from_the_start_of_the_schedule(searches: dict[str, Search]):
    history = searches["5it"].ticket(1).history
    assert history["early_stop_step"] in (8, 12)
    names = ("step", "train_loss", "validation_loss", "validation_accuracy", "validation_images", "precision")
    rows = History(*(history[name] for name in names))
    assert rows.to_json() == history


def test_the_schedule_used_here_is_what_the_recipe_says(searches: dict[str, Search]):
    assert searches["none"].spec().train.schedule == ScheduleSpec(name="cosine", warmup=Step(2, "it"))
    assert searches["none"].spec().model == MLP
