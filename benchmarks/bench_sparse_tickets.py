"""Networks that were trained and pruned, on sparse operators: their metric beside PyTorch's, their time beside dense.

    python benchmarks/bench_sparse_tickets.py accuracy lenet=runs/lenet ... --scratch FOLDER [--most 1000]
    python benchmarks/bench_sparse_tickets.py latency lenet=runs/lenet ... --scratch FOLDER [--pairs 200 --launches 3]

NAME=RUN is a finished run of `sparsify run` or `sparsify prune` with an export to onnxruntime-cpu; it is only read.
`accuracy` puts every layer on sparse operators (min_sparsity 0), so that all of them are tried, and reads the test set
with eager PyTorch, the graph with its zeros in place, and the sparse graphs in fp32 and int8; load does not matter.
`latency` rewrites as an export does of itself, where a layer that would lose stays dense, and times the dense network
beside it as `sparsify bench` does; it wants a quiet machine. Networks not named keep the numbers they had.
Writes benchmarks/results/sparse_tickets_PART.json, and docs/results/sparse-tickets.md from both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from protocol import RESULTS, environment, write
from sparsify.data.load import Split, load
from sparsify.lottery.ticket import Ticket
from sparsify.pipeline.bench import BenchSpec, bench
from sparsify.pipeline.export import export_file
from sparsify.pipeline.prune_read import difference
from sparsify.recipe.prune_recipe import PruneRecipe
from sparsify.recipe.spec import Recipe, SparsePrecision, SparseSpec
from sparsify.store.run import Run
from sparsify.store.stage import read_stage
from sparsify.train.evaluate import evaluate
from sparsify.train.targets import dense_targets
from sparsify.train.task import CLASSIFICATION, TASKS, Task
from sparsify.train.task_catalogue import TASKS as ENTRIES
from sparsify_export.onnx_graph import INPUT, OUTPUT
from sparsify_export.runtimes.onnxrt import OnnxRuntime
from sparsify_export.sparse.operators import ATTENTION
from sparsify_export.targets import TARGETS

PAGE = Path(__file__).resolve().parents[1] / "docs/results/sparse-tickets.md"
PRECISIONS: tuple[SparsePrecision, ...] = ("f32", "i8")
EAGER = "PyTorch"
COST = 0.005
"""What int8 may cost at most, in the task's metric."""
_EXAMPLES = 64


@dataclass(frozen=True)
class Pruned:
    """A run, and where what is made of it goes."""

    name: str
    root: Path
    scratch: Path

    @property
    def exported(self) -> Path:
        return self.root / "export" / "onnxruntime-cpu"

    @cached_property
    def recipe(self) -> Recipe | PruneRecipe:
        values = Run.load(self.root).recipe
        return (PruneRecipe if values.get("kind") == "prune" else Recipe).model_validate(values)

    @property
    def task(self) -> Task:
        return TASKS[self.recipe.task] if isinstance(self.recipe, PruneRecipe) else CLASSIFICATION

    @cached_property
    def test(self) -> Split:
        return load(self.recipe.data, trained=isinstance(self.recipe, PruneRecipe)).test

    def module(self, role: Literal["ticket", "dense"]) -> nn.Module:
        """What was exported, or the dense network beside it."""
        record = read_stage(self.exported)
        if record is None:
            raise SystemExit(f"{self.exported}: expected a finished export, got none")
        allowed = self.recipe.trained.allow_import if isinstance(self.recipe, PruneRecipe) else ()
        return Ticket(self.root / record.parents[role]["path"]).module(allow_import=allowed)

    def rewritten(self, precision: SparsePrecision, least: Literal["auto"] | float) -> Path:
        """The folder of the sparse graph, made once; held against the dense one on images of the test set."""
        out = self.scratch / self.name / f"{precision}-{least}"
        if not out.exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            examples = out.parent / "examples.npz"
            np.savez(examples, **{INPUT: self.test.inputs(slice(_EXAMPLES)).numpy()})
            sparse = SparseSpec(precision=precision, min_sparsity=least)
            target = TARGETS["sparse-cpu"]
            export_file(self.exported / "model.onnx", target, out, sparse=sparse, examples=examples)
        return out


