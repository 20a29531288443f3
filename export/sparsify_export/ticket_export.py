"""A ticket's folder becomes what deploys: ONNX of ticket and dense, parity, sizes, and a plan where one is built.

model.onnx       the ticket, removed weights zero in place
dense.onnx       the dense network it is compared with
weights.packed   the ticket in the packed format of `sparsify.store.packed`
parity.json      both graphs against eager PyTorch on real inputs, for every batch size
sizes.json       bytes: dense fp32, masked, packed, shrunk, model.onnx
preprocessing.json   how the network is fed; ONNX files hold the same under `sparsify.preprocessing`
sparse.json      sparse-cpu only: what became of each layer, and the rewritten graph against the one before
*.plan, *.json   TensorRT only: plans and their reports
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sparsify.channels.shrink import shrink
from sparsify.data.load import Data
from sparsify.errors import UsageError
from sparsify.lottery.ticket import Ticket
from sparsify.recipe.spec import SparseSpec
from sparsify.store.atomic import link_file, write_bytes, write_json
from sparsify.store.layout import PACKED
from sparsify.store.packed import masked_bytes, pack
from sparsify_export.latency import DENSE, MODEL
from sparsify_export.onnx_graph import INPUT, OUTPUT, onnx_from_module
from sparsify_export.parity import FP32_EPS, Parity, Tolerance, check_parity, tolerance_of
from sparsify_export.runtimes.torch_eager import TorchEager
from sparsify_export.sparse.options import DEFAULTS
from sparsify_export.sparse.parity import TOLERANCES
from sparsify_export.targets import TARGETS, Target
from sparsify_export.targets.opening import open_runtime, require_export, why_not_run

PARITY, SIZES, SPARSE = "parity.json", "sizes.json", "sparse.json"
TF32_EPS = 2.0**-10
"""NVIDIA's runtimes multiply fp32 in TF32 by default: 10 bits of mantissa."""
_INPUTS = 64
"""Real inputs that parity is checked on, at the least; more where a batch is larger."""


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk; none of them says anything about speed."""

    dense_fp32: int
    """The dense network, every value stored."""
    masked: int
    """The ticket with zeros stored like any other value."""
    packed: int
    """The ticket in the packed format."""
    shrunk: int
    """The ticket after dead channels are physically removed."""
    onnx: int
    """`model.onnx`, graph and weights: what a runtime loads."""


@dataclass(frozen=True)
class ExportResult:
    """What was exported, checked and not checked."""

    target: str
    status: str
    """`checked`, or what was not done: `built, not run: no GPU here`."""
    missing: str
    """What keeps the target from running here; empty where nothing does."""
    parity_on: str
    """The target, or onnxruntime-cpu where the target cannot run here; empty where that cannot either."""
    parity: Mapping[str, Parity]
    """For `dense` and `model`; empty where `parity_on` is."""
    sizes: Sizes
    skipped: Mapping[str, str]
    """Layers that were not considered for shrinking, and why."""
    removed_channels: Mapping[str, int]
    """Dead output channels by layer, of the ticket; what `sizes.shrunk` is without."""
    plans: tuple[Mapping[str, Any], ...]
    """Reports of what was built, where the target is built ahead of time."""
    sparse: Mapping[str, Any] | None = None
    """What became of each layer, where the target skips zeros."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "parity": {name: parity.to_json() for name, parity in self.parity.items()}}


