"""Fashion-MNIST: found in `$SPARSIFY_DATA`, in Debian's package, or downloaded once into the user's cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import platformdirs
from numpy.typing import NDArray

from sparsify.data.download import Progress, download
from sparsify.data.idx import GZIP_MAGIC, gunzip, idx_size, parse_idx
from sparsify.data.source import Part, Source
from sparsify.errors import CorruptError, InputOutputError

ENVIRONMENT = "SPARSIFY_DATA"
FOLDER = "fashion-mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# The authors' own. It speaks no https, so the digests below are all that vouches for what comes.
HOME = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
LARGEST_FILE = 64_000_000  # bytes; the largest is 47,040,016, or 26,421,880 compressed
WHITE = 255.0

SHAPES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "train-images-idx3-ubyte": (60_000, 28, 28),
        "train-labels-idx1-ubyte": (60_000,),
        "t10k-images-idx3-ubyte": (10_000, 28, 28),
        "t10k-labels-idx1-ubyte": (10_000,),
    }
)
# Of the content, not of the .gz: the authors and Debian compressed the same bytes differently.
SHA256: Mapping[str, str] = MappingProxyType(
    {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
)
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def read_fashion_mnist() -> Source:
    """60,000 training and 10,000 test images, every byte checked against its digest.

    Raises:
        InputOutputError: It is nowhere on this machine and cannot be downloaded; the message names all three ways.
        CorruptError: A file is not Fashion-MNIST's.
    """
    files = locate()
    array = {name: read_checked(files[name], name) for name in SHAPES}
    return Source(
        "fashion-mnist",
        WHITE,
        train=_part(array["train-images-idx3-ubyte"], array["train-labels-idx1-ubyte"]),
        test=_part(array["t10k-images-idx3-ubyte"], array["t10k-labels-idx1-ubyte"]),
        class_names=CLASS_NAMES,
    )


def _part(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Part:
    return Part(images[:, np.newaxis], labels.astype(np.int64))


def read_checked(path: Path, name: str) -> NDArray[np.uint8]:
    """The array in one of the four files, compressed or not, once its SHA-256 is right.

    Raises:
        InputOutputError: The file cannot be read.
        CorruptError: It is damaged or another file; the message names it.
    """
    size = idx_size(SHAPES[name])
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE)
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    if data.startswith(GZIP_MAGIC):
        data = gunzip(data, limit=size, name=str(path))
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[name]:
        raise CorruptError(
            f"{path}: expected Fashion-MNIST's {name}, content SHA-256 {SHA256[name]}, got {found}; "
            "remove or replace the file"
        )
    return parse_idx(data, shape=SHAPES[name], name=str(path))


def cache_folder() -> Path:
    """Where downloads are kept: `fashion-mnist` in the user's cache."""
    return platformdirs.user_cache_path("sparsify") / FOLDER


def find() -> dict[str, Path] | None:
    """The four files in the first place that has them all, or None. Opens none of them."""
    ours = os.environ.get(ENVIRONMENT)
    folders = [Path(ours).expanduser() / FOLDER] if ours else []
    for folder in (*folders, DEBIAN, cache_folder()):
        files = {name: _with_or_without_gz(folder / name) for name in SHAPES}
        if all(file.is_file() for file in files.values()):
            return files
    return None


def _with_or_without_gz(path: Path) -> Path:
    return path if path.is_file() else path.with_name(path.name + ".gz")


def locate(progress: Progress | None = None) -> dict[str, Path]:
    """The four files, downloaded into the cache if they are nowhere on this machine.

    Args:
        progress: Told how far each download is.

    Raises:
        InputOutputError: They cannot be downloaded; the message names every way to get them.
        CorruptError: The server gave other files.
    """
    if files := find():
        return files
    try:
        return {name: _fetch(name, progress) for name in SHAPES}
    except InputOutputError as error:
        raise InputOutputError(
            f"fashion-mnist: not on this machine, and the download failed ({error}). Do one of these: set "
            f"{ENVIRONMENT} to a folder that holds {FOLDER}/train-images-idx3-ubyte.gz and its three companions; "
            "run `apt install dataset-fashion-mnist` on Debian or Ubuntu; or connect to the network and run again "
            "(downloads resume)"
        ) from error


def _fetch(name: str, progress: Progress | None) -> Path:
    path = cache_folder() / f"{name}.gz"
    download(
        f"{HOME}/{path.name}",
        path,
        check=lambda part: read_checked(part, name),
        limit=LARGEST_FILE,
        progress=progress,
    )
    return path
