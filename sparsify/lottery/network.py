"""`Network` and `prunable_weights`, where tickets look for them; they live on the floor below."""

from __future__ import annotations

from sparsify.models.build import prunable_weights as prunable_weights
from sparsify.models.network import Network as Network
