from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cases import MemoryKeeper, same_bits, short_training, stopped, tiny_data, tiny_model
from sparsify.models.build import prunable
from sparsify.recipe.pattern import Pattern
from sparsify.recipe.prune_spec import EarlyStopSpec
from sparsify.train.early_stop import EarlyStop, best_row
from sparsify.train.evaluate import evaluate
from sparsify.train.history import History
from sparsify.train.keeper import Keeper
from sparsify.train.loop import Trained, fit
from sparsify.train.mask_moves import Move, Prune, Span
from sparsify.train.mask_schedule import Masking
from sparsify.train.removal import Removal
from sparsify.train.state import State

DATA = tiny_data(train=32)


@given(
    values=st.lists(st.integers(0, 4), min_size=1, max_size=12), patience=st.integers(1, 4), settled=st.integers(-1, 3)
)
def test_it_stops_when_patience_rows_brought_no_new_best(values: list[int], patience: int, settled: int):
    model = tiny_model()
    stop, state = EarlyStop(EarlyStopSpec(patience=patience), settled), State(0)
    for row, value in enumerate(values):
        state.step = row
        state.history.step.append(row)
        state.history.validation_accuracy.append(value / 4)
        counted = values[settled + 1 : row + 1]
        since = len(counted) - 1 - counted.index(max(counted)) if counted else 0
        assert stop.note(state, model) == (since >= patience)
        assert state.best_step == (settled + 1 + counted.index(max(counted)) if counted else None)


def train(keeper: Keeper | None = None, **values: Any) -> tuple[dict[str, Tensor], Trained]:
    """Far too high a rate: validation gets better, then worse."""
    model = tiny_model()
    spec = short_training("80it", eval_every="2it", optimizer={"name": "adam", "lr": 0.1})
    trained = fit(model, DATA, spec, seed=4, keeper=keeper, **values)
    return model.state_dict(), trained


@pytest.mark.parametrize("watch", ["metric", "loss"])
def test_the_best_weights_are_kept_and_the_rest_is_not_trained(watch: str):
    kept, trained = train(early_stop=EarlyStopSpec(patience=4, watch=watch))  # pyright: ignore[reportArgumentType]
    curve = trained.history.validation_accuracy if watch == "metric" else [-x for x in trained.history.validation_loss]
    best = curve.index(max(curve))
    assert trained.kept_step == trained.history.step[best] < trained.history.step[-1] < 80
    assert len(curve) == best + 1 + 4
    model = tiny_model()
    model.load_state_dict(kept)
    assert evaluate(model, DATA.validation).loss == trained.history.validation_loss[best]
    _, whole = train()
    assert whole.history.validation_loss[: len(curve)] == trained.history.validation_loss
    assert whole.kept_step == 80


def test_it_resumes_bit_for_bit_also_from_where_it_stopped():
    def run(keeper: Keeper | None = None) -> dict[str, Tensor]:
        return train(keeper, early_stop=EarlyStopSpec(patience=2))[0]

    whole, trained = train(early_stop=EarlyStopSpec(patience=2))
    last = trained.history.step[-1]
    for stop in (1, trained.kept_step, trained.kept_step + 1, last - 1, last):
        assert same_bits(run(stopped(run, MemoryKeeper(stop))), whole), stop


def test_weights_under_an_earlier_mask_are_no_candidates():
    def late(span: Span) -> dict[int, Move]:
        return {0: Prune(0.1), 40: Prune(1.0)}

    model = tiny_model()
    masking = Masking(prunable(model), late, Removal(Pattern.parse("unstructured"), 0.95))
    spec = short_training("80it", eval_every="2it", optimizer={"name": "adam", "lr": 0.03})
    trained = fit(model, DATA, spec, seed=4, masking=masking, early_stop=EarlyStopSpec(patience=1))
    after = [row for row, step in enumerate(trained.history.step) if step > 40]
    curve = trained.history.validation_accuracy
    assert max(curve[: after[0]]) > max(curve[after[0] :])  # the tempting ones
    assert trained.kept_step > 40 and trained.mask is not None
    assert all(not model.get_parameter(name)[~kept].any() for name, kept in trained.mask.items())
    assert trained.mask.kept == round(0.05 * trained.mask.total)


def test_history_alone_decides():
    history = History([1, 2, 3], [], [0.5, 0.4, 0.4], [0.1, 0.9, 0.9])
    for spec in (EarlyStopSpec(), EarlyStopSpec(watch="loss")):
        assert best_row(history, [0, 1, 2], spec) == 1
