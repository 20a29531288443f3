"""A saved network in a process that knows nothing of how it was made gives the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import sparsify
from cases import same_bits
from sparsify.channels.remove import remove_channels
from sparsify.errors import CorruptError, InputOutputError, UsageError
from sparsify.models.network import Network
from sparsify.models.saved import load, save_network
from sparsify.models.sources import open_source

TESTS = Path(__file__).resolve().parent.parent

SCHEMAS = "import torchvision_schemas\n"
PROGRAM = """
import json, sys
import torch, sparsify
from sparsify.models.network import Network
for folder in sys.argv[1:]:
    module = sparsify.load(folder, allow_import=("someones_own_nets",))
    assert not module.training
    with torch.no_grad():
        output = module(Network.load(folder).example(3, seed=8))
    print(json.dumps(output.double().flatten().tolist()))
"""


def outputs_in_a_new_process(folders: list[Path], path: Path, program: str = PROGRAM) -> list[list[float]]:
    paths = os.pathsep.join([str(path), str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=path,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def outputs(module: nn.Module, network: Network) -> list[float]:
    with torch.no_grad():
        return module(network.example(3, seed=8)).double().flatten().tolist()


def shaken(module: nn.Module) -> nn.Module:
    """Every float of the module changed a little, as training would; buffers too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator))
    return module


