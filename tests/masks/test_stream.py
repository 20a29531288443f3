from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.masks import stream_layer, stream_threshold
from sparsify.masks.select import select
from sparsify.masks.stream import LayerReport, prune_file
from sparsify.recipe.pattern import Pattern
from sparsify.store import tensor_file
from sparsify.store.weights import read_tensors, save_tensors

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
UNSTRUCTURED = Pattern.parse("unstructured")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch):
    """Pieces and samples so small that every tensor here takes many of them."""
    monkeypatch.setattr(tensor_file, "_PIECE", 512)
    monkeypatch.setattr(stream_threshold, "_SAMPLE", 256)
    monkeypatch.setattr(stream_layer, "_NEIGHBOURS", 8)


def weights(kinds: list[str], *, step: float | None = None, seed: int = 0) -> dict[str, Tensor]:
    """A small network; with `step`, weights are whole multiples of it, so that many are tied."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"z.conv.weight": (8, 4, 3, 3), "a.hidden.weight": (24, 40), "m.out.weight": (10, 24)}
    tensors: dict[str, Tensor] = {}
    for (name, shape), kind in zip(shapes.items(), kinds, strict=True):
        drawn = torch.randn(shape, generator=generator)
        tensors[name] = (drawn if step is None else (drawn / step).round() * step).to(DTYPES[kind])
    rest = {"a.hidden.bias": torch.randn(24, generator=generator), "steps": torch.arange(6).view(2, 3)}
    return tensors | rest | {"bias.nan": torch.tensor([float("nan"), -0.0])}


def bits_of(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def expected(tensors: dict[str, Tensor], mask: dict[str, Tensor]) -> dict[str, bytes]:
    zero = {name: tensor.masked_fill(~mask[name], 0.0) if name in mask else tensor for name, tensor in tensors.items()}
    return {name: bits_of(tensor) for name, tensor in zero.items()}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.one_of(*(st.just([kind] * 3) for kind in DTYPES), st.permutations(list(DTYPES))),
    step=st.sampled_from([None, 0.5, 2.0]),
    pattern=st.sampled_from(["unstructured", "2:4", "1:4", "block:4x1", "block:2x4", "block:8x2"]),
    allocation=st.sampled_from(["global", "uniform", "erk"]),
    sparsity=st.integers(0, 99).map(lambda percent: percent / 100),
    overrides=st.sampled_from([{}, {"m.*": 0.0}, {"*.hidden.*": 0.5, "m.out.weight": 0.0}]),
    seed=st.integers(0, 9),
)
def test_the_file_is_pruned_as_its_absolute_values_would_be_in_memory(
    tmp_path: Path,
    kinds: list[str],
    step: float | None,
    pattern: str,
    allocation: str,
    sparsity: float,
    overrides: dict[str, float],
    seed: int,
):
    parsed = Pattern.parse(pattern)
    asked = parsed.sparsity or sparsity
    overrides = {glob: number and (parsed.sparsity or number) for glob, number in overrides.items()}
    tensors = weights(kinds, step=step, seed=seed)
    save_file(tensors, tmp_path / "in", metadata={"format": "pt", "note": "é"})
    report = prune_file(
        tmp_path / "in",
        tmp_path / "out",
        pattern=parsed,
        sparsity=asked,
        allocation=allocation,
        overrides=overrides,  # type: ignore[arg-type]
    )
    scores = {name: tensor.abs() for name, tensor in tensors.items() if name.endswith(".weight")}
    selection = select(scores, pattern=parsed, sparsity=asked, allocation=allocation, overrides=overrides)  # type: ignore[arg-type]
    found = {name: bits_of(tensor) for name, tensor in load_file(tmp_path / "out").items()}
    assert found == expected(tensors, dict(selection.mask))
    with safe_open(tmp_path / "out", "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "é"}
    assert report.skipped == selection.skipped
    kept = selection.mask.layer_kept
    assert report.layers == {n: LayerReport(scores[n].numel(), kept[n]) for n in kept if n not in selection.skipped}
    total = sum(layer.total for layer in report.layers.values())
    assert report.sparsity == 1 - sum(layer.kept for layer in report.layers.values()) / max(total, 1)


def test_the_header_stays_as_it_was_byte_for_byte(tmp_path: Path):
    """Odd spaces and an odd order are somebody's; only bytes of pruned tensors change."""
    header = (
        b'{ "w":{"shape":[1,4],"data_offsets":[ 8 ,24],"dtype":"F32"},'
        b'"i":{"dtype":"I64","data_offsets":[0,8],"shape":[]}}   '
    )
    payload = np.arange(6, dtype=np.float32).tobytes()
    (tmp_path / "in").write_bytes(len(header).to_bytes(8, "little") + header + payload)
    prune_file(tmp_path / "in", tmp_path / "out", pattern=UNSTRUCTURED, sparsity=0.5)
    pruned = np.array([0, 1, 0, 0, 4, 5], dtype=np.float32).tobytes()
    assert (tmp_path / "out").read_bytes() == len(header).to_bytes(8, "little") + header + pruned