def export_ticket(
    ticket_folder: Path,
    dense_folder: Path,
    out: Path,
    *,
    target: Target,
    batch_sizes: Sequence[int],
    data: Data,
    opset: int | None = None,
    allow_import: tuple[str, ...] = (),
    sparse_options: SparseSpec = DEFAULTS,
) -> ExportResult:
    """Export one ticket and its dense network into the existing folder `out`.

    Args:
        ticket_folder: A ticket's folder.
        dense_folder: The dense network's folder; where it holds the graph already (`export_dense`), that is taken.
        out: An empty folder; what makes it appear whole is the caller's.
        target: Where it will run.
        batch_sizes: Batch sizes whose numerics are checked.
        data: Its validation images are the real inputs.
        opset: ONNX operator set; None chooses for the installed runtime.
        allow_import: Packages whose code may build the networks.
        sparse_options: How the ticket's graph is rewritten, for a target that does so.

    Raises:
        UnavailableError: Nothing can be made for the target here; the message says what is missing.
        CorruptError: A folder is damaged, or a runtime's outputs are not to be trusted.
        UsageError: No batch size, or one below 1.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise UsageError(f"batch sizes: expected one or more of 1 or above, got {list(batch_sizes)}")
    require_export(target)
    folders = {MODEL: ticket_folder, DENSE: dense_folder}
    modules = {name: Ticket(folder).module(allow_import=allow_import) for name, folder in folders.items()}
    example = data.validation.inputs(slice(_INPUTS))
    for name, module in modules.items():
        if name == DENSE and opset is None and (dense_folder / DENSE).is_file():
            link_file(dense_folder / DENSE, out / name)
        else:
            onnx_from_module(module, example[:2], out / name, opset=opset, metadata=_metadata(data))
    images = data.validation.inputs(slice(max(_INPUTS, *batch_sizes))).numpy()
    sparse = _sparsified(out / MODEL, images, sparse_options) if target.sparse else None
    plans = _plans(target, out, batch_sizes)
    missing = why_not_run(target)
    checked_on = next((one for one in (target, TARGETS["onnxruntime-cpu"]) if why_not_run(one) is None), None)
    parity: dict[str, Parity] = {}
    if checked_on is not None:
        inputs = real_inputs(images, batch_sizes)
        is_rounded = target.sparse and sparse_options.precision != "f32"
        rounded = {MODEL: Tolerance(*TOLERANCES[sparse_options.precision])} if is_rounded else {}
        parity = {
            Path(name).stem: _parity(checked_on, out / name, module, inputs, rounded.get(name))
            for name, module in modules.items()
        }
    packed = pack(modules[MODEL].state_dict())
    shrunk = shrink(modules[MODEL], example)
    result = ExportResult(
        target=target.name,
        status="checked" if missing is None else str(plans[0]["statement"]),
        missing=missing or "",
        parity_on="" if checked_on is None else checked_on.name,
        parity=parity,
        sizes=Sizes(
            dense_fp32=masked_bytes(modules[DENSE].state_dict()),
            masked=masked_bytes(modules[MODEL].state_dict()),
            packed=len(packed),
            shrunk=shrunk.bytes,
            onnx=(out / MODEL).stat().st_size,
        ),
        skipped=shrunk.skipped,
        removed_channels={name: len(channels) for name, channels in shrunk.removed.items()},
        plans=plans,
        sparse=sparse,
    )
    _write(out, result, packed)
    if data.preprocessing is not None:
        data.preprocessing.save(out)
    return result


def export_dense(folder: Path, data: Data, *, allow_import: tuple[str, ...] = ()) -> None:
    """Write the graph of the network in `folder` beside it: what ONNX cannot take is known before any training.

    Raises:
        UsageError: The exporter cannot follow the network.
    """
    module = Ticket(folder).module(allow_import=allow_import)
    onnx_from_module(module, data.validation.inputs(slice(2)), folder / DENSE, metadata=_metadata(data))


def _metadata(data: Data) -> dict[str, str]:
    """What an ONNX file holds beside the graph: whose it is, and how it is fed where that is known."""
    known = {} if data.preprocessing is None else {data.preprocessing.KEY: data.preprocessing.text()}
    return {"producer": "sparsify"} | known


def real_inputs(images: NDArray[Any], batch_sizes: Sequence[int]) -> dict[int, NDArray[Any]]:
    """By batch size, whole batches of about `_INPUTS` images, taken in order, over again where they are too few."""
    counts = {size: size * max(1, _INPUTS // size) for size in batch_sizes}
    return {size: images[np.arange(count) % len(images)] for size, count in counts.items()}


def _sparsified(onnx_path: Path, images: NDArray[Any], options: SparseSpec) -> Mapping[str, Any]:
    """Rewrite the graph in place; it has been held against the one before on real inputs."""
    from sparsify_export.sparse.passes import sparsify

    feeds = [{INPUT: images[:1]}, {INPUT: images[:3]}]
    real = [{INPUT: images[:_INPUTS]}]
    return sparsify(onnx_path, onnx_path, options=options, feeds=feeds, more=real, inputs="validation images").to_json()


def _plans(target: Target, out: Path, batch_sizes: Sequence[int]) -> tuple[Mapping[str, Any], ...]:
    """What is built ahead of time for native TensorRT, dense and ticket alike; nothing for other runtimes."""
    if target.provider is not None:
        return ()
    from sparsify_export.runtimes.tensorrt_build import export_plans

    reports = [
        report
        for name in (MODEL, DENSE)
        for report in export_plans(out / name, out, module=target.runtime, batch_sizes=batch_sizes, sparse_weights=True)
    ]
    return tuple(report.to_json() for report in reports)


def _parity(
    target: Target,
    onnx_path: Path,
    module: nn.Module,
    inputs: Mapping[int, NDArray[Any]],
    tolerance: Tolerance | None,
) -> Parity:
    """Against PyTorch; a tolerance of None is that of fp32 sums in another order."""
    eps = FP32_EPS if target.provider == "CPU" else TF32_EPS
    runtime = open_runtime(target, onnx_path, threads=1, batch_sizes=sorted(inputs))
    with runtime as entered, TorchEager(module, INPUT, OUTPUT) as reference:
        return check_parity(entered, reference, inputs, tolerance or tolerance_of(module, eps))


def _write(out: Path, result: ExportResult, packed: bytes) -> None:
    write_bytes(out / PACKED, packed)
    facts = result.to_json()
    stated = {name: facts[name] for name in ("target", "status", "missing", "parity_on")}
    compared: dict[str, Any] = {"model": {}, "dense": {}} | facts["parity"]
    write_json(out / PARITY, stated | compared)
    shrinking = {"skipped": dict(result.skipped), "removed_channels": dict(result.removed_channels)}
    if result.sparse is not None:
        write_json(out / SPARSE, result.sparse)
    write_json(out / SIZES, {**asdict(result.sizes), "shrinking": shrinking})
