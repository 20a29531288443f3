"""Every kind of model source by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sparsify.models import zoo
from sparsify.models.source import Source
from sparsify.models.source_name import Kind

REGISTRY: Mapping[Kind, Source] = MappingProxyType({"zoo": zoo.SOURCE})
