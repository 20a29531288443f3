"""Whole networks, exported, then pruned as files: compared with the module pruned before its export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from layer_graphs import run, tensors_of
from sparsify.criteria.context import Context
from sparsify.criteria.rows import within_rows
from sparsify.criteria.wanda import wanda
from sparsify.masks.select import select
from sparsify.models.build import build, prunable
from sparsify.recipe.pattern import Pattern
from sparsify_export.onnx_graph import onnx_from_module
from sparsify_export.onnx_prune import prune_onnx

IMAGES = (1, 16, 16)


def _zoo(name: str) -> Callable[[], tuple[nn.Module, Tensor]]:
    def make() -> tuple[nn.Module, Tensor]:
        model = build(name, input_shape=IMAGES, classes=12, seed=0)
        generator = torch.Generator().manual_seed(1)
        for module in model.modules():
            if isinstance(
                module, nn.BatchNorm2d
            ):  # folded into the Conv before it: scales rows, which Wanda ranks within
                assert module.running_var is not None
                module.running_var.uniform_(0.5, 2, generator=generator)
        return model.eval(), torch.randn(24, *IMAGES, generator=generator)

    return make


class _Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        pytest.importorskip("torchvision_schemas")
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        config = transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=100,
            max_position_embeddings=32, attn_implementation="eager", initializer_range=0.3,
        )  # fmt: skip
        self.bert = transformers.BertModel(config, add_pooling_layer=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.bert(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def _bert() -> tuple[nn.Module, Tensor]:
    return _Bert().eval(), torch.randint(0, 100, (24, 12), generator=torch.Generator().manual_seed(1))


NETWORKS = {"lenet-5": _zoo("lenet-5"), "resnet-20": _zoo("resnet-20"), "bert": _bert}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module, Tensor]:
    module, inputs = NETWORKS[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    np.save(folder / "c.npy", inputs.numpy())
    return onnx_from_module(module, inputs[:2], folder / "dense.onnx"), module, inputs


def _same_as_pruned_before_export(
    pruned: Path,
    module: nn.Module,
    scores: dict[str, Tensor],
    pattern: Pattern,
    inputs: Tensor,
    sparsity: float | None = None,
) -> None:
    dense = {name: value.detach().clone() for name, value in module.state_dict().items()}
    select(scores, pattern=pattern, sparsity=sparsity, allocation="uniform").mask.apply_(module)
    with torch.no_grad():
        expected = module(inputs).numpy()
    module.load_state_dict(dense)
    np.testing.assert_allclose(run(pruned, {"input": inputs.numpy()})[0], expected, rtol=1e-3, atol=1e-4)


def test_two_of_four_is_the_module_s(network: tuple[Path, nn.Module, Tensor], tmp_path: Path):
    path, module, inputs = network
    prune_onnx(path, tmp_path / "p.onnx", pattern=Pattern.parse("2:4"))
    scores = {name: dict(module.named_parameters())[name].detach().abs() for name in prunable(module)}
    _same_as_pruned_before_export(tmp_path / "p.onnx", module, scores, Pattern.parse("2:4"), inputs)


@pytest.mark.parametrize("pattern", ["2:4", "unstructured"])
def test_wanda_is_the_module_s(network: tuple[Path, nn.Module, Tensor], pattern: str, tmp_path: Path):
    """The criterion for modules hooks their layers; the one for files adds nodes to the graph."""
    path, module, inputs = network
    parsed, sparsity = Pattern.parse(pattern), None if pattern == "2:4" else 0.5
    prune_onnx(
        path, tmp_path / "p.onnx", pattern=parsed, sparsity=sparsity, criterion="wanda",
        calibration=path.parent / "c.npy",
    )  # fmt: skip
    scores = wanda(Context(module, prunable(module), 0, [(inputs, torch.zeros(len(inputs), dtype=torch.int64))]))
    if pattern == "unstructured":
        scores = within_rows(scores)
    _same_as_pruned_before_export(tmp_path / "p.onnx", module, scores, parsed, inputs, sparsity)


def test_every_prunable_weight_of_the_module_is_found(network: tuple[Path, nn.Module, Tensor], tmp_path: Path):
    path, module, _ = network
    report = prune_onnx(path, tmp_path / "p.onnx", pattern=Pattern("unstructured"), sparsity=0.5)
    parameters = dict(module.named_parameters())
    assert sorted(row.elements for row in report.rows if row.nodes) == sorted(
        parameters[name].numel() for name in prunable(module)
    )
    assert report.achieved == pytest.approx(0.5, abs=1e-3)
    (output,) = report.agreement.outputs
    assert output.cosine is not None
    assert (output.argmax_agreement is None) == isinstance(module, _Bert)  # whose output is no (examples, classes)


def test_groups_of_four_counted_in_the_file(network: tuple[Path, nn.Module, Tensor], tmp_path: Path):
    """As `polygraphy inspect sparsity` does: Conv axis 1, MatMul B axis 0, Gemm B axis 1 where it is transposed."""
    path, _, _ = network
    report = prune_onnx(path, tmp_path / "p.onnx", pattern=Pattern.parse("2:4"))
    tensors, checked = tensors_of(tmp_path / "p.onnx"), 0
    skipped = {row.name for row in report.rows if row.skipped}
    for node in onnx.load(tmp_path / "p.onnx").graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if node.op_type not in ("Conv", "MatMul", "Gemm") or name not in tensors or name in skipped:
            continue
        turned = any(item.name == "transB" and item.i for item in node.attribute)
        axis = 1 if node.op_type == "Conv" or turned else 0
        for start in range(0, tensors[name].shape[axis], 4):
            group = np.take(tensors[name], range(start, start + 4), axis=axis)
            assert ((group == 0).sum(axis) == 2).all()
        checked += 1
    assert checked == sum(bool(row.nodes) and not row.skipped for row in report.rows) > 0
