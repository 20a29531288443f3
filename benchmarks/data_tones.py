"""Noisy tones as frames of 16 kHz sound and the pitch bin of each: a task for CREPE without a download.

python benchmarks/data_tones.py --out tones.npz [--train 3000] [--validation 600] [--test 600]

A tone has one to eight harmonics of random strength and phase; its pitch is the centre of one of CREPE's 20-cent bins,
from 65 Hz (C2) to 1,976 Hz (B6); white noise lies 0 to 20 dB below it. Frames have mean 0 and deviation 1, which is
what CREPE was trained on. Drawn by a fixed seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE, FRAME = 16_000, 1024
CENTS_A_BIN, FIRST_CENTS, REFERENCE_HZ = 20, 1997.3794084376191, 10.0  # as in the package torchcrepe
LOWEST, HIGHEST = 63, 359  # bins
HARMONICS = 8


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--validation", type=int, default=600)
    parser.add_argument("--test", type=int, default=600)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {}
    for part, count in (("test", options.test), ("val", options.validation), ("train", options.train)):
        arrays[f"x_{part}"], arrays[f"y_{part}"] = tones(generator, count)
    np.savez(options.out, **arrays)
    print(f"{options.out}: {', '.join(f'{name} {array.shape}' for name, array in arrays.items())}")


def tones(generator: np.random.Generator, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Frames (count, 1024) and their bins (count,)."""
    bins = generator.integers(LOWEST, HIGHEST + 1, count)
    hertz = REFERENCE_HZ * 2 ** ((FIRST_CENTS + CENTS_A_BIN * bins) / 1200)
    harmonic = np.arange(1, HARMONICS + 1)
    strength = generator.uniform(0.1, 1, (count, HARMONICS)) / harmonic
    strength[harmonic > generator.integers(1, HARMONICS + 1, (count, 1))] = 0
    strength[harmonic * hertz[:, None] > RATE / 2] = 0
    phase = generator.uniform(0, 2 * np.pi, (count, HARMONICS, 1))
    time = np.arange(FRAME) / RATE
    frames = np.sin(2 * np.pi * (harmonic * hertz[:, None])[:, :, None] * time + phase)
    sound = (strength[:, :, None] * frames).sum(axis=1)
    sound /= sound.std(axis=1, keepdims=True)
    noisy = sound + generator.normal(size=sound.shape) * 10 ** (-generator.uniform(0, 20, (count, 1)) / 20)
    noisy -= noisy.mean(axis=1, keepdims=True)
    return (noisy / noisy.std(axis=1, keepdims=True)).astype(np.float32), bins


if __name__ == "__main__":
    main()
