"""Architectures of torchvision, timm and transformers, each with an input it takes; random weights, nothing fetched.

Sizes are the libraries' own where those are small, else cut down; the inputs are as small as the network allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

import torchvision_schemas as torchvision_schemas
from sparsify.models.network import Network
from sparsify.models.sources import open_source

CLASSES = 10


@dataclass(frozen=True)
class Architecture:
    """One network to be tried.

    Attributes:
        source: As one writes it; of transformers, `transformers:MODEL_TYPE#HEAD`, whose folder is made from `config`.
        input_shape: Shape of one input.
        classes: Number of outputs asked for; None where the configuration says it.
        normal: Whether it is among those of the normal run, not only the long one.
        config: The values of a small configuration, of transformers.
    """

    source: str
    input_shape: tuple[int, ...]
    classes: int | None = CLASSES
    normal: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)

    def open(self, folder: Path, *, seed: int = 0) -> tuple[nn.Module, Network]:
        """The module in eval mode and its record; `folder` takes a configuration where one is needed."""
        source = self.source
        if source.startswith("transformers:"):
            kind, _, head = source.removeprefix("transformers:").partition("#")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text(json.dumps({"model_type": kind, **self.config}))
            source = f"transformers:{folder}#{head}"
        return open_source(source, input_shape=self.input_shape, classes=self.classes, seed=seed)


def _transformer(**more: Any) -> dict[str, Any]:
    """Two layers of width 32 with four heads, fifty words, sixty-four positions."""
    return {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


TEXT = (2, 12)

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("torchvision:resnet18", (3, 64, 64), normal=True),
    Architecture("torchvision:resnet50", (3, 64, 64)),
    Architecture("torchvision:resnext50_32x4d", (3, 64, 64)),
    Architecture("torchvision:mobilenet_v2", (3, 64, 64), normal=True),
    Architecture("torchvision:mobilenet_v3_small", (3, 64, 64)),
    Architecture("torchvision:densenet121", (3, 64, 64)),
    Architecture("torchvision:googlenet", (3, 64, 64)),
    Architecture("torchvision:inception_v3", (3, 96, 96)),
    Architecture("torchvision:squeezenet1_1", (3, 64, 64)),
    Architecture("torchvision:shufflenet_v2_x0_5", (3, 64, 64), normal=True),
    Architecture("torchvision:mnasnet0_5", (3, 64, 64)),
    Architecture("torchvision:efficientnet_b0", (3, 64, 64)),
    Architecture("torchvision:regnet_y_400mf", (3, 64, 64)),
    Architecture("torchvision:convnext_tiny", (3, 64, 64)),
    Architecture("torchvision:swin_t", (3, 64, 64)),
    Architecture("torchvision:vit_b_32", (3, 64, 64)),
    Architecture("torchvision:r3d_18", (3, 4, 32, 32)),
    Architecture("timm:vit_tiny_patch16_224", (3, 64, 64), normal=True),
    Architecture("timm:deit_tiny_distilled_patch16_224", (3, 64, 64)),
    Architecture("timm:mixer_s32_224", (3, 64, 64)),
    Architecture("timm:gmlp_ti16_224", (3, 64, 64)),
    Architecture("timm:efficientnet_lite0", (3, 64, 64)),
    Architecture("timm:ghostnet_050", (3, 64, 64)),
    Architecture("timm:mobilevit_xxs", (3, 64, 64)),
    Architecture("timm:repvgg_a0", (3, 64, 64)),
    Architecture("timm:seresnext26d_32x4d", (3, 64, 64)),
    Architecture("timm:dla34", (3, 64, 64)),
    Architecture("timm:poolformer_s12", (3, 64, 64)),
    Architecture("timm:edgenext_xx_small", (3, 64, 64)),
    Architecture("timm:eva02_tiny_patch14_224", (3, 56, 56)),
    Architecture("timm:vit_small_patch16_dinov3", (3, 64, 64)),
    Architecture("timm:levit_128s", (3, 224, 224)),
    Architecture("timm:resnet10t", (1, 32, 32)),
    Architecture("transformers:bert#embedding", TEXT, None, normal=True, config=_transformer()),
    Architecture("transformers:bert#classification", TEXT, config=_transformer()),
    Architecture("transformers:bert#token-classification", TEXT, config=_transformer()),
    Architecture("transformers:bert#masked-language-model", TEXT, None, config=_transformer()),
    Architecture("transformers:roberta#embedding", TEXT, None, config=_transformer(pad_token_id=1, bos_token_id=0)),
    Architecture(
        "transformers:distilbert#classification",
        TEXT,
        config=_transformer(dim=32, hidden_dim=64, n_layers=2, n_heads=4),
    ),
    Architecture("transformers:albert#classification", TEXT, config=_transformer(embedding_size=16)),
    Architecture("transformers:electra#token-classification", TEXT, config=_transformer(embedding_size=16)),
    Architecture("transformers:deberta-v2#classification", TEXT, config=_transformer()),
    Architecture("transformers:mpnet#embedding", TEXT, None, config=_transformer(pad_token_id=1, bos_token_id=0)),
    Architecture("transformers:modernbert#classification", TEXT, config=_transformer()),
    Architecture(
        "transformers:gpt2#causal-language-model",
        TEXT,
        None,
        normal=True,
        config={"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "pad_token_id": 0},
    ),
    Architecture("transformers:llama#causal-language-model", TEXT, None, config=_transformer(num_key_value_heads=2)),
    Architecture("transformers:llama#classification", TEXT, config=_transformer(num_key_value_heads=2)),
    Architecture("transformers:qwen2#causal-language-model", TEXT, None, config=_transformer(num_key_value_heads=2)),
    Architecture("transformers:gpt_neox#causal-language-model", TEXT, None, config=_transformer()),
    Architecture(
        "transformers:vit#image-classification", (3, 32, 32), config=_transformer(image_size=32, patch_size=8)
    ),
    Architecture(
        "transformers:swin#image-classification",
        (3, 32, 32),
        config={
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 4],
            "window_size": 4,
        },
    ),
    Architecture(
        "transformers:convnext#image-classification",
        (3, 32, 32),
        config={"image_size": 32, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]},
    ),
    Architecture(
        "transformers:resnet#image-classification",
        (3, 32, 32),
        config={"embedding_size": 8, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    ),
    Architecture("timm:nfnet_l0", (3, 64, 64)),
    Architecture("transformers:deberta#embedding", TEXT, None, config=_transformer()),
    Architecture("transformers:fnet#classification", TEXT, config=_transformer()),
    Architecture(
        "transformers:funnel#classification",
        TEXT,
        config={
            "vocab_size": 50,
            "d_model": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 64,
            "block_sizes": [1, 1],
            "num_decoder_layers": 1,
        },
    ),
    Architecture(
        "transformers:xlnet#classification",
        TEXT,
        config={"vocab_size": 50, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    ),
    Architecture("transformers:bloom#causal-language-model", TEXT, None, config=_transformer(n_layer=2, n_head=4)),
    Architecture(
        "transformers:gemma2#causal-language-model",
        TEXT,
        None,
        config=_transformer(num_key_value_heads=2, head_dim=8),
    ),
    Architecture("transformers:olmo2#causal-language-model", TEXT, None, config=_transformer(num_key_value_heads=2)),
    Architecture(
        "transformers:mixtral#causal-language-model",
        TEXT,
        None,
        config=_transformer(num_key_value_heads=2, num_local_experts=2),
    ),
    Architecture(
        "transformers:mamba#causal-language-model",
        TEXT,
        None,
        config={"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    ),
)

NORMAL = tuple(architecture for architecture in ARCHITECTURES if architecture.normal)
