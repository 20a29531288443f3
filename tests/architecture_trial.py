"""One architecture through everything that pruning its channels promises, with checks that share no code with it.

Preflight, removal, agreement with the mask, the saved folder loaded again, the ONNX graph in ONNX Runtime. What comes
out is a pruned network, a masked one where the network cannot be followed, or a refusal that names a module.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cases_architectures import Architecture
from cases_channels import silenced, slices
from sparsify.channels.plan import history_of
from sparsify.channels.preflight import Preflight, half, is_layer, preflight
from sparsify.channels.reference import norm_axis
from sparsify.channels.untraceable import Untraceable
from sparsify.criteria.context import Context
from sparsify.errors import UsageError
from sparsify.models.build import prunable
from sparsify.models.history import replay
from sparsify.models.network import Network
from sparsify.models.saved import load, save_network
from sparsify.pipeline.prune_removal import remove
from sparsify.recipe.pattern import Pattern
from sparsify.recipe.prune_recipe import RemovalSpec
from sparsify_export.onnx_graph import INPUT, OUTPUT, onnx_from_module
from sparsify_export.parity import check_parity, tolerance_of
from sparsify_export.runtimes.torch_eager import TorchEager
from sparsify_export.targets import TARGETS
from sparsify_export.targets.opening import open_runtime

ASKED = (0.3, 0.1, 0.02)
"""Of the weights, in turn until one can be had: of some networks little can be cut."""
RUNTIME = TARGETS["onnxruntime-cpu"]


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture.

    Attributes:
        source: as in `Architecture`.
        status: `pruned`, `masked` where it cannot be followed, or `refused`.
        sparsity: fraction of its prunable weights that is gone.
        macs: fraction of the dense MACs that remains.
        layers: layers with weights.
        cut: those of them whose outputs lost channels.
        skipped: those that preflight leaves alone, each with a reason.
        difference: largest difference to the masked network, as a part of its largest output.
        parity: the same of ONNX Runtime to PyTorch; None where it cannot be exported.
        reason: why it was masked, refused or not exported, with the module named.
    """

    source: str
    status: Literal["pruned", "masked", "refused"]
    sparsity: float = 0.0
    macs: float = 1.0
    layers: int = 0
    cut: int = 0
    skipped: int = 0
    difference: float = 0.0
    parity: float | None = None
    reason: str = ""


def try_out(architecture: Architecture, folder: Path) -> Outcome:
    """Take one architecture through everything; an AssertionError or any other exception is a wrong answer."""
    module, network = architecture.open(folder / "config")
    example = network.example(2, seed=1)
    lively(module)
    outcome = Outcome(architecture.source, "refused", layers=len(layers_of(module)))
    try:
        found = preflight(module, example)
    except Untraceable as error:
        assert names_a_module(error.module, module), error
    else:
        separate = replay(copy.deepcopy(module), found.rewritten)
        assert all(row.reason for row in found.rows if row.status != "prunable")
        layers = layers_of(separate)
        rows = [row for row in found.rows if row.module in layers]
        assert [row.module for row in rows] == layers
        outcome = replace(outcome, layers=len(rows), skipped=sum(row.status == "skipped" for row in rows))
        if found.rewritten:
            check_close(separate, module, example)
        agrees_with_zeros(separate, found, example)
    return pruned(outcome, module, network, example, folder)


