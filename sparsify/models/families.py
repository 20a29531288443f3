"""Which sources are transformers, by name and in plain data: they are tuned by other habits than convolutions."""

from __future__ import annotations

from sparsify.models.source_name import SourceName

# How the names of transformers begin in torchvision and timm; MLP mixers are trained as they are.
_PREFIXES = (
    *("beit", "cait", "coat", "crossvit", "davit", "deit", "eva", "flexivit", "gcvit", "gmixer", "gmlp", "hiera"),
    *("jx_nest", "levit", "maxvit", "maxxvit", "mixer", "mobilevit", "mvit", "naflexvit", "nest", "pit", "poolformer"),
    *("pvt", "resmlp", "samvit", "sequencer2d", "swin", "tnt", "twins", "vit", "visformer", "volo", "xcit"),
)


def is_transformer(source: str) -> bool:
    """Whether a source is called as one; not of the zoo, nor of somebody's own code, whose names tell nothing."""
    name = SourceName.parse(source)
    if name.kind in ("torchvision", "timm"):
        return name.name.startswith(_PREFIXES)
    return name.kind == "transformers"