@pytest.mark.slow
def test_every_kind_of_source_comes_back_in_a_new_process_with_the_same_bits(tmp_path, monkeypatch):
    pytest.importorskip("torchvision_schemas")
    pytest.importorskip("torchvision", reason="pip install torchvision")
    pytest.importorskip("timm", reason="pip install timm")
    pytest.importorskip("transformers", reason="pip install transformers")
    (tmp_path / "someones_own_nets.py").write_text(
        "from torch import nn\n\ndef make(width):\n    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "tiny"
    config.mkdir()
    values = {"model_type": "bert", "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1}
    (config / "config.json").write_text(json.dumps({**values, "num_attention_heads": 2, "intermediate_size": 32}))
    sources = {
        "zoo": ("resnet-20", (1, 12, 12), 5),
        "torchvision": ("torchvision:shufflenet_v2_x0_5", (3, 64, 64), 5),
        "timm": ("timm:test_vit", (1, 64, 64), 5),
        "embedding": (f"transformers:{config}#embedding", (2, 8), None),
        "language": (f"transformers:{config}#masked-language-model", (2, 8), None),
        "import": ("someones_own_nets:make?width=3", (4,), None),
    }
    folders: list[Path] = []
    expected: list[list[float]] = []
    for name, (source, shape, classes) in sources.items():
        module, network = open_source(
            source, input_shape=shape, classes=classes, allow_import=("someones_own_nets",), seed=1
        )
        save_network(tmp_path / name, shaken(module), network, allow_import=("someones_own_nets",))
        folders.append(tmp_path / name)
        expected.append(outputs(module, network))
    (config / "config.json").unlink()  # the folder of transformers is not needed again
    assert outputs_in_a_new_process(folders, tmp_path, SCHEMAS + PROGRAM) == expected


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module, Network]:
    module, network = open_source("mlp:4-3-2", input_shape=(1, 2, 2), classes=2, seed=4)
    save_network(tmp_path / "net", module, network)
    return tmp_path / "net", module, network


def test_the_folder_is_safetensors_and_json(saved):
    folder, module, _ = saved
    assert sorted(path.name for path in folder.iterdir()) == ["network.json", "weights.safetensors"]
    again = sparsify.load(folder)
    assert type(again) is type(module) and not again.training
    assert same_bits(again.state_dict(), module.state_dict())


def test_a_run_is_loaded_by_the_model_in_it(saved, tmp_path):
    folder, module, _ = saved
    folder.rename(tmp_path / "model")
    assert same_bits(load(tmp_path).state_dict(), module.state_dict())


def test_a_narrowed_network_comes_back_narrow(tmp_path):
    history = [
        {"tensor": "hidden1.weight", "axis": 0, "removed": [0]},
        {"tensor": "hidden1.bias", "axis": 0, "removed": [0]},
        {"tensor": "output.weight", "axis": 1, "removed": [0]},
    ]
    network = Network("mlp:4-3-2", (1, 2, 2), 2, channels=history)
    module = shaken(network.build(seed=3)).eval()
    save_network(tmp_path, module, network)
    assert load(tmp_path).get_parameter("hidden1.weight").shape == (2, 4)
    assert outputs_in_a_new_process([tmp_path], tmp_path) == [outputs(module, network)]


ATTENTIVE = """
import torch
from torch import nn

class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True, dropout=0.0)
        self.encoder, self.output = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, x):
        padding = (x[..., 0] > 1) & (torch.arange(x.shape[1]) > 0)
        return self.output(self.encoder(x, src_key_padding_mask=padding)[:, 0])
"""


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_attention_that_lost_heads_comes_back_without_them(tmp_path, monkeypatch):
    (tmp_path / "attentive_nets.py").write_text(ATTENTIVE)
    monkeypatch.syspath_prepend(tmp_path)
    allowed = ("attentive_nets",)
    module, network = open_source("attentive_nets:Attentive", input_shape=(5, 8), classes=None, allow_import=allowed)
    example = network.example(4, seed=2)
    removed = remove_channels(shaken(module).eval(), example, sparsity=0.4, allocation="uniform")
    network = replace(network, channels=json.loads(json.dumps(removed.history)))
    save_network(tmp_path / "net", removed.module, network, allow_import=allowed)
    again = load(tmp_path / "net", allow_import=allowed)
    assert [layer.self_attn.num_heads for layer in again.encoder.layers] == [2, 2]
    program = PROGRAM.replace("someones_own_nets", "attentive_nets")
    assert outputs_in_a_new_process([tmp_path / "net"], tmp_path, program) == [outputs(removed.module, network)]


def test_half_precision_comes_back_as_it_was(tmp_path):
    module, network = open_source("mlp:4-3-2", input_shape=(1, 2, 2), classes=2)
    save_network(tmp_path, module.bfloat16(), network)
    again = load(tmp_path)
    for name, parameter in again.named_parameters():
        assert parameter.dtype == torch.bfloat16 and torch.equal(parameter, module.get_parameter(name))


def test_saving_leaves_the_module_as_it_was(tmp_path):
    module, network = open_source("resnet-20", input_shape=(1, 12, 12), classes=5)
    before = {key: value.clone() for key, value in module.train().state_dict().items()}
    save_network(tmp_path, module, network)
    assert module.training and same_bits(module.state_dict(), before)


class Louder(nn.Module):
    """The parameters of another, with other outputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        for name, child in inner.named_children():
            self.add_module(name, child)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.output(torch.relu(self.hidden1(x.flatten(1))))


@pytest.mark.parametrize("change", ["narrowed", "louder"])
def test_what_the_record_does_not_build_again_is_not_saved(tmp_path, change):
    module, network = open_source("mlp:4-3-2", input_shape=(1, 2, 2), classes=2)
    if change == "narrowed":
        module.hidden1, module.output = nn.Linear(4, 2), nn.Linear(2, 2)
        says = "weights.safetensors: expected the 4 tensors of this Mlp, got 4 that do not fit: 3 misshapen"
    else:
        module, says = Louder(module), "got one that differs: the outputs for one input are not the same"
    with pytest.raises(UsageError, match=says):
        save_network(tmp_path / "net", module, network)
    assert not (tmp_path / "net").exists()


def test_an_import_names_the_package_to_allow(tmp_path):
    Network("some.module:make", (4,), 2).save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(UsageError, match=r"--allow-import some \(in Python: allow_import=\('some',\)\)"):
        load(tmp_path)


def test_folders_that_hold_no_network_say_so(saved, tmp_path):
    folder, _, _ = saved
    with pytest.raises(InputOutputError, match=r"expected the folder of a saved network, with network\.json, got none"):
        load(tmp_path / "none")
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(CorruptError, match="changed since it was written"):
        load(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(InputOutputError, match=r"weights\.safetensors"):
        load(folder)
