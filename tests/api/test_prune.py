"""One-shot pruning through the public door; counts and choices against numpy, the given network untouched."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cases import MLP, same_bits, tiny_data, tiny_model
from sparsify.api.prune import prune
from sparsify.criteria.context import Context
from sparsify.criteria.wanda import wanda
from sparsify.errors import UsageError
from sparsify.models.build import build, prunable
from sparsify.models.history import replay
from sparsify.models.network import Network
from sparsify.pipeline.prune_removal import remove
from sparsify.recipe.pattern import Pattern
from sparsify.recipe.prune_recipe import RemovalSpec

DATA = tiny_data()
BATCHES = [(DATA.train.images[:32], DATA.train.labels[:32])]


def accuracy(model: nn.Module) -> float:
    with torch.no_grad():
        return float((model(DATA.validation.images).argmax(1) == DATA.validation.labels).float().mean())


def removed(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: (model.get_parameter(name) == 0).numpy() for name in prunable(model)}


@pytest.fixture
def model() -> nn.Module:
    return tiny_model(MLP)


def test_global_magnitude_removes_the_smallest_of_all_and_the_given_network_is_untouched(model):
    before = copy.deepcopy(model.state_dict())
    pruned = prune(model, sparsity=0.75)
    assert same_bits(model.state_dict(), before)
    weights = np.concatenate([before[name].abs().numpy().ravel() for name in sorted(prunable(model))])
    threshold = np.sort(weights)[round(0.75 * weights.size)]
    assert all((gone == (before[name].abs() < threshold).numpy()).all() for name, gone in removed(pruned.model).items())
    assert pruned.report.sparsity == pruned.mask.sparsity == pytest.approx(0.75, abs=0.5 / weights.size)
    assert pruned.report.allocation == "global" and pruned.history == []
    kept = dict(pruned.model.named_parameters())
    assert all(torch.equal(kept[name][mask], before[name][mask]) for name, mask in pruned.mask.items())


@pytest.mark.parametrize(
    ("asked", "left"),
    [({"overrides": {"output.weight": 0}}, "hidden"), ({"keep": ["output"]}, "hidden"), ({}, "")],
    ids=["override", "keep", "all"],
)
def test_what_is_achieved_is_of_the_layers_that_compete_and_told_beside_that_of_all(model, asked, left):
    report = (pruned := prune(model, sparsity=0.5, **asked)).report
    weights = {name: pruned.model.get_parameter(name) for name in prunable(model)}
    zeros, sizes = ({n: f(w) for n, w in weights.items()} for f in (lambda w: int((w == 0).sum()), torch.numel))
    among = [name for name in weights if left in name]
    assert report.achieved == pytest.approx(sum(zeros[n] for n in among) / sum(sizes[n] for n in among))
    assert report.sparsity == pytest.approx(sum(zeros.values()) / sum(sizes.values()))
    assert report.achieved == pytest.approx(0.5, abs=0.01)
    assert (report.sparsity < 0.5 - 0.01) == bool(left)


@pytest.mark.parametrize("pattern", ["2:4", "1:4"])
def test_n_of_m_along_the_inputs(model, pattern):
    pruned = prune(model, pattern=pattern, overrides={"output*": 0})
    weight = pruned.model.get_parameter("hidden.0.weight" if "hidden.0.weight" in pruned.mask else prunable(model)[0])
    groups = (weight.detach().reshape(weight.shape[0], -1, 4) != 0).sum(2)
    assert bool((groups == int(pattern[0])).all())
    assert set(pruned.report.skipped) == {"output.weight"} and pruned.report.asked is None


def test_every_criterion_by_name_gives_the_count_asked_for(model):
    for criterion in ("magnitude", "random", "lamp", "snip", "grasp", "synflow", "movement", "taylor", "wanda"):
        pruned = prune(model, sparsity=0.5, criterion=criterion, batches=BATCHES, loss=functional.cross_entropy)
        assert pruned.mask.sparsity == pytest.approx(0.5, abs=0.02), criterion


def test_wanda_takes_the_same_share_of_every_row_and_the_lowest_products(model):
    pruned = prune(model, sparsity=0.5, criterion="wanda", batches=BATCHES)
    assert pruned.report.allocation == "uniform"
    name = prunable(model)[0]
    weight, inputs = model.get_parameter(name).detach(), BATCHES[0][0].flatten(1)
    scores = weight.abs() * inputs.norm(dim=0)
    median = scores.sort(dim=1).values[:, weight.shape[1] // 2]
    np.testing.assert_array_equal(pruned.mask[name].numpy(), (scores >= median[:, None]).numpy())


def test_what_is_kept_is_as_it_was_in_any_pattern_and_the_rest_gives(model):
    pruned = prune(model, sparsity=0.5, keep=["hidden1"], overrides={"hidden*": 0.8})
    assert pruned.mask["hidden1.weight"].all() and pruned.report.layers["hidden2.weight"] == pytest.approx(
        0.8, abs=0.01
    )
    assert pruned.report.skipped["hidden1.weight"].startswith("left dense")
    fewer = prune(model, macs=0.9, pattern="channel", keep=["hidden1"], batches=BATCHES)
    assert fewer.model.hidden1.out_features == model.hidden1.out_features
    assert fewer.model.hidden2.out_features < model.hidden2.out_features
    assert fewer.report.asked is None and fewer.report.channels["macs"] <= 0.9


def test_a_layer_s_name_will_do_for_masks_as_for_channels_and_a_text_alone_for_what_is_kept(model):
    by_layer, by_weight = (prune(model, sparsity=0.5, overrides={name: 0.25}) for name in ("hidden1", "hidden1.weight"))
    assert by_layer.mask == by_weight.mask
    assert by_layer.report.layers["hidden1.weight"] == pytest.approx(0.25, abs=0.001)
    assert prune(model, sparsity=0.5, keep="hidden1").mask == prune(model, sparsity=0.5, keep=["hidden1"]).mask
    alone = {"pattern": "channel", "batches": BATCHES}
    assert prune(model, macs=0.9, keep="hidden1", **alone).model.hidden1.out_features == model.hidden1.out_features
    for pattern in ("unstructured", "channel"):
        with pytest.raises(UsageError, match=r"overrides: expected globs and numbers such as .*, got \['hidden1'\]"):
            prune(model, sparsity=0.5, pattern=pattern, overrides=["hidden1"], batches=BATCHES)


def test_sparsegpt_moves_what_it_keeps_and_costs_less_output_than_magnitude(model):
    outputs = {}
    for criterion in ("sparsegpt", "magnitude"):
        pruned = prune(model, sparsity=0.6, criterion=criterion, allocation="uniform", batches=BATCHES)
        assert all(gone[~pruned.mask[name].numpy()].all() for name, gone in removed(pruned.model).items())
        outputs[criterion] = (pruned.model(BATCHES[0][0]) - model(BATCHES[0][0])).square().mean()
    assert outputs["sparsegpt"] < outputs["magnitude"]
    name = prunable(model)[0]
    solved = prune(model, sparsity=0.6, criterion="sparsegpt", batches=BATCHES, overrides={"output*": 0})
    kept = solved.mask[name]
    assert not torch.equal(solved.model.get_parameter(name)[kept], model.get_parameter(name)[kept])
    assert torch.equal(solved.model.get_parameter("output.weight"), model.get_parameter("output.weight"))
    assert bool(solved.mask["output.weight"].all())


def test_a_criterion_of_ones_own(model):
    def smallest_last(context):
        return {name: -weight.abs() for name, weight in context.weights.items()}

    pruned = prune(model, sparsity=0.5, criterion=smallest_last)
    by_size = prune(model, sparsity=0.5)
    assert pruned.report.criterion == "smallest_last"
    assert all(not bool((pruned.mask[name] & by_size.mask[name]).any()) for name in pruned.mask)
    same = prune(model, sparsity=0.5, criterion=wanda, allocation="uniform", batches=BATCHES)
    assert same.mask.sparsity == pytest.approx(0.5, abs=0.01)


def test_channels_go_for_good_and_their_history_replays():
    model = build("conv-2", input_shape=(1, 8, 8), classes=3, seed=0)
    inputs = torch.randn(4, 1, 8, 8)
    before = copy.deepcopy(model.state_dict())
    pruned = prune(model, sparsity=0.5, pattern="channel", batches=[(inputs, torch.zeros(4))], criterion="magnitude")
    assert same_bits(model.state_dict(), before)
    assert sum(p.numel() for p in pruned.model.parameters()) < sum(p.numel() for p in model.parameters())
    again = replay(copy.deepcopy(model), json.loads(json.dumps(pruned.history)))
    again.load_state_dict(pruned.model.state_dict())
    assert torch.equal(again.eval()(inputs), pruned.model.eval()(inputs))
    assert pruned.mask.sparsity == 0 and pruned.report.channels["asked"] == {"sparsity": 0.5}


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block:2x2"])
def test_shuffled_as_many_go_of_each_layer_and_others_and_the_command_does_the_same(model, pattern):
    asked = {"sparsity": None if pattern == "2:4" else 0.5, "pattern": pattern, "overrides": {"output*": 0}}
    plain, drawn = prune(model, **asked), prune(model, **asked, shuffled=True)
    assert plain.mask.layer_kept == drawn.mask.layer_kept and plain.mask != drawn.mask
    if pattern == "2:4":
        assert all((kept.reshape(len(kept), -1, 4).sum(2) == 2).all() for n, kept in drawn.mask.items() if n[0] == "h")
    spec = RemovalSpec(pattern=Pattern.parse(pattern), overrides={"output*": 0}, shuffled=True)
    context = Context(copy.deepcopy(model), prunable(model), 0)
    theirs = remove(context, Network(MLP, (1, 6, 6), 3), spec, sparsity=asked["sparsity"], macs=None)
    assert theirs.mask == drawn.mask


def test_the_metric_is_what_the_given_function_says(model):
    pruned = prune(model, sparsity=0.9, evaluate=accuracy)
    assert pruned.report.metric_dense == accuracy(model) and pruned.report.metric == accuracy(pruned.model)
    assert json.loads(json.dumps(pruned.report.to_json()))["metric"] == pruned.report.metric


def test_a_searched_allocation_spares_the_layer_that_the_metric_depends_on(model):
    first, *others = prunable(model)
    whole = model.get_parameter(first).detach().clone()

    def evaluate(network: nn.Module) -> float:
        return 1 - float((network.get_parameter(first).detach() - whole).square().sum())

    pruned = prune(model, sparsity=0.3, allocation="searched", evaluate=evaluate, overrides={others[-1]: 0.5})
    layers = pruned.report.layers
    assert layers[first] < 0.2 < layers[others[0]]
    assert layers[others[-1]] == pytest.approx(0.5, abs=0.03)
    free = [name for name in layers if name != others[-1]]
    sizes = {name: pruned.mask[name].numel() for name in free}
    assert sum(layers[n] * sizes[n] for n in free) / sum(sizes.values()) == pytest.approx(0.3, abs=0.01)


def test_a_layer_that_the_search_spares_competes_all_the_same(model):
    def only_the_output_matters(network: nn.Module) -> float:
        return float((network.get_parameter("output.weight") != 0).float().mean())

    pruned = prune(model, sparsity=0.3, allocation="searched", evaluate=only_the_output_matters)
    assert pruned.report.layers["output.weight"] == 0 and "output.weight" in pruned.report.skipped
    assert pruned.report.achieved == pruned.report.sparsity == pytest.approx(0.3, abs=0.01)


def test_a_compiled_network_is_pruned_as_the_one_inside(model):
    pruned = prune(torch.compile(model, backend="eager"), sparsity=0.5)
    assert type(pruned.model) is type(model) and pruned.mask == prune(model, sparsity=0.5).mask


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "sparsity: expected a fraction"),
        ({"sparsity": 1.0}, "sparsity: expected a fraction"),
        ({"sparsity": 0.5, "criterion": "magnitud"}, "criterion: expected one of magnitude, .* got 'magnitud'"),
        ({"sparsity": 0.5, "criterion": "wanda"}, "wanda: expected calibration inputs"),
        ({"sparsity": 0.5, "criterion": "snip", "batches": BATCHES}, "snip: expected a loss"),
        ({"sparsity": 0.5, "criterion": "sparsegpt", "allocation": "global"}, "sparsegpt: expected allocation uniform"),
        (
            {"sparsity": 0.5, "criterion": "sparsegpt", "shuffled": True, "batches": BATCHES},
            "shuffled: expected a criterion that scores weights, got sparsegpt, whose new weights",
        ),
        ({"sparsity": 0.5, "allocation": "searched"}, "searched: expected a function that measures"),
        ({"sparsity": 0.5, "overrides": {"nothing*": 0}}, "'nothing.' matches no prunable parameter"),
        ({"macs": 0.5}, "macs: expected the pattern channel, which alone removes work, got unstructured"),
        ({"pattern": "channel"}, "expected one target of channels, sparsity or macs, got none"),
        ({"pattern": "channel", "sparsity": 0.5, "macs": 0.5}, "sparsity or macs, got both"),
        ({"sparsity": 0.5, "round_to": 8}, "round_to: expected the pattern channel"),
        ({"sparsity": 0.5, "keep": ["nothing"]}, "keep: 'nothing' matches no layer"),
        ({"sparsity": 0.5, "pattern": "channel"}, "batches: expected real inputs"),
        ({"sparsity": 0.5, "pattern": "channel", "allocation": "erk"}, "global or uniform for channels, got erk"),
        (
            {"pattern": "2:4", "allocation": "searched", "evaluate": accuracy},
            "searched: expected unstructured or block, .* 2:4",
        ),
        (
            {"sparsity": 0.5, "allocation": "globl"},
            "allocation: expected one of global, uniform, erk, searched, got 'globl'",
        ),
        ({"pattern": None, "sparsity": 0.5}, "pattern: expected unstructured, .*, got None"),
    ],
)
def test_what_makes_no_sense_is_refused(model, values, says):
    with pytest.raises(UsageError, match=says):
        prune(model, **values)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"sparsity": 0.5, "overrides": {"nothing*": 0}}, "overrides: 'nothing.' matches no prunable parameter"),
        ({"pattern": "2:4", "overrides": {"*": 0}}, "pattern: expected one that fits a layer, got 2:4"),
        ({"sparsity": 0.5, "pattern": "channel", "overrides": {"nothing": 0}}, "overrides: 'nothing' matches no layer"),
        ({"sparsity": 0.5, "pattern": "channel", "keep": ["nothing"]}, "keep: 'nothing' matches no layer"),
    ],
)
def test_what_fits_no_layer_is_refused_before_anything_is_scored(model, asked, says):
    def scores(context: Context) -> dict[str, torch.Tensor]:
        raise AssertionError("scored")

    with pytest.raises(UsageError, match=says):
        prune(model, criterion=scores, batches=BATCHES, **asked)


def test_a_pattern_that_is_none_and_a_network_without_layers_are_refused(model):
    with pytest.raises(UsageError, match="expected a pattern"):
        prune(model, sparsity=0.5, pattern="4:2")
    with pytest.raises(UsageError, match="expected linear or convolution layers to prune, got ReLU without"):
        prune(nn.ReLU(), sparsity=0.5)
