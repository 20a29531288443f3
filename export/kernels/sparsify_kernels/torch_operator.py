"""The operator `sparsify::linear` of PyTorch, for eager models without multiplied zeros. CPU, float32, inference.

    >>> replace_linears(model)  # every sparse nn.Linear inside becomes a SparseLinearModule
    ['encoder.0.dense', 'encoder.1.dense']
    >>> logits = model(inputs)

Importing this file imports torch and registers the operator; nothing else of the package does.
"""

from __future__ import annotations

from typing import cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from sparsify_kernels.linear import SparseLinear
from sparsify_kernels.native import Activation
from sparsify_kernels.packing import Pattern, Precision, pack, read_header

# What was prepared for a tensor of packed weights goes when that tensor goes, or is written to.
_prepared = WeakTensorKeyDictionary()


@torch.library.custom_op("sparsify::linear", mutates_args=(), device_types="cpu")
def linear(x: Tensor, packed: Tensor, bias: Tensor | None, rows: int, activation: str) -> Tensor:
    """activation(x W^T + bias).

    Args:
        x: [..., columns], float32.
        packed: What `sparsify_kernels.pack` made of W [rows, columns], uint8. It is prepared at the first call.
        bias: [rows], float32.
        rows: Of W.
        activation: A word of `native.Activation`.

    Raises:
        FormatError: `packed` is no blob.
        ValueError: A shape, type or word that does not fit.
    """
    if activation not in get_args(Activation):
        raise ValueError(f"expected an activation among {', '.join(get_args(Activation))}, got {activation!r}")
    key = (activation, torch.get_num_threads(), _state(packed), None if bias is None else (id(bias), _state(bias)))
    known = _prepared.get(packed)
    if known is None or known[0] != key:
        layer = SparseLinear.from_packed(
            packed.detach().numpy(),
            bias=None if bias is None else bias.detach().numpy(),
            activation=cast(Activation, activation),
            threads=torch.get_num_threads(),
        )
        # The bias is kept so that no other tensor gets its identity.
        known = _prepared[packed] = (key, layer, bias)
    layer: SparseLinear = known[1]
    if layer.rows != rows:
        raise ValueError(f"expected packed weights of {rows} rows, got {layer.rows}")
    return torch.from_numpy(layer(x.detach().numpy()))


@linear.register_fake
def _linear_shape(x: Tensor, packed: Tensor, bias: Tensor | None, rows: int, activation: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], rows))


def _state(tensor: Tensor) -> tuple[int, int]:
    """Changes when the tensor is written to, except in inference mode, where PyTorch does not count."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


class SparseLinearModule(nn.Module):
    """`nn.Linear` whose weights are packed: the zeros take no time and hardly any memory."""

    packed: Tensor
    bias: Tensor | None

    def __init__(
        self,
        dense: nn.Linear,
        *,
        activation: Activation = "none",
        precision: Precision = "f32",
        pattern: Pattern = "unstructured",
    ) -> None:
        """Pack the weights of `dense`; see `sparsify_kernels.SparseLinear` for the words and errors."""
        super().__init__()
        blob = pack(dense.weight.detach().float().cpu().numpy(), precision=precision, pattern=pattern)
        header = read_header(blob)
        self.in_features, self.out_features = header.columns, header.rows
        self.activation = activation
        self.register_buffer("packed", torch.from_numpy(blob))
        bias = cast("Tensor | None", dense.bias)  # declared as if it were always there
        self.register_buffer("bias", None if bias is None else bias.detach().float().cpu().clone())

    @property
    def weight(self) -> Tensor:
        """Shape and type of the dense weights, for code that asks for these of a linear layer; there are no values."""
        return torch.empty(self.out_features, self.in_features, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        return linear(x, self.packed, self.bias, self.out_features, self.activation)


def replace_linears(
    module: nn.Module, *, min_sparsity: float = 0.7, precision: Precision = "f32", pattern: Pattern = "unstructured"
) -> list[str]:
    """Replace every `nn.Linear` inside `module` of which at least `min_sparsity` is zero; returns their names.

    A layer that several names stand for is packed once. `nn.TransformerEncoder` has a fused path that takes dense
    weights out of its layers: it is not taken where those were replaced.
    """
    packed: dict[int, SparseLinearModule] = {}
    replaced: list[str] = []
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if not name or type(child) is not nn.Linear or float((child.weight == 0).float().mean()) < min_sparsity:
            continue
        if id(child) not in packed:
            packed[id(child)] = SparseLinearModule(child, precision=precision, pattern=pattern)
        module.set_submodule(name, packed[id(child)])
        replaced.append(name)
    for child in module.modules():
        if isinstance(child, nn.TransformerEncoder) and any(isinstance(m, SparseLinearModule) for m in child.modules()):
            child.use_nested_tensor = False
    return replaced
