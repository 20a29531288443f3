"""One stage of a run, such as a ticket: its layers, its three sizes, and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparsify.data.preprocessing import Preprocessing
from sparsify.errors import CorruptError, InputOutputError
from sparsify.store.layout import PACKED, RESOLVED, WEIGHTS
from sparsify.store.stage import StageRecord, read_stage

_MASK, _NETWORK, _SIZES = "mask.safetensors", "network.json", "sizes.json"
_HISTORY = "history.json"
# Inputs that a shrunk network must agree on with the masked one; noise exercises every channel.
_EXAMPLES = 4


def describe_stage(folder: Path, export: Path | None = None) -> dict[str, Any]:
    """The document of a stage, or of a folder with a stage's files and no record.

    Args:
        folder: The stage.
        export: An export of the network in it, which has its sizes: packing and shrinking it again takes long.

    Raises:
        CorruptError: A file that was read is damaged.
        InputOutputError: A file cannot be read.
    """
    record = read_stage(folder)
    document: dict[str, Any] = {"kind": "stage", "path": str(folder), "record": None, "lineage": []}
    if record is not None:
        document["record"] = asdict(record)
        document["lineage"] = lineage(folder, record)
    document |= {
        "network": _json(folder / _NETWORK),
        "preprocessing": told(folder),
        "precision": (_json(folder / _HISTORY) or {}).get("precision"),
        "layers": [],
        "totals": None,
        "sizes_bytes": _json(folder / _SIZES),
    }
    if any((folder / name).exists() for name in (WEIGHTS, PACKED)):
        document |= _weights(folder, None if export is None else _json(export / _SIZES))
    return document


def told(folder: Path) -> str | None:
    """How the network in `folder` is fed, in a line; None where nothing says so. Raises `CorruptError`."""
    found = Preprocessing.found(folder)
    return None if found is None else found.told


def lineage(folder: Path, record: StageRecord) -> list[dict[str, Any]]:
    """All that a stage was made from, nearest first, each once.

    `state` is `intact` where the parent's record still has the digest that was read, `stale` where it has another,
    `absent` where it is gone or the run around the folder cannot be found.
    """
    root = next((up for up in folder.resolve().parents if (up / RESOLVED).is_file()), None)
    found: dict[str, dict[str, Any]] = {}
    queue = [record]
    while queue:
        for role, parent in sorted(queue.pop(0).parents.items()):
            if parent["path"] in found:
                continue
            ancestor = read_stage(root / parent["path"]) if root else None
            state = "absent" if ancestor is None else "intact" if ancestor.digest == parent["digest"] else "stale"
            kind, seeds = (ancestor.kind, ancestor.seeds) if ancestor else (None, {})
            found[parent["path"]] = {"role": role, **parent, "state": state, "kind": kind, "seeds": seeds}
            queue += [ancestor] if ancestor else []
    return list(found.values())


def _weights(folder: Path, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Layers and totals, counted from the mask where there is one, and the three sizes where they are not known."""
    from sparsify.pipeline.inspection.layers import totals
    from sparsify.pipeline.inspection.tensors import layers_of, sizes_of_state, weights_among
    from sparsify.store.network_weights import load_weights
    from sparsify.store.weights import load_tensors

    weights = load_weights(folder)
    masked = load_tensors(folder / _MASK) if (folder / _MASK).exists() else weights
    types = {one["name"]: one["dtype"] for one in layers_of(weights)}
    layers = [one | {"dtype": types.get(one["name"], one["dtype"])} for one in weights_among(layers_of(masked))]
    if known is not None:
        sizes = {name: known[name] for name in ("masked", "packed", "shrunk")}
    else:
        packed = folder / PACKED
        sizes = sizes_of_state(weights, packed.stat().st_size if packed.is_file() else None)
        if (folder / _NETWORK).exists():
            sizes["shrunk"] = _shrunk_bytes(folder)
    return {"layers": layers, "totals": totals(layers), "sizes_bytes": sizes}


def _shrunk_bytes(folder: Path) -> int | None:
    """None where the network is built by somebody's own code, which looking at a folder does not run."""
    from sparsify.channels.shrink import shrink
    from sparsify.lottery.ticket import Ticket
    from sparsify.models.source_name import kind_of

    ticket = Ticket(folder)
    if kind_of(ticket.network.model) == "import":
        return None
    return shrink(ticket.module(), ticket.network.example(_EXAMPLES)).bytes


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CorruptError(f"{path}: expected JSON, got: {error}; check the folder with `sparsify verify`") from error
    except OSError as error:
        raise InputOutputError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
