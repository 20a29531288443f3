"""A part of Fashion-MNIST as 96-pixel colour pictures: what a network with ImageNet's weights can be fine-tuned on.

python benchmarks/data_fashion96.py --out fashion96.npz [--train 3000] [--validation 500] [--test 1000]

Bilinear, the grey channel three times. The images are drawn by a fixed seed, those of test from the test set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparsify.data.fashion_mnist import read_fashion_mnist

SIDE = 96


def main() -> None:
    """Draw, enlarge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--validation", type=int, default=500)
    parser.add_argument("--test", type=int, default=1000)
    options = parser.parse_args()
    source, generator = read_fashion_mnist(), np.random.default_rng(0)
    assert source.test is not None
    seen = generator.permutation(len(source.train.inputs))[: options.train + options.validation]
    tested = generator.permutation(len(source.test.inputs))[: options.test]
    parts = {
        "train": (source.train, seen[: options.train]),
        "val": (source.train, seen[options.train :]),
        "test": (source.test, tested),
    }
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, (part, chosen) in parts.items():
        arrays[f"x_{name}"] = np.stack([enlarged(part.inputs[i, 0]) for i in chosen])
        arrays[f"y_{name}"] = part.labels[chosen]
    np.savez_compressed(options.out, **arrays)
    print(f"{options.out}: {', '.join(f'{name} {array.shape}' for name, array in arrays.items())}")


def enlarged(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(96, 96, 3) of (28, 28)."""
    picture = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return np.repeat(picture[:, :, None], 3, axis=2)


if __name__ == "__main__":
    main()
