"""What a training leaves behind beside its weights: the curve of validation and where early stopping would fall."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class History:
    """One row a measurement, in step order.

    Attributes:
        step: optimiser steps done when the row was measured.
        train_loss: mean training loss since the row before.
        validation_loss: mean loss of the task on the validation split; cross-entropy in nats for classification.
        validation_accuracy: mean of the task's metric; accuracy in [0, 1] for classification.
        validation_images: how many examples the metric was measured on; 1 / this is its smallest step.
        precision: what was trained in, `fp32` or `bf16`, where the recipe may say `auto`; empty where it is not known.
    """

    step: list[int] = field(default_factory=list[int])
    train_loss: list[float] = field(default_factory=list[float])
    validation_loss: list[float] = field(default_factory=list[float])
    validation_accuracy: list[float] = field(default_factory=list[float])
    validation_images: int = 0
    precision: str = ""

    @property
    def early_stop_step(self) -> int:
        """Step of the smallest validation loss, the first of equals (Frankle & Carbin 2019, section 1)."""
        return self.step[self.validation_loss.index(min(self.validation_loss))]

    @property
    def early_stop_accuracy(self) -> float:
        """Validation accuracy at `early_stop_step`."""
        return self.validation_accuracy[self.step.index(self.early_stop_step)]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the derived figures beside them for readers of the file."""
        return asdict(self) | {
            "early_stop_step": self.early_stop_step,
            "early_stop_accuracy": self.early_stop_accuracy,
            "final_accuracy": self.validation_accuracy[-1],
        }
