"""Against the library that writes them: what `save_to_disk` wrote is read to the same values, and nothing runs."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sparsify.data.catalogue import fingerprint
from sparsify.data.hf_dataset import read_hf_dataset
from sparsify.data.load import load
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.recipe.spec import DataSpec

hf = pytest.importorskip("datasets", reason="needs datasets, the library that writes what is read here")
tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 4, 5, 3), np.uint8)
IDS = [[5, 6, 7], [8], [9, 10, 11, 12], [13, 14]]


def read(path, **values):
    return read_hf_dataset(path, **{"framing": None, "tokenizer": None, "max_tokens": 128} | values)


def features(**columns):
    return hf.Features(columns)


@pytest.fixture(autouse=True)
def quiet():
    hf.disable_progress_bars()


@pytest.fixture
def pictures():
    """Two classes of lossless pictures."""
    columns = features(image=hf.Image(), label=hf.ClassLabel(names=["cat", "dog"]), file=hf.Value("string"))
    rows = {"image": [Image.fromarray(p) for p in PIXELS], "label": [0, 1] * 6, "file": ["x"] * 12}
    return hf.Dataset.from_dict(rows, features=columns)


@pytest.fixture
def words(tmp_path):
    """A tokenizer of whole words, with a token before and after."""
    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    around = {"single": "[CLS] $A [SEP]", "special_tokens": [("[CLS]", 2), ("[SEP]", 3)]}
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(**around)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


def test_images_and_their_classes(tmp_path, pictures):
    pictures.save_to_disk(tmp_path / "d", num_shards=2)
    source = read(tmp_path / "d")
    np.testing.assert_array_equal(source.train.inputs, np.moveaxis(PIXELS, 3, 1))
    assert source.train.labels.tolist() == hf.load_from_disk(tmp_path / "d")["label"]
    assert source.class_names == ("cat", "dog") and source.white == 255
    data = load(DataSpec(source=f"hf-dataset:{tmp_path}/d", image_size=4))
    assert data.input_shape == (3, 4, 4) and data.class_names == ("cat", "dog") and data.labelled


def test_splits_are_parts(tmp_path, pictures):
    parts = {"train": range(8), "dev": range(8, 10), "test": range(10, 12), "unsupervised": range(3)}
    hf.DatasetDict({name: pictures.select(rows) for name, rows in parts.items()}).save_to_disk(tmp_path / "d")
    source = read(tmp_path / "d")
    assert [None if part is None else len(part) for part in (source.train, source.validation, source.test)] == [8, 2, 2]
    np.testing.assert_array_equal(source.test.inputs, np.moveaxis(PIXELS[10:], 3, 1))


def test_token_ids_are_padded_to_the_longest_of_all_parts(tmp_path):
    parts = {"train": IDS, "test": [[1, 2, 3, 4, 5]]}
    made = {
        name: hf.Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
        for name, ids in parts.items()
    }
    hf.DatasetDict(made).save_to_disk(tmp_path / "d")
    source = read(tmp_path / "d")
    expected = np.array([row + [0] * (5 - len(row)) for row in IDS])
    np.testing.assert_array_equal(source.train.inputs[:, 0], expected)
    np.testing.assert_array_equal(source.train.inputs[:, 1], expected > 0)
    assert source.kind == "none" and source.test.inputs.shape == (1, 2, 5)
    assert read(tmp_path / "d", max_tokens=2).train.inputs.tolist()[2] == [[9, 10], [1, 1]]


def test_per_token_labels_with_the_names_of_their_classes(tmp_path):
    tags = hf.List(hf.ClassLabel(names=["O", "PER"]))
    columns = features(input_ids=hf.List(hf.Value("int32")), labels=tags)
    rows = {"input_ids": IDS, "labels": [[at % 2 for at in row] for row in IDS]}
    hf.Dataset.from_dict(rows, features=columns).save_to_disk(tmp_path / "d")
    source = read(tmp_path / "d")
    assert source.kind == "positions" and source.class_names == ("O", "PER")
    assert source.train.labels.tolist()[:2] == [[1, 0, 1, -100], [0, -100, -100, -100]]
    assert load(DataSpec(source=f"hf-dataset:{tmp_path}/d", test=0.25, validation=0.4), trained=True).classes == 2


def test_text_is_tokenized_as_the_library_does(tmp_path, words):
    texts = ["a b c a b", "c", "b what"]
    hf.Dataset.from_dict({"text": texts, "target": [0.5, 1.5, 2.5]}).save_to_disk(tmp_path / "d")
    source = read(tmp_path / "d", tokenizer=words, max_tokens=5)
    oracle = tokenizers.Tokenizer.from_file(f"{words}/tokenizer.json")
    oracle.enable_truncation(5)
    oracle.enable_padding()
    encoded = oracle.encode_batch(texts)
    np.testing.assert_array_equal(source.train.inputs[:, 0], [each.ids for each in encoded])
    np.testing.assert_array_equal(source.train.inputs[:, 1], [each.attention_mask for each in encoded])
    assert source.kind == "values" and source.train.labels.tolist() == [0.5, 1.5, 2.5]
    spec = DataSpec(source=f"hf-dataset:{tmp_path}/d", tokenizer=words, max_tokens=5, test=0.4, validation=0.5)
    assert load(spec, trained=True).input_shape == (2, 5)


def test_text_wants_a_tokenizer_that_is_there(tmp_path, words):
    hf.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "d")
    with pytest.raises(UsageError, match="expected a tokenizer for the text in column text, got none"):
        read(tmp_path / "d")
    with pytest.raises(InputOutputError, match=r"nowhere/tokenizer\.json, got nothing there"):
        read(tmp_path / "d", tokenizer=f"{tmp_path}/nowhere")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"expected a tokenizer\.json, got damage"):
        read(tmp_path / "d", tokenizer=words)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"a": ["x"], "b": ["y"]}, r"or one column of text, got a \(string\), b \(string\)"),
        ({"n": [1], "xs": [[1.5]]}, r"got n \(int64\), xs \(list of float64\)"),
        ({"input_ids": [[1], None]}, "input_ids: expected a value in every row"),
        ({"input_ids": [[1, None]]}, "input_ids: expected a value everywhere"),
        ({"input_ids": [1]}, "input_ids: expected lists of numbers, got int32"),
        ({"input_ids": [["a"]]}, "input_ids: expected numbers, got list<"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, "expected attention_mask as long as input_ids"),
        ({"input_ids": [[1, 2]], "label": [[1]]}, "expected a label for each token"),
        (
            {"input_ids": [[1, 2]], "label": ["good"]},
            r"label: expected labels that are classes or numbers, got text; .*class_encode",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path, rows, says):
    hf.Dataset.from_dict(rows).save_to_disk(tmp_path / "d")
    with pytest.raises(UsageError, match=says):
        read(tmp_path / "d")


def test_two_columns_of_classes_have_to_be_told_apart(tmp_path, pictures):
    again = pictures.rename_column("label", "fine").add_column("coarse", [0] * 12)
    again = again.cast_column("coarse", hf.ClassLabel(names=["animal"]))
    again.save_to_disk(tmp_path / "d")
    with pytest.raises(UsageError, match="expected one column of labels, got fine, coarse; rename"):
        read(tmp_path / "d")


def test_what_a_picture_names_is_not_followed(tmp_path):
    """`datasets` itself would open the file, or fetch the address."""
    Image.fromarray(PIXELS[0]).save(tmp_path / "secret.png")
    column = features(image=hf.Image(decode=False))
    rows = [{"bytes": None, "path": str(tmp_path / "secret.png")}]
    hf.Dataset.from_dict({"image": rows}, features=column).save_to_disk(tmp_path / "d")
    info = tmp_path / "d" / "dataset_info.json"
    import pyarrow as pa

    table = pa.table({"image": pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))})
    file = next((tmp_path / "d").glob("*.arrow"))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    assert json.loads(info.read_text())["features"]["image"]["_type"] == "Image"
    with pytest.raises(UsageError, match=r"expected pictures embedded .* row 0, which is not followed"):
        read(tmp_path / "d")


def test_a_damaged_picture_is_named(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "PNG")
    rows = [{"bytes": buffer.getvalue(), "path": None}, {"bytes": buffer.getvalue()[:60], "path": None}]
    hf.Dataset.from_dict({"image": rows}, features=features(image=hf.Image())).save_to_disk(tmp_path / "d")
    with pytest.raises(CorruptError, match="image of row 1: expected a picture, got damage"):
        read(tmp_path / "d")


def named(file):
    return {"_data_files": [{"filename": file}]}


def _change(folder, file, change):
    path = folder / file
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(
    ("file", "change", "error", "says"),
    [
        (
            "state.json",
            lambda v: v | {"_data_files": [{"filename": "../other.arrow"}]},
            CorruptError,
            "the folder itself",
        ),
        ("state.json", lambda v: v | named("gone.arrow"), InputOutputError, "readable files"),
        ("state.json", lambda v: v | {"_data_files": 3}, CorruptError, "expected a list of data files"),
        ("state.json", lambda v: v | {"_indices_data_files": [{}]}, UsageError, "save flatten_indices"),
        ("state.json", lambda v: [v], CorruptError, "expected a JSON object, got list"),
        ("dataset_info.json", lambda v: v | {"features": None}, CorruptError, "expected columns under features"),
        (
            "dataset_info.json",
            lambda v: {"features": {"input_ids": {"_type": "os.system"}}},
            UsageError,
            "a column input",
        ),
    ],
)
def test_files_that_are_not_as_written_are_refused(tmp_path, file, change, error, says):
    hf.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "d")
    _change(tmp_path / "d", file, change)
    with pytest.raises(error, match=says):
        read(tmp_path / "d")


def test_damaged_arrow_files_are_refused(tmp_path):
    hf.Dataset.from_dict({"input_ids": IDS}).save_to_disk(tmp_path / "d")
    file = next((tmp_path / "d").glob("*.arrow"))
    whole = file.read_bytes()
    for damaged in (b"", whole[:200], b"PICKLE" + whole[6:]):
        file.write_bytes(damaged)
        with pytest.raises(CorruptError, match="expected Arrow files that save_to_disk wrote"):
            read(tmp_path / "d")


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(InputOutputError, match="wrote, got nothing"):
        read(tmp_path / "none")
    with pytest.raises(UsageError, match=r"expected state\.json and dataset_info\.json"):
        read(tmp_path)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["test"]}')
    with pytest.raises(UsageError, match="expected a split train"):
        read(tmp_path)


def test_the_fingerprint_follows_content_columns_and_tokenizer(tmp_path, words):
    def made(texts):
        hf.Dataset.from_dict({"text": texts}).save_to_disk(tmp_path / "d")
        return DataSpec(source=f"hf-dataset:{tmp_path}/d", tokenizer=words)

    first = fingerprint(made(["a"]))
    (tmp_path / "d" / "cache-0.arrow").write_bytes(b"left by map")
    assert fingerprint(DataSpec(source=f"hf-dataset:{tmp_path}/d", tokenizer=words)) == first
    found = {first, fingerprint(made(["b"]))}
    (tmp_path / "tokenizer.json").write_text("{}")
    found.add(fingerprint(made(["a"])))
    found.add(fingerprint(DataSpec(source=f"hf-dataset:{tmp_path}/d")))
    found.add(fingerprint(DataSpec(source=f"hf-dataset:{tmp_path}/d", max_tokens=9)))
    assert len(found) == 5


def test_reading_and_fingerprints_import_neither_datasets_nor_transformers(tmp_path):
    hf.Dataset.from_dict({"input_ids": IDS}).save_to_disk(tmp_path / "d")
    code = f"""
import sys
from sparsify.data.catalogue import fingerprint
from sparsify.recipe.spec import DataSpec
spec = DataSpec(source="hf-dataset:{tmp_path}/d", test=0.3, validation=0.3)
fingerprint(spec)
assert not {{"torch", "numpy", "pyarrow"}} & set(sys.modules)
from sparsify.data.load import load
load(spec, trained=True)
assert not {{"datasets", "transformers"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
