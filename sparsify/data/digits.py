"""scikit-learn's embedded digits: 1,797 images of 8x8, pixels 0 to 16."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.data.catalogue import DATASETS
from sparsify.data.source import Part, Source
from sparsify.errors import CorruptError, UnavailableError

SIDE = 8
WHITE = 16.0
MEND = "reinstall scikit-learn"


def read_digits() -> Source:
    """The digits, all as training images: they have no test set of their own.

    Raises:
        UnavailableError: scikit-learn is not installed.
        CorruptError: Its copy of the digits is not the one this library knows.
    """
    table = _table()
    pixels = table[:, :-1].astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    labels = table[:, -1].astype(np.int64)
    content = hashlib.sha256(pixels.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if content != DATASETS["digits"].content:
        raise CorruptError(
            f"scikit-learn's digits: expected SHA-256 {DATASETS['digits'].content}, got {content}; {MEND}"
        )
    return Source("digits", WHITE, Part(pixels, labels))


def _table() -> NDArray[Any]:
    """One row an image: 64 pixels, then the label. Read where it lies: importing scikit-learn takes over a second."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise UnavailableError("the digits are scikit-learn's, which is not installed; run: pip install scikit-learn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        try:
            with gzip.open(path, "rt") as file:
                rows = [line.split(",") for line in file]
            return np.array(rows, np.int64).reshape(-1, SIDE * SIDE + 1)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise CorruptError(f"{path}: expected scikit-learn's digits, got damage: {error}; {MEND}") from error
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return np.column_stack((digits["data"], digits["target"]))
