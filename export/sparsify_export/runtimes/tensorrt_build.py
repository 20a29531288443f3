"""ONNX file -> TensorRT plan: one code path for the modules `tensorrt` and `tensorrt-rtx`.

NVIDIA's parser reads the graph, optimisation profiles say which batch sizes it must serve, the builder fuses layers
and writes a plan. With `tensorrt-rtx` all of this needs no GPU; such a plan is built, not run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sparsify.errors import CorruptError, UnavailableError, UsageError
from sparsify.store.atomic import write_bytes, write_json
from sparsify.store.digest import file_sha256
from sparsify_export.runtimes import gpu
from sparsify_export.runtimes.onnx_file import graph_digest
from sparsify_export.runtimes.tensorrt_log import FusedLayer, Messages, fused_layers, recording_logger
from sparsify_export.runtimes.tensorrt_module import (
    Lack,
    architectures,
    build_lacks,
    create_network,
    load_module,
    refuse_lacks,
    set_architecture,
    set_precision,
)
from sparsify_export.runtimes.tensorrt_options import BuildOptions, batch_profiles
from sparsify_export.runtimes.tensorrt_rtx import AOT_TARGETS
from sparsify_export.runtimes.tensorrt_sparsity import LayerSparsity, two_of_four_report

NOT_RUN = "built, not run: no GPU here"
_SPARSE_UNSEEN = "sparse kernels were allowed; whether any is chosen cannot be seen here: measure, never assume"
_MENDS = {  # parser's error code -> how to mend it
    "UNSUPPORTED_NODE": "TensorRT has no such operator: replace it in the model, or run this model with another target",
    "UNSUPPORTED_NODE_ATTR": "change that attribute in the model, or run this model with another target",
    "UNSUPPORTED_NODE_DATATYPE": "export this operator in fp32, fp16 or bf16",
    "UNSUPPORTED_NODE_DYNAMIC": "export this operator with fixed shapes: only the batch axis may be dynamic",
    "INVALID_NODE": "the graph is not valid ONNX: export it again, or check it with onnx.checker",
    "INVALID_GRAPH": "the graph is not valid ONNX: export it again, or check it with onnx.checker",
}


@dataclass(frozen=True)
class PlanReport:
    """What was built; `path` is None where the plan was not kept. Two builds' bytes differ, so no digest names them."""

    module: str
    module_version: str
    graph_sha256: str
    target: str
    options: BuildOptions
    path: Path | None
    plan_bytes: int
    seconds: float
    layers: tuple[FusedLayer, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    two_of_four: tuple[LayerSparsity, ...]
    statement: str

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; `path` is the file's name alone."""
        values = asdict(replace(self, options=BuildOptions()))
        return {
            **values,
            "options": self.options.model_dump(mode="json"),
            "path": None if self.path is None else self.path.name,
            "two_of_four": [{**asdict(layer), "two_of_four": layer.two_of_four} for layer in self.two_of_four],
        }


def build_plan(onnx_path: Path, *, module: str, options: BuildOptions, out: Path | None) -> PlanReport:
    """Build one plan and, if `out` is a path, write it there whole or not at all.

    Raises:
        UnavailableError: If the module or the GPU it needs is missing, or TensorRT cannot build this graph; the message
            names the node and its operator.
        UsageError: If the options cannot be met, such as an architecture that the module does not know.
        CorruptError: If the file is no ONNX file.
        InputOutputError: If a file is missing or cannot be written.
    """
    graph_sha256 = graph_digest(onnx_path)
    refuse_lacks(f"building a {module} plan", build_lacks(module))
    trt = load_module(module)
    gpus = gpu.probe()
    if options.compute_capability is None and not gpus.gpus:
        mend = f"{gpus.mend}, or name an architecture to build for ({', '.join(architectures(trt))})"
        refuse_lacks(f"building a {module} plan for the GPU at hand", [Lack(gpus.reason, mend)])
    messages = Messages()
    started = time.perf_counter()
    plan = _serialize(trt, onnx_path, options, messages)
    seconds = time.perf_counter() - started
    if out is not None:
        write_bytes(out, plan)
    here = gpus.gpus[0] if gpus.gpus else None
    return PlanReport(
        module=module,
        module_version=str(trt.__version__),
        graph_sha256=graph_sha256,
        target=options.compute_capability or (here.sm if here else ""),
        options=options,
        path=out,
        plan_bytes=len(plan),
        seconds=seconds,
        layers=fused_layers([text for _, text in messages.entries]),
        warnings=messages.warnings,
        notes=(messages.sparsity or (_SPARSE_UNSEEN,)) if options.sparse_weights else (),
        two_of_four=two_of_four_report(onnx_path),
        statement=_statement(options.compute_capability, here),
    )


def _statement(target: str | None, here: gpu.Gpu | None) -> str:
    if here is None:
        return NOT_RUN
    if target in (None, here.sm):
        return f"built for {here.name} ({here.sm}), not run yet"
    return f"built for {target}, not run: the GPU here is {here.name} ({here.sm})"


def export_plans(
    onnx_path: Path, out: Path, *, module: str, batch_sizes: Sequence[int], sparse_weights: bool
) -> list[PlanReport]:
    """Plans in the folder `out`: `tensorrt-rtx` builds one for each of `AOT_TARGETS`, `tensorrt` one for this GPU.

    A plan is named `NAME-SM86.plan`; beside it `NAME-SM86.plan.json` holds its report and its SHA-256. Raises what
    `build_plan` and `batch_profiles` raise.
    """
    profiles = batch_profiles(onnx_path, batch_sizes)
    targets: tuple[str | None, ...] = AOT_TARGETS if module == "tensorrt-rtx" else (None,)
    reports: list[PlanReport] = []
    for target in targets:
        options = BuildOptions(profiles=profiles, sparse_weights=sparse_weights, compute_capability=target)
        path = out / f"{onnx_path.stem}-{target or 'gpu'}.plan"
        report = build_plan(onnx_path, module=module, options=options, out=path)
        write_json(path.with_name(f"{path.name}.json"), {**report.to_json(), "plan_sha256": file_sha256(path)})
        reports.append(report)
    return reports


def _serialize(trt: Any, onnx_path: Path, options: BuildOptions, messages: Messages) -> bytes:
    """The plan's bytes. Logger and builder outlive what they made: TensorRT's objects do not keep each other alive."""
    logger = recording_logger(trt, messages, verbose=True)
    builder = trt.Builder(logger)
    network = create_network(trt, builder, strongly_typed=options.strongly_typed)
    config = _configure(trt, builder, options)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        raise _parse_error(onnx_path, [parser.get_error(index) for index in range(parser.num_errors)], messages)
    _refuse_unprofiled(onnx_path, network, options)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        target = options.compute_capability or "this GPU"
        raise UnavailableError(
            f"{onnx_path}: TensorRT {trt.__version__} parsed the graph but cannot build it for {target}: "
            f"{messages.last_error}; build for another architecture, or change the layer"
        )
    return bytes(plan)


def _configure(trt: Any, builder: Any, options: BuildOptions) -> Any:
    config = builder.create_builder_config()
    set_architecture(trt, config, options.compute_capability)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # makes the builder's log list the fused layers
    if options.sparse_weights:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    for precision in options.precisions:
        set_precision(trt, config, precision)
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in options.profiles.items():
            profile.set_shape(name, smallest, usual, largest)
        config.add_optimization_profile(profile)
    return config


def _refuse_unprofiled(onnx_path: Path, network: Any, options: BuildOptions) -> None:
    """A dynamic input without a profile, or a profile of no input, is ours to name: TensorRT only refuses to build."""
    inputs = {tensor.name: tuple(tensor.shape) for tensor in (network.get_input(i) for i in range(network.num_inputs))}
    for name in options.profiles.keys() - inputs.keys():
        raise UsageError(f"{onnx_path}: profiles: expected one of the inputs {sorted(inputs)}, got {name!r}")
    for name, shape in inputs.items():
        if -1 in shape and name not in options.profiles:
            raise UsageError(f"{onnx_path}: input {name!r} has the dynamic shape {list(shape)}: give it a profile")
        fits = all(a in (-1, b) for a, b in zip(shape, options.profiles.get(name, (shape,))[0], strict=False))
        if not fits or (name in options.profiles and len(options.profiles[name][0]) != len(shape)):
            raise UsageError(
                f"{onnx_path}: profiles: {name}: expected shapes that fit {list(shape)}, got {options.profiles[name]}"
            )


def _parse_error(onnx_path: Path, errors: Sequence[Any], messages: Messages) -> CorruptError | UnavailableError:
    """What NVIDIA's parser refused, by node and operator, and how to mend it."""
    if any(error.code().name == "MODEL_DESERIALIZE_FAILED" for error in errors):
        return CorruptError(
            f"{onnx_path}: TensorRT cannot read it as ONNX; export it again, or check it with onnx.checker"
        )
    faults = "; ".join(_fault(error) for error in errors) or messages.last_error
    return UnavailableError(f"{onnx_path}: TensorRT's parser refuses the graph: {faults}")


def _fault(error: Any) -> str:
    code, op, description = error.code().name, error.node_operator(), error.desc()
    where = f"node {error.node_name()!r} (number {error.node()}, operator {op})" if op else "the graph"
    # for an operator it lacks, the parser's description is the failed assertion, "false"
    said = f": {description}" if description not in ("", "false") else ""
    mend = _MENDS.get(code, "export the model again with a plainer form of this operator")
    return f"{where}: {code.lower().replace('_', ' ')}{said}; {mend}"
