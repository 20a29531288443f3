"""How far the pruned graph's outputs are from the dense graph's on the same inputs.

An ONNX file has no labels with it: this says nothing about accuracy, and the statement says so.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import CorruptError, SparsifyError
from sparsify_export.pruning.examples import Examples
from sparsify_export.pruning.running import run
from sparsify_export.runtimes.onnxrt import OnnxRuntime

_HELD = 1 << 28
"""Bytes of dense outputs that are held while the pruned graph runs."""
_MOST = 256
"""Examples compared at most."""
Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class OutputAgreement:
    """One output of the graph, over all examples compared."""

    name: str
    cosine: float | None
    """Mean over examples of the cosine between the two outputs, flattened; None for outputs that are no floats."""
    cosine_lowest: float | None
    """The lowest of any example."""
    max_abs_difference: float | None
    """Over the values that the dense graph has finite; None where the shapes differ."""
    argmax_agreement: float | None
    """Fraction of examples with the same largest value, where the output is (examples, classes)."""


@dataclass(frozen=True)
class Agreement:
    """Dense against pruned, or why they could not be compared."""

    inputs: str
    """`calibration` or `made up`."""
    examples: int
    outputs: tuple[OutputAgreement, ...]
    missing: str = ""
    """Why nothing was measured; empty where it was."""

    @property
    def statement(self) -> str:
        """One sentence for people."""
        if self.missing:
            return f"agreement with the dense graph not measured: {self.missing}"
        made_up = "; the inputs are made up, and real ones may agree more or less" if self.inputs == "made up" else ""
        return (
            f"agreement with the dense graph on {self.examples} {self.inputs} examples, not accuracy: an ONNX file has "
            f"no labels{made_up}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "outputs": [asdict(one) for one in self.outputs], "statement": self.statement}


def not_measured(inputs: str, reason: str) -> Agreement:
    """No agreement, and why."""
    return Agreement(inputs, 0, (), reason)


def agreement(dense: Path, pruned: Path, examples: Examples) -> Agreement:
    """Run both graphs on the CPU, one after the other, on up to 256 of the examples.

    Where ONNX Runtime cannot run the dense graph, `missing` says so. Examples end early where the outputs of more would
    be too large to hold.

    Raises:
        CorruptError: The dense graph's outputs are finite and the pruned graph's are not.
    """
    try:
        held = _dense_outputs(dense, examples)
    except SparsifyError as error:
        return not_measured(examples.origin, str(error))
    sums: dict[str, _Sum] = {}
    with OnnxRuntime(pruned) as runtime:
        for (count, expected), (_, feed) in zip(held, examples.feeds(), strict=False):
            got = run(runtime, feed, pruned)
            for name, output in expected.items():
                sums.setdefault(name, _Sum(name)).add(count, output, got[name], pruned)
    return Agreement(examples.origin, sum(count for count, _ in held), tuple(one.result() for one in sums.values()))


def _dense_outputs(path: Path, examples: Examples) -> list[tuple[int, Outputs]]:
    """Batch by batch, how many examples and what came out."""
    held: list[tuple[int, Outputs]] = []
    size = taken = 0
    with OnnxRuntime(path) as runtime:
        for count, feed in examples.feeds():
            if held and (size >= _HELD or taken >= _MOST):
                break
            held.append((count, run(runtime, feed, path)))
            taken += count
            size += sum(output.nbytes for output in held[-1][1].values())
    return held


class _Sum:
    """One output's differences, added up batch by batch."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._cosines: list[float] = []
        self._same: list[bool] = []
        self._difference: float | None = 0.0
        self._floats = self._ranked = True

    def add(self, count: int, expected: NDArray[Any], got: NDArray[Any], pruned: Path) -> None:
        self._floats &= expected.dtype.kind == "f"
        self._ranked &= self._floats and expected.ndim == 2 and len(expected) == count and expected.shape[1] > 1
        if expected.shape != got.shape or self._difference is None:
            self._difference, self._floats, self._ranked = None, False, False
            return
        a, b = expected.astype(np.float64), got.astype(np.float64)
        finite = np.isfinite(a)
        if not np.isfinite(b[finite]).all():
            raise CorruptError(f"{pruned}: output {self._name!r}: expected finite numbers, as of the dense graph")
        self._difference = max(self._difference, float(np.abs(a[finite] - b[finite]).max(initial=0.0)))
        self._floats &= bool(finite.all())
        rows = count if a.ndim and len(a) == count else 1
        self._cosines += map(_cosine, a.reshape(rows, -1), b.reshape(rows, -1)) if self._floats and a.size else ()
        self._same += (a.argmax(1) == b.argmax(1)).tolist() if self._ranked else ()

    def result(self) -> OutputAgreement:
        cosines = self._cosines if self._floats else []
        return OutputAgreement(
            self._name,
            statistics.fmean(cosines) if cosines else None,
            min(cosines, default=None),
            self._difference,
            sum(self._same) / len(self._same) if self._ranked and self._same else None,
        )


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """1 for two zero vectors, 0 for one."""
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not norms[0] or not norms[1]:
        return 1.0 if norms == (0.0, 0.0) else 0.0
    return min(1.0, max(-1.0, float(a @ b) / (norms[0] * norms[1])))
