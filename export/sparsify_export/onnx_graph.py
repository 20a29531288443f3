"""A module becomes a checked ONNX file: dynamic batch, zeros kept, equal bytes for equal weights.

The exporter is torch's (dynamo). What it adds beyond the graph is taken out: stack traces carry the paths of the
machine that exported, and names of fx nodes are no use to a reader. BatchNorm after Conv is folded into it by the
exporter: the zeros stay, the values differ from the checkpoint's.
"""

from __future__ import annotations

import logging
import re
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
from sparsify.models.build import prunable
from sparsify.store.atomic import write_bytes
from sparsify_export.installed import EXPORTER_OPSET, readable
from sparsify_export.onnx_check import LARGEST, weight_zeros

INPUT, OUTPUT, BATCH = "input", "logits", "batch"
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
        UsageError: The opset is beyond the installed runtime's, the graph is over 2 GB, or the exporter cannot follow
            the network.
        CorruptError: The graph fails onnx's checker, or zeros of the weights were lost.
    """
    chosen = _choose(opset)
    program = _exported(module, example, chosen)
    model = program.model_proto
    model.ir_version = max(helper.find_min_ir_version_for(list(model.opset_import)), 8)
    _strip(model)
    model.doc_string = ""
    helper.set_model_props(model, dict(sorted((metadata or {}).items())))
    if model.ByteSize() > LARGEST:
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
        with torch.no_grad():
            module(shown)  # what it computes once and keeps, such as a table of position biases, is a constant then
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
    except torch.onnx.OnnxExporterError as error:
        raise UsageError(
            f"{type(module).__name__}: expected a network that torch.onnx can export, got {_reason(error)}; it is the "
            "network's code that has to change, its weights have no part in it"
        ) from error
    finally:
        for child, training in modes.items():
            child.training = training


def _reason(error: BaseException) -> str:
    """What went wrong at first, in a line, and where in the network's code if that is told."""
    told = str(error)
    while error.__cause__ is not None:
        error = error.__cause__
        told = f"{told}\n{error}"
    said = next(iter(str(error).strip().splitlines()), "")[:300]
    places = re.findall(r'File "([^"]+)", line (\d+)', told)
    where = f" (at {Path(places[-1][0]).name}:{places[-1][1]})" if places else ""
    return f"{type(error).__name__}: {said}{where}"


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
    # Other parameters may be folded: of a state space model's decay, log 1 is a zero that becomes exp(0).
    expected = sum(int((module.get_parameter(name) == 0).sum()) for name in prunable(module))
    found, _ = weight_zeros(model)
    if found < expected:
        raise CorruptError(
            f"{out}: expected at least {expected} zero weights as in the module, got {found} in the graph"
        )
