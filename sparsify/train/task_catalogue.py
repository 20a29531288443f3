"""What tasks there are, in plain data: no torch, so that `ls` and `validate` stay quick. The code is in `task.py`."""

from __future__ import annotations

from typing import NamedTuple


class TaskEntry(NamedTuple):
    """What a task is, for people.

    Attributes:
        summary: one sentence.
        metric: what its scores are, higher is better; `--max-drop` is in its units.
        labelled: whether the data must bring labels; without, the dense network's own outputs stand in.
    """

    summary: str
    metric: str
    labelled: bool


TASKS: dict[str, TaskEntry] = {
    "classification": TaskEntry("One class an example; cross-entropy, scored by accuracy.", "accuracy", True),
    "regression": TaskEntry(
        "Numbers; squared error, scored by minus the mean absolute error in the target's own units.",
        "negative_absolute_error",
        True,
    ),
    "token-classification": TaskEntry(
        "One class a token; cross-entropy over the labelled tokens, scored by the share of them that is right.",
        "token_accuracy",
        True,
    ),
    "embedding": TaskEntry("A vector an example, held against the dense network's by cosine.", "cosine", False),
    "agreement": TaskEntry(
        "Classes without labels: distilled from the dense network, scored by how often both say the same.",
        "agreement",
        False,
    ),
}
