import pytest

from sparsify.models.families import is_transformer


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("timm:vit_tiny_patch16_224", True),
        ("timm:swinv2_tiny_window8_256", True),
        ("torchvision:vit_b_32", True),
        ("torchvision:maxvit_t", True),
        ("transformers:some/folder#embedding", True),
        ("torchvision:resnet18", False),
        ("timm:convnext_tiny", False),
        ("resnet-20", False),
        ("mlp:4-2", False),
        ("vit.nets:make", False),
        ("lenet300", False),
        ("mlp:64", False),
    ],
)
def test_names_tell_transformers(source: str, expected: bool):
    assert is_transformer(source) == expected
