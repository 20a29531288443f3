"""Networks of Hugging Face transformers as functions of one tensor, which is what everything else here expects.

Texts are int64 (N, 2, T): token ids, then the attention mask (1 = a token, 0 = padding).
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F


@final
class TextEmbedding(nn.Module):
    """Sentence embeddings: the mean of the last hidden states over the tokens, at length 1.

    Reimers & Gurevych 2019, Sentence-BERT, arXiv 1908.10084, section 3 (MEAN pooling).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeddings (N, width) of texts (N, 2, T)."""
        ids, mask = tokens[:, 0], tokens[:, 1]
        hidden: Tensor = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-9)
        return F.normalize(mean, dim=-1)


@final
class TextLogits(nn.Module):
    """Logits of texts: (N, classes), or (N, T, classes) where each token has some; a regression's one value."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of texts (N, 2, T)."""
        return self.network(input_ids=tokens[:, 0], attention_mask=tokens[:, 1]).logits


@final
class ImageClassification(nn.Module):
    """Logits (N, classes) of images, by a vision network of transformers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        return self.network(pixel_values=images).logits
