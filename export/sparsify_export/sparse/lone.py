"""What one node does by itself in ONNX Runtime: how long it takes, and in which layout it computes.

Two graphs are compared by running them in turn, since a machine changes its speed from one second to the next, on the
calling thread's own clock, which leaves out what other programs take. The shortest run of each counts: whatever
disturbs a run makes it longer.

A node finds the caches as the rest of its network leaves them: its inputs near, for they were written a moment ago, its
weights and its output's memory as far as everything else that passed through since.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sparsify_export.runtimes.onnxrt import OnnxRuntime, require_provider

_BUDGET_NS = 20_000_000
_FEWEST_RUNS = 5
_MOST_BYTES = 2**24
"""Of other data between two runs: beyond that a node takes no longer."""

BLOCKED = "com.microsoft.nchwc"
"""ONNX Runtime's domain of what computes in NCHWc: images whose channels lie together in blocks of 8 or 16."""


def graph_of(
    nodes: list[Any], shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, NDArray[Any]], model: onnx.ModelProto
) -> onnx.ModelProto:
    """A graph of these nodes, with inputs of `shapes`, in the versions of `model`; its output is the last node's."""
    graph = helper.make_graph(
        nodes,
        "lone",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_empty_tensor_value_info(nodes[-1].output[0])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    domains = {node.domain for node in nodes}
    opsets = [entry for entry in model.opset_import if entry.domain in (*domains, "")]
    opsets += [helper.make_opsetid(domain, 1) for domain in domains - {entry.domain for entry in opsets}]
    return helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)


def nanoseconds(model: onnx.ModelProto, others: int = 0) -> float:
    """How much longer one inference takes than one of a graph with the same inputs that reads none of their values.

    Args:
        model: What is timed; its inputs are tensors of floats.
        others: Bytes of other data that pass through the caches between two runs.
    """
    inputs = list(model.graph.input)
    idle = helper.make_graph(
        [helper.make_node("Shape", [inputs[0].name], ["shape"])],
        "idle",
        inputs,
        [helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, None)],
    )
    nothing = helper.make_model(
        idle,
        opset_imports=[entry for entry in model.opset_import if entry.domain == ""],
        ir_version=model.ir_version,
    )
    feed, others_data = _feed(model), _others(others)
    times: tuple[list[int], list[int]] = ([], [])
    with ExitStack() as stack:
        sessions = [stack.enter_context(OnnxRuntime(one.SerializeToString())) for one in (model, nothing)]
        for session in sessions:
            session.infer(feed)
        while len(times[0]) < _FEWEST_RUNS or sum(times[0]) < _BUDGET_NS / 2:
            others_data += 1
            for values in feed.values():
                values *= 1
            for session, taken in zip(sessions, times, strict=True):
                start = time.thread_time_ns()
                session.infer(feed)
                taken.append(time.thread_time_ns() - start)
    return float(max(0, min(times[0]) - min(times[1])))


def nanoseconds_in_blocks(model: onnx.ModelProto, others: int = 0) -> float:
    """What a lone node takes without the changes of layout before and after it, by ONNX Runtime's own profile.

    Args:
        model: As for `nanoseconds`; of one node.
        others: As for `nanoseconds`.
    """
    operator = model.graph.node[0].op_type
    feed, others_data = _feed(model), _others(others)
    with TemporaryDirectory() as folder:
        options = _options()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(model, options)
        until = time.thread_time_ns() + _BUDGET_NS
        for runs in itertools.count():
            if runs >= _FEWEST_RUNS and time.thread_time_ns() > until:
                break
            others_data += 1
            for values in feed.values():
                values *= 1
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    return 1e3 * min(event["dur"] for event in nodes if event["args"]["op_name"] == operator)


def blocked_ends(model: onnx.ModelProto) -> tuple[bool, bool]:
    """Whether ONNX Runtime brings a lone node's inputs into blocks of channels first, and its output out of them."""
    options = _options()
    with TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        _session(model, options)
        nodes = onnx.load(optimised).graph.node
    found = {node.op_type for node in nodes if node.domain == BLOCKED}
    return "ReorderInput" in found, "ReorderOutput" in found


def _options() -> Any:
    options = require_provider("CPU").SessionOptions()
    options.log_severity_level = 3
    return options


def _session(model: onnx.ModelProto, options: Any) -> Any:
    runtime = require_provider("CPU")
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _feed(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return {one.name: rng.standard_normal(_sizes(one)).astype(np.float32) for one in model.graph.input}


def _others(count: int) -> NDArray[np.float32]:
    return np.zeros(min(count, _MOST_BYTES) // 4, np.float32)


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
