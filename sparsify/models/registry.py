"""Every kind of model source by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sparsify.models import from_import, from_plugin, from_timm, from_torchvision, from_transformers, zoo
from sparsify.models.source import Source
from sparsify.models.source_name import Kind

REGISTRY: Mapping[Kind, Source] = MappingProxyType(
    {
        "zoo": zoo.SOURCE,
        "torchvision": from_torchvision.SOURCE,
        "timm": from_timm.SOURCE,
        "transformers": from_transformers.SOURCE,
        "plugin": from_plugin.SOURCE,
        "import": from_import.SOURCE,
    }
)