def pruned(outcome: Outcome, module: nn.Module, network: Network, example: Tensor, folder: Path) -> Outcome:
    """Prune as the command does, then save, load and export."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for asked in ASKED:
        work = copy.deepcopy(module)
        context = Context(work, prunable(work), 0, ((example, torch.zeros(2, dtype=torch.long)),), None)
        try:
            done = remove(context, network, RemovalSpec(pattern=Pattern("channel")), sparsity=asked, macs=None)
            break
        except UsageError as error:
            outcome = replace(outcome, reason=str(error))
    else:
        assert any(name in outcome.reason for name, _ in module.named_modules() if name), outcome.reason
        return outcome
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    smaller = done.module.eval()
    why = done.report.get("masked_because", "")
    assert done.report["sparsity"] >= asked - 1e-9
    if not why:
        again = replay(copy.deepcopy(module), json.loads(json.dumps(done.network.channels)))
        assert same(again.eval(), smaller, example)
    save_network(folder / "saved", smaller, done.network)
    assert same(load(folder / "saved"), smaller, example)
    parity, unexported = exported(smaller, network, folder / "model.onnx")
    widths = done.report.get("widths", {})
    return replace(
        outcome,
        status="masked" if why else "pruned",
        sparsity=done.report["sparsity"],
        macs=done.report.get("macs", 1.0),
        cut=sum(1 + len(width["coupled"]) for width in widths.values() if width["after"] < width["before"]),
        difference=done.report.get("difference", 0.0),
        parity=parity,
        reason=why or unexported,
    )


def agrees_with_zeros(module: nn.Module, found: Preflight, example: Tensor) -> None:
    """Zeros in the dense network give what the smaller one gives, wherever no norm over channels would count them."""
    simple = [group for group in found.groups if not crosses_a_norm(module, group.cuts)]
    history = history_of(module, simple, {group.root: half(group) for group in simple})
    check_close(replay(copy.deepcopy(module), history), silenced(module, slices(history)), example)


def exported(module: nn.Module, network: Network, path: Path) -> tuple[float | None, str]:
    """Largest error of ONNX Runtime to PyTorch over batches of one and of three; or why it is not exported."""
    inputs = {size: network.example(size, seed=3).numpy() for size in (1, 3)}
    try:
        onnx_from_module(module, network.example(2, seed=1), path)
    except UsageError as error:
        assert type(module).__name__ in str(error)
        return None, str(error)
    runtime = open_runtime(RUNTIME, path, threads=1, batch_sizes=sorted(inputs))
    with runtime as entered, TorchEager(module, INPUT, OUTPUT) as reference:
        found = check_parity(entered, reference, inputs, tolerance_of(module))
    return max(batch.max_rel_error for batch in found.batches), ""


def layers_of(module: nn.Module) -> list[str]:
    """Those that multiply."""
    found = ((name, layer) for name, layer in module.named_modules() if is_layer(layer))
    return [name for name, layer in found if not isinstance(layer, nn.Embedding)]


def names_a_module(name: str, module: nn.Module) -> bool:
    return name == type(module).__name__ or name in dict(module.named_modules())


def lively(module: nn.Module) -> None:
    """Move what starts at 0 or 1, or hides by its smallness: norms, biases, scales of branches, heads of EVA."""
    for inner in module.modules():
        for _, parameter in inner.named_parameters(recurse=False):
            if parameter.numel() > 1 and float(parameter.detach().std()) < 1e-3:
                with torch.no_grad():
                    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1)


def crosses_a_norm(module: nn.Module, cuts: tuple[object, ...]) -> bool:
    names = {cut.tensor.rpartition(".")[0] for cut in cuts}  # pyright: ignore[reportAttributeAccessIssue]
    return any(norm_axis(module.get_submodule(name)) is not None for name in names)


def same(a: nn.Module, b: nn.Module, example: Tensor) -> bool:
    """Bit for bit."""
    with torch.no_grad():
        return torch.equal(a(example), b(example))


def check_close(a: nn.Module, b: nn.Module, example: Tensor) -> None:
    """In float64, or where a network does not run in it, in float32 less sharply; it must run in one of them."""
    try:
        compare(a, b, example, torch.float64, 1e-9)
    except RuntimeError:
        compare(a, b, example, torch.float32, 1e-4)


def compare(a: nn.Module, b: nn.Module, example: Tensor, dtype: torch.dtype, tolerance: float) -> None:
    given = example.to(dtype) if example.is_floating_point() else example
    with torch.no_grad():
        x, y = (copy.deepcopy(module).to(dtype).eval()(given) for module in (a, b))
    assert float((x - y).abs().max()) <= tolerance * float(y.abs().max())
