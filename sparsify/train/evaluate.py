"""Loss and metric of a network on a split."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sparsify.data.load import Split
from sparsify.train.task import CLASSIFICATION, Task


@dataclass(frozen=True)
class Score:
    """How well a network does on a split.

    Attributes:
        loss: mean loss of the task; cross-entropy in nats for classification.
        value: mean of `scores`.
        metric: what the scores are, such as `accuracy`; higher is better.
        scores: the metric of each example, (N,), float32, on the CPU, in the split's order.
    """

    loss: float
    value: float
    metric: str
    scores: Tensor = field(compare=False, repr=False)

    @property
    def accuracy(self) -> float:
        """`value` by its name in classification, where it lies in [0, 1]."""
        return self.value


def evaluate(model: nn.Module, split: Split, batch_size: int | None = None, *, task: Task = CLASSIFICATION) -> Score:
    """Score `model`, in eval mode and fp32, on `split`; the model's mode is put back.

    Args:
        model: on any device.
        split: inputs and targets; moved to the network's device batch by batch.
        batch_size: examples per forward pass; None for what fits in memory.
        task: the loss and the metric.
    """
    training = model.training
    model.eval()
    loss, parts = _run(model, split, batch_size or fitting_batch_size(split.images), task)
    model.train(training)
    scores = torch.cat(parts)
    return Score(loss / len(scores), float(scores.double().sum()) / len(scores), task.metric, scores)


@torch.inference_mode()
def _run(model: nn.Module, split: Split, batch_size: int, task: Task) -> tuple[float, list[Tensor]]:
    loss, scores = 0.0, list[Tensor]()
    device = next((one.device for one in model.parameters()), torch.device("cpu"))  # a runtime's graph has none
    for images, labels in split.batches(batch_size):
        output, targets = model(images.to(device)), labels.to(device)
        loss += float(task.total_loss(output, targets))
        scores.append(task.scores(output, targets).float().cpu())
    return loss, scores


def fitting_batch_size(images: Tensor) -> int:
    """Examples (N, ...) per forward pass without gradients: 1000, and fewer of large ones, down to 16.

    A wide integer is a token, which a network makes into a vector; it is counted as 64 numbers.
    """
    numbers = images[:1].numel() * (64 if images.dtype == torch.int64 else 1)
    return max(min(1000, 2**22 // max(numbers, 1)), 16)
