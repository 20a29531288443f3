from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from cases import MemoryKeeper, Search, stopped, tiny_data, tiny_recipe
from sparsify.lottery.network import Network
from sparsify.lottery.ticket import Ticket, save_ticket
from sparsify.masks.mask import Mask, chance_iou
from sparsify.masks.unstructured import keep_like
from sparsify.probes.perturb_rest import ArmSpec, arm_start, arms, conclude, measure
from sparsify.probes.probe import Arm, ProbedTicket
from sparsify.probes.registry import PROBES
from sparsify.recipe.spec import PerturbRestSpec, SgdSpec
from sparsify.seeds import derive_seed
from sparsify.train.history import History
from sparsify.train.keeper import Keeper, NoKeeper
from sparsify.train.loop import fit

LEVEL = 2
SPEC = PerturbRestSpec(levels=(LEVEL,), redraws=2, scales=(0.0, 0.1, 1.0, 10.0))
DRAWN = ("ceiling", "rest-redrawn", "random-kept", "values-shuffled")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return Search(tmp_path_factory.mktemp("search"), tiny_recipe(prune={"levels": LEVEL, "prune_fraction": 0.5}))


def probed(search: Search, level: int = LEVEL) -> ProbedTicket:
    spec = search.spec(level)
    return ProbedTicket(level, spec.replicate, f"replicate_{spec.replicate}/level_{level:02d}", spec)


def planned(search: Search, spec: PerturbRestSpec = SPEC, seed: int = 0) -> dict[str, ArmSpec]:
    found = {arm.path: arm.spec for arm in arms(spec, [probed(search)], seed)}
    assert all(isinstance(arm, ArmSpec) for arm in found.values())
    return found  # type: ignore[return-value]


def run(search: Search, spec: ArmSpec, out: Path, keeper: Keeper | None = None) -> dict[str, Any]:
    parents = {"ticket": search.ticket(LEVEL).folder, "dense": search.ticket().folder}
    out.mkdir(parents=True, exist_ok=True)
    measure(spec.model_dump(mode="json"), search.data, parents, out, keeper or NoKeeper())
    return json.loads((out / "arm.json").read_text())


# Planning


def test_the_plan_is_made_without_torch():
    code = "import sys, sparsify.probes.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert PROBES["perturb-rest"].arms is arms


def test_each_ticket_has_every_arm_and_those_that_draw_as_often_as_asked(tmp_path: Path):
    tickets = [
        probed(Search(tmp_path, tiny_recipe(), replicate=replicate), level) for replicate in (0, 1) for level in (1, 2)
    ]
    plan = arms(SPEC, tickets, 0)
    expected = {"original", "rest-scaled-0", "rest-scaled-0.1", "rest-scaled-10"}
    expected |= {f"{name}_{draw}" for name in DRAWN for draw in (0, 1)}
    assert {arm.path for arm in plan} == {f"{t.label}/{name}" for t in tickets for name in expected}
    assert len(plan) == len(tickets) * len(expected)
    assert all(arm.path.startswith(arm.ticket.label) for arm in plan)


def test_scales_that_print_alike_have_folders_of_their_own_and_equal_ones_are_trained_once(search: Search):
    scales = (0.1234567, 0.1234568, 0.5, 0.5, 1.0, 1e-7)
    paths = [arm.path for arm in arms(SPEC.model_copy(update={"scales": scales}), [probed(search)], 0)]
    names = [path.rpartition("/")[2] for path in paths if "scaled" in path]
    assert names == [
        "rest-scaled-0.1234567",
        "rest-scaled-0.1234568",
        "rest-scaled-0.5",
        "rest-scaled-1e-07",
    ]


def test_arms_that_redraw_meet_the_same_redrawn_network_and_draws_differ(tmp_path: Path):
    plans: list[Arm] = []
    for seed, replicate, level in itertools.product((0, 1), (0, 1), (1, 2)):
        plans += arms(SPEC, [probed(Search(tmp_path, tiny_recipe(), replicate=replicate), level)], seed)
    seeds: dict[tuple[str, int], set[int]] = {}
    for place, arm in enumerate(plans):
        where = f"{place // 12}"  # one ticket under one root seed: 12 arms
        if isinstance(arm.spec, ArmSpec) and arm.spec.arm in DRAWN:
            seeds.setdefault((where, arm.spec.draw), set()).add(arm.spec.draw_seed)
    assert len(seeds) == 16
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == 16


