"""The new graph against the old one in ONNX Runtime, on the same inputs: errors are stated, or nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import CorruptError
from sparsify_export.sparse.options import Precision

Outputs = Mapping[str, NDArray[Any]]
TOLERANCES: dict[Precision, tuple[float, str]] = {
    "f32": (1e-4, "fp32 sums in another order"),
    "f16": (0.005, "weights, and in half precision products, rounded to 11 significant bits"),
    "bf16": (0.04, "weights rounded to 8 significant bits"),
    "i8": (0.1, "weights and activations rounded to 8 bits"),
}
"""Of the largest error over the largest output in f32, of RMS over RMS where values are rounded; ten times what one
rounding may change a weight by in f16 and bf16."""


@dataclass(frozen=True)
class OutputParity:
    """One output over all inputs that were tried."""

    name: str
    largest: float
    """Largest error over the largest output."""
    rms: float
    """RMS of the error over RMS of the output."""


@dataclass(frozen=True)
class SparseParity:
    """Every output, within the tolerance."""

    inputs: str
    """Where the inputs came from."""
    tolerance: float
    reason: str
    outputs: tuple[OutputParity, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare(
    path: Path, dense: Sequence[Outputs], sparse: Sequence[Outputs], precision: Precision, inputs: str
) -> SparseParity:
    """Hold outputs against each other, run by run.

    Raises:
        CorruptError: An output differs by more than the tolerance, or is not what it was at all; has the numbers.
    """
    tolerance, cause = TOLERANCES[precision]
    exact = precision == "f32"
    measure = "largest error over the largest output" if exact else "RMS of the error over RMS of the output"
    reason = f"{cause}, {measure}"
    found: list[OutputParity] = []
    for name in dense[0]:
        pairs = [(one[name], other[name]) for one, other in zip(dense, sparse, strict=True)]
        parity = _output(path, name, pairs)
        error = parity.largest if exact else parity.rms
        # `not <=` rather than `>`: an error that is NaN must fail.
        if not error <= tolerance:
            raise CorruptError(
                f"{path}: output {name!r}: expected the sparse graph within {tolerance:g} of the dense one ({reason}), "
                f"got {error:.3g}; it is not written"
            )
        found.append(parity)
    return SparseParity(inputs, tolerance, reason, tuple(found))


def _output(path: Path, name: str, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> OutputParity:
    largest = largest_error = squares = squared_errors = 0.0
    for expected, got in pairs:
        if expected.shape != got.shape or expected.dtype != got.dtype:
            raise CorruptError(
                f"{path}: output {name!r}: expected {expected.dtype} of shape {expected.shape} from the sparse graph, "
                f"got {got.dtype} of {got.shape}"
            )
        before, after = expected.astype(np.float64), got.astype(np.float64)
        finite = np.isfinite(before)
        # A mask of minus infinity passes through; anything else that is not finite is not comparable.
        same = np.array_equal(before[~finite], after[~finite], equal_nan=True)
        error = np.abs(after[finite] - before[finite])
        # np.maximum keeps a NaN, which must fail later; max would drop it.
        largest_error = float(np.maximum(largest_error, error.max(initial=0.0) if same else np.nan))
        largest = max(largest, float(np.abs(before[finite]).max(initial=0.0)))
        squares += float((before[finite] ** 2).sum())
        squared_errors += float((error**2).sum()) if same else np.nan
    return OutputParity(name, _ratio(largest_error, largest), _ratio(np.sqrt(squared_errors), np.sqrt(squares)))


def _ratio(error: float, size: float) -> float:
    """Their quotient; an output of zeros admits no error."""
    return error / size if size else (0.0 if error == 0 else np.inf)
