"""`sparsify bench`: any ONNX files timed side by side, each against the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsify.cli.console import console
from sparsify.counted import counted
from sparsify.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from sparsify.pipeline.bench import BenchSpec, Comparison

_INCONCLUSIVE = 5


def command(
    files: Annotated[list[Path], typer.Argument(help="ONNX files; the first is what the others are compared with.")],
    target: Annotated[
        str, typer.Option("--target", "--runtime", help="Where they run: a name of `sparsify ls targets`.")
    ] = "onnxruntime-cpu",
    threads: Annotated[
        int, typer.Option(help="Threads the runtime may use; the process is pinned to as many cores.")
    ] = 1,
    batch: Annotated[str, typer.Option(help="Batch sizes for a dynamic first axis: 1,8,32.")] = "",
    shape: Annotated[
        list[str] | None, typer.Option(help="Shape of an input that the graph leaves open: name=1x3x224x224.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Interleaved pairs per process.")] = 400,
    launches: Annotated[int, typer.Option(help="Fresh processes; 3 or more for a figure to publish.")] = 1,
    equivalence: Annotated[
        float, typer.Option(help="Half-width of the band around 1 that is called equivalent.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of the inputs and of the order within pairs.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document, raw samples included, on stdout.")
    ] = False,
) -> None:
    """Time ONNX files side by side. Exit 0 when decided, 5 when too noisy to say, 6 when the target cannot run here."""
    from sparsify.cli.shapes import read_shape
    from sparsify.pipeline.bench import BenchSpec

    spec = BenchSpec(
        files=tuple(files),
        runtime=target,
        threads=threads,
        batches=_batches(batch),
        shapes=dict(map(read_shape, shape or ())),
        pairs=pairs,
        launches=launches,
        equivalence=equivalence,
        seed=seed,
    )
    found = _measured(spec, quiet=as_json)
    if as_json:
        print(json.dumps(_document(spec, found), allow_nan=False))
    else:
        _show(spec, found)
    if any(comparison.latency.verdict.word == "inconclusive" for comparison in found):
        raise typer.Exit(_INCONCLUSIVE)


def _batches(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--batch: expected whole numbers such as 1,8,32, got {text!r}") from None


def _measured(spec: BenchSpec, *, quiet: bool) -> list[Comparison]:
    from rich.progress import Progress

    from sparsify.pipeline.bench import bench, launches_of

    out = console(stderr=True, quiet=quiet)
    with Progress(console=out, disable=quiet or not out.is_terminal, transient=True) as progress:
        task = progress.add_task("measuring", total=launches_of(spec))
        return bench(spec, done=lambda: progress.advance(task))


def _document(spec: BenchSpec, found: list[Comparison]) -> dict[str, Any]:
    return {
        "files": [str(path) for path in spec.files],
        "runtime": spec.runtime,
        "threads": spec.threads,
        "comparisons": [comparison.to_json() for comparison in found],
    }


def _show(spec: BenchSpec, found: list[Comparison]) -> None:
    """A table of the comparisons, and beneath it what a reader of any of them must know."""
    out = console(stderr=True)
    out.print(_table(found))
    launch = found[0].latency.launches[0]
    facts = launch.environment
    out.print(
        f"{launch.dense['name']} {launch.dense['version']} ({launch.dense['provider']}), "
        f"{counted(spec.threads, 'thread')} on cores {facts['affinity']}, "
        f"{counted(spec.launches, 'process', 'processes')} of {spec.pairs} pairs in "
        f"{len(set(launch.ab.session))} sessions, after {launch.warmup} warm-ups; "
        f"{facts['processor']}, governor {facts['governor'] or 'unknown'}, load {facts['load_average_after']}; "
        f"timed: {facts['timed']}",
        style="dim",
    )
    for comparison in found:
        verdict = comparison.latency.verdict
        out.print(f"{comparison.other.name}: {verdict.word}: {verdict.reason}")


def _table(found: list[Comparison]) -> Table:
    from rich.table import Table

    rows = [(comparison, comparison.latency.comparison()) for comparison in found]
    enough = [name for name in ("p90", "p95", "p99") if all(name in row["dense_ms"] for _, row in rows)]
    percents = ["p50", *enough[-1:]]
    table = Table(title=f"latency in ms; speedup over {found[0].first.name}, above 1 = faster")
    for column in ("batch", "network", *percents, "speedup (95%)", "verdict", "A/A (95%)"):
        table.add_column(column, overflow="fold", no_wrap=column in ("verdict", *percents))
    for comparison, row in rows:
        size = str(comparison.latency.launches[0].environment["batch"])
        table.add_row(size, comparison.first.name, *(f"{row['dense_ms'][name]:.4g}" for name in percents), "1", "", "")
        table.add_row(
            size,
            comparison.other.name,
            *(f"{row['sparse_ms'][name]:.4g}" for name in percents),
            f"{row['speedup']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})",
            row["verdict"],
            f"{row['aa']['ci_low']:.3f} to {row['aa']['ci_high']:.3f}",
            end_section=True,
        )
    return table