def test_only_the_ceiling_has_a_data_order_of_its_own(search: Search):
    order = search.spec().order_seed
    specs = planned(search).values()
    assert all(spec.order_seed == order for spec in specs if spec.arm != "ceiling")
    ceilings = {spec.order_seed for spec in specs if spec.arm == "ceiling"}
    assert len(ceilings) == 2
    assert order not in ceilings


# What an arm starts from


def start(search: Search, name: str) -> tuple[dict[str, Tensor], Mask]:
    spec = planned(search)[f"{probed(search).label}/{name}"]
    return arm_start(spec, search.ticket(LEVEL).mask, search.ticket())


def elements(search: Search, name: str) -> Iterator[tuple[float, float, bool, bool]]:
    """(start, original, in the ticket, in the kept set) of every prunable weight."""
    weights, kept = start(search, name)
    original, mask = search.ticket().rewind_weights, search.ticket(LEVEL).mask
    assert set(weights) == set(original)
    for key in original:
        if key in mask:
            columns = (weights[key], original[key], mask[key], kept[key])
            yield from zip(*(column.flatten().tolist() for column in columns), strict=True)
        else:
            assert torch.equal(weights[key], original[key])


def redrawn(search: Search, draw: int) -> dict[str, Tensor]:
    seed = derive_seed(derive_seed(0, "perturb-rest", probed(search).label, draw), "rest")
    return search.ticket().network.build(seed=seed).state_dict()


@pytest.mark.parametrize("name", ["original", "ceiling_0", "ceiling_1"])
def test_original_and_ceiling_start_from_the_dense_network(search: Search, name: str):
    assert all(now == before and kept == ticket for now, before, ticket, kept in elements(search, name))


@pytest.mark.parametrize("scale", [0.0, 0.1, 10.0])
def test_scaling_touches_the_rest_alone(search: Search, scale: float):
    for now, before, ticket, kept in elements(search, f"rest-scaled-{scale:g}"):
        assert kept == ticket
        assert now == (before if ticket else pytest.approx(before * scale, rel=1e-6))


@pytest.mark.parametrize("draw", [0, 1])
def test_the_ticket_is_kept_and_the_rest_redrawn(search: Search, draw: int):
    fresh, mask = redrawn(search, draw), search.ticket(LEVEL).mask
    new = torch.cat([fresh[key].flatten() for key in mask]).tolist()
    for (now, before, ticket, kept), other in zip(elements(search, f"rest-redrawn_{draw}"), new, strict=True):
        assert kept == ticket
        assert now == (before if ticket else other)
        assert before != other


@pytest.mark.parametrize("draw", [0, 1])
def test_a_random_set_of_the_same_counts_is_kept_and_the_rest_redrawn(search: Search, draw: int):
    fresh, mask = redrawn(search, draw), search.ticket(LEVEL).mask
    new = torch.cat([fresh[key].flatten() for key in mask]).tolist()
    for (now, before, _, kept), other in zip(elements(search, f"random-kept_{draw}"), new, strict=True):
        assert now == (before if kept else other)
    _, kept_set = start(search, f"random-kept_{draw}")
    assert kept_set.layer_kept == mask.layer_kept
    assert kept_set != mask
    assert kept_set != start(search, f"random-kept_{1 - draw}")[1]


@pytest.mark.parametrize("draw", [0, 1])
def test_the_tickets_values_are_shuffled_within_its_positions_and_the_rest_redrawn(search: Search, draw: int):
    fresh, mask = redrawn(search, draw), search.ticket(LEVEL).mask
    original = search.ticket().rewind_weights
    weights, kept = start(search, f"values-shuffled_{draw}")
    assert kept == mask
    for key in mask:
        inside = mask[key]
        assert torch.equal(weights[key][~inside], fresh[key][~inside])
        assert sorted(weights[key][inside].tolist()) == sorted(original[key][inside].tolist())
        assert not torch.equal(weights[key][inside], original[key][inside])


# Measuring


