"""What criteria there are, in plain data: no torch, so that `ls` stays quick. The code is in `registry.py`."""

from __future__ import annotations

CRITERIA: dict[str, str] = {
    "magnitude": "Smallest absolute weights go first (Han et al. 2015, arXiv 1506.02626).",
    "random": "Weights go in random order; the floor that any other criterion has to beat.",
}
