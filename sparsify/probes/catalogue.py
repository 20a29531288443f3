"""What probes there are, in plain data: no torch here, so that `ls` stays quick."""

from __future__ import annotations

PROBES: dict[str, str] = {
    "perturb-rest": "Does the ticket survive when the rest of the network is redrawn or scaled?",
}
