"""From which sparsity a sparse layer beats the dense one: one-layer graphs, batch 1, all arms in one process, in turn.

    python benchmarks/bench_break_even.py --scratch FOLDER [--layers 'BERT 768 to 768'] [--rounds 20] [--threads 1]

For each layer, dense fp32 in ONNX Runtime stands beside our operators in fp32 and int8 at each sparsity, every graph
made by the target sparse-cpu with the layer replaced whatever is expected. A sample is the mean of as many inferences
as take 2 ms. The break-even lies where the line through the logarithms of the ratios crosses 0, from where on ours is
always faster; its interval is a bootstrap over rounds. Writes benchmarks/results/break_even.json, and
docs/results/break-even.md and .svg from it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from bench_sparse_cpu import opened
from protocol import Samples, environment, interleaved, write
from sparse_networks import convolution, linear
from sparse_networks import write as write_graph
from sparsify.pipeline.export import export_file
from sparsify.recipe.spec import SparsePrecision, SparseSpec
from sparsify.report.markup import Html, element
from sparsify_export.targets import TARGETS

PAGES = Path(__file__).resolve().parents[1] / "docs/results"
LAYERS: dict[str, Callable[[float], ModelProto]] = {
    "BERT 768 to 768": partial(linear, columns=768, rows=768, tokens=128),
    "BERT 768 to 3072": partial(linear, columns=768, rows=3072, tokens=128),
    "BERT 3072 to 768": partial(linear, columns=3072, rows=768, tokens=128),
    "one token, 4096 to 4096": partial(linear, columns=4096, rows=4096, tokens=1),
    "ResNet 1x1, 256 to 64, 56x56": partial(convolution, inputs=256, outputs=64, kernel=1, side=56),
    "ResNet 1x1, 1024 to 256, 14x14": partial(convolution, inputs=1024, outputs=256, kernel=1, side=14),
    "ResNet 3x3, 128, 28x28": partial(convolution, inputs=128, outputs=128, kernel=3, side=28),
    "ResNet 3x3, 512, 7x7": partial(convolution, inputs=512, outputs=512, kernel=3, side=7),
    "MobileNet 1x1, 24 to 144, 56x56": partial(convolution, inputs=24, outputs=144, kernel=1, side=56),
    "MobileNet 1x1, 576 to 96, 14x14": partial(convolution, inputs=576, outputs=96, kernel=1, side=14),
    "MobileNet 1x1, 960 to 160, 7x7": partial(convolution, inputs=960, outputs=160, kernel=1, side=7),
}
SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
PRECISIONS: tuple[SparsePrecision, ...] = ("f32", "i8")
DENSE = "dense fp32"
_SAMPLE = 0.002
"""Seconds that a sample takes at the least."""
_RESAMPLES = 1000


def main() -> None:
    """Measure each layer, write the JSON, then the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for graphs, outside this repository")
    parser.add_argument("--layers", nargs="+", choices=list(LAYERS), default=list(LAYERS))
    parser.add_argument("--sparsity", nargs="+", type=float, default=list(SPARSITIES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20, help="samples of each arm")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results as they are")
    options = parser.parse_args()
    found = {name: measured(name, sorted(options.sparsity), options) for name in options.layers}
    document = {
        "what": f"seconds of one layer, batch 1, {options.threads} threads",
        "environment": environment("onnxruntime", "sparsify-kernels"),
        "sparsities": sorted(options.sparsity),
        "layers": found,
    }
    print("\n".join(page(document)))
    if options.write:
        write("break_even", document)
        PAGES.joinpath("break-even.md").write_text("\n".join(page(document)) + "\n")
        PAGES.joinpath("break-even.svg").write_text(figure(document) + "\n")


def measured(name: str, sparsities: Sequence[float], options: argparse.Namespace) -> dict[str, Any]:
    """The samples of one layer, and where each precision breaks even."""
    folder = options.scratch / "".join(letter if letter.isalnum() else "-" for letter in name)
    arms = {DENSE: batched(opened(graph(name, folder, 0.0), options.threads).infer)}
    for precision in PRECISIONS:
        for sparsity in sparsities:
            path = rewritten(graph(name, folder, sparsity), precision)
            arms[arm(precision, sparsity)] = batched(opened(path, options.threads).infer)
    samples = interleaved(arms, rounds=options.rounds, warm_up=2)
    even = {precision: break_even(samples, precision, sparsities) for precision in PRECISIONS}
    return {"break_even": even, "seconds": samples}


def arm(precision: str, sparsity: float) -> str:
    """Its name."""
    return f"{precision} at {sparsity:.0%}"


def graph(name: str, folder: Path, sparsity: float) -> Path:
    """The layer as a file, made once."""
    path = folder / f"{sparsity:.2f}.onnx"
    return path if path.exists() else write_graph(LAYERS[name](sparsity), path)


def rewritten(source: Path, precision: SparsePrecision) -> Path:
    """The layer on a sparse operator, made once."""
    out = source.with_suffix("") / precision
    if not out.exists():
        out.parent.mkdir(exist_ok=True)
        sparse = SparseSpec(precision=precision, min_sparsity=0.0)
        made = export_file(source, TARGETS["sparse-cpu"], out, sparse=sparse)
        if not all(row["replaced"] for row in made.report["layers"]):
            raise SystemExit(f"{source}: expected the layer to be replaced, got: {made.report['status']}")
    return out / "model.onnx"


def batched(infer: Callable[[], object]) -> Callable[[], float]:
    """Seconds of one inference, the mean of a few."""
    infer()
    start = time.perf_counter()
    infer()
    count = max(1, round(_SAMPLE / (time.perf_counter() - start)))

    def once() -> float:
        start = time.perf_counter()
        for _ in range(count):
            infer()
        return (time.perf_counter() - start) / count

    return once


def break_even(samples: Samples, precision: str, sparsities: Sequence[float]) -> dict[str, float]:
    """The sparsity with its 95% interval; 0 where ours is faster at all of them, 1 where it is slower at the last."""
    dense = np.log(samples[DENSE])
    logs = np.array([np.log(samples[arm(precision, sparsity)]) - dense for sparsity in sparsities])
    places = np.array(sparsities)
    rng = np.random.default_rng(0)
    rounds = logs.shape[1]
    found = [crossing(places, logs[:, rng.integers(rounds, size=rounds)]) for _ in range(_RESAMPLES)]
    # Nearest ranks: a mean of "nowhere" and a sparsity would be neither.
    low, high = np.quantile(found, [0.025, 0.975], method="inverted_cdf")
    return {"estimate": crossing(places, logs), "ci_low": float(low), "ci_high": float(high)}


def crossing(places: NDArray[np.float64], logs: NDArray[np.float64]) -> float:
    """Where the medians (sparsities, rounds) of ours over dense, in logarithms, pass 0 for good."""
    medians = np.median(logs, axis=1)
    slower = np.flatnonzero(medians > 0)
    if not slower.size:
        return 0.0
    last = int(slower[-1])
    if last == len(places) - 1:
        return 1.0
    share = medians[last] / (medians[last] - medians[last + 1])
    return float(places[last] + share * (places[last + 1] - places[last]))


def page(document: dict[str, Any]) -> Iterator[str]:
    """Markdown: where each layer breaks even, and how fast it is at 90%."""
    first, last = document["sparsities"][0], document["sparsities"][-1]
    at = min(document["sparsities"], key=lambda sparsity: abs(sparsity - 0.9))
    where = document["environment"]
    yield "# Break-even sparsity\n"
    yield (
        "From which sparsity on a layer of random zeros is faster on sparse operators than dense fp32 in ONNX Runtime; "
        f"{document['what']}. `python benchmarks/bench_break_even.py --scratch FOLDER` repeats it and its head says "
        f"how. {where['processor']}, {where['taken']}.\n"
    )
    yield "![Break-even sparsity of each layer in fp32 and int8](break-even.svg)\n"
    yield f"| layer | f32 breaks even at [95%] | i8 breaks even at [95%] | f32 at {at:.0%} | i8 at {at:.0%} |"
    yield "|" + "---|" * 5
    for name, found in document["layers"].items():
        cells = [shown(found["break_even"][precision], first, last) for precision in PRECISIONS]
        for precision in PRECISIONS:
            ratios = np.array(found["seconds"][DENSE]) / np.array(found["seconds"][arm(precision, at)])
            cells.append(f"{np.median(ratios):.2f} times dense")
        yield f"| {name} | {' | '.join(cells)} |"


def shown(even: dict[str, float], first: float, last: float) -> str:
    """A break-even for people."""

    def told(value: float) -> str:
        return f"under {first:.0%}" if value < first else f"over {last:.0%}" if value > last else f"{value:.1%}"

    return f"{told(even['estimate'])} [{told(even['ci_low'])}, {told(even['ci_high'])}]"


def figure(document: dict[str, Any]) -> Html:
    """A row a layer: break-even in fp32 (disc) and int8 (square) with intervals; at the edge where it lies beyond."""
    first, last = document["sparsities"][0], document["sparsities"][-1]
    left, width, step, top = 250.0, 430.0, 30.0, 46.0
    bottom = top + step * len(document["layers"])

    def x(sparsity: float) -> float:
        return left + width * (min(max(sparsity, first), last) - first) / (last - first)

    def text(words: str, **place: str | float) -> Html:
        return element("text", words, **place)

    drawn: list[Html] = [element("rect", width="100%", height="100%", fill="#ffffff")]
    for sparsity in document["sparsities"]:
        drawn.append(element("line", x1=x(sparsity), x2=x(sparsity), y1=top - 10, y2=bottom - 10, stroke="#dddddd"))
    for sparsity in (first, 0.3, 0.5, 0.7, 0.9):
        drawn.append(text(f"{sparsity:.0%}", x=x(sparsity), y=bottom + 8, text_anchor="middle"))
    for place, (words, color) in enumerate((("fp32 (disc)", "#1f5fa8"), ("int8 (square)", "#b3541e"))):
        drawn.append(text(words, x=left + 110.0 * place, y=20.0, fill=color))
    for place, (name, found) in enumerate(document["layers"].items()):
        middle = top + step * place + 4
        drawn.append(text(name, x=left - 14, y=middle + 4, text_anchor="end"))
        for precision, color, shift in (("f32", "#1f5fa8", -5.0), ("i8", "#b3541e", 5.0)):
            even, y = found["break_even"][precision], middle + shift
            low, high = x(even["ci_low"]), x(even["ci_high"])
            drawn.append(element("line", x1=low, x2=high, y1=y, y2=y, stroke=color, stroke_width=2.0))
            at = x(even["estimate"])
            if precision == "f32":
                drawn.append(element("circle", cx=at, cy=y, r=4.0, fill=color))
            else:
                drawn.append(element("rect", x=at - 4, y=y - 4, width=8.0, height=8.0, fill=color))
    size = {"width": left + width + 30, "height": bottom + 22, "font_family": "sans-serif", "font_size": "13"}
    return element("svg", *drawn, xmlns="http://www.w3.org/2000/svg", **size)


if __name__ == "__main__":
    main()
