"""Build a model of the zoo by name, freshly initialised from a seed. The only way models come into being."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from types import MappingProxyType

import torch
from torch import Tensor, nn

from sparsify.errors import UsageError
from sparsify.models.catalogue import check_fit, mlp_widths
from sparsify.models.conv import Conv
from sparsify.models.lenet5 import LeNet5
from sparsify.models.mlp import Mlp
from sparsify.models.mobilenet import MobileNetV2
from sparsify.models.resnet import ResNet20

Shape = tuple[int, int, int]

# name -> (input shape, classes, generator) -> model; the names of `catalogue.MODELS` less `mlp`, which is read.
BUILDERS: MappingProxyType[str, Callable[[Shape, int, torch.Generator], nn.Module]] = MappingProxyType(
    {
        "lenet-300-100": lambda shape, classes, generator: Mlp((prod(shape), 300, 100, classes), generator),
        "lenet-5": LeNet5,
        "conv-2": lambda shape, classes, generator: Conv(2, shape, classes, generator),
        "conv-4": lambda shape, classes, generator: Conv(4, shape, classes, generator),
        "conv-6": lambda shape, classes, generator: Conv(6, shape, classes, generator),
        "resnet-20": lambda shape, classes, generator: ResNet20(shape[0], classes, generator),
        "mobilenet-v2": lambda shape, classes, generator: MobileNetV2(shape[0], classes, generator),
    }
)


def build(name: str, *, input_shape: Shape, classes: int, seed: int) -> nn.Module:
    """A model on the CPU in training mode, with the initial weights its paper prescribes.

    Equal arguments give bit-equal weights; to redraw, build again with another seed. The global random state is left as
    it was. The model takes float images (N, C, H, W) and returns logits (N, classes).

    Args:
        name: A name of `catalogue.MODELS`, or `mlp:784-512-10`.
        input_shape: Channels, height and width of one image.
        classes: Number of classes.
        seed: Seed of the initial weights.

    Raises:
        UsageError: No such model, or it does not fit the images or the classes; the message says what would.
    """
    try:
        check_fit(name, input_shape, classes)
    except ValueError as error:
        raise UsageError(f"model: {error}") from None
    generator = torch.Generator().manual_seed(seed)
    # torch's layers draw weights of their own when made, from the global state, before ours replace them.
    with torch.random.fork_rng(devices=()):
        if name.startswith("mlp:"):
            return Mlp(mlp_widths(name), generator)
        return BUILDERS[name](input_shape, classes, generator)


def prunable(model: nn.Module) -> tuple[str, ...]:
    """Names of the weights of all linear and convolution layers, in module order; no biases, no batch norm.

    Hugging Face's `Conv1D`, a linear layer whose weight lies transposed, is one of them (see `input_axes`). A weight
    under two names is named once, and one that is tied to an embedding not at all: removing it would change the inputs.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    found: list[str] = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        full = f"{name}.weight" if name else "weight"
        if _is_weighted(module) and names.get(id(weight)) == full and id(weight) not in embedded:
            found.append(full)
    return tuple(found)


def unprunable(model: nn.Module) -> dict[str, str]:
    """Name -> why it stays, of each parameter of two axes or more that `prunable` leaves out."""
    known = {id(model.get_parameter(name)) for name in prunable(model)}
    embedded = {id(module.weight): name for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        for local, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1 and id(parameter) not in known:
                name = f"{path}.{local}" if path else local
                found[name] = _unprunable_because(module, local, embedded.get(id(parameter), ""))
    return found


def _unprunable_because(module: nn.Module, local: str, table: str) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.Embedding):
        return "an embedding, which is looked up in and not multiplied by"
    if table:
        return f"tied to the embedding {table}, whose zeros would change the inputs"
    if _is_weighted(module):
        return f"hooks compute the weight of this {kind} from {local}, and would undo zeros; remove them first"
    return f"a parameter of {kind}: only weights of Linear and Conv layers are pruned"


def prunable_weights(module: nn.Module) -> dict[str, Tensor]:
    """The prunable parameters of `module` as detached CPU tensors, in module order."""
    parameters = dict(module.named_parameters())
    return {name: parameters[name].detach().cpu() for name in prunable(module)}


def input_axes(model: nn.Module) -> dict[str, int]:
    """The axis that is multiplied over, for the prunable weights where it is not 1: Hugging Face's `Conv1D` has 0."""
    transposed = {f"{name}.weight" for name, module in model.named_modules() if _is_transposed_linear(module)}
    return {name: 0 for name in prunable(model) if name in transposed}


def _is_weighted(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) or _is_transposed_linear(module)


def _is_transposed_linear(module: nn.Module) -> bool:
    """Told by name, because importing transformers for it would cost seconds."""
    return any(
        (kind.__module__, kind.__qualname__) == ("transformers.pytorch_utils", "Conv1D") for kind in type(module).mro()
    )
