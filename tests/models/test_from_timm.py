"""timm's networks by name, against timm itself."""

from __future__ import annotations

import socket

import pytest
import torch

pytest.importorskip("torchvision_schemas")
timm = pytest.importorskip("timm", reason="pip install timm")

from cases import same_bits  # noqa: E402
from sparsify.errors import UsageError  # noqa: E402
from sparsify.models.sources import open_source  # noqa: E402


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object):
        raise AssertionError(f"tried to reach {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_shape_and_classes_are_timms_else_the_checkpoints(tmp_path, name):
    torch.manual_seed(2)
    reference = timm.create_model(name, pretrained=False, num_classes=6).eval()
    torch.save({"state_dict": reference.state_dict(), "epoch": 3}, tmp_path / "a.pth")
    module, network = open_source(f"timm:{name}", weights=tmp_path / "a.pth")
    assert network.input_shape == tuple(timm.get_pretrained_cfg(name).input_size)
    assert network.classes == 6
    assert same_bits(module.state_dict(), reference.state_dict())
    images = network.example(2)
    with torch.no_grad():
        assert torch.equal(module(images), reference(images))
    assert open_source(f"timm:{name}")[1].classes == timm.get_pretrained_cfg(name).num_classes


def test_channels_size_and_classes_are_as_asked():
    module, network = open_source("timm:test_vit", input_shape=(1, 64, 64), classes=4)
    assert network.options == {"img_size": [64, 64]}
    assert module.patch_embed.proj.in_channels == 1 and module.patch_embed.img_size == (64, 64)
    module, network = open_source("timm:test_resnet.r160_in1k", input_shape=(1, 64, 64), classes=4)
    assert network.options == {}
    assert module(network.example(3)).shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("hf-hub:some/model", None, "expected a model of timm, got 'hf-hub:some/model'"),
        ("local-dir:here", None, "expected a model of timm, got"),
        ("test_resne", None, "expected a model of timm, got 'test_resne'; did you mean test_resnet"),
        ("zzz", None, r"`timm\.list_models\(\)` names them"),
        ("test_resnet", (64,), r"expected inputs of shape \(channels, height, width\), got \(64,\)"),
    ],
)
def test_what_cannot_be_built_says_why(name, shape, says):
    with pytest.raises(UsageError, match=says):
        open_source(f"timm:{name}", input_shape=shape)
