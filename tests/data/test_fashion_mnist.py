"""Fashion-MNIST: where it is looked for, in which order, and that every byte is checked."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from sparsify.data import fashion_mnist
from sparsify.errors import CorruptError, InputOutputError
from sparsify.recipe.spec import DataSpec

SHAPES = {
    "train-images-idx3-ubyte": (20, 28, 28),
    "train-labels-idx1-ubyte": (20,),
    "t10k-images-idx3-ubyte": (10, 28, 28),
    "t10k-labels-idx1-ubyte": (10,),
}


def small(name: str) -> bytes:
    """A file of the same kind with fewer images, its labels 0 to 9 in turn."""
    shape = SHAPES[name]
    values = np.arange(shape[0]) % 10 if len(shape) == 1 else np.arange(np.prod(shape)) % 251
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + values.astype(np.uint8).tobytes()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three places, all empty, for a Fashion-MNIST of thirty images."""
    monkeypatch.setattr(fashion_mnist, "SHAPES", SHAPES)
    monkeypatch.setattr(fashion_mnist, "SHA256", {name: hashlib.sha256(small(name)).hexdigest() for name in SHAPES})
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist, "HOME", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SPARSIFY_DATA", str(tmp_path / "ours"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def fill(folder: Path, *, compressed: bool = True) -> None:
    folder.mkdir(parents=True)
    for name in SHAPES:
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(small(name)))
        else:
            (folder / name).write_bytes(small(name))


@pytest.mark.parametrize("compressed", [True, False])
def test_files_compressed_or_not_are_read(places, compressed):
    fill(places / "ours" / "fashion-mnist", compressed=compressed)
    source = fashion_mnist.read_fashion_mnist()
    assert source.test is not None and source.validation is None
    assert source.train.inputs.shape == (20, 1, 28, 28) and source.test.inputs.shape == (10, 1, 28, 28)
    assert source.train.inputs.ravel()[:3].tolist() == [0, 1, 2]
    assert source.test.labels.tolist() == list(range(10))
    assert (source.classes, source.class_names[9]) == (10, "Ankle boot")


def test_ours_comes_before_debians_and_debians_before_the_cache(places):
    cache = fashion_mnist.cache_folder()
    assert cache.is_relative_to(places)
    for folder in (cache, places / "debian", places / "ours" / "fashion-mnist"):
        fill(folder)
        assert {path.parent for path in fashion_mnist.locate().values()} == {folder}


def test_a_place_that_lacks_a_file_is_passed_over(places, monkeypatch):
    fill(places / "ours" / "fashion-mnist")
    fill(places / "debian")
    (places / "ours" / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert {path.parent for path in fashion_mnist.locate().values()} == {places / "debian"}
    monkeypatch.delenv("SPARSIFY_DATA")
    assert fashion_mnist.find() is not None


def test_without_files_and_network_every_way_out_is_named(places):
    with pytest.raises(InputOutputError) as failure:
        fashion_mnist.read_fashion_mnist()
    assert failure.value.exit_code == 9
    for way in ("set SPARSIFY_DATA", "apt install dataset-fashion-mnist", "connect to the network", "127.0.0.1:9"):
        assert way in str(failure.value)


def test_a_download_asks_the_authors_home_for_four_files_and_checks_them(places, monkeypatch):
    asked = []

    def instead(url, path, *, check, limit, progress):
        asked.append(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(small(path.stem)))
        check(path)
        damaged = path.with_suffix(".damaged")
        damaged.write_bytes(gzip.compress(small(path.stem)[:-1] + b"\xff"))
        with pytest.raises(CorruptError, match="expected Fashion-MNIST's"):
            check(damaged)

    monkeypatch.setattr(fashion_mnist, "download", instead)
    assert {path.parent for path in fashion_mnist.locate().values()} == {fashion_mnist.cache_folder()}
    assert asked == [f"http://127.0.0.1:9/{name}.gz" for name in SHAPES]


@pytest.mark.parametrize("name", SHAPES)
def test_one_changed_pixel_or_label_is_refused_by_name(places, name):
    fill(places / "ours" / "fashion-mnist")
    changed = bytearray(small(name))
    changed[-1] ^= 1
    (places / "ours" / "fashion-mnist" / f"{name}.gz").write_bytes(gzip.compress(bytes(changed)))
    with pytest.raises(CorruptError, match=rf"{name}.gz: expected Fashion-MNIST's {name}, content SHA-256"):
        fashion_mnist.read_fashion_mnist()


def test_a_file_that_cannot_be_read_is_an_input_error(places):
    with pytest.raises(InputOutputError, match="expected a readable file, got: Is a directory"):
        fashion_mnist.read_checked(places, "t10k-labels-idx1-ubyte")


@pytest.mark.skipif(
    fashion_mnist.find() is None, reason="Fashion-MNIST is not on this machine, and tests do not fetch it"
)
def test_the_real_one_is_what_its_authors_describe():
    """Counts, balance, and the mean and deviation that are quoted for it everywhere: 0.2860 and 0.3530."""
    from sparsify.data.load import load

    data = load(DataSpec(source="fashion-mnist", normalize="unit"))
    assert data.input_shape == (1, 28, 28) and data.classes == 10
    assert [len(part) for part in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    labels = np.concatenate([data.train.labels.numpy(), data.validation.labels.numpy()])
    assert np.bincount(labels).tolist() == [6_000] * 10
    assert data.test.labels.bincount().tolist() == [1_000] * 10
    assert data.test.labels[:5].tolist() == [9, 2, 1, 1, 6]
    pixels = np.concatenate([data.train.images.numpy(), data.validation.images.numpy()])
    assert pixels.mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    assert pixels.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)
