"""Each task beside its metric written out in numpy, one example at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cases import short_training, tiny_data, tiny_model
from sparsify.data.load import Split
from sparsify.errors import UsageError
from sparsify.train.evaluate import evaluate
from sparsify.train.loop import fit
from sparsify.train.task import TASKS, Agreement, Embedding, Regression, Task, TokenClassification
from sparsify.train.task_catalogue import TASKS as ENTRIES

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 4, generator=GENERATOR)
DENSE = torch.randn(6, 4, generator=GENERATOR)
TOKENS = torch.randn(3, 5, 4, generator=GENERATOR)
TOKEN_TARGETS = torch.tensor([[0, 1, -100, -100, 2], [3, -100, -100, -100, -100], [0, 0, 1, 2, 3]])


def log_softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.double().numpy()


def kl(teacher: Tensor, student: Tensor, temperature: float) -> float:
    p, q = log_softmax(array(teacher) / temperature), log_softmax(array(student) / temperature)
    return float((np.exp(p) * (p - q)).sum(-1).mean() * temperature**2)


def test_the_registry_and_the_catalogue_name_the_same_tasks_and_metrics():
    assert {name: task.metric for name, task in TASKS.items()} == {n: entry.metric for n, entry in ENTRIES.items()}
    assert all(name == task.name for name, task in TASKS.items())


def test_regression_is_squared_error_scored_in_the_targets_units():
    task, target = Regression(), torch.zeros(6, 4)
    assert float(task.loss(LOGITS, target)) == pytest.approx(float((array(LOGITS) ** 2).mean()))
    assert array(task.scores(LOGITS, target)) == pytest.approx(-np.abs(array(LOGITS)).mean(1))
    assert float(task.total_loss(LOGITS, target)) == pytest.approx(6 * float(task.loss(LOGITS, target)))


def test_regression_takes_a_column_for_a_vector_and_broadcasts_nothing_else():
    task = Regression()
    assert task.scores(LOGITS[:, :1], LOGITS[:, 0] + 2).tolist() == pytest.approx([-2.0] * 6, rel=1e-6)
    with pytest.raises(UsageError, match=r"targets of the output's shape \(6, 4\), got \(6,\); reshape"):
        task.loss(LOGITS, torch.zeros(6))


def test_tokens_without_a_label_count_nowhere():
    task, losses, right = TokenClassification(), list[list[float]](), list[float]()
    for logits, targets in zip(array(TOKENS), TOKEN_TARGETS.tolist(), strict=True):
        pairs = [(log_softmax(row), t) for row, t in zip(logits, targets, strict=True) if t >= 0]
        losses.append([-row[t] for row, t in pairs])
        right.append(float(np.mean([row.argmax() == t for row, t in pairs])))
    assert float(task.loss(TOKENS, TOKEN_TARGETS)) == pytest.approx(np.mean(np.concatenate(losses)), rel=1e-6)
    assert float(task.total_loss(TOKENS, TOKEN_TARGETS)) == pytest.approx(sum(map(np.mean, losses)), rel=1e-6)
    assert task.scores(TOKENS, TOKEN_TARGETS).tolist() == pytest.approx(right)


def test_an_example_without_any_labelled_token_is_refused():
    with pytest.raises(UsageError, match="a labelled token in every example, got one without any"):
        TokenClassification().scores(TOKENS, torch.full((3, 5), -100))


def test_an_embedding_is_held_against_the_dense_networks_by_cosine():
    a, b = array(LOGITS), array(DENSE)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    task = Embedding()
    assert array(task.scores(LOGITS, DENSE)) == pytest.approx(cosine, abs=1e-6)
    assert float(task.loss(LOGITS, DENSE)) == pytest.approx(1 - cosine.mean(), abs=1e-6)
    assert float(task.imitation(LOGITS, DENSE, temperature=3.0)) == pytest.approx(1 - cosine.mean(), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_agreement_distils_and_counts_equal_answers(temperature: float):
    task = Agreement(temperature)
    assert float(task.loss(LOGITS, DENSE)) == pytest.approx(kl(DENSE, LOGITS, temperature), rel=1e-5)
    assert task.scores(LOGITS, DENSE).tolist() == (array(LOGITS).argmax(1) == array(DENSE).argmax(1)).tolist()
    assert float(task.scores(DENSE, DENSE).mean()) == 1.0 and float(task.loss(DENSE, DENSE)) == 0.0


@pytest.mark.parametrize("name", ["classification", "token-classification", "agreement"])
def test_classes_are_imitated_by_kl_with_temperature(name: str):
    ours = TASKS[name].imitation(LOGITS[:, :, None].movedim(1, -1) if "token" in name else LOGITS, _as(name), **T3)
    assert float(ours) == pytest.approx(kl(DENSE, LOGITS, 3.0), rel=1e-5)


T3 = {"temperature": 3.0}


def _as(name: str) -> Tensor:
    return DENSE[:, None, :] if "token" in name else DENSE


def test_classes_on_axis_1_with_positions_after_it_are_averaged_within_an_example():
    maps, target = TOKENS.movedim(2, 1), TOKEN_TARGETS.clamp_min(0)
    task = TASKS["classification"]
    assert torch.equal(task.scores(maps, target), TokenClassification().scores(TOKENS, target))
    assert float(task.imitation(maps, maps.flip(0), temperature=2.0)) == pytest.approx(
        kl(TOKENS.flip(0).flatten(0, 1), TOKENS.flatten(0, 1), 2.0), rel=1e-5
    )


@pytest.mark.parametrize("name", ["regression", "embedding", "agreement"])
def test_there_is_nothing_to_smooth_without_classes(name: str):
    with pytest.raises(UsageError, match=f"expected 0 for task {name}, which has no classes to smooth over, got 0.1"):
        TASKS[name].loss(LOGITS, DENSE, label_smoothing=0.1)


def relabelled(split: Split, task: Task) -> Split:
    targets = split.images.flatten(1)[:, :3].clone()
    return Split(split.images, targets if task.name != "classification" else split.labels)


@pytest.mark.parametrize("task", [Regression(), Embedding(), Agreement()], ids=lambda task: task.name)
def test_fit_trains_by_the_tasks_loss_and_its_history_holds_the_metric(task: Task):
    data = tiny_data()
    data = replace(data, train=relabelled(data.train, task), validation=relabelled(data.validation, task))
    model = tiny_model()
    before = evaluate(model, data.validation, task=task)
    trained = fit(model, data, short_training("60it", optimizer={"name": "adam", "lr": 0.01}), seed=1, task=task)
    after = evaluate(model, data.validation, task=task)
    assert trained.history.validation_loss[-1] == after.loss < 0.9 * before.loss
    assert trained.history.validation_accuracy[-1] == after.value > before.value
    assert after.metric == task.metric and after.scores.shape == (40,)


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_the_value_is_the_mean_of_the_scores_in_the_splits_order(batch_size: int):
    data, model = tiny_data(), tiny_model()
    score = evaluate(model, data.validation, batch_size)
    with torch.no_grad():
        right = model.eval()(data.validation.images).argmax(1) == data.validation.labels
    assert torch.equal(score.scores, right.float())
    assert score.accuracy == score.value == int(right.sum()) / 40