def test_a_file_can_be_pruned_in_its_place_and_again(tmp_path: Path):
    save_file(weights(["fp32"] * 3), tmp_path / "x")
    for sparsity in (0.5, 0.9):
        report = prune_file(tmp_path / "x", tmp_path / "x", pattern=UNSTRUCTURED, sparsity=sparsity)
        zeros = sum(int((t == 0).sum()) for n, t in load_file(tmp_path / "x").items() if n in report.layers)
        assert zeros == sum(layer.total - layer.kept for layer in report.layers.values())
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_checksum_of_ours_is_checked_and_made_anew(tmp_path: Path):
    tensors = {name: tensor for name, tensor in weights(["fp32", "fp32", "bf16"]).items() if name != "steps"}
    save_tensors(tmp_path / "in", tensors, {"step": "7"})
    prune_file(tmp_path / "in", tmp_path / "out", pattern=Pattern.parse("2:4"))
    found, metadata = read_tensors(tmp_path / "out", ours=True)
    mask = select({n: t.abs() for n, t in tensors.items() if t.dim() > 1}, pattern=Pattern.parse("2:4")).mask
    assert metadata == {"step": "7"}
    assert {name: bits_of(tensor) for name, tensor in found.items()} == expected(tensors, dict(mask))

    damaged = bytearray((tmp_path / "in").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "in").write_bytes(damaged)
    with pytest.raises(CorruptError, match="in: changed since it was written"):
        prune_file(tmp_path / "in", tmp_path / "out", pattern=Pattern.parse("2:4"))
    assert read_tensors(tmp_path / "out", ours=True)[1] == {"step": "7"}


def test_only_what_is_included_is_pruned(tmp_path: Path):
    tensors = weights(["fp32"] * 3)
    save_file(tensors, tmp_path / "in")
    report = prune_file(
        tmp_path / "in", tmp_path / "out", pattern=UNSTRUCTURED, sparsity=0.5, include=["m.*", "a.hidden.bias"]
    )
    assert sum(layer.kept for layer in report.layers.values()) == 132
    found = load_file(tmp_path / "out")
    changed = {name for name, tensor in tensors.items() if bits_of(tensor) != bits_of(found[name])}
    assert changed == set(report.layers) == {"a.hidden.bias", "m.out.weight"}


def test_what_cannot_be_read_is_told_and_left(tmp_path: Path):
    tensors = {"d.weight": torch.randn(4, 4, dtype=torch.float64), "f.weight": torch.randn(4, 4)}
    save_file(tensors, tmp_path / "in")
    report = prune_file(tmp_path / "in", tmp_path / "out", pattern=UNSTRUCTURED, sparsity=0.5)
    assert report.skipped == {"d.weight": "is of dtype F64: only BF16, F16, F32 are pruned in a file"}
    assert json.loads(json.dumps(report.to_json())) == {
        "sparsity": 0.5,
        "layers": {"f.weight": {"total": 16, "kept": 8}},
        "skipped": report.skipped,
    }
    assert torch.equal(load_file(tmp_path / "out")["d.weight"], tensors["d.weight"])


