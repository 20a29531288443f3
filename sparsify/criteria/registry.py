"""The criteria by name, importing torch; `catalogue.py` beside it says what each is without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from sparsify.criteria.magnitude import magnitude as magnitude
from sparsify.criteria.random import random as random

Criterion = Callable[[Mapping[str, Tensor], int], dict[str, Tensor]]

CRITERIA: dict[str, Criterion] = {"magnitude": magnitude, "random": random}
