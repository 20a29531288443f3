"""Networks of random weights whose speed the sparse CPU operators are held against: ONNX graphs, made from nothing.

Weights are Gaussian and scaled so that activations neither die nor explode; what is removed is drawn at random, an
exact count a layer. Speed does not depend on what the weights are, only on which are zero. First convolutions,
depthwise convolutions and classifiers stay dense, as pruning recipes leave them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper, save

Weight = NDArray[np.float32]
Block = tuple[int, int]
"""Consecutive outputs and inputs whose weights are kept or zero together."""
SINGLE: Block = (1, 1)


def bert_base(sparsity: float, *, block: Block = SINGLE, tokens: int = 128, layers: int = 12) -> ModelProto:
    """The encoder of BERT-base (Devlin et al. 2019): 12 layers of width 768 and 12 heads, from embeddings."""
    width, heads, hidden = 768, 12, 3072
    g = _Graph(sparsity, block)
    x = "x"
    for _ in range(layers):
        split = g.constant(np.array([1, tokens, heads, width // heads]))
        q, k, v = (g.node("Reshape", [g.linear(x, width, width), split]) for _ in range(3))
        q = g.node("Transpose", [q], perm=[0, 2, 1, 3])
        k = g.node("Transpose", [k], perm=[0, 2, 3, 1])
        v = g.node("Transpose", [v], perm=[0, 2, 1, 3])
        scores = g.node("Div", [g.node("MatMul", [q, k]), g.scalar((width / heads) ** 0.5)])
        mixed = g.node("MatMul", [g.node("Softmax", [scores], axis=-1), v])
        merged = g.node("Transpose", [mixed], perm=[0, 2, 1, 3])
        merged = g.node("Reshape", [merged, g.constant(np.array([1, tokens, width]))])
        x = g.layer_norm(g.node("Add", [x, g.linear(merged, width, width)]), width)
        inner = g.gelu(g.linear(x, width, hidden))
        x = g.layer_norm(g.node("Add", [x, g.linear(inner, hidden, width)]), width)
    return g.model([1, tokens, width], x, [1, tokens, width])


def resnet50(sparsity: float, *, block: Block = SINGLE, side: int = 224) -> ModelProto:
    """ResNet-50 (He et al. 2016, with the stride in the 3x3), BatchNorm folded away, from images [1, 3, side, side]."""
    g = _Graph(sparsity, block)
    x = g.conv("x", 3, 64, 7, stride=2, dense=True, relu=True)
    x = g.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(blocks):
            stride = first_stride if i == 0 else 1
            shortcut = g.conv(x, channels, 4 * width, 1, stride=stride) if i == 0 else x
            y = g.conv(x, channels, width, 1, relu=True)
            y = g.conv(y, width, width, 3, stride=stride, relu=True)
            y = g.conv(y, width, 4 * width, 1)
            x = g.node("Relu", [g.node("Add", [y, shortcut])])
            channels = 4 * width
    return g.classified(x, channels, [1, 3, side, side])


def mobilenet_v2(sparsity: float, *, block: Block = SINGLE, side: int = 224) -> ModelProto:
    """MobileNetV2 (Sandler et al. 2018), BatchNorm folded away; only its 1x1 convolutions are sparse."""
    g = _Graph(sparsity, block)
    x = g.relu6(g.conv("x", 3, 32, 3, stride=2, dense=True))
    channels = 32
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, width, blocks, first_stride in rows:
        for i in range(blocks):
            stride, inner = first_stride if i == 0 else 1, channels * expand
            y = g.relu6(g.conv(x, channels, inner, 1)) if expand > 1 else x
            y = g.relu6(g.conv(y, inner, inner, 3, stride=stride, groups=inner, dense=True))
            y = g.conv(y, inner, width, 1)
            x = g.node("Add", [x, y]) if stride == 1 and channels == width else y
            channels = width
    x = g.relu6(g.conv(x, channels, 1280, 1))
    return g.classified(x, 1280, [1, 3, side, side])


def gemv(sparsity: float, *, block: Block = SINGLE, size: int = 4096) -> ModelProto:
    """One square linear layer on one token, as autoregressive decoding has them."""
    return linear(sparsity, size, size, 1, block=block)


def linear(sparsity: float, columns: int, rows: int, tokens: int, *, block: Block = SINGLE) -> ModelProto:
    """One linear layer."""
    g = _Graph(sparsity, block)
    return g.model([tokens, columns], g.linear("x", columns, rows), [tokens, rows])


def convolution(
    sparsity: float, inputs: int, outputs: int, kernel: int, side: int, *, stride: int = 1, block: Block = SINGLE
) -> ModelProto:
    """One convolution of an image [1, inputs, side, side], padded so that a stride of 1 keeps its size."""
    g = _Graph(sparsity, block)
    made = -(-side // stride)
    y = g.conv("x", inputs, outputs, kernel, stride=stride)
    return g.model([1, inputs, side, side], y, [1, outputs, made, made])


NETWORKS: dict[str, Callable[..., ModelProto]] = {
    "bert-base": bert_base,
    "resnet-50": resnet50,
    "mobilenet-v2": mobilenet_v2,
    "gemv-4096": gemv,
}


def write(model: ModelProto, path: Path) -> Path:
    """The checked graph in one file."""
    checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path)
    return path


def input_of(model: ModelProto, seed: int = 0) -> NDArray[np.float32]:
    """A Gaussian input of the graph's own shape."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


