"""`sparsify inspect`: what is inside a run, a ticket, a file of tensors or an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsify.cli.console import console
from sparsify.counted import counted

if TYPE_CHECKING:
    from rich.console import RenderableType


def command(
    path: Annotated[
        Path,
        typer.Argument(help="A run folder, a stage or ticket, .safetensors, .packed or .onnx.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show layers and their sparsity, sizes (masked, packed, shrunk) and lineage; reads, and changes nothing."""
    from sparsify.pipeline.inspection import inspect

    document = inspect(path)
    if as_json:
        typer.echo(json.dumps(document, allow_nan=False))
        return
    _show(_PAGES[document["kind"]](document))


def _show(parts: Iterator[RenderableType]) -> None:
    out = console()
    for part in parts:
        out.print(part)


def _run(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    state = "finished" if document["finished"] else "unfinished, the same command resumes it"
    yield f"run {document['name']}: {document['model']} on {document['data']['source']}, {state}"
    stages = len(document["stages"])
    yield f"{counted(stages, 'stage')} complete, {document['elapsed_s']:.0f} s of work, {_bytes(document['bytes'])}"
    yield from _fed(document)
    levels = [
        (one["level"], _percent(one["sparsity"]), f"{one['complete']} of {one['replicates']}")
        for one in document["levels"]
    ]
    if levels:
        yield _table(("level", "sparsity", "replicates complete"), levels)
    if document["controls"]:
        controls = [(c["name"], c["level"], f"{c['complete']} of {c['replicates']}") for c in document["controls"]]
        yield _table(("control", "level", "replicates complete"), controls)
    others = [(path, "complete" if done else "to do") for path, done in document["other_stages"].items()]
    yield _table(("stage", "state"), others)
    if document["asked"]:
        yield from _asked(document["asked"])
    if document["exported"]:
        yield "the network that was kept:" if document["run_kind"] == "prune" else "the exported ticket:"
        yield from _stage(document["exported"])


def _asked(asked: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What was asked of a prune run, what came, and the search."""
    allowed = "" if asked["max_drop"] is None else f" at a drop of at most {asked['max_drop']:g}"
    came = f"{_span(asked['achieved'])} achieved, {asked['outcome']}"
    yield f"target: {asked['kind']} {asked['asked']:g} asked{allowed}, {came}; drop {_span(asked['drop'])}"
    yield f"kept: {asked['reason']}"
    rows = [
        (
            _percent(one["sparsity"]) if one["macs"] is None else f"MACs {_percent(one['macs'])}",
            _span(one["achieved"]),
            _span(one["drop"]),
            one["outcome"] or "",
        )
        for one in asked["trials"]
    ]
    if rows:
        yield _table(("tried", asked["kind"], "drop", "target"), rows)


def _span(found: Mapping[str, float | None] | None) -> str:
    """An estimate and its interval, where it has one."""
    if found is None:
        return ""
    exact = found["ci_low"] is None or found["ci_low"] == found["ci_high"]
    return f"{found['estimate']:.4g}" + ("" if exact else f" ({found['ci_low']:.4g} to {found['ci_high']:.4g})")


def _fed(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    if document["preprocessing"]:
        yield f"fed with {document['preprocessing']}"


def _stage(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    record, network = document["record"], document["network"]
    kind = f"{record['kind']} stage" if record else "stage without a record"
    built = f": {network['model']} for {'x'.join(map(str, network['input_shape']))}" if network else ""
    yield f"{kind} {document['path']}{built}"
    yield from _fed(document)
    if document["precision"]:
        yield f"trained in {document['precision']}"
    if document["layers"]:
        yield _layers(document["layers"])
        yield _totals("prunable weights", document["totals"])
    if document["sizes_bytes"]:
        yield _sizes(document["sizes_bytes"])
    if not record:
        return
    yield _table(("file", "bytes"), [(name, file["size"]) for name, file in record["files"].items()])
    yield f"digest {record['digest']}"
    yield f"key    {record['key']}"
    yield f"made {record['created']} in {record['elapsed_s']:.1f} s, {_pairs(record['versions'])}"
    yield f"seeds  {_pairs(record['seeds'])}"
    if document["lineage"]:
        rows = [
            (one["path"], one["role"], one["kind"] or "?", one["digest"][:16], one["state"], _pairs(one["seeds"]))
            for one in document["lineage"]
        ]
        yield _table(("made from", "as", "kind", "digest", "state", "seeds"), rows)


def _tensors(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield f"tensors {document['path']}, {_bytes(document['file_bytes'])}"
    yield _layers(document["layers"])
    yield _totals("all tensors", document["totals"])
    yield _totals("weights (two axes or more, and masks)", document["weights"])
    if document["sizes_bytes"]:
        yield _sizes(document["sizes_bytes"])
    if document["metadata"]:
        yield _table(("metadata", "value"), list(document["metadata"].items()))


def _onnx(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    opset = ", ".join(f"{domain} {version}" for domain, version in document["opset"].items())
    beside = f" and {_bytes(document['external_bytes'])} beside it" if document["external_bytes"] else ""
    yield f"ONNX {document['path']}, {_bytes(document['file_bytes'])}{beside}"
    yield f"opset {opset}; IR {document['ir_version']}; made by {document['producer'] or 'unknown'}"
    yield from _fed(document)
    ends = [(way, one) for way in ("inputs", "outputs") for one in document[way]]
    rows = [(way.removesuffix("s"), one["name"], one["dtype"], _shape(one["shape"])) for way, one in ends]
    yield _table(("", "name", "type", "shape"), rows)
    yield _layers(document["layers"])
    yield _totals("weights (two axes or more)", document["weights"])
    if plan := document["plan"]:
        yield f"sparse operators, {plan['precision']}: {plan['summary']}"
        yield plan_table(plan["layers"])
    yield _table(("operator", "nodes"), list(document["nodes"].items()))


_PAGES: dict[str, Callable[[Mapping[str, Any]], Iterator[RenderableType]]] = {
    "run": _run,
    "stage": _stage,
    "tensors": _tensors,
    "onnx": _onnx,
}


def _layers(layers: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows = [
        (
            one["name"],
            one["dtype"],
            _shape(one["shape"]),
            f"{one['kept']:,} of {one['elements']:,}",
            _percent(one["sparsity"]),
        )
        for one in layers
    ]
    return _table(("layer", "type", "shape", "kept", "sparsity"), rows)


def plan_table(layers: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What became of each layer that multiplies by weights, and why."""
    rows = [
        (
            one["name"],
            one["operator"],
            _shape(one["shape"]),
            _percent(one["sparsity"]),
            " ".join(one[key] for key in ("precision", "pattern", "kernel")) if one["replaced"] else "left as it is",
            " + ".join(one["fused"]),
            one["reason"],
        )
        for one in layers
    ]
    return _table(("layer", "operator", "shape", "sparsity", "becomes", "fused", "why"), rows)


def _totals(what: str, totals: Mapping[str, Any]) -> str:
    return f"{what}: {totals['kept']:,} of {totals['elements']:,} kept, sparsity {_percent(totals['sparsity'])}"


def _sizes(sizes: Mapping[str, Any]) -> str:
    """The three sizes, each beside what it is of the masked one, which weighs as much as dense."""
    masked = sizes["masked"]
    told = [f"masked {masked:,} bytes"]
    for name in ("packed", "shrunk"):
        size = sizes[name]
        share = f" ({size / masked:.1%} of masked)" if size is not None and masked else ""
        told.append(
            f"{name} {size:,} bytes{share}"
            if size is not None
            else f"{name}: not counted, for want of a network that we build"
        )
    return "sizes: " + "; ".join(told)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[i], int) or str(row[i]).endswith(("%", "-")) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    return table


def _shape(shape: Sequence[int | str | None] | None) -> str:
    if shape is None:
        return "?"
    sizes = all(isinstance(one, int) for one in shape)
    return ("x" if sizes else " x ").join("?" if one is None else str(one) for one in shape) or "scalar"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _bytes(count: int) -> str:
    return f"{count:,} bytes" if count < 10_000 else f"{count / 1e6:,.2f} MB"


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"
