"""A table over prunings of one trained network: pattern, sparsity, criterion and recovery, each a `sparsify prune`.

python benchmarks/prune_grid.py GRID.yaml --scratch FOLDER [--set latency.pairs=200 ...]

GRID.yaml has
  recipe:   a recipe of kind prune as a mapping;
  told:     what is pruned, on what, by what recovery; it stands above the table;
  shows:    (optional) what the numbers say, below it;
  cells:    lists of overrides as `--set` takes them, a row each;
  control:  (optional) one more such list, the first row: the dense network trained on as long as the pruned ones are
            (sparsity 0 and their recovery). Drops are then told against it too;
  seeds:    (optional) every cell is run for each; `{seed}` in a text of the recipe stands for the seed.
Every cell is a run folder under FOLDER; the dense network is opened and scored once and taken by the others. What is
complete is not run again; nor is it when `--set` adds what does not bear on it, which is how latencies alone are taken
again on a quieter machine. Writes docs/results/prune-GRID.md and .json: the metric on validation and its drop with the
interval, the drop on test, size, and measured latency with its verdict.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sparsify.pipeline.prune_plan import TEST
from sparsify.pipeline.prune_read import difference, read_scores
from sparsify.stats import Interval, mean_interval

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (
    "cell",
    "sparsity",
    "MACs left",
    "{metric}",
    "drop [95%]",
    "test drop [95%]",
    "packed",
    "speedup [95%], verdict",
)
OVER_CONTROL = "test drop to control [95%]"


@dataclass(frozen=True)
class Row:
    """One cell's runs, one a seed; `over_control` is the drop on test to the control's run of the same seed."""

    cell: list[str]
    runs: tuple[dict[str, Any], ...]
    over_control: tuple[Interval, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything measured."""
        told = {"over_control": [one.to_json() for one in self.over_control]} if self.over_control else {}
        return {"cell": self.cell, "runs": list(self.runs)} | told


