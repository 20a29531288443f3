"""One layer as a LiteRT model, written through the schema that its package brings, and run by XNNPACK.

LiteRT's interpreter gives float layers to XNNPACK by itself; its converter would need TensorFlow, so the few tables of
a model with one layer are filled in here. An evaluation only, never a dependency.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def xnnpack(weight: Floats, bias: Floats, x: Floats, stride: int) -> Callable[[], Floats]:
    """The layer on one thread: weight [outputs, inputs] or [outputs, inputs, height, width], images channels last."""
    if weight.ndim == 4:
        weight, x = weight.transpose(0, 2, 3, 1), x.transpose(0, 2, 3, 1)
        sides = [-(-side // stride) for side in x.shape[1:3]]
        shape, options, kind = [1, *sides, len(weight)], schema.Conv2DOptionsT(), "CONV_2D"
        options.strideH = options.strideW = stride
        options.padding = schema.Padding.SAME
        options.dilationHFactor = options.dilationWFactor = 1
    else:
        shape, options, kind = [*x.shape[:-1], len(weight)], schema.FullyConnectedOptionsT(), "FULLY_CONNECTED"
    interpreter = Interpreter(model_content=written(weight, bias, list(x.shape), shape, kind, options), num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    made = interpreter.get_output_details()[0]["index"]
    interpreter.set_tensor(given, np.ascontiguousarray(x))

    def infer() -> Floats:
        interpreter.invoke()
        return interpreter.get_tensor(made)

    return infer


def written(weight: Floats, bias: Floats, given: list[int], made: list[int], kind: str, options: Any) -> bytes:
    """The model's bytes: tensors x, weight, bias, y; one operator."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [buffer(None), buffer(weight), buffer(bias)]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 1
    model.operatorCodes = [code]
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("x", given, 0),
        tensor("weight", list(weight.shape), 1),
        tensor("bias", list(bias.shape), 2),
        tensor("y", made, 0),
    ]
    graph.inputs, graph.outputs = [0], [3]
    layer = schema.OperatorT()
    layer.opcodeIndex, layer.inputs, layer.outputs = 0, [0, 1, 2], [3]
    layer.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    layer.builtinOptions = options
    graph.operators = [layer]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(weight.nbytes + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def buffer(values: Floats | None) -> Any:
    """A constant's bytes, or none."""
    made = schema.BufferT()
    if values is not None:
        made.data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    return made


def tensor(name: str, shape: list[int], place: int) -> Any:
    """A float32 tensor whose values lie in that buffer."""
    made = schema.TensorT()
    made.name, made.shape, made.buffer, made.type = name, shape, place, schema.TensorType.FLOAT32
    return made
