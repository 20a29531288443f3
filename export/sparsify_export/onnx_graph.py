"""A module becomes a checked ONNX file: dynamic batch, zeros kept, equal bytes for equal weights.

The exporter is torch's (dynamo). What it adds beyond the graph is taken out: stack traces carry the paths of the
machine that exported, and names of fx nodes are no use to a reader. BatchNorm after Conv is folded into it by the
exporter: the zeros stay, the values differ from the checkpoint's.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from sparsify.errors import CorruptError, UsageError
from sparsify.store.atomic import write_bytes
from sparsify_export.installed import EXPORTER_OPSET, readable
from sparsify_export.onnx_check import weight_zeros

INPUT, OUTPUT, BATCH = "input", "logits", "batch"
_LARGEST = 2**31 - 1
_NOISY = ("torch.onnx._internal.exporter._registration", "onnxscript.optimizer._constant_folding")


def onnx_from_module(
    module: nn.Module,
    example: Tensor,
    out: Path,
    *,
    opset: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write `module` to the file `out` and return it; input `input`, output `logits`, first axis `batch`.

    Args:
        module: In any mode; exported in evaluation mode, put back after. Masked weights are zero already.
        example: One batch (N, C, H, W) of the type and shape it takes.
        out: Where to write; replaced whole or not at all.
        opset: ONNX operator set; None takes the exporter's own, or the newest the installed runtime reads if older.
        metadata: Kept in the file; keys are written in order.

    Raises:
        UsageError: The opset is beyond the installed runtime's, or the graph is over 2 GB.
        CorruptError: The graph fails onnx's checker, or zeros of the weights were lost.
    """
    chosen = _choose(opset)
    program = _exported(module, example, chosen)
    model = program.model_proto
    model.ir_version = max(helper.find_min_ir_version_for(list(model.opset_import)), 8)
    _strip(model)
    model.doc_string = ""
    helper.set_model_props(model, dict(sorted((metadata or {}).items())))
    if model.ByteSize() > _LARGEST:
        raise UsageError(f"{out}: expected a graph under 2 GB, got {model.ByteSize()} bytes; one file cannot hold it")
    onnx.checker.check_model(model, full_check=True)
    _require_zeros(module, model, out)
    write_bytes(out, model.SerializeToString(deterministic=True))
    return out


def _choose(opset: int | None) -> int:
    newest = readable().opset
    if opset is None:
        return min(EXPORTER_OPSET, newest)
    if not 18 <= opset <= newest:
        raise UsageError(
            f"opset: expected 18 to {newest}, what the exporter and the installed runtime share, got {opset}"
        )
    return opset


def _exported(module: nn.Module, example: Tensor, opset: int) -> Any:
    """The exporter's program. A batch of one would be taken for a constant, so two are shown."""
    shown = example if len(example) > 1 else torch.cat([example, example])
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with _quiet():
            return torch.onnx.export(
                module,
                (shown,),
                dynamo=True,
                dynamic_shapes=({0: BATCH},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    finally:
        for child, training in modes.items():
            child.training = training


@contextmanager
def _quiet() -> Generator[None]:
    """Silence notes that are no fault of the model: torchvision is absent, a constant is not folded, deprecations."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Take out everything that is not the graph: doc strings, traces, shapes of intermediate values."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    graph.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _require_zeros(module: nn.Module, model: onnx.ModelProto, out: Path) -> None:
    expected = sum(int((value == 0).sum()) for value in module.parameters() if value.ndim >= 2)
    found, _ = weight_zeros(model)
    if found < expected:
        raise CorruptError(
            f"{out}: expected at least {expected} zero weights as in the module, got {found} in the graph"
        )