class OnRuntime(nn.Module):
    """A graph in place of a module."""

    def __init__(self, runtime: OnnxRuntime) -> None:
        super().__init__()
        self._runtime = runtime

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self._runtime.infer({INPUT: images.numpy()})[OUTPUT])


def main() -> None:
    """Measure what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("accuracy", "latency"))
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for graphs, outside this repository")
    parser.add_argument("--most", type=int, default=10**9, help="examples of the test set; accuracy only")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results as they are")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for text in options.runs:
        name, _, root = text.partition("=")
        pruned = Pruned(name, Path(root), options.scratch)
        if options.part == "accuracy":
            found = facts(pruned, 0.0) | accuracy(pruned, options.most)
        else:
            found = facts(pruned, "auto") | latency(pruned, options.pairs, options.launches)
        print(json.dumps({name: found}, indent=1))
        if options.write:
            keep(options.part, name, found)
    if options.write:
        PAGE.write_text("\n".join(page(read("accuracy"), read("latency"))) + "\n")


def facts(pruned: Pruned, least: Literal["auto"] | float) -> dict[str, Any]:
    """What it is, and what the rewriting made of it."""
    metrics = json.loads((pruned.root / "metrics.json").read_text())
    reports: dict[str, list[Any]] = {}
    for precision in PRECISIONS:
        rows = json.loads((pruned.rewritten(precision, least) / "report.json").read_text())["layers"]
        reports[precision] = [row for row in rows if row["operator"] != ATTENTION]  # which has no weights
    return {
        "model": metrics["run.model"],
        "data": pruned.recipe.data.source,
        "sparsity": metrics["export.sparsity"],
        "layers": len(reports["f32"]),
        "replaced": {name: sum(row["replaced"] for row in rows) for name, rows in reports.items()},
        "replaced_bytes": {name: sum(row["bytes"] for row in rows) for name, rows in reports.items()},
        "replaced_dense_bytes": {name: sum(row["dense_bytes"] for row in rows) for name, rows in reports.items()},
        "packed_fraction": metrics["size.packed_fraction"],
        "environment": environment("torch", "onnxruntime", "sparsify-kernels"),
    }


def accuracy(pruned: Pruned, most: int) -> dict[str, Any]:
    """The metric of every arm on the test set, and how far below eager PyTorch it lies, paired example by example."""
    split, task = Split(pruned.test.inputs(slice(most)), pruned.test.labels[:most]), pruned.task
    if not ENTRIES[task.name].labelled:
        split = Split(split.images, dense_targets(pruned.module("dense"), split))
    graphs = {"zeros in place": pruned.exported / "model.onnx"}
    graphs |= {f"sparse {precision}": pruned.rewritten(precision, 0.0) / "model.onnx" for precision in PRECISIONS}
    scores = {EAGER: evaluate(pruned.module("ticket"), split, task=task)}
    for arm, graph in graphs.items():
        with OnnxRuntime(graph) as runtime:
            scores[arm] = evaluate(OnRuntime(runtime), split, task=task)
    eager = scores[EAGER].scores.numpy()
    below = {arm: difference(eager, score.scores.numpy()).to_json() for arm, score in scores.items() if arm != EAGER}
    values = {arm: score.value for arm, score in scores.items()}
    return {"metric": task.metric, "examples": len(split), "value": values, "below_pytorch": below}


def latency(pruned: Pruned, pairs: int, launches: int) -> dict[str, Any]:
    """The dense network beside the pruned one on sparse operators, one example, one thread."""
    graphs = [pruned.rewritten(precision, "auto") / "model.onnx" for precision in PRECISIONS]
    files = (pruned.exported / "dense.onnx", *graphs)
    found = bench(BenchSpec(files=files, runtime="sparse-cpu", pairs=pairs, launches=launches))
    told = {}
    for precision, comparison in zip(PRECISIONS, found, strict=True):
        ratios = [list(launch.ab.session_ratios()) for launch in comparison.latency.launches]
        loads = [launch.environment["load_average_before"][0] for launch in comparison.latency.launches]
        told[precision] = comparison.latency.comparison() | {"session_ratios": ratios, "load_before": loads}
    return {"latency": told}


def read(part: str) -> dict[str, Any]:
    """What was measured of a part so far, by network."""
    path = RESULTS / f"sparse_tickets_{part}.json"
    return json.loads(path.read_text())["networks"] if path.exists() else {}


def keep(part: str, name: str, found: dict[str, Any]) -> None:
    """Write one network's numbers beside those of the others."""
    what = "metric on the test set" if part == "accuracy" else "one inference, batch 1, one thread"
    write(f"sparse_tickets_{part}", {"what": what, "networks": {**read(part), name: found}})


