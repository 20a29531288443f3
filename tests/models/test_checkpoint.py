"""Checkpoints as people have them: every wrapper and prefix, every kind of damage, and pickles that would run code."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from cases import same_bits
from sparsify.errors import CorruptError, InputOutputError, SparsifyError, UsageError
from sparsify.models.checkpoint import load_into, read_state


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(1, 3, 3), norm=nn.BatchNorm2d(3), flat=nn.Flatten(), output=nn.Linear(12, 2))
    )


STATE = network(1).state_dict()


class Runs:
    """Runs a command when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth", "legacy.pt", "misnamed.pt"])
def test_every_format_gives_the_same_bits(tmp_path, name):
    path = tmp_path / name
    if name in ("a.safetensors", "misnamed.pt"):
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=name != "legacy.pt")
    state = read_state(path)
    assert same_bits(state, STATE)
    module = network()
    load_into(module, state, "x")
    assert same_bits(module.state_dict(), STATE)


AVERAGED = {key: value + 1 for key, value in STATE.items()}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"state_dict": STATE, "epoch": 3}, STATE),
        ({"model_state_dict": STATE, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.1}]}}, STATE),
        ({"model": STATE, "model_ema": AVERAGED}, STATE),
        ({"model_ema": AVERAGED, "model": STATE, "optimizer": {"state": {0: {"momentum": torch.ones(2)}}}}, STATE),
        ({"net": STATE, "acc": 91.5}, STATE),
        ({"model": {"state_dict": STATE}}, STATE),
        ({"model_ema": AVERAGED, "epoch": 1}, AVERAGED),
        ({"state_dict_ema": AVERAGED}, AVERAGED),
        ({**STATE, "epoch": 4}, STATE),
        ({key: nn.Parameter(value) if value.is_floating_point() else value for key, value in STATE.items()}, STATE),
    ],
    ids=["lightning", "tutorial", "model-first", "ema-first", "net", "nested", "ema", "state-ema", "mixed", "params"],
)
def test_the_state_is_found_among_other_things(tmp_path, value, expected):
    torch.save(value, tmp_path / "a.pt")
    assert same_bits(read_state(tmp_path / "a.pt"), dict(expected))


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "net.", "module._orig_mod.", "_orig_mod.module.", "model.module."]
)
def test_prefixes_that_wrappers_leave_are_taken_off(prefix):
    module = network()
    load_into(module, {prefix + key: value for key, value in STATE.items()}, "x")
    assert same_bits(module.state_dict(), STATE)


def test_the_wrappers_of_torch_itself_leave_such_prefixes():
    parallel = nn.DataParallel(network(1))
    compiled = torch.compile(network(1), backend="eager")
    for wrapped in (parallel, compiled):
        module = network()
        load_into(module, wrapped.state_dict(), "x")
        assert same_bits(module.state_dict(), STATE)


def test_a_layer_compiled_by_itself_is_understood():
    module = network()
    load_into(module, {key.replace("conv.", "conv._orig_mod."): value for key, value in STATE.items()}, "x")
    assert same_bits(module.state_dict(), STATE)


def test_a_prefix_that_is_the_modules_own_stays():
    wrapper = nn.Sequential(OrderedDict(model=network()))
    load_into(wrapper, {f"model.{key}": value for key, value in STATE.items()}, "x")
    assert same_bits(wrapper[0].state_dict(), STATE)


def test_a_prefix_is_not_taken_off_where_keys_would_still_not_fit():
    state = {f"model.{key}": value for key, value in STATE.items()} | {"loss.weight": torch.ones(2)}
    module = network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(UsageError) as refusal:
        load_into(module, state, "net.pt")
    assert same_bits(module.state_dict(), before)
    lacking = [key for key in STATE if key != "norm.num_batches_tracked"]
    assert f"8 missing ({', '.join(lacking)}); 10 unexpected (" in str(refusal.value)  # each of them, however many
    assert "; without `model.`: 0 missing, 1 unexpected (loss.weight); save the network's own keys" in str(
        refusal.value
    )
    state = {key: value for key, value in state.items() if key != "model.conv.bias"}
    with pytest.raises(UsageError, match=r"; without `model.`: 1 missing \(conv.bias\); 1 unexpected \(loss.weight\);"):
        load_into(module, state, "net.pt")


def test_a_prefix_without_which_no_more_would_fit_is_not_spoken_of():
    state = {f"model.{key}.other": value for key, value in STATE.items()} | {"loss.weight": torch.ones(2)}
    with pytest.raises(UsageError, match=r"; is it the checkpoint of another architecture"):
        load_into(network(), state, "net.pt")


def test_missing_unexpected_and_misshapen_keys_are_each_listed():
    state = dict(STATE) | {"output.weight": torch.ones(5, 12), "extra": torch.ones(1)}
    del state["conv.bias"]
    with pytest.raises(UsageError) as refusal:
        load_into(network(), state, "net.pt")
    assert str(refusal.value) == (
        "net.pt: expected the 9 tensors of this Sequential, got 9 that do not fit: 1 missing (conv.bias); 1 unexpected "
        "(extra); 1 misshapen (output.weight: expected (2, 12), got (5, 12)); is it the checkpoint of another "
        "architecture, or of another number of classes?"
    )


