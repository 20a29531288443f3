"""`inspect`: which of the things we know a path is, and the document that describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparsify.errors import InputOutputError, UsageError
from sparsify.store.layout import PACKED, RESOLVED, STAGE, WEIGHTS

# The packed tensors of `sparsify.store.packed`; spelled out here so that telling a file's kind imports no torch.
_PACKED_MAGIC = b"SPKTICKT"
_KNOWN = "a run folder, a stage of one, a ticket's folder, .safetensors, .packed or .onnx"


def inspect(path: Path) -> dict[str, Any]:
    """Describe what lies at `path`; the document's `kind` is `run`, `stage`, `tensors` or `onnx`.

    A run is described from its records and masks, and by the ticket it exported. Torch is imported for stages with
    weights and for tensors, onnx for ONNX files.

    Raises:
        InputOutputError: Nothing is there, or it cannot be read.
        UsageError: It is none of the things that can be inspected.
        CorruptError: It is damaged where it was read; only `sparsify verify` reads everything.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise InputOutputError(f"{path}: expected {_KNOWN}, got nothing there; check the path")
    if path.suffix == ".onnx":
        from sparsify.pipeline.inspection.onnx_file import describe_onnx

        return describe_onnx(path)
    if path.suffix == ".safetensors":
        from sparsify.pipeline.inspection.tensors import describe_safetensors

        return describe_safetensors(path)
    if _begins_with(path, _PACKED_MAGIC):
        from sparsify.pipeline.inspection.tensors import describe_packed

        return describe_packed(path)
    raise UsageError(f"{path}: expected {_KNOWN}, got another kind of file")


def _folder(path: Path) -> dict[str, Any]:
    if (path / RESOLVED).is_file():
        return _run(path)
    if any((path / name).is_file() for name in (STAGE, WEIGHTS, PACKED)):
        from sparsify.pipeline.inspection.stage import describe_stage

        return describe_stage(path)
    raise UsageError(
        f"{path}: expected {_KNOWN}, got a folder with neither {RESOLVED}, {STAGE}, {WEIGHTS} nor {PACKED}"
    )


def _run(path: Path) -> dict[str, Any]:
    """The run, and under `exported` the network it exported, layer by layer; None where it has not come so far."""
    from sparsify.pipeline.inspection.run import describe_run

    document = describe_run(path)
    exports = [stage for stage in document["stages"] if stage["kind"] == "export"]
    kept = next((stage for stage in exports if stage["path"].startswith("export/")), None)
    if kept is None:
        return document | {"exported": None}
    from sparsify.pipeline.inspection.stage import describe_stage

    return document | {"exported": describe_stage(path / kept["parents"]["ticket"], path / kept["path"])}


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
