"""`sensitivity`: what each layer costs when it alone is pruned, measured; and the allocation that follows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from sparsify.api.choice import apply_choice, check_criterion, choose, criterion_name, only, score
from sparsify.api.given import batches_of, copied, metric_of, number_of
from sparsify.criteria.context import Context, Loss, Progress
from sparsify.criteria.registry import SOLVERS, Criterion
from sparsify.data.load import Data
from sparsify.errors import UsageError
from sparsify.masks.mask import Mask
from sparsify.masks.plan import plan
from sparsify.masks.searched import allocate_searched
from sparsify.models.build import input_axes, prunable
from sparsify.recipe.pattern import Pattern
from sparsify.train.evaluate import evaluate as evaluate_task
from sparsify.train.removal import Removal
from sparsify.train.task import CLASSIFICATION, Task

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)

Evaluate = Callable[[nn.Module], float]


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer.

    Attributes:
        name: its parameter.
        weights: how many it has.
        sparsity: achieved, one a measurement: asked for, to the nearest weight or block.
        metric: of the network with this layer alone pruned, one a measurement.
        skipped: why it was not measured; empty where it was.
    """

    name: str
    weights: int
    sparsity: tuple[float, ...] = ()
    metric: tuple[float, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Sensitivity:
    """The table: what the metric is when each layer alone is pruned. `str` of it is for people.

    Attributes:
        metric: of the network as given; higher is better.
        sparsities: asked for.
        pattern: as a recipe writes it.
        criterion: its name.
        layers: in module order.
    """

    metric: float
    sparsities: tuple[float, ...]
    pattern: str
    criterion: str
    layers: tuple[LayerSensitivity, ...]

    def drops(self, name: str) -> dict[float, float]:
        """Sparsity -> drop of the metric, absolute, positive for worse, of one layer.

        Raises:
            UsageError: there is no such layer.
        """
        for layer in self.layers:
            if layer.name == name:
                return {s: self.metric - value for s, value in zip(layer.sparsity, layer.metric, strict=True)}
        raise UsageError(f"sensitivity: expected one of {', '.join(each.name for each in self.layers)}, got {name!r}")

    def allocate(self, sparsity: float) -> dict[str, float]:
        """Parameter -> sparsity, for the least sum of drops at `sparsity` over the layers measured.

        Raises:
            UsageError: the pattern's own sparsity leaves nothing to allocate, or no layer was measured so far.
        """
        if Pattern.parse(self.pattern).sparsity is not None:
            raise UsageError(
                f"allocation searched: expected a pattern whose sparsity is free, got {self.pattern}, which sets it; "
                "leave single layers dense by overrides"
            )
        measured = [layer for layer in self.layers if layer.sparsity]
        return allocate_searched(
            {layer.name: self.drops(layer.name) for layer in measured},
            {layer.name: layer.weights for layer in measured},
            sparsity,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, lists for tuples."""
        return json.loads(json.dumps(asdict(self)))

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        head = f"{'metric when pruned alone':<{width}}  {'weights':>10}" + "".join(f"{s:>9g}" for s in self.sparsities)
        rows = [
            f"{layer.name:<{width}}  {layer.weights:>10,}"
            + ("".join(f"{value:>9.4f}" for value in layer.metric) or f"  {layer.skipped}")
            for layer in self.layers
        ]
        return "\n".join([f"unpruned: {self.metric:.4f}", head, *rows])


def sensitivity(
    model: nn.Module,
    measure: Evaluate | Data,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    pattern: str | Pattern = "unstructured",
    criterion: str | Criterion = "magnitude",
    batches: Iterable[Any] = (),
    loss: Loss | None = None,
    task: Task = CLASSIFICATION,
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Prune each layer alone to each sparsity, one-shot, and measure. The given network is not changed.

    That takes one evaluation for each layer and sparsity, and one of the network as it is.

    Args:
        model: the network, wherever it is.
        measure: a function of a network to its metric, higher is better, that leaves the network as it is; or data,
            whose validation part is scored by `task`.
        sparsities: from above 0 to below 1; ignored for n:m, which sets its own.
        pattern: `unstructured`, `n:m` or `block:RxC`.
        criterion: a name (`sparsify ls criteria`), or a function of a `Context` to scores.
        batches: (inputs, targets) pairs, for criteria that look at data, as `prune` takes them.
        loss: (output, target) -> scalar, for criteria that take gradients.
        task: what `Data` is scored by.
        seed: of what the criterion draws.
        names: parameters to measure; all prunable ones where not given.
        progress: told the measurements done, how many there will be, and the layer just measured.

    Raises:
        UsageError: an argument makes no sense, or a measurement is not a finite number.
    """
    pattern = Pattern.of(pattern)
    check_criterion(criterion)
    if pattern.kind == "channel":
        raise UsageError("sensitivity: expected unstructured, n:m or block, got channel; layers coupled have no own")
    number_of("seed", seed, whole=True)
    work = copied(model)
    evaluate = _by_task(measure, task) if isinstance(measure, Data) else measure
    asked = (pattern.sparsity,) if pattern.sparsity is not None else tuple(sorted(set(sparsities)))
    if not asked or not all(0 < each < 1 for each in asked):
        raise UsageError(f"sensitivity: expected sparsities from above 0 to below 1, got {list(asked)}")
    removal = Removal(pattern, None if pattern.sparsity is not None else asked[0], "uniform", {}, input_axes(work))
    context = Context(work, prunable(work) if names is None else tuple(names), seed, batches_of(batches), loss)
    trial = _Trial(work, evaluate, removal, criterion, context)
    return trial.run(asked, progress)


class _Trial:
    """One copy of the network, pruned and put back for every measurement."""

    def __init__(
        self, work: nn.Module, evaluate: Evaluate, removal: Removal, criterion: str | Criterion, context: Context
    ) -> None:
        self._work, self._evaluate, self._removal, self._context = work, evaluate, removal, context
        self._name = criterion_name(criterion)
        self._criterion = criterion
        if not isinstance(criterion, str) or criterion not in SOLVERS:
            scores = score(context, criterion, removal)  # once, of the network as given
            self._criterion = lambda part: {name: scores[name] for name in part.names}

    def run(self, asked: tuple[float, ...], progress: Progress | None) -> Sensitivity:
        weights = self._context.weights
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        removal = self._removal
        skipped = plan(
            shapes,
            pattern=removal.pattern,
            sparsity=removal.sparsity,
            allocation="uniform",
            overrides={},
            axes=removal.axes,
        ).skipped
        dense = self._measure("the network as given")
        total, done = (len(shapes) - len(skipped)) * len(asked), 0
        layers: list[LayerSensitivity] = []
        for name in shapes:
            layer = LayerSensitivity(name, weights[name].numel(), skipped=skipped.get(name, ""))
            for sparsity in () if name in skipped else asked:
                mask, value = self._prune_alone(name, sparsity)
                layer = replace(layer, sparsity=(*layer.sparsity, mask.sparsity), metric=(*layer.metric, value))
                done += 1
                if progress is not None:
                    progress(done, total, name)
            layers.append(layer)
        return Sensitivity(dense, asked, str(removal.pattern), self._name, tuple(layers))

    @torch.no_grad()
    def _prune_alone(self, name: str, sparsity: float) -> tuple[Mask, float]:
        """The layer's mask and the metric under it; the weights are put back to the bit."""
        context = replace(self._context, names=(name,))
        with torch.enable_grad():
            choice = choose(context, only(self._removal, name, sparsity), self._criterion)
        weight = self._context.parameters[name]
        before = weight.detach().clone()
        apply_choice(self._work, choice)
        try:
            with torch.enable_grad():
                return choice.mask, self._measure(f"{name} at sparsity {sparsity:g}")
        finally:
            weight.copy_(before)

    def _measure(self, what: str) -> float:
        value = metric_of("measure", self._evaluate(self._work))
        if not math.isfinite(value):
            raise UsageError(
                f"sensitivity: expected a finite metric of {what}, got {value}; see what `measure` returns"
            )
        return value


def _by_task(data: Data, task: Task) -> Evaluate:
    def evaluate(model: nn.Module) -> float:
        device = next(model.parameters()).device
        return evaluate_task(model, data.validation.to(device), task=task).value

    return evaluate
