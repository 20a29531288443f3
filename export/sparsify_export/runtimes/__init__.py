"""Runtimes: one small protocol, and a small class for each thing that can run a network."""

from sparsify_export.runtimes.protocol import Feed as Feed
from sparsify_export.runtimes.protocol import Runtime as Runtime

__all__ = ["Feed", "Runtime"]
