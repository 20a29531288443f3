"""The catalogue answers without torch, and refuses what cannot be built with the way to mend it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.models.catalogue import MODELS, check_fit, check_model, mlp_widths


def test_catalogue_is_torch_free():
    code = "import sys, sparsify.models.catalogue; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_entry_names_its_paper_in_one_line():
    for name, entry in MODELS.items():
        assert entry.name == name
        assert entry.source and "\n" not in entry.summary


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mlp"] + ["mlp:784-512-10", "mlp:4-2"])
def test_known_names_pass(name):
    check_model(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lenet-300", "did you mean lenet-300-100"),
        ("ResNet-20", "did you mean resnet-20"),
        ("resnet20", "did you mean resnet-20"),
        ("zzzzzz", "known are lenet-300-100"),
        ("mlp", "mlp:784-512-10, got 'mlp'"),
        ("mlp:784", "mlp:784-512-10, got 'mlp:784'"),
        ("mlp:784-0-10", "mlp:784-512-10, got 'mlp:784-0-10'"),
        ("mlp:784-x-10", "mlp:784-512-10, got"),
        ("mlp:784-10\n", "mlp:784-512-10, got"),
        ("", "expected a model's name"),
    ],
)
def test_unknown_names_are_refused_with_a_mend(name, says):
    with pytest.raises(ValueError, match="expected") as refusal:
        check_model(name)
    assert says in str(refusal.value)


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=6))
def test_mlp_widths_are_read_as_written(widths):
    assert mlp_widths("mlp:" + "-".join(map(str, widths))) == tuple(widths)


@given(st.text(max_size=12))
def test_any_text_is_accepted_or_refused_as_a_value(text):
    try:
        check_model(text)
    except ValueError as error:
        assert "expected" in str(error)
    else:
        assert text in MODELS or text.startswith("mlp:")


def test_mlp_that_does_not_fit_is_told_what_to_write():
    with pytest.raises(ValueError, match=r"1x28x28 = 784 inputs and 10 classes; write mlp:784-50-10$"):
        check_fit("mlp:64-50-9", (1, 28, 28), 10)
    check_fit("mlp:784-50-10", (1, 28, 28), 10)


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("lenet-5", (1, 8, 8), "at least 16x16"),
        ("conv-6", (3, 32, 7), "at least 8x8"),
        ("mobilenet-v2", (4, 32, 32), "1 or 3 channels"),
        ("resnet-20", (3, 0, 32), "at least 1x1x1"),
    ],
)
def test_images_too_small_are_refused(name, shape, says):
    with pytest.raises(ValueError, match=says):
        check_fit(name, shape, 10)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="2 classes"):
        check_fit("conv-2", (3, 32, 32), 1)