def test_an_input_axis_of_zero_is_grouped_along_it(tmp_path: Path):
    weight = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))
    save_file({"w": weight}, tmp_path / "in")
    for pattern in ("2:4", "block:4x1"):
        parsed = Pattern.parse(pattern)
        prune_file(tmp_path / "in", tmp_path / "out", pattern=parsed, sparsity=0.5, axes={"w": 0})
        mask = select({"w": weight.abs()}, pattern=parsed, sparsity=0.5, axes={"w": 0}).mask["w"]
        assert torch.equal(load_file(tmp_path / "out")["w"], weight * mask)


@pytest.mark.parametrize("sampled", [False, True])
def test_weights_larger_than_any_buffer_are_cut_exactly(tmp_path: Path, sampled: bool, monkeypatch: pytest.MonkeyPatch):
    """Rows of very different scale, so that what is sampled in one place misleads about another."""
    monkeypatch.setattr(stream_threshold, "_SAMPLE", 256 if sampled else 1 << 40)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(300, 700, generator=generator) * torch.logspace(-3, 3, 300)[:, None]
    save_file({"a": weight, "b": weight[:7].clone()}, tmp_path / "in")
    for sparsity in (0.001, 0.5, 0.9999):
        prune_file(tmp_path / "in", tmp_path / "out", pattern=UNSTRUCTURED, sparsity=sparsity)
        mask = select({"a": weight.abs(), "b": weight[:7].abs()}, pattern=UNSTRUCTURED, sparsity=sparsity).mask
        assert torch.equal(load_file(tmp_path / "out")["a"], weight * mask["a"])


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block:2x2"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path: Path, pattern: str, bad: float):
    tensors = weights(["fp32", "bf16", "fp16"])
    tensors["m.out.weight"][3, 3] = bad
    save_file(tensors, tmp_path / "in")
    parsed = Pattern.parse(pattern)
    with pytest.raises(UsageError, match=r"(weights|blocks) of m.out.weight: expected finite numbers, got nan or inf"):
        prune_file(tmp_path / "in", tmp_path / "out", pattern=parsed, sparsity=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    prune_file(tmp_path / "in", tmp_path / "out", pattern=parsed, sparsity=0.5, overrides={"m.*": 0.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "channel", "sparsity": 0.5}, "pattern channel: expected one that a mask can hold"),
        ({"pattern": "unstructured"}, "sparsity: expected a fraction from 0 to below 1, got None"),
        (
            {"pattern": "unstructured", "sparsity": 0.5, "overrides": {"x*": 0.1}},
            r"'x\*' matches no prunable parameter",
        ),
        (
            {"pattern": "unstructured", "sparsity": 0.5, "include": ["x*"]},
            r"include: 'x\*' matches no tensor of .*in; there",
        ),
        (
            {"pattern": "unstructured", "sparsity": 0.5, "include": ["steps"]},
            "expected weights to prune, got none among 6",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: dict[str, object], message: str):
    save_file(weights(["fp32"] * 3), tmp_path / "in")
    pattern = Pattern.parse(str(arguments.pop("pattern")))
    with pytest.raises(UsageError, match=message):
        prune_file(tmp_path / "in", tmp_path / "out", pattern=pattern, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block:4x1"])
def test_memory_is_a_fraction_of_the_file(tmp_path: Path, pattern: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    generator = torch.Generator().manual_seed(0)
    save_file({f"{i}.weight": torch.randn(1024, 2048, generator=generator) for i in range(4)}, tmp_path / "in")
    size = (tmp_path / "in").stat().st_size
    tracemalloc.start()
    try:
        prune_file(tmp_path / "in", tmp_path / "out", pattern=Pattern.parse(pattern), sparsity=0.5)
        assert tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()


def test_an_absent_source_and_a_folder_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(InputOutputError, match="absent: expected a safetensors file"):
        prune_file(tmp_path / "absent", tmp_path / "out", pattern=UNSTRUCTURED, sparsity=0.5)
    save_file(weights(["fp32"] * 3), tmp_path / "in")
    with pytest.raises(InputOutputError, match="could not be written"):
        prune_file(tmp_path / "in", tmp_path / "in" / "out", pattern=UNSTRUCTURED, sparsity=0.5)