def test_whole_numbers_for_weights_are_misshapen_too():
    with pytest.raises(UsageError, match=r"1 misshapen \(conv\.weight: expected torch\.float32, got torch\.int8\)"):
        load_into(network(), dict(STATE) | {"conv.weight": torch.ones(3, 1, 3, 3, dtype=torch.int8)}, "net.pt")


def test_half_precision_is_widened_and_batch_counts_may_lack():
    state = {key: value.half() if value.is_floating_point() else value for key, value in STATE.items()}
    del state["norm.num_batches_tracked"]
    module = network()
    load_into(module, state, "x")
    assert module.conv.weight.dtype == torch.float32
    assert torch.equal(module.conv.weight, STATE["conv.weight"].half().float())


@pytest.mark.parametrize("kept", ["first.weight", "second.weight"])
def test_one_copy_of_tied_weights_is_enough(kept):
    def tied() -> nn.Sequential:
        module = nn.Sequential(OrderedDict(first=nn.Linear(3, 3, bias=False), second=nn.Linear(3, 3, bias=False)))
        module.second.weight = module.first.weight
        return module

    module = tied()
    load_into(module, {kept: torch.arange(9.0).view(3, 3)}, "x")
    assert module.second.weight is module.first.weight
    assert torch.equal(module.first.weight, torch.arange(9.0).view(3, 3))


@pytest.mark.parametrize("form", ["zip", "legacy", "protocol-2", "protocol-4", "nested"])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_not_run(tmp_path, form):
    path, marker = tmp_path / "evil.pt", tmp_path / "ran"
    value = {"state_dict": STATE, "extra": Runs(marker)}
    match form:
        case "zip" | "legacy":
            torch.save(value, path, _use_new_zipfile_serialization=form == "zip")
        case "nested":
            torch.save({"model": {"deep": [Runs(marker)], **STATE}}, path)
        case _:
            path.write_bytes(pickle.dumps({"a": Runs(marker)}, protocol=int(form[-1])))
    with pytest.raises(CorruptError, match=r"evil\.pt: .*would run code: it names posix\.system") as refusal:
        read_state(path)
    assert refusal.value.exit_code == 7
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (network(), "torch.nn.modules"),
        ({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        ({"state_dict": STATE, "best": np.float64(1.5)}, "numpy"),
    ],
    ids=["a whole module", "arguments", "a NumPy number"],
)
def test_what_needs_a_class_to_be_built_is_refused_by_name(tmp_path, value, name):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(CorruptError, match=rf"it names {name}.*, so it is refused; where you trust it"):
        read_state(tmp_path / "a.pt")


def test_torchscript_is_code(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version", "code/x.py"):
            archive.writestr(f"a/{name}", "3\n")
    with pytest.raises(CorruptError, match="got a TorchScript archive, which is code"):
        read_state(tmp_path / "a.pt")


def damaged(form: str, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=form != "cut-legacy")
    whole = buffer.getvalue()
    if form == "tar":
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo("storages"))
        return
    if form == "other-zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        return
    contents = {
        "empty": b"",
        "garbage": bytes(range(256)) * 8,
        "page": b"<html>not found</html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "cut": whole[: len(whole) // 2],
        "cut-legacy": whole[:-7],
        "safetensors": b"\x10\0\0\0\0\0\0\0{not json at all",
    }
    path.write_bytes(contents[form])


@pytest.mark.parametrize(
    "form", ["empty", "garbage", "page", "pointer", "cut", "cut-legacy", "tar", "other-zip", "safetensors"]
)
def test_damaged_and_other_files_are_refused(tmp_path, form):
    damaged(form, tmp_path / "a.pt")
    with pytest.raises(CorruptError, match=r"a\.pt: expected"):
        read_state(tmp_path / "a.pt")


def test_a_file_that_is_cut_short_before_the_place_its_reader_seeks_is_damaged_too(tmp_path):
    torch.save({"weight": torch.ones(20_000)}, tmp_path / "whole.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    with pytest.raises(CorruptError, match=r"a\.pt: expected a whole checkpoint, got one that is cut short"):
        read_state(tmp_path / "a.pt")


@settings(max_examples=300)
@given(legacy=st.booleans(), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_whatever_happened_to_the_bytes_the_answer_is_a_state_or_one_of_our_errors(
    tmp_path_factory, legacy, place, bit, cut
):
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=not legacy)
    data = bytearray(buffer.getvalue())
    at = int(place * len(data))
    data[at] ^= 1 << bit
    path = tmp_path_factory.mktemp("flip") / "a.pt"
    path.write_bytes(bytes(data[:at]) if cut else bytes(data))
    try:
        state = read_state(path)
    except SparsifyError:
        return
    assert all(isinstance(value, torch.Tensor) for value in state.values())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "expected a state dict, got list"),
        (torch.ones(2), "expected a state dict, got Tensor"),
        ({"generator": STATE, "critic": STATE}, "got keys generator, critic; save"),
        ({str(i): i for i in range(20)}, "got keys 0, 1, 2, 3, 4, 5, 6, 7 and more"),
    ],
)
def test_a_file_without_a_state_says_what_it_holds(tmp_path, value, says):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(UsageError, match=says):
        read_state(tmp_path / "a.pt")


def test_an_absent_file_is_an_input_error(tmp_path):
    with pytest.raises(InputOutputError, match=r"none\.pt: expected a checkpoint, got: No such file"):
        read_state(tmp_path / "none.pt")
    with pytest.raises(InputOutputError, match="expected a checkpoint, got: Is a directory"):
        read_state(tmp_path)
