from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from sparsify.errors import CorruptError, UsageError
from sparsify_export import onnx_graph
from sparsify_export.onnx_graph import onnx_from_module


class Folded(nn.Module):
    """Conv, BatchNorm, ReLU, a linear output: what the exporter folds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.output = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.norm(self.conv(images))).mean((2, 3)))


@pytest.fixture(scope="module")
def module() -> Folded:
    torch.manual_seed(0)
    module = Folded()
    with torch.no_grad():
        module.norm.running_mean.uniform_(-1, 1)
        module.norm.running_var.uniform_(0.5, 2)
        for weight in (module.conv.weight, module.output.weight):
            weight[weight.abs() < weight.abs().median()] = 0
    return module


@pytest.fixture(scope="module")
def exported(module: Folded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return onnx_from_module(module, torch.zeros(1, 2, 5, 5), out, metadata={"b": "2", "a": "1"})


def test_names_dynamic_batch_and_metadata(exported: Path):
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    (source,), (result,) = model.graph.input, model.graph.output
    assert (source.name, result.name) == ("input", "logits")
    assert [dim.dim_param or dim.dim_value for dim in source.type.tensor_type.shape.dim] == ["batch", 2, 5, 5]
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_size_gives_eager_outputs_in_onnxruntime(exported: Path, module: Folded, batch: int):
    images = torch.randn(batch, 2, 5, 5, generator=torch.Generator().manual_seed(batch))
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module.eval()(images).numpy()
    module.train()
    np.testing.assert_allclose(session.run(None, {"input": images.numpy()})[0], expected, atol=1e-5)


def test_zeros_survive_folding(exported: Path, module: Folded):
    arrays = [numpy_helper.to_array(tensor) for tensor in onnx.load(exported).graph.initializer]
    (conv,) = [array for array in arrays if array.shape == (4, 2, 3, 3)]
    np.testing.assert_array_equal(conv == 0, module.conv.weight.detach().numpy() == 0)


def test_equal_weights_give_equal_bytes_without_traces_of_this_machine(exported: Path, module: Folded, tmp_path: Path):
    metadata = {"a": "1", "b": "2"}
    again = onnx_from_module(module, torch.ones(3, 2, 5, 5), tmp_path / "again.onnx", metadata=metadata)
    assert again.read_bytes() == exported.read_bytes()
    for trace in (b"stack_trace", b"site-packages", b".py", str(Path(__file__).parent).encode()):
        assert trace not in exported.read_bytes()


def test_the_modules_mode_and_the_loggers_level_are_put_back(module: Folded, tmp_path: Path):
    module.train()
    module.norm.eval()
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    onnx_from_module(module, torch.zeros(2, 2, 5, 5), tmp_path / "m.onnx")
    assert (module.training, module.norm.training, logger.level) == (True, False, level)
    module.train()


def test_an_opset_beyond_the_runtime_is_refused(module: Folded, tmp_path: Path):
    with pytest.raises(UsageError, match="opset: expected 18 to"):
        onnx_from_module(module, torch.zeros(2, 2, 5, 5), tmp_path / "m.onnx", opset=99)
    assert not list(tmp_path.iterdir())


def test_lost_zeros_are_corrupt(module: Folded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_graph, "weight_zeros", lambda model: (1, 100))
    with pytest.raises(CorruptError, match=r"expected at least \d+ zero weights as in the module, got 1"):
        onnx_from_module(module, torch.zeros(2, 2, 5, 5), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


class Caching(nn.Module):
    """Gathers a table of biases once in evaluation mode and keeps it, as LeViT does; a change of mode forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.biases, self.cache = nn.Parameter(torch.tensor([0.5, -1.0])), {}

    def train(self, mode: bool = True) -> Caching:
        self.cache = {}
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "all" not in self.cache:
            self.cache["all"] = self.biases[torch.tensor([1, 0, 1])]
        return x + self.cache["all"]


def test_what_a_network_computes_once_is_a_constant_of_the_graph_and_its_own_still(tmp_path: Path):
    module = Caching().eval()
    with torch.no_grad():
        module(torch.zeros(1, 3))
        module.biases.mul_(2)  # what is kept is out of date
    onnx_from_module(module, torch.zeros(2, 3), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": np.zeros((1, 3), np.float32)})
    assert got.tolist() == [[-2, 1, -2]]
    with torch.no_grad():
        assert module(torch.zeros(1, 3)).tolist() == got.tolist()


def test_a_network_that_the_exporter_cannot_follow_is_named_with_the_reason(tmp_path: Path):
    class Branching(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if float(x.sum()) > 0 else x

    with pytest.raises(UsageError, match=r"^Branching: expected a network that torch\.onnx can export, got \w+: \w+"):
        onnx_from_module(Branching(3, 3), torch.zeros(2, 3), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_zero_of_a_parameter_that_is_folded_is_no_weight_lost(tmp_path: Path):
    class Decay(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output, self.log_decay = nn.Linear(3, 3), nn.Parameter(torch.zeros(1, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.output(x) * torch.exp(self.log_decay)

    assert onnx_from_module(Decay(), torch.zeros(2, 3), tmp_path / "m.onnx").is_file()
