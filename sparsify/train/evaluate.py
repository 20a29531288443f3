"""Loss and accuracy of a network on a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from sparsify.data.load import Split


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy (nats) and accuracy in [0, 1]."""

    loss: float
    accuracy: float


@torch.inference_mode()
def evaluate(model: nn.Module, split: Split, batch_size: int = 1000) -> Score:
    """Score `model`, in eval mode and fp32, on `split`; the model's mode is put back."""
    training = model.training
    model.eval()
    loss, correct = 0.0, 0
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True):
        logits = model(images)
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(1) == labels).sum())
    model.train(training)
    return Score(loss / len(split.labels), correct / len(split.labels))
