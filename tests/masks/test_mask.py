from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from sparsify.errors import CorruptError, UsageError
from sparsify.masks.mask import Mask, chance_iou, iou
from sparsify.store.weights import load_tensors


def mask(**layers: list[int]) -> Mask:
    return Mask({name: torch.tensor(kept, dtype=torch.bool) for name, kept in layers.items()})


bits = st.lists(st.integers(0, 1), max_size=12)
pairs = st.lists(st.integers(0, 3), max_size=12)  # two bits: kept in the first mask, kept in the second


@given(a=bits, b=bits)
def test_counts_densities_and_sparsity_follow_from_the_bits(a: list[int], b: list[int]):
    m = mask(a=a, b=b)
    assert m.layer_kept == {"a": sum(a), "b": sum(b)}
    assert (m.kept, m.total) == (sum(a + b), len(a + b))
    assert m.layer_density == {"a": sum(a) / max(len(a), 1), "b": sum(b) / max(len(b), 1)}
    assert m.density == sum(a + b) / max(len(a + b), 1)
    assert m.sparsity == 1 - m.density


@given(a=pairs, b=pairs)
def test_iou_and_subset_are_those_of_sets(a: list[int], b: list[int]):
    first, second = (mask(a=[v >> k & 1 for v in a], b=[v >> k & 1 for v in b]) for k in (0, 1))
    sets = [{i for i, v in enumerate(a + b) if v >> k & 1} for k in (0, 1)]
    union = sets[0] | sets[1]
    assert iou(first, second) == (len(sets[0] & sets[1]) / len(union) if union else 1.0)
    assert first.issubset(second) == (sets[0] <= sets[1])
    assert (first == second) == (sets[0] == sets[1])


def test_iou_refuses_masks_of_different_networks():
    with pytest.raises(UsageError, match="expected two of one network, got shapes"):
        iou(mask(a=[1, 0]), mask(a=[1, 0], b=[1]))
    with pytest.raises(UsageError, match="expected two of one network"):
        chance_iou(mask(a=[1, 0]), mask(a=[1]))
    assert not mask(a=[1]).issubset(mask(b=[1]))


def test_chance_intersection_is_the_mean_over_every_mask_of_the_same_counts():
    # All C(5, 2) x C(4, 3) masks with 2 of 5 and 3 of 4 kept, against one mask with 3 of 5 and 1 of 4 kept.
    fixed = mask(a=[1, 1, 1, 0, 0], b=[0, 0, 1, 0])
    others = [
        mask(a=[int(i in a) for i in range(5)], b=[int(i in b) for i in range(4)])
        for a in itertools.combinations(range(5), 2)
        for b in itertools.combinations(range(4), 3)
    ]
    intersections = [sum(int((fixed[n] & m[n]).sum()) for n in m) for m in others]
    mean = sum(intersections) / len(intersections)
    assert chance_iou(fixed, others[0]) == pytest.approx(mean / (4 + 5 - mean))


def test_chance_iou_of_two_random_halves_is_a_third():
    # Density d in both: d^2 / (2 d - d^2) = d / (2 - d).
    half = mask(a=[1, 0] * 500)
    assert chance_iou(half, half) == pytest.approx(1 / 3)
    generator = torch.Generator().manual_seed(0)
    drawn = [Mask({"a": torch.randperm(1000, generator=generator) < 500}) for _ in range(200)]
    mean = sum(iou(half, m) for m in drawn) / len(drawn)
    assert mean == pytest.approx(1 / 3, abs=0.005)  # standard error 0.001


def test_chance_iou_of_whole_and_of_empty_masks_is_one():
    assert chance_iou(mask(a=[1, 1]), mask(a=[1, 1])) == 1.0
    assert chance_iou(mask(a=[0, 0]), mask(a=[0, 0])) == 1.0
    assert chance_iou(mask(a=[], b=[1]), mask(a=[], b=[1])) == 1.0


def test_changing_what_went_in_or_came_out_changes_no_mask():
    tensor = torch.tensor([True, False])
    m = Mask({"a": tensor})
    tensor[0] = False
    m["a"][0] = False
    next(iter(m.values())).fill_(False)
    assert m["a"].tolist() == [True, False]
    with pytest.raises(TypeError):
        m["a"] = tensor  # type: ignore[index]


def test_masks_are_equal_by_value_and_order_of_names_does_not_matter():
    assert mask(a=[1], b=[0]) == mask(b=[0], a=[1])
    assert list(mask(b=[0], a=[1])) == ["a", "b"]
    assert mask(a=[1]) != mask(a=[0])
    assert mask(a=[1]) != {"a": torch.tensor([True])}
    with pytest.raises(TypeError, match="unhashable"):
        hash(mask(a=[1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_only_bool_tensors_are_taken(dtype: torch.dtype):
    with pytest.raises(UsageError, match=r"mask a: expected a bool tensor, got torch\.\w+; compare scores"):
        Mask({"a": torch.ones(2, dtype=dtype)})


def test_dense_keeps_every_weight_that_is_named():
    model = nn.Linear(3, 2)
    m = Mask.dense(model, ("weight",))
    assert m.layer_kept == {"weight": 6} and m.sparsity == 0


def test_apply_zeroes_exactly_what_is_removed():
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    kept = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.bool)
    Mask({"weight": kept}).apply_(model)
    assert model.weight[~kept].tolist() == [0.0] * 3
    assert not model.weight[~kept].signbit().any()
    assert torch.equal(model.weight[kept], before[kept])


def test_apply_zeroes_even_what_is_not_finite():
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[float("nan"), float("-inf")]]))
    mask(weight=[[0, 0]]).apply_(model)  # type: ignore[list-item]
    assert model.weight.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "shape", "got"), [("weight", (2, 4), r"\(2, 3\)"), ("w", (2, 3), "no such parameter")]
)
def test_apply_refuses_another_networks_mask(name: str, shape: tuple[int, int], got: str):
    model = nn.Linear(3, 2)
    with pytest.raises(UsageError, match=rf"mask {name}: expected shape .*got {got}; is it this network's mask\?"):
        Mask({name: torch.ones(shape, dtype=torch.bool)}).apply_(model)


def test_what_was_saved_is_loaded_and_the_bytes_do_not_depend_on_order(tmp_path: Path):
    m = Mask({"b": torch.rand(3, 2) < 0.5, "a": torch.rand(2, 2, 3, 3) < 0.5})
    m.save(tmp_path / "m.safetensors")
    assert Mask.load(tmp_path / "m.safetensors") == m
    Mask({"a": m["a"], "b": m["b"]}).save(tmp_path / "again.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_a_transposed_mask_is_saved_as_it_reads(tmp_path: Path):
    m = Mask({"a": (torch.arange(6).view(2, 3) % 2 == 0).T})
    m.save(tmp_path / "m")
    assert torch.equal(load_tensors(tmp_path / "m")["a"], m["a"])


def test_a_file_that_is_no_mask_is_refused(tmp_path: Path):
    save_file({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(CorruptError, match=r"weights.safetensors: expected a mask of bool tensors, got torch.float32"):
        Mask.load(tmp_path / "weights.safetensors")


def test_a_flipped_bit_is_found(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    mask(a=[1, 0, 1]).save(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"m\.safetensors"):
        Mask.load(path)
