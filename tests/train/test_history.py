from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.store.digest import canonical_json
from sparsify.train.history import History

rows = st.lists(
    st.tuples(st.integers(1, 50), st.sampled_from([0.1, 0.2, 0.3]), st.floats(0, 1)), min_size=1, max_size=8
)


@given(rows=rows)
def test_early_stopping_is_the_first_smallest_validation_loss(rows: list[tuple[int, float, float]]):
    history, step = History(), 0
    table: list[tuple[float, int, float]] = []
    for gap, loss, accuracy in rows:
        step += gap
        history.step.append(step)
        history.train_loss.append(1.0)
        history.validation_loss.append(loss)
        history.validation_accuracy.append(accuracy)
        table.append((loss, step, accuracy))
    _, expected_step, expected_accuracy = sorted(table)[0]
    assert history.early_stop_step == expected_step
    assert history.early_stop_accuracy == expected_accuracy


def test_json_holds_the_rows_and_what_is_derived():
    history = History([4, 8, 12], [1.5, 1.0, 0.7], [1.2, 0.9, 1.1], [0.5, 0.7, 0.8], 20, "bf16")
    assert history.to_json() == {
        "validation_images": 20,
        "precision": "bf16",
        "step": [4, 8, 12],
        "train_loss": [1.5, 1.0, 0.7],
        "validation_loss": [1.2, 0.9, 1.1],
        "validation_accuracy": [0.5, 0.7, 0.8],
        "early_stop_step": 8,
        "early_stop_accuracy": 0.7,
        "final_accuracy": 0.8,
    }
    canonical_json(history.to_json())


def test_two_histories_share_no_rows():
    first, second = History(), History()
    first.step.append(1)
    assert second.step == []
    with pytest.raises(ValueError):
        _ = second.early_stop_step