class _Graph:
    """A graph being built: nodes and initialisers in order, names counted."""

    def __init__(self, sparsity: float, block: Block) -> None:
        self._sparsity, self._block = sparsity, block
        self._nodes, self._tensors = [], []
        self._random = np.random.default_rng(0)

    def node(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        name = f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, array: NDArray[np.generic]) -> str:
        name = f"constant_{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(array, name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def linear(self, x: str, columns: int, rows: int) -> str:
        weight = self._weight(rows, columns, dense=False)
        y = self.node("MatMul", [x, self.constant(np.ascontiguousarray(weight.T))])
        return self.node("Add", [y, self.constant(self._small(rows))])

    def conv(
        self,
        x: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dense: bool = False,
        relu: bool = False,
    ) -> str:
        columns = inputs // groups * kernel * kernel
        weight = self._weight(outputs, columns, dense=dense).reshape(outputs, inputs // groups, kernel, kernel)
        named = [x, self.constant(weight), self.constant(self._small(outputs))]
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
        y = self.node("Conv", named, **attributes)
        return self.node("Relu", [y]) if relu else y

    def relu6(self, x: str) -> str:
        return self.node("Clip", [x, self.scalar(0.0), self.scalar(6.0)])

    def gelu(self, x: str) -> str:
        erf = self.node("Erf", [self.node("Div", [x, self.scalar(2**0.5)])])
        return self.node("Mul", [self.node("Mul", [x, self.node("Add", [erf, self.scalar(1.0)])]), self.scalar(0.5)])

    def layer_norm(self, x: str, width: int) -> str:
        scale, shift = self.constant(np.ones(width, np.float32)), self.constant(np.zeros(width, np.float32))
        return self.node("LayerNormalization", [x, scale, shift], axis=-1, epsilon=1e-5)

    def classified(self, x: str, channels: int, shape: list[int]) -> ModelProto:
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])], axis=1)
        weight = self._weight(1000, channels, dense=True)
        named = [x, self.constant(weight), self.constant(self._small(1000))]
        return self.model(shape, self.node("Gemm", named, transB=1), [1, 1000])

    def model(self, shape: list[int], y: str, made_shape: list[int]) -> ModelProto:
        self._nodes.append(helper.make_node("Identity", [y], ["y"], name="identity"))
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        made = helper.make_tensor_value_info("y", TensorProto.FLOAT, made_shape)
        graph = helper.make_graph(self._nodes, "network", [given], [made], self._tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def _weight(self, rows: int, columns: int, *, dense: bool) -> Weight:
        """Gaussian [rows, columns]; of each layer an exact count of weights, or of blocks, is zero."""
        weight = self._random.standard_normal((rows, columns), dtype=np.float32)
        if dense or not self._sparsity:
            return weight * np.float32(columns**-0.5)
        high, wide = self._block if rows % self._block[0] == 0 and columns % self._block[1] == 0 else SINGLE
        blocks = rows * columns // (high * wide)
        kept = np.zeros(blocks, bool)
        kept[self._random.permutation(blocks)[: round(blocks * (1 - self._sparsity))]] = True
        weight *= kept.reshape(rows // high, columns // wide).repeat(high, axis=0).repeat(wide, axis=1)
        return weight * np.float32((columns * (1 - self._sparsity)) ** -0.5)

    def _small(self, rows: int) -> Weight:
        return self._random.standard_normal(rows, dtype=np.float32) * np.float32(0.02)
