"""Distillation beside a loop by hand with Hinton's loss written out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cases import MemoryKeeper, same_bits, short_training, stopped, tiny_data, tiny_model
from sparsify.data.load import Data
from sparsify.errors import UsageError
from sparsify.recipe.prune_spec import DistillSpec
from sparsify.recipe.spec import AugmentSpec
from sparsify.train.batches import Batches
from sparsify.train.distill import Distillation
from sparsify.train.keeper import Keeper
from sparsify.train.loop import fit
from sparsify.train.targets import without_labels
from sparsify.train.task import Agreement, Embedding, Regression, Task

DATA = tiny_data()
SPEC = short_training("12it", optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.0})


def teacher(name: str = "mlp:36-12-8-3") -> nn.Module:
    net = tiny_model(name, seed=9)
    fit(net, DATA, short_training("30it"), seed=5)
    return net


TEACHER = teacher()


def hinton(student: Tensor, shown: Tensor, temperature: float) -> Tensor:
    p, q = functional.softmax(shown / temperature, 1), functional.softmax(student / temperature, 1)
    return temperature**2 * (p * (p.log() - q.log())).sum(1).mean()


@pytest.mark.parametrize("features", [(), ("hidden1", "hidden2")], ids=["outputs", "features"])
@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0])
def test_agrees_with_a_loop_by_hand(weight: float, features: tuple[str, ...]):
    ours, theirs = tiny_model(), tiny_model()
    spec = DistillSpec(temperature=3.0, weight=weight, features=features, feature_weight=0.5)
    fit(ours, DATA, SPEC, seed=2, distillation=Distillation(TEACHER, spec))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05)
    batches = Batches(DATA.train, 16, AugmentSpec(), 2)
    for step in range(12):
        images, labels = batches(step)
        output, shown = theirs(images), TEACHER(images).detach()
        loss = (1 - weight) * functional.cross_entropy(output, labels) + weight * hinton(output, shown, 3.0)
        x, y = images.flatten(1), images.flatten(1)
        for name in features:
            x, y = theirs.get_submodule(name)(x), TEACHER.get_submodule(name)(y).detach()
            loss = loss + 0.5 * ((x - y) ** 2).mean()
            x, y = x.relu(), y.relu()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = theirs.state_dict()
    assert all(torch.allclose(t, expected[n], rtol=1e-4, atol=1e-6) for n, t in ours.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_the_teacher_is_left_as_it_was_and_no_hook_stays(training: bool):
    net = copy.deepcopy(TEACHER).train(training)
    before, model = copy.deepcopy(net.state_dict()), tiny_model()
    fit(model, DATA, SPEC, seed=2, distillation=Distillation(net, DistillSpec(features=("hidden1",))))
    assert same_bits(net.state_dict(), before) and net.training is training
    assert all(parameter.grad is None for parameter in net.parameters() if parameter.grad is not None)
    assert not any(module._forward_hooks for other in (net, model) for module in other.modules())


def test_a_teacher_with_batch_norm_learns_no_statistics():
    data = tiny_data(train=32, validation=8, shape=(1, 8, 8))
    model, net = tiny_model("resnet-20", data), tiny_model("resnet-20", data, seed=9)
    before = copy.deepcopy(net.state_dict())
    fit(model, data, short_training("2it"), seed=2, distillation=Distillation(net, DistillSpec()))
    assert same_bits(net.state_dict(), before) and net.training


def test_it_resumes_bit_for_bit():
    def run(keeper: Keeper | None = None) -> dict[str, Tensor]:
        model = tiny_model()
        fit(model, DATA, SPEC, seed=2, keeper=keeper, distillation=Distillation(TEACHER, DistillSpec()))
        return model.state_dict()

    assert same_bits(run(stopped(run, MemoryKeeper(5))), run())


@pytest.mark.parametrize("task", [Agreement(), Embedding(), Regression()], ids=lambda task: task.name)
def test_without_labels_a_network_learns_to_do_as_the_dense_one_does(task: Task):
    unlabelled: Data = without_labels(DATA, TEACHER)
    model = tiny_model()
    spec = short_training("60it", optimizer={"name": "adam", "lr": 0.01})
    distillation = Distillation(TEACHER, DistillSpec(weight=1.0, temperature=1.0))
    history = fit(model, unlabelled, spec, seed=2, task=task, distillation=distillation).history
    assert history.validation_accuracy[-1] > history.validation_accuracy[0]
    assert history.validation_loss[-1] < 0.7 * history.validation_loss[0]
    with torch.no_grad():
        dense = TEACHER.eval()(DATA.validation.images)
        agreed = (model.eval()(DATA.validation.images).argmax(1) == dense.argmax(1)).float().mean()
    assert torch.allclose(unlabelled.validation.labels, dense, atol=1e-6)
    if task.name == "agreement":
        assert history.validation_accuracy[-1] == pytest.approx(float(agreed))


def refused(match: str, distillation: Distillation, model: nn.Module) -> None:
    with pytest.raises(UsageError, match=match):
        fit(model, DATA, SPEC, seed=2, distillation=distillation)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("net", "spec", "match"),
    [
        (TEACHER, {"features": ("hidden9",)}, r"a module's name, got 'hidden9'; there are hidden1, hidden2, output"),
        (
            tiny_model("mlp:36-10-8-3"),
            {"features": ("hidden1",)},
            r"one shape, got \(16, 12\) and the teacher's \(16, 10\)",
        ),
    ],
    ids=["name", "shape"],
)
def test_features_that_cannot_be_compared_are_refused(net: nn.Module, spec: dict[str, Any], match: str):
    refused(match, Distillation(net, DistillSpec(**spec)), tiny_model())


def test_a_model_cannot_teach_itself():
    model = tiny_model()
    refused("a teacher apart from the model", Distillation(model, DistillSpec()), model)
