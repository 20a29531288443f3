from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify_export.onnx_check import Input
from sparsify_export.pruning.examples import BATCH, MADE_UP, given_examples, made_up_examples

IMAGE = Input("x", np.dtype(np.float32), ("batch", 1, 4, 4))
IDS = Input("input_ids", np.dtype(np.int64), ("batch", "length"))
MASK = Input("Attention", np.dtype(np.int64), ("batch", "length"))
FIXED = Input("x", np.dtype(np.float32), (4, 3))
SCALE = Input("scale", np.dtype(np.float32), ())


def _saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_an_array_for_the_only_input_is_fed_in_batches(tmp_path: Path):
    array = np.arange(11 * 16, dtype=np.float64).reshape(11, 1, 4, 4)
    np.save(tmp_path / "c.npy", array)
    np.savez(tmp_path / "unnamed.npz", array)
    for path in (tmp_path / "c.npy", tmp_path / "unnamed.npz", _saved(tmp_path / "c.npz", x=array)):
        examples = given_examples(path, [IMAGE])
        fed = list(examples.feeds())
        assert [count for count, _ in fed] == [BATCH, 11 - BATCH]
        got = np.concatenate([feed["x"] for _, feed in fed])
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, array)


def test_named_arrays_are_matched_whatever_the_case_and_others_are_left_alone(tmp_path: Path):
    ids, mask = np.ones((3, 5), np.int32), np.zeros((3, 5), np.int64)
    examples = given_examples(_saved(tmp_path / "c.npz", input_ids=ids, Attention=mask, labels=ids), [IDS, MASK])
    ((count, feed),) = examples.feeds()
    assert (count, examples.count, examples.origin) == (3, 3, "calibration")
    assert {name: (array.dtype, array.shape) for name, array in feed.items()} == {
        "input_ids": (np.int64, (3, 5)),
        "Attention": (np.int64, (3, 5)),
    }


def test_a_fixed_batch_is_fed_whole_and_a_remainder_left_out(tmp_path: Path):
    examples = given_examples(_saved(tmp_path / "c.npz", x=np.ones((10, 3), np.float32)), [FIXED])
    assert [(count, feed["x"].shape) for count, feed in examples.feeds()] == [(4, (4, 3)), (4, (4, 3))]
    assert examples.count == 8


def test_an_input_without_an_axis_of_examples_is_fed_as_it_is(tmp_path: Path):
    arrays = {"x": np.ones((9, 1, 4, 4), np.float32), "scale": np.array(2, np.float32)}
    examples = given_examples(_saved(tmp_path / "c.npz", **arrays), [IMAGE, SCALE])
    assert [feed["scale"].shape for _, feed in examples.feeds()] == [(), ()]


@pytest.mark.parametrize(
    ("arrays", "inputs", "message"),
    [
        ({"input_ids": np.ones((2, 3), int)}, [IDS, MASK], "'Attention' is missing"),
        ({"x": np.ones((2, 1, 4, 5), np.float32)}, [IMAGE], r"expected 4 on axis 3, got shape \(2, 1, 4, 5\)"),
        ({"x": np.ones((2, 16), np.float32)}, [IMAGE], "expected 4 axes"),
        ({"x": np.ones((2, 1, 4, 4), np.uint8)}, [IMAGE], "expected float32, got uint8; convert it"),
        ({"x": np.ones((0, 1, 4, 4), np.float32)}, [IMAGE], "at least 1, got"),
        ({"foo": np.ones((2, 1, 4, 4), np.float32)}, [IMAGE], "expected arrays named x, got foo; 'x' is missing"),
        ({"x": np.zeros((2, 1, 4, 4), np.float32)}, [IMAGE], "expected examples as the network is fed, got zeros"),
        (
            {"input_ids": np.ones((2, 3), int), "attention": np.ones((3, 3), int)},
            [IDS, MASK],
            "same number of examples",
        ),
        ({"x": np.ones((3, 3), np.float32)}, [FIXED], "at least 4 examples"),
    ],
)
def test_arrays_that_do_not_fit_the_graph(arrays, inputs, message: str, tmp_path: Path):
    with pytest.raises(UsageError, match=message):
        given_examples(_saved(tmp_path / "c.npz", **arrays), inputs)


def test_numbers_that_are_not_finite(tmp_path: Path):
    with pytest.raises(CorruptError, match="expected finite numbers"):
        given_examples(_saved(tmp_path / "c.npz", x=np.full((2, 1, 4, 4), np.nan, np.float32)), [IMAGE])


@pytest.mark.parametrize("name", ["c.npz", "c.npy"])
def test_files_that_would_run_code_or_are_damaged_or_missing(name: str, tmp_path: Path):
    path = tmp_path / name
    with pytest.raises(InputOutputError, match="found none"):
        given_examples(path, [IMAGE])
    objects = np.array([{"x": 1}], dtype=object)
    np.save(path, objects, allow_pickle=True) if name == "c.npy" else np.savez(path, x=objects, allow_pickle=True)
    with pytest.raises(CorruptError, match=r"object|pickle|Object"):
        given_examples(path, [IMAGE])
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(CorruptError, match=name):
        given_examples(path, [IMAGE])


def test_one_array_is_not_enough_for_two_inputs(tmp_path: Path):
    np.save(tmp_path / "c.npy", np.ones((2, 3), int))
    with pytest.raises(UsageError, match=r"expected an \.npz with input_ids, Attention"):
        given_examples(tmp_path / "c.npy", [IDS, MASK])


def test_made_up_examples_repeat_by_seed_and_need_every_size():
    graph = Path("g.onnx")
    one, two, three = (made_up_examples(graph, [IMAGE], {}, seed) for seed in (0, 0, 1))
    assert one.arrays["x"].shape == (MADE_UP, 1, 4, 4)
    np.testing.assert_array_equal(one.arrays["x"], two.arrays["x"])
    assert not np.array_equal(one.arrays["x"], three.arrays["x"])
    with pytest.raises(UsageError, match=r"'input_ids': axis 1 \(length\) has no size; give --shape input_ids=NxN"):
        made_up_examples(graph, [IDS], {}, 0)
    given = made_up_examples(graph, [IDS], {"input_ids": (2, 7)}, 0)
    assert given.arrays["input_ids"].shape == (MADE_UP, 7)
    assert set(np.unique(given.arrays["input_ids"])) == {0, 1}


def test_made_up_examples_of_a_fixed_batch():
    examples = made_up_examples(Path("g.onnx"), [FIXED, SCALE], {}, 0)
    ((count, feed),) = examples.feeds()
    assert (count, feed["x"].shape, feed["scale"].shape) == (4, (4, 3), ())
