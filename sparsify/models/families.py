"""Which sources are transformers, by name and in plain data: they are tuned by other habits than convolutions."""

from __future__ import annotations

from sparsify.models.source_name import kind_of

# How the names of transformers begin in torchvision and timm; MLP mixers are trained as they are.
_PREFIXES = (
    *("beit", "cait", "coat", "crossvit", "davit", "deit", "eva", "flexivit", "gcvit", "gmixer", "gmlp", "hiera"),
    *("jx_nest", "levit", "maxvit", "maxxvit", "mixer", "mobilevit", "mvit", "naflexvit", "nest", "pit", "poolformer"),
    *("pvt", "resmlp", "samvit", "sequencer2d", "swin", "tnt", "twins", "vit", "visformer", "volo", "xcit"),
)


def is_transformer(source: str) -> bool:
    """Whether a source is called as one; not of the zoo, nor of somebody's own code, whose names tell nothing.

    A name that no source has is none, so that whoever checks names can say which come near.
    """
    kind = kind_of(source)
    return kind == "transformers" or (
        kind in ("torchvision", "timm") and source.partition(":")[2].startswith(_PREFIXES)
    )
