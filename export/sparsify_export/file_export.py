"""An ONNX file that we did not make, checked for a target and built where the target builds ahead of time."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sparsify.errors import CorruptError, UsageError
from sparsify.store.atomic import write_json
from sparsify_export.feed import Shape, make_feed, shapes_for
from sparsify_export.latency import MODEL
from sparsify_export.onnx_check import inputs_of, load_graph, weight_zeros
from sparsify_export.pruning.tensors import external_files
from sparsify_export.pruning.wire import read_skeleton
from sparsify_export.targets import Target
from sparsify_export.targets.opening import open_runtime, why_not_run

REPORT = "report.json"
_OURS = (MODEL, REPORT)
_RUN = "run on made-up inputs; there is no PyTorch network to compare with"


def copy_graph(source: Path, folder: Path) -> Path:
    """Copy a graph into `folder`, and the files that its weights lie in, under the names it gives them.

    Raises:
        UsageError: A file of weights is called as one of ours.
        CorruptError: One is named outside the graph's own folder, is missing, or is too short.
    """
    for name, path in external_files(read_skeleton(source)).items():
        copy = folder / name
        if copy in (folder / ours for ours in _OURS):
            raise UsageError(f"{source}: expected weights in a file of another name, got {name!r}; rename it")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return Path(shutil.copyfile(source, folder / MODEL))


def export_onnx(
    onnx_path: Path,
    out: Path,
    *,
    target: Target,
    batch_sizes: Sequence[int],
    shapes: Mapping[str, Shape] = MappingProxyType({}),
) -> dict[str, Any]:
    """Build what `target` needs into the folder `out`, run the graph there once a batch size, and report.

    Where whole `shapes` are given by input name, it is run on those alone.

    Raises:
        UsageError: An input's shape is left open beyond its first axis.
        CorruptError: The runtime cannot load it, or an output is not finite.
        UnavailableError: Nothing can be made for the target here.
    """
    plans: list[Mapping[str, Any]] = []
    if target.provider is None:
        from sparsify_export.runtimes.tensorrt_build import export_plans

        reports = export_plans(onnx_path, out, module=target.runtime, batch_sizes=batch_sizes, sparse_weights=True)
        plans = [report.to_json() for report in reports]
    missing = why_not_run(target)
    if missing is None:
        _run(onnx_path, target, batch_sizes, shapes)
    zeros, elements = weight_zeros(load_graph(onnx_path), onnx_path.parent)
    report = {
        "target": target.name,
        "status": _RUN if missing is None else plans[0]["statement"],
        "missing": missing or "",
        "inputs": [str(source) for source in inputs_of(onnx_path)],
        "weights": elements,
        "sparsity": zeros / elements if elements else 0.0,
        "plans": plans,
    }
    write_json(out / REPORT, report)
    return report


def _run(onnx_path: Path, target: Target, batch_sizes: Sequence[int], given: Mapping[str, Shape]) -> None:
    inputs = inputs_of(onnx_path)
    fixed = any(source.shape and isinstance(source.shape[0], int) for source in inputs)
    with open_runtime(target, onnx_path, threads=1, batch_sizes=batch_sizes) as runtime:
        for batch in (None,) if fixed or given else batch_sizes:
            _, shapes = shapes_for([onnx_path], batch, given)
            for name, output in runtime.infer(make_feed(inputs, shapes, seed=0)).items():
                if output.dtype.kind == "f" and not np.isfinite(output).all():
                    raise CorruptError(
                        f"{onnx_path}: output {name!r} is not finite at batch {batch or 'as given'}; it cannot be used"
                    )