def test_the_original_arm_is_the_dense_training_bit_for_bit(search: Search, tmp_path: Path):
    values = run(search, planned(search)[f"{probed(search).label}/original"], tmp_path)
    dense, ticket = search.ticket(), search.ticket(LEVEL)
    assert (tmp_path / "history.json").read_bytes() == (dense.folder / "history.json").read_bytes()
    assert values["accuracy"] == dense.history["final_accuracy"]
    assert values["early_stop_step"] == dense.history["early_stop_step"]
    # The share of the ticket among the dense network's largest weights, layer by layer.
    both = either = 0
    for key, inside in ticket.mask.items():
        size = dense.trained_weights[key].abs().flatten().tolist()
        largest = set(sorted(range(len(size)), key=lambda i: -size[i])[: int(inside.sum())])
        members = set(inside.flatten().nonzero().flatten().tolist())
        both, either = both + len(largest & members), either + len(largest | members)
    assert values["iou"] == values["iou_kept"] == both / either
    assert values["iou_chance"] == chance_iou(ticket.mask, ticket.mask)


@pytest.mark.parametrize("name", ["rest-redrawn_0", "random-kept_1", "rest-scaled-10", "ceiling_0"])
def test_what_is_measured_is_that_of_a_training_by_hand(search: Search, tmp_path: Path, name: str):
    spec = planned(search)[f"{probed(search).label}/{name}"]
    values = run(search, spec, tmp_path)
    weights, kept = start(search, name)
    ticket, data = search.ticket(LEVEL), search.data
    model = ticket.network.build(weights=weights)
    trained = fit(model, data, spec.training.train, seed=spec.order_seed)
    final = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}

    def accuracy(state: dict[str, Tensor]) -> float:
        model.load_state_dict(state)
        with torch.no_grad():
            return float((model(data.validation.images).argmax(1) == data.validation.labels).float().mean())

    def with_only(inside: Callable[[str], Tensor]) -> dict[str, Tensor]:
        return {key: final[key] * inside(key) if key in ticket.mask else final[key] for key in final}

    found = keep_like(ticket.mask, {key: final[key].abs() for key in ticket.mask}, overrides={}, scope="per-layer")
    assert values["arm"] == name.partition("_")[0]
    assert values["accuracy"] == trained.history.validation_accuracy[-1] == pytest.approx(accuracy(final))
    assert values["ticket_weights_alone_accuracy"] == pytest.approx(accuracy(with_only(lambda key: ticket.mask[key])))
    assert values["rest_alone_accuracy"] == pytest.approx(accuracy(with_only(lambda key: ~ticket.mask[key])))
    for figure, with_mask in (("iou", ticket.mask), ("iou_kept", kept)):
        both = sum(int((found[key] & with_mask[key]).sum()) for key in found)
        assert values[figure] == both / (found.kept + with_mask.kept - both)


@pytest.mark.parametrize("rewind", ["5it", "learning-rate"])
def test_an_arm_trains_from_the_rewind_point_on(tmp_path: Path, rewind: str):
    recipe = tiny_recipe(prune={"levels": LEVEL, "rewind": rewind})
    later = Search(tmp_path / "search", recipe)
    run(later, planned(later)[f"{probed(later).label}/original"], tmp_path / "arm")
    history = json.loads((tmp_path / "arm" / "history.json").read_text())
    assert history["step"] == ([8, 12] if rewind == "5it" else [4, 8, 12])


@pytest.mark.parametrize("stop", [1, 7, 12])
def test_an_arm_stopped_and_resumed_writes_the_same_bytes(search: Search, tmp_path: Path, stop: int):
    spec = planned(search)[f"{probed(search).label}/values-shuffled_1"]
    run(search, spec, tmp_path / "whole")
    keeper = stopped(lambda k: run(search, spec, tmp_path / "broken", k), MemoryKeeper(stop))
    assert list((tmp_path / "broken").iterdir()) == []
    run(search, spec, tmp_path / "broken", keeper)
    for file in ("arm.json", "history.json"):
        assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


# Concluding

Given = dict[str, list[float]]  # arm -> IoU of each draw


def folders(root: Path, given: dict[str, Given]) -> dict[str, Path]:
    """Folders of arms as `measure` would leave them, for tickets by label, and of the tickets themselves."""
    found: dict[str, Path] = {}
    for label, by_arm in given.items():
        for arm, ious in by_arm.items():
            for draw, iou in enumerate(ious):
                role = f"{label}/{arm}_{draw}"
                values = {"arm": arm, "draw": draw, "accuracy": 0.9, "early_stop_step": 10 + draw, "iou": iou}
                values |= {"iou_kept": iou, "iou_chance": 0.1, "early_stop_accuracy": 0.8}
                values |= {"ticket_weights_alone_accuracy": 0.5, "rest_alone_accuracy": 0.2}
                found[role] = written(root / role, "arm.json", values)
        history = History([4, 8], [1.0, 0.5], [0.6, 0.7], [0.7, 0.75])
        role = f"{label}/ticket-alone"
        found[role] = written(root / role, "history.json", history.to_json())
    return found


