"""Each measurement against the same one made by hand; the network is put back to the bit between them."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from cases import MLP, same_bits, tiny_data, tiny_model
from sparsify.api.sensitivity import sensitivity
from sparsify.errors import UsageError
from sparsify.models.build import prunable

DATA = tiny_data()


def output_of(model: nn.Module) -> float:
    with torch.no_grad():
        return float(model(DATA.validation.images).square().mean())


@pytest.fixture
def model() -> nn.Module:
    return tiny_model(MLP)


def test_every_entry_is_the_metric_with_that_layer_alone_pruned(model):
    before = copy.deepcopy(model.state_dict())
    seen = []
    table = sensitivity(model, output_of, sparsities=(0.9, 0.5), progress=lambda *values: seen.append(values))
    assert same_bits(model.state_dict(), before)
    assert table.metric == output_of(model) and table.sparsities == (0.5, 0.9)
    for layer in table.layers:
        for asked, achieved, metric in zip(table.sparsities, layer.sparsity, layer.metric, strict=True):
            twin = copy.deepcopy(model)
            weight = twin.get_parameter(layer.name)
            count = int(layer.weights * asked + 0.5)
            weight.data.view(-1)[weight.detach().abs().flatten().argsort(stable=True)[:count]] = 0
            assert metric == output_of(twin)
            assert achieved == pytest.approx(count / layer.weights)
    names = prunable(model)
    assert [layer.name for layer in table.layers] == list(names)
    assert seen == [(i + 1, 2 * len(names), names[i // 2]) for i in range(2 * len(names))]


def test_data_are_scored_by_their_task_on_validation(model):
    table = sensitivity(model, DATA, sparsities=(0.5,))
    expected = (model(DATA.validation.images).argmax(1) == DATA.validation.labels).float().mean()
    assert table.metric == pytest.approx(float(expected))


def test_n_of_m_has_one_column_and_says_what_does_not_fit():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 3))
    table = sensitivity(model, output_of, pattern="2:4")
    assert table.sparsities == (0.5,)
    [odd] = [layer for layer in table.layers if layer.name == "3.weight"]
    assert odd.metric == () and "4" in odd.skipped and odd.skipped in str(table)
    with pytest.raises(UsageError, match="allocation searched: expected a pattern whose sparsity is free, got 2:4"):
        table.allocate(0.3)


def test_a_solver_is_measured_with_the_weights_it_gives(model):
    batches = [(DATA.train.images[:32], DATA.train.labels[:32])]
    before = output_of(model)
    tables = {
        name: sensitivity(
            model,
            lambda m: -float((m(batches[0][0]) - model(batches[0][0])).detach().square().mean()),
            sparsities=(0.6,),
            criterion=name,
            batches=batches,
        )
        for name in ("sparsegpt", "magnitude")
    }
    assert output_of(model) == before
    for solved, scored in zip(tables["sparsegpt"].layers, tables["magnitude"].layers, strict=True):
        assert scored.metric[0] < solved.metric[0] < 0


def test_the_table_is_json_and_text(model):
    table = sensitivity(model, output_of, sparsities=(0.5,), names=prunable(model)[:1])
    values = json.loads(json.dumps(table.to_json()))
    assert values["layers"][0]["metric"] == [table.layers[0].metric[0]] and len(values["layers"]) == 1
    assert str(table).splitlines()[2].startswith(prunable(model)[0])
    with pytest.raises(UsageError, match=r"expected one of .*, got 'other'"):
        table.drops("other")


def test_an_allocation_from_the_table_reaches_the_target(model):
    table = sensitivity(model, DATA)
    sizes = {layer.name: layer.weights for layer in table.layers}
    found = table.allocate(0.8)
    assert sum(found[name] * size for name, size in sizes.items()) == pytest.approx(0.8 * sum(sizes.values()))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sparsities": ()}, "expected sparsities from above 0"),
        ({"sparsities": (0.5, 1.0)}, "expected sparsities from above 0"),
        ({"pattern": "channel"}, "expected unstructured, n:m or block, got channel"),
        ({"criterion": "magnitud"}, "got 'magnitud'"),
    ],
)
def test_what_makes_no_sense_is_refused(model, values, says):
    with pytest.raises(UsageError, match=says):
        sensitivity(model, output_of, **values)


def test_a_metric_that_is_no_number_is_refused_by_layer(model):
    first = prunable(model)[0]

    def broken(network: nn.Module) -> float:
        return float("nan") if bool((network.get_parameter(first) == 0).any()) else 1.0

    with pytest.raises(UsageError, match=rf"finite metric of {first} at sparsity 0\.5, got nan"):
        sensitivity(model, broken)
