"""Every architecture of the sweep tried, and the outcomes as a table and as JSON.

    python tests/table_of_architectures.py docs/results/architectures

Writes FILE.md and FILE.json. A wrong answer is an AssertionError, which ends it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torchvision_schemas as torchvision_schemas  # before what imports torchvision
from architecture_trial import ASKED, Outcome, try_out
from cases_architectures import ARCHITECTURES
from sparsify.machine import versions

DISTRIBUTIONS = ("torch", "torchvision", "timm", "transformers", "torch-pruning", "onnx", "onnxruntime")
TEXT = """\
# Channels of {count} architectures that are not ours

Random weights, {asked:.0%} of the prunable weights asked for, by magnitude. Each network is inspected, cut, compared
with its masked original in float64, saved, loaded again (bit for bit the same outputs), exported to ONNX and compared
with ONNX Runtime at batches of 1 and 3. {summary}.

`python tests/table_of_architectures.py docs/results/architectures` repeats it; `make sweep` runs the same as tests.
Versions: {versions}.

{head}
{rows}

*To the mask*: largest difference between the smaller network and the masked one, as a part of the largest output, in
float64. *ONNX Runtime to PyTorch*: the same, in float32, between the runtime and PyTorch. A layer left alone is never
left in silence: preflight names it and says why (it gives the network's output, its code computes a head's size from
the input's width, its channels meet in an operation that the trace does not follow). Layers are counted in the network
as it is cut, where each `nn.MultiheadAttention` is four.
"""


HEAD = (
    "architecture",
    "outcome",
    "weights gone",
    "MACs left",
    "layers cut, of all",
    "left alone",
    "to the mask",
    "ONNX Runtime to PyTorch",
)


def rendered(outcomes: Sequence[Outcome]) -> str:
    """The page."""
    statuses = Counter(
        "refused"
        if outcome.status == "refused"
        else f"{outcome.status} and {'not exported' if outcome.parity is None else 'exported'}"
        for outcome in outcomes
    )
    return TEXT.format(
        count=len(outcomes),
        asked=ASKED[0],
        summary=", ".join(f"{number} {status}" for status, number in statuses.items()).capitalize(),
        versions=", ".join(f"{name} {version}" for name, version in versions(*DISTRIBUTIONS).items()),
        head=f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}",
        rows="\n".join(map(_row, outcomes)),
    )


def _row(outcome: Outcome) -> str:
    name = outcome.source.replace("transformers:", "transformers: ").replace("#", " ")
    if outcome.status == "refused":
        return f"| {name} | refused: {outcome.reason} | | | | | | |"
    told = f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status
    cells = (
        name,
        told,
        f"{outcome.sparsity:.1%}",
        f"{outcome.macs:.1%}",
        f"{outcome.cut} of {outcome.layers}",
        str(outcome.skipped),
        f"{outcome.difference:.1e}",
        "not exported" if outcome.parity is None else f"{outcome.parity:.1e}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Try all, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write, without an ending")
    file: Path = parser.parse_args().file
    outcomes: list[Outcome] = []
    for architecture in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(try_out(architecture, Path(folder)))
        print(f"{outcomes[-1].source}: {outcomes[-1].status}", file=sys.stderr, flush=True)
    write(file, outcomes)


def write(file: Path, outcomes: Sequence[Outcome]) -> None:
    """FILE.md and FILE.json."""
    facts = {"versions": versions(*DISTRIBUTIONS), "outcomes": [asdict(outcome) for outcome in outcomes]}
    file.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    file.with_suffix(".md").write_text(rendered(outcomes))


if __name__ == "__main__":
    main()
