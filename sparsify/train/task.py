"""What a network is for: the loss it is trained by and the metric it is judged by, one class a task.

A network takes one tensor and returns one. Scores are in the metric's own units and higher is better, one an example,
so that two networks can be compared pair by pair. `task_catalogue.py` beside this says what each is without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

from torch import Tensor
from torch.nn import functional

from sparsify.errors import UsageError
from sparsify.train.task_catalogue import TASKS as ENTRIES

UNLABELLED = -100  # a token with this target counts neither in the loss nor in the score, as torch has it


class Task(Protocol):
    """A loss, a metric, and what it means to imitate another network.

    Attributes:
        name: one of `task_catalogue.TASKS`, or a user's own.
        metric: what `scores` are, such as `accuracy`.
    """

    name: ClassVar[str]
    metric: ClassVar[str]

    def loss(self, output: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """The training loss of a batch, a scalar: the mean over its examples."""
        ...

    def total_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss without smoothing, summed over the examples of a batch: what evaluation adds up."""
        ...

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        """The metric of each example, (N,), float; higher is better."""
        ...

    def imitation(self, output: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
        """How far `output` is from another network's, a scalar: what distillation makes small."""
        ...


@dataclass(frozen=True)
class Classification:
    """Output: logits (N, C) or (N, C, ...); target: classes (N,) or (N, ...). Cross-entropy in nats, and accuracy."""

    name: ClassVar[str] = "classification"
    metric: ClassVar[str] = ENTRIES["classification"].metric

    def loss(self, output: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(output, target, label_smoothing=label_smoothing)

    def total_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Summed cross-entropy."""
        return functional.cross_entropy(output, target, reduction="sum")

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        """1 where the highest logit is the target's, else 0; the share of positions where an example has several."""
        return _mean_each((output.argmax(1) == target).float())

    def imitation(self, output: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
        """Hinton's distillation loss over axis 1."""
        return soft_cross_entropy(output.movedim(1, -1), teacher.movedim(1, -1), temperature)


@dataclass(frozen=True)
class Regression:
    """Output and target: numbers (N,) or (N, ...). Mean squared error; minus the mean absolute error, in its units."""

    name: ClassVar[str] = "regression"
    metric: ClassVar[str] = ENTRIES["regression"].metric

    def loss(self, output: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean squared error."""
        _no_smoothing(self.name, label_smoothing)
        return functional.mse_loss(_like(output, target), target)

    def total_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Squared error, averaged within an example and summed over them."""
        return _mean_each((_like(output, target) - target) ** 2).sum()

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        """Minus the mean absolute error of each example."""
        return -_mean_each((_like(output, target) - target).abs())

    def imitation(self, output: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
        """Mean squared difference; numbers have no temperature."""
        return functional.mse_loss(output, teacher)


@dataclass(frozen=True)
class TokenClassification:
    """Output: logits (N, T, C); target: classes (N, T), -100 where a token has none. Cross-entropy, token accuracy."""

    name: ClassVar[str] = "token-classification"
    metric: ClassVar[str] = ENTRIES["token-classification"].metric

    def loss(self, output: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy over the batch's labelled tokens."""
        return functional.cross_entropy(output.flatten(0, 1), target.flatten(), label_smoothing=label_smoothing)

    def total_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, averaged over an example's labelled tokens and summed over examples."""
        losses = functional.cross_entropy(output.flatten(0, 1), target.flatten(), reduction="none")
        return (losses.view_as(target).sum(1) / _labelled(target).sum(1)).sum()

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        """Share of each example's labelled tokens that is right."""
        right = (output.argmax(2) == target) & (labelled := _labelled(target))
        return right.sum(1) / labelled.sum(1)

    def imitation(self, output: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
        """Hinton's distillation loss, averaged over all tokens."""
        return soft_cross_entropy(output, teacher, temperature)


@dataclass(frozen=True)
class Embedding:
    """Output and target: vectors (N, D), the target the dense network's. One minus cosine, and cosine."""

    name: ClassVar[str] = "embedding"
    metric: ClassVar[str] = ENTRIES["embedding"].metric

    def loss(self, output: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """One minus the mean cosine."""
        _no_smoothing(self.name, label_smoothing)
        return 1 - self.scores(output, target).mean()

    def total_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """One minus cosine, summed."""
        return (1 - self.scores(output, target)).sum()

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        """Cosine of each example's output and target, flattened."""
        return functional.cosine_similarity(output.flatten(1), target.flatten(1), dim=1)

    def imitation(self, output: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
        """One minus the mean cosine; directions have no temperature."""
        return self.loss(output, teacher)


@dataclass(frozen=True)
class Agreement:
    """Output and target: logits (N, C) or (N, ..., C), the target the dense network's. Stands in where labels lack.

    Attributes:
        temperature: what both logits are divided by in the loss.
    """

    temperature: float = 1.0
    name: ClassVar[str] = "agreement"
    metric: ClassVar[str] = ENTRIES["agreement"].metric

    def loss(self, output: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Hinton's distillation loss from the dense logits."""
        _no_smoothing(self.name, label_smoothing)
        return soft_cross_entropy(output, target, self.temperature)

    def total_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The same, summed over examples."""
        return self.loss(output, target) * len(output)

    def scores(self, output: Tensor, target: Tensor) -> Tensor:
        """1 where both have their highest logit at the same class, else 0; the share of positions where several."""
        return _mean_each((output.argmax(-1) == target.argmax(-1)).float())

    def imitation(self, output: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
        """The loss at another temperature."""
        return soft_cross_entropy(output, teacher, temperature)


CLASSIFICATION = Classification()
TASKS: MappingProxyType[str, Task] = MappingProxyType(
    {task.name: task for task in (CLASSIFICATION, Regression(), TokenClassification(), Embedding(), Agreement())}
)


def soft_cross_entropy(output: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(output / T)), classes on the last axis, mean over the others.

    T^2 keeps the gradient's size independent of T (Hinton et al. 2015, arXiv 1503.02531, section 2).
    """
    student = functional.log_softmax(output.flatten(0, -2) / temperature, dim=-1)
    soft_target = functional.log_softmax(teacher.flatten(0, -2) / temperature, dim=-1)
    return functional.kl_div(student, soft_target, reduction="batchmean", log_target=True) * temperature**2


def _mean_each(values: Tensor) -> Tensor:
    return values if values.ndim == 1 else values.flatten(1).mean(1)


def _like(output: Tensor, target: Tensor) -> Tensor:
    """(N, 1) is (N,) where the target is; any other difference in shape would be broadcast into a wrong answer."""
    if output.ndim == target.ndim + 1 and output.shape[-1] == 1:
        output = output.squeeze(-1)
    if output.shape != target.shape:
        raise UsageError(
            f"task regression: expected targets of the output's shape {tuple(output.shape)}, got "
            f"{tuple(target.shape)}; reshape the labels, or choose another task"
        )
    return output


def _labelled(target: Tensor) -> Tensor:
    labelled = target != UNLABELLED
    if not bool(labelled.any(1).all()):
        raise UsageError(
            "task token-classification: expected a labelled token in every example, got one without any; "
            f"leave out examples whose targets are all {UNLABELLED}"
        )
    return labelled


def _no_smoothing(name: str, label_smoothing: float) -> None:
    if label_smoothing:
        raise UsageError(
            f"train.label_smoothing: expected 0 for task {name}, which has no classes to smooth over, got "
            f"{label_smoothing}; remove it"
        )
