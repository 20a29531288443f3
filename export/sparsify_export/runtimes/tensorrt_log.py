"""What TensorRT's log says: kept, and read for the layers that the builder fused.

With `ProfilingVerbosity.DETAILED` and a verbose logger the builder ends with a block that lists the engine's layers,
each with the ONNX nodes it covers. It is the only view of the fused graph that needs no GPU.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_NEW = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: .*?"
    r"TacticName: (?P<tactic>.*?), .*?Metadata: (?P<nodes>.*)$"
)
_OLD = re.compile(r"^Layer\((?P<kind>\w+)\): (?P<name>.*?), Tactic: (?P<tactic>[^,]*)")
_ONNX_LAYER = "[ONNX Layer: "


@dataclass(frozen=True)
class FusedLayer:
    """One layer of the built engine, and the ONNX nodes that it covers (none for a copy or a shape computation)."""

    name: str
    kind: str
    tactic: str
    onnx_nodes: tuple[str, ...]


@dataclass(frozen=True)
class Messages:
    """The log's messages in order, as (severity, text); severities are TensorRT's names, such as `WARNING`."""

    entries: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def of(self, *severities: str) -> tuple[str, ...]:
        """Texts of these severities, each once, in order."""
        return tuple(dict.fromkeys(text for severity, text in self.entries if severity in severities))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What TensorRT warned of."""
        return self.of("WARNING")

    @property
    def errors(self) -> tuple[str, ...]:
        """What TensorRT called an error."""
        return self.of("ERROR", "INTERNAL_ERROR")

    @property
    def last_error(self) -> str:
        """The latest error, to say why a call answered no."""
        errors = [text for severity, text in self.entries if severity in ("ERROR", "INTERNAL_ERROR")]
        return errors[-1] if errors else "no reason given"

    @property
    def sparsity(self) -> tuple[str, ...]:
        """What TensorRT itself said of sparse kernels, word for word; TensorRT RTX says nothing."""
        return tuple(text for _, text in self.entries if text.startswith("(Sparsity)"))


def recording_logger(trt: Any, messages: Messages, *, verbose: bool) -> Any:
    """A logger of the module `trt` that writes into `messages`: all, or warnings and errors only. Keep it alive."""
    kept = None if verbose else ("WARNING", "ERROR", "INTERNAL_ERROR")

    def start(self: Any) -> None:
        trt.ILogger.__init__(self)

    def log(self: Any, severity: Any, text: str) -> None:
        if kept is None or severity.name in kept:
            messages.entries.append((severity.name, text))

    return type("RecordingLogger", (trt.ILogger,), {"__init__": start, "log": log})()


def fused_layers(texts: Sequence[str]) -> tuple[FusedLayer, ...]:
    """The engine's layers as the last listing in `texts` gives them; empty where there is none.

    Two formats are read: `Name: ..., LayerType: ...` (RTX, newer TensorRT) and `Layer(Kind): ...` (older).
    """
    listing: tuple[FusedLayer, ...] = ()
    for text in texts:
        if "Layers:" in text or "Engine Layer Information:" in text:
            listing = tuple(
                _layer(match) for line in text.split("\n") if (match := _NEW.match(line) or _OLD.match(line))
            )
    return listing


def _layer(match: re.Match[str]) -> FusedLayer:
    groups = match.groupdict(default="")
    # a name may itself hold brackets; between two stands a control character (U+001F), which `rstrip` takes off
    parts = groups.get("nodes", "").split(_ONNX_LAYER)[1:]
    nodes = tuple(part.rstrip().removesuffix("]") for part in parts)
    return FusedLayer(name=groups["name"], kind=groups["kind"], tactic=groups["tactic"], onnx_nodes=nodes)
