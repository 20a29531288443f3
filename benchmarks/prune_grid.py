"""A table over prunings of one trained network: pattern, sparsity, criterion and recovery, each a `sparsify prune`.

python benchmarks/prune_grid.py GRID.yaml --scratch FOLDER [--name NAME]

GRID.yaml has `recipe:`, a recipe of kind prune as a mapping, and `cells:`, lists of overrides as `--set` takes them.
Every cell is a run folder under FOLDER; the dense network is opened and scored once and taken by the others. What is
complete is not run again. Writes docs/results/NAME.md and NAME.json: the metric on validation and its drop with the
interval, the drop on test, size, and measured latency with its verdict.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

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


def main() -> None:
    """Run what is not run yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="the grid's file")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for runs, outside this repository")
    parser.add_argument("--name", help="of the results; the grid's file name where not given")
    options = parser.parse_args()
    grid = YAML(typ="safe", pure=True).load(options.grid.read_text())
    name = options.name or options.grid.stem
    found = [run(grid["recipe"], cell, options.scratch / name) for cell in grid["cells"]]
    (ROOT / f"docs/results/{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (ROOT / f"docs/results/{name}.md").write_text(page(options.grid, grid, found))


def run(recipe: dict[str, Any], cell: list[str], scratch: Path) -> dict[str, Any]:
    """The metrics of one cell; exit 4 and 5 are answers too."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "recipe.yaml").write_text(json.dumps(recipe))
    folder = scratch / hashlib.sha256(json.dumps(cell).encode()).hexdigest()[:12]
    others = [str(path.parent) for path in sorted(scratch.glob("*/manifest.json")) if path.parent != folder]
    command = [str(Path(sys.executable).with_name("sparsify")), "run", str(scratch / "recipe.yaml")]
    command += ["--run-dir", str(folder), *[part for text in cell for part in ("--set", text)]]
    command += [part for other in others[:1] for part in ("--reuse", other)]
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 4, 5):
        raise SystemExit(f"{' '.join(cell)}: exit {done.returncode}: {done.stdout}")
    print(f"{' '.join(cell)}: exit {done.returncode}", file=sys.stderr)
    return {"cell": cell, "exit": done.returncode, "metrics": json.loads(done.stdout)["metrics"]}


def page(path: Path, grid: dict[str, Any], found: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    first = found[0]["metrics"]
    metric = first["run.metric"].replace("_", " ")
    head = [column.format(metric=metric) for column in COLUMNS]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    dense = first["network.dense.validation.mean"]
    lines.append(f"| dense | 0% | 100% | {dense:.4f} | | | 100% | |")
    lines += [f"| {' | '.join(row(one['cell'], one['metrics']))} |" for one in found]
    where = ", ".join(f"{first[f'environment.{fact}']}" for fact in ("processor", "cores", "versions.torch"))
    told, shown = grid.get("told", ""), path.resolve().relative_to(ROOT)
    return (
        f"# {path.stem}\n\n{told}\n\nEvery row is one `sparsify prune`; `python benchmarks/prune_grid.py "
        f"{shown} --scratch FOLDER` repeats them.\nMeasured on (processor, cores, torch) {where}.\n"
        "Drops are dense minus pruned, paired example by example; speedups are over dense fp32 on ONNX Runtime CPU.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def row(cell: list[str], metrics: dict[str, Any]) -> list[str]:
    """One row's cells."""
    kept = "recovered" if "network.recovered.macs" in metrics else "pruned"
    speed = next((name.removesuffix(".verdict") for name in metrics if name.endswith(".verdict")), None)
    told = ""
    if speed:
        low, high = metrics.get(f"{speed}.speedup.ci_low"), metrics.get(f"{speed}.speedup.ci_high")
        told = f"{metrics[f'{speed}.speedup']:.3f} [{low:.3f}, {high:.3f}], {metrics[f'{speed}.verdict']}"
    return [
        ", ".join(short(text) for text in cell),
        f"{metrics['export.sparsity']:.1%}",
        f"{metrics['export.macs_fraction']:.1%}",
        f"{metrics[f'network.{kept}.validation.mean']:.4f}",
        interval(metrics, "export.drop"),
        interval(metrics, "export.test_drop"),
        f"{metrics['size.packed_fraction']:.1%}",
        told,
    ]


def short(override: str) -> str:
    """`removal.pattern=2:4` as `pattern 2:4`, and what is turned off as `no finetune`."""
    key, _, value = override.partition("=")
    name = key.rpartition(".")[2]
    return f"no {name}" if value == "null" else f"{name} {value}"


def interval(metrics: dict[str, Any], key: str) -> str:
    """An estimate with its bounds."""
    return f"{metrics[key]:+.4f} [{metrics[f'{key}.ci_low']:+.4f}, {metrics[f'{key}.ci_high']:+.4f}]"


if __name__ == "__main__":
    main()
