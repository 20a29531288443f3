"""The criteria by name, importing torch; `catalogue.py` beside it says what each is without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sparsify.criteria.context import Context as Context
from sparsify.criteria.magnitude import magnitude as magnitude
from sparsify.criteria.random import random as random

# Scores by parameter, of the parameter's shape, on the CPU; the higher a score, the better the weight is kept.
Criterion = Callable[[Context], dict[str, Tensor]]

CRITERIA: dict[str, Criterion] = {"magnitude": magnitude, "random": random}

# Criteria that choose the mask and new weights for what is kept in one go; each file gives its signature.
SOLVERS: dict[str, Callable[..., Any]] = {}
