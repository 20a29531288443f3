"""The probes by name; torch-free."""

from __future__ import annotations

from sparsify.probes.perturb_rest import PERTURB_REST
from sparsify.probes.probe import Probe

PROBES: dict[str, Probe] = {"perturb-rest": PERTURB_REST}