def written(folder: Path, name: str, values: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(values))
    return folder


def tickets(level: int, case: dict[str, float], count: int = 5) -> dict[str, Given]:
    """`count` tickets whose IoUs lie a little around the given ones."""
    spread = [0.01 * (i - (count - 1) / 2) / count for i in range(count)]
    return {
        f"replicate_{i}/level_{level:02d}": {
            "rest-redrawn": [case["kept"] + s, case["kept"] - s / 2],
            "ceiling": [case["ceiling"] - s, case["ceiling"] + s / 2],
            "random-kept": [case["random"] + s, case["random"]],
        }
        for i, s in enumerate(spread)
    }


VERDICTS = {
    "survives": {"kept": 0.6, "ceiling": 0.65, "random": 0.1},
    "fails": {"kept": 0.12, "ceiling": 0.65, "random": 0.1},
    "undecided": {"kept": 0.35, "ceiling": 0.65, "random": 0.1},
}


@pytest.mark.parametrize("word", VERDICTS)
def test_the_verdict_is_that_of_the_rule(tmp_path: Path, word: str):
    result = conclude(SPEC.model_dump(mode="json"), folders(tmp_path, tickets(LEVEL, VERDICTS[word])))
    whole = result["all_levels"]
    assert whole["verdict"] == word
    assert whole["tickets"] == 5
    assert result["levels"] == {"level_02": whole}
    case = VERDICTS[word]
    assert whole["kept_over_ceiling"]["estimate"] == pytest.approx(case["kept"] / case["ceiling"], abs=0.01)
    assert whole["kept_minus_random"]["estimate"] == pytest.approx(case["kept"] - case["random"], abs=0.01)
    assert whole["reason"]
    assert "fall short of the protocol" in whole["caveat"]
    assert "accuracy alone cannot show" in result["note"].lower()


def test_levels_are_judged_apart_and_never_together(tmp_path: Path):
    given = tickets(1, VERDICTS["survives"]) | tickets(2, VERDICTS["fails"]) | tickets(3, VERDICTS["survives"])
    spec = PerturbRestSpec(levels=(1, 2, 3), redraws=2)
    result = conclude(spec.model_dump(mode="json"), folders(tmp_path, given))
    assert {name: level["verdict"] for name, level in result["levels"].items()} == {
        "level_01": "survives",
        "level_02": "fails",
        "level_03": "survives",
    }
    assert result["all_levels"] == {}  # tickets of one replicate are nested: not independent


def test_four_tickets_decide_nothing(tmp_path: Path):
    given = tickets(LEVEL, VERDICTS["survives"], count=4)
    result = conclude(SPEC.model_dump(mode="json"), folders(tmp_path, given))
    assert result["all_levels"]["verdict"] == "undecided"


def test_figures_are_means_over_tickets_of_means_over_draws(tmp_path: Path):
    given: dict[str, Given] = {
        f"replicate_{i}/level_02": {
            "rest-redrawn": [0.1 * i, 0.2, 0.3],
            "ceiling": [0.8],
            "random-kept": [0.1],
            "original": [0.9],
        }
        for i in range(3)
    }
    result = conclude(SPEC.model_dump(mode="json"), folders(tmp_path, given))
    figures = result["all_levels"]["arms"]
    expected = sum((0.1 * i + 0.2 + 0.3) / 3 for i in range(3)) / 3
    assert figures["rest-redrawn"]["iou"]["estimate"] == pytest.approx(expected)
    assert figures["rest-redrawn"]["iou"]["n"] == 3
    assert figures["rest-redrawn"]["early_stop_step"]["estimate"] == pytest.approx(11)
    assert figures["original"]["iou"]["estimate"] == pytest.approx(0.9)
    assert figures["ticket-alone"]["accuracy"]["estimate"] == 0.75
    assert figures["ticket-alone"]["early_stop_step"]["estimate"] == 4
    assert "rest_alone_accuracy" not in figures["ticket-alone"]  # there is no rest
    assert len(result["rows"]) == 3 * 7
    assert {(row["replicate"], row["level"]) for row in result["rows"]} == {(0, 2), (1, 2), (2, 2)}
    json.dumps(result, allow_nan=False)


# From weights to verdict, where the answer is known