def main() -> None:
    """Run what is not run yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="the grid's file")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for runs, outside this repository")
    parser.add_argument("--set", dest="more", action="append", default=[], metavar="A.B=C", help="for every cell")
    options = parser.parse_args()
    grid = YAML(typ="safe", pure=True).load(options.grid.read_text())
    name = f"prune-{options.grid.stem}"
    rows = table(grid, options.scratch / name, options.more)
    (ROOT / f"docs/results/{name}.json").write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
    (ROOT / f"docs/results/{name}.md").write_text(page(options.grid, grid, rows))


def table(grid: dict[str, Any], scratch: Path, more: list[str]) -> list[Row]:
    """The control, where there is one, and the cells, each over all seeds."""
    scratch.mkdir(parents=True, exist_ok=True)
    seeds = grid.get("seeds", [None])
    control = grid.get("control")
    rows: list[Row] = []
    held: list[Path] = []
    for cell in [*([control] if control else []), *grid["cells"]]:
        folders = [run(grid["recipe"], cell, seed, scratch, more) for seed in seeds]
        if cell == control:
            held = folders
        over = tuple(over_control(a, b) for a, b in zip(held, folders, strict=True)) if held and cell != control else ()
        rows.append(Row(cell, tuple(json.loads((folder / "metrics.json").read_text()) for folder in folders), over))
    return rows


def run(recipe: dict[str, Any], cell: list[str], seed: int | None, scratch: Path, more: list[str]) -> Path:
    """The run folder of one cell and seed, complete; exit 4 and 5 are answers too."""
    path = scratch / f"recipe{'' if seed is None else f'-{seed}'}.yaml"
    path.write_text(json.dumps(recipe).replace("{seed}", str(seed)))
    seeded = [] if seed is None else [f"seed={seed}"]
    plain, folder = (scratch / _hash([*cell, *seeded, *extra]) for extra in ([], more))
    others = [found.parent for found in sorted(scratch.glob("*/manifest.json")) if _same_network(found.parent, seed)]
    shelf = [plain] if folder != plain and (plain / "manifest.json").is_file() else others[:1]
    command = [str(Path(sys.executable).with_name("sparsify")), "run", str(path), "--run-dir", str(folder), "--json"]
    command += [part for text in (*cell, *seeded, *more) for part in ("--set", text)]
    command += [part for other in shelf if other != folder for part in ("--reuse", str(other))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 4, 5):
        raise SystemExit(f"{' '.join(cell)}: exit {done.returncode}: {done.stdout}")
    print(f"{' '.join((*cell, *seeded))}: exit {done.returncode}", file=sys.stderr)
    return folder


def _hash(overrides: list[str]) -> str:
    return hashlib.sha256(json.dumps(overrides).encode()).hexdigest()[:12]


def _same_network(folder: Path, seed: int | None) -> bool:
    """Whether its dense network is that of `seed`."""
    return seed is None or json.loads((folder / "metrics.json").read_text())["run.seed"] == seed


def over_control(control: Path, folder: Path) -> Interval:
    """How much worse than the control on test, paired example by example."""
    return difference(read_scores(control / TEST, "model"), read_scores(folder / TEST, "model"))


def page(path: Path, grid: dict[str, Any], rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    first, seeds = rows[0].runs[0], grid.get("seeds", [])
    head = [column.format(metric=first["run.metric"].replace("_", " ")) for column in COLUMNS]
    if controlled := "control" in grid:
        head.insert(6, OVER_CONTROL)
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    dense = mean_interval([one["network.dense.validation.mean"] for one in rows[0].runs])
    lines.append(f"| dense | 0% | 100% | {dense.estimate:.4f} | | |{' |' * controlled} 100% | |")
    lines += [f"| {' | '.join(cells(row, controlled=controlled))} |" for row in rows]
    where = ", ".join(f"{first[f'environment.{fact}']}" for fact in ("processor", "cores", "versions.torch"))
    paired = (
        f"mean of {len(seeds)} seeds with Student's t interval over seeds; latency is the first seed's"
        if seeds
        else "paired example by example"
    )
    shown = path.resolve().relative_to(ROOT) if path.resolve().is_relative_to(ROOT) else path
    return (
        f"# {path.stem}\n\n{grid.get('told', '')}\n\nEvery row is one `sparsify prune`{' a seed' * bool(seeds)}; "
        f"`python benchmarks/prune_grid.py {shown} --scratch FOLDER` repeats them.\n"
        f"Measured on (processor, cores, torch) {where}; load average while latency was taken: {load(rows)}.\n"
        f"Drops are dense minus pruned, {paired}; speedups are over dense fp32 on ONNX Runtime CPU.\n\n"
        + "\n".join(lines)
        + "\n"
        + (f"\n{grid['shows']}\n" if "shows" in grid else "")
    )


def load(rows: Sequence[Row]) -> str:
    """Lowest and highest one-minute load average before the latencies."""
    key = "latency.onnxruntime-cpu.load_average_before"
    found = [run[key][0] for row in rows for run in row.runs[:1] if key in run]
    return f"{min(found):.1f} to {max(found):.1f}" if found else "not taken"


def cells(row: Row, *, controlled: bool) -> list[str]:
    """One row's cells."""
    first, is_control = row.runs[0], controlled and not row.over_control
    kept = "recovered" if "network.recovered.macs" in first else "pruned"
    drops = [drop(row.runs, "export.drop"), drop(row.runs, "export.test_drop")]
    if controlled:
        drops.append("" if is_control else _shown(_over_seeds(row.over_control)))
    return [
        "dense, trained as long" if is_control else ", ".join(short(text) for text in row.cell),
        f"{_mean(row.runs, 'export.sparsity'):.1%}",
        f"{_mean(row.runs, 'export.macs_fraction'):.1%}",
        f"{_mean(row.runs, f'network.{kept}.validation.mean'):.4f}",
        *drops,
        f"{_mean(row.runs, 'size.packed_fraction'):.1%}",
        speed(first),
    ]


def speed(metrics: dict[str, Any]) -> str:
    """The measured speedup, its interval and verdict; empty where no runtime was timed."""
    name = next((key.removesuffix(".verdict") for key in metrics if key.endswith(".verdict")), None)
    if name is None:
        return ""
    low, high = metrics[f"{name}.speedup.ci_low"], metrics[f"{name}.speedup.ci_high"]
    return f"{metrics[f'{name}.speedup']:.3f} [{low:.3f}, {high:.3f}], {metrics[f'{name}.verdict']}"


def short(override: str) -> str:
    """`removal.pattern=2:4` as `pattern 2:4`, a recovery by its name, and what is turned off as `no finetune`."""
    key, _, value = override.partition("=")
    name = key.removeprefix("recovery.").replace(".", " ") if key.startswith("recovery.") else key.rpartition(".")[2]
    return f"no {name}" if value == "null" else f"{name} {value}"


def drop(runs: Sequence[dict[str, Any]], key: str) -> str:
    """A drop: of one run with its interval over examples, of several their mean with the interval over seeds."""
    found = [Interval(run[key], run[f"{key}.ci_low"], run[f"{key}.ci_high"], 0.95, 1, "") for run in runs]
    return _shown(_over_seeds(found))


def _over_seeds(found: Sequence[Interval]) -> Interval:
    return found[0] if len(found) == 1 else mean_interval([one.estimate for one in found])


def _shown(interval: Interval) -> str:
    return f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def _mean(runs: Sequence[dict[str, Any]], key: str) -> float:
    return sum(run[key] for run in runs) / len(runs)


if __name__ == "__main__":
    main()