def page(accuracies: dict[str, Any], latencies: dict[str, Any]) -> Iterator[str]:
    """Markdown."""
    yield "# Pruned networks on sparse operators\n"
    yield (
        "`python benchmarks/bench_sparse_tickets.py accuracy` and `latency` write this page; its head says how. "
        "Networks were trained and pruned by `sparsify run` and `sparsify prune`.\n"
    )
    yield "## The metric on the test set, every layer on sparse operators\n"
    yield (
        "Eager PyTorch minus the runtime, paired example by example, in points (hundredths of the metric), "
        f"with its 95% interval. Int8 may cost {100 * COST:g} points at most.\n"
    )
    yield "| network | sparsity | layers | metric, examples | PyTorch | zeros in place | sparse f32 | sparse i8 | i8 |"
    yield "|" + "---|" * 9
    for name, one in accuracies.items():
        below = one["below_pytorch"]
        cells = [f"{name}: {one['model']}", f"{one['sparsity']:.1%}", f"{one['replaced']['f32']} of {one['layers']}"]
        cells += [f"{one['metric']}, {one['examples']}", f"{one['value'][EAGER]:.4f}"]
        cells += [points(below[arm]) for arm in ("zeros in place", "sparse f32", "sparse i8")]
        yield row(*cells, held(below["sparse i8"]))
    yield "\n## Bytes of the same layers, of dense fp32\n"
    yield "| network | in place, f32 | in place, i8 | whole network packed for storage, f32 |"
    yield "|" + "---|" * 4
    for name, one in accuracies.items():
        shares = [one["replaced_bytes"][each] / one["replaced_dense_bytes"][each] for each in PRECISIONS]
        yield row(name, *(f"{share:.1%}" for share in (*shares, one["packed_fraction"])))
    yield "\n## Time, where layers that would lose stay dense\n"
    if not latencies:
        yield "Not taken yet."
        return
    yield "| network | precision | layers replaced | dense ms | sparse ms | speedup [95%], verdict | load |"
    yield "|" + "---|" * 7
    for name, one in latencies.items():
        for precision, found in one["latency"].items():
            speedup = f"{found['speedup']:.3f} [{found['ci_low']:.3f}, {found['ci_high']:.3f}], {found['verdict']}"
            times = [f"{found[which]['p50']:.4g}" for which in ("dense_ms", "sparse_ms")]
            replaced = f"{one['replaced'][precision]} of {one['layers']}"
            yield row(name, precision, replaced, *times, speedup, f"{max(found['load_before']):.1f}")


def points(interval: dict[str, Any]) -> str:
    """A difference of the metric in points."""
    estimate, low, high = (100 * interval[key] for key in ("estimate", "ci_low", "ci_high"))
    return f"{estimate:+.3f} [{low:+.3f}, {high:+.3f}]"


def held(interval: dict[str, Any]) -> str:
    """Whether int8 costs no more than it may, by the whole interval."""
    if interval["ci_high"] <= COST:
        return "held"
    return "missed" if interval["ci_low"] > COST else "undecided"


def row(*cells: str) -> str:
    """One row of a table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