@pytest.mark.parametrize(("size", "word"), [(100.0, "survives"), (0.01, "fails")])
def test_a_planted_answer_is_found(tmp_path: Path, size: float, word: str):
    """Training that hardly moves: what is large stays large, so that the sizes planted at the start decide.

    A dense network a hundred times as large as one freshly drawn: its ticket towers over any rest that is redrawn.
    One a hundred times smaller: the redrawn rest towers over the ticket, which a new data order leaves where it is.
    """
    spec = PerturbRestSpec(levels=(1,), redraws=1, scales=(1.0,))
    train = {"steps": "1it", "batch_size": 16, "optimizer": {"name": "sgd", "lr": 1e-9}}
    recipe = tiny_recipe(train=train, prune={"levels": 1})
    results: dict[str, Path] = {}
    for replicate in range(5):
        search = Search(tmp_path, recipe, replicate=replicate)
        parents = planted(search, tmp_path / f"planted_{replicate}", size)
        ticket = probed(search, 1)
        results[f"{ticket.label}/ticket-alone"] = parents["ticket"]
        for arm in arms(spec, [ticket], 0):
            out = results[arm.path] = tmp_path / "arms" / arm.path
            out.mkdir(parents=True)
            measure(arm.spec.model_dump(mode="json"), search.data, parents, out, NoKeeper())
    result = conclude(spec.model_dump(mode="json"), results)["all_levels"]
    assert result["verdict"] == word
    assert result["arms"]["ceiling"]["iou"]["estimate"] > 0.99
    assert result["arms"]["original"]["iou"]["estimate"] > 0.99
    chance = result["arms"]["random-kept"]["iou_chance"]["estimate"]
    assert result["arms"]["random-kept"]["iou"]["estimate"] < chance + 0.1


def planted(search: Search, root: Path, size: float) -> dict[str, Path]:
    """A dense network `size` times as large as a fresh one, and as its ticket the fifth of its weights largest."""
    data = tiny_data()
    network = Network(search.recipe.model, data.input_shape, data.classes)
    module = network.build(seed=search.spec().init_seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(size)
    weights = module.state_dict()
    names = [name for name in weights if name.endswith("weight")]
    fifth = Mask({name: torch.arange(weights[name].numel()).view_as(weights[name]) % 5 == 0 for name in names})
    mask = keep_like(fifth, {name: weights[name].abs() for name in names}, overrides={}, scope="per-layer")
    history = History([1], [1.0], [1.0], [0.5])
    for role, kept in (("dense", Mask.dense(module, tuple(names))), ("ticket", mask)):
        (root / role).mkdir(parents=True)
        save_ticket(root / role, network=network, mask=kept, rewind=weights, trained=module, history=history)
    return {role: root / role for role in ("dense", "ticket")}


def test_the_tickets_own_files_are_only_read(search: Search, tmp_path: Path):
    folder = search.ticket(LEVEL).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(search, planned(search)[f"{probed(search).label}/rest-redrawn_0"], tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert Ticket(folder).mask == search.ticket(LEVEL).mask


def test_an_arm_that_diverges_is_an_outcome(search: Search, tmp_path: Path):
    spec = planned(search)[f"{probed(search).label}/rest-scaled-10"]
    train = spec.training.train.model_copy(update={"optimizer": SgdSpec(lr=1e30)})
    row = run(search, spec.model_copy(update={"training": spec.training.model_copy(update={"train": train})}), tmp_path)
    assert row["arm"] == "rest-scaled-10" and "diverged at step" in row["diverged"] and "iou" not in row


def test_what_diverged_is_counted_and_its_ticket_left_out(tmp_path: Path):
    ious = {"rest-redrawn": [0.5, 0.5], "ceiling": [0.6, 0.6], "random-kept": [0.1, 0.1]}
    found = folders(tmp_path, {f"replicate_{i}/level_02": ious for i in range(6)})
    for draw in range(2):
        arm = {"arm": "ceiling", "draw": draw, "diverged": "at step 3"}
        (tmp_path / f"replicate_0/level_02/ceiling_{draw}/arm.json").write_text(json.dumps(arm))
    judged = conclude({"levels": [2]}, found)["levels"]["level_02"]
    assert judged["tickets"] == 5 and "2 draws diverged" in judged["caveat"]
    share = judged["arms"]["ceiling"]["diverged_share"]
    assert share["estimate"] == pytest.approx(2 / 12)
    assert (share["ci_low"], share["ci_high"]) == pytest.approx(binomtest(2, 12).proportion_ci()[:2])
