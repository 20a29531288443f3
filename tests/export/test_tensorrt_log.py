"""The builder's log, as lines that real builders wrote."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

from sparsify_export.runtimes.tensorrt_log import FusedLayer, Messages, fused_layers, recording_logger

SHAPE = "Name: __mye347_0, LayerType: shape_call, Inputs: [], Outputs: [], TacticName: , StreamId: 0, Metadata: "
CONV = (
    "Name: conv1_myl0_2, LayerType: correlation, "
    "Inputs: [ { Name: r1, Dimensions: [-1,4,8,8], Format: (NHWC) Channel major format }], "
    "Constants: [ { Name: c, Dimensions: [16] }], Outputs: [ { Name: r2 }], "
    "TacticName: __myelin_CASK_STUB, StreamId: 0, "
    "Metadata: [ONNX Layer: blocks[0]/conv]\x1f[ONNX Layer: relu, the first]"
)
TENSORS = "I/O Tensors:\n Name: input, IOMode: Input, DataType: Float, Dimensions: [-1,4,8,8]"
NEW = f"Layers:\n{SHAPE}\n{CONV}\n\n{TENSORS}\n"
OLD = """Engine Layer Information:
Layer(CaskConvolution): conv1 + relu1, Tactic: 0x00000000000201d8, input (Float[-1,4,8,8]) -> r1 (Float[-1,16,8,8])
Layer(Reformat): copy, Tactic: 0x0, r1 (Float[-1,16,8,8]) -> logits (Half[-1,10])
"""


class Severity(Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


def test_layers_name_the_onnx_nodes_they_cover() -> None:
    assert fused_layers(["Building graph", NEW, "Adding 1 engine(s) to plan file."]) == (
        FusedLayer("__mye347_0", "shape_call", "", ()),
        FusedLayer("conv1_myl0_2", "correlation", "__myelin_CASK_STUB", ("blocks[0]/conv", "relu, the first")),
    )


def test_older_listings_are_read_too() -> None:
    assert fused_layers([OLD]) == (
        FusedLayer("conv1 + relu1", "CaskConvolution", "0x00000000000201d8", ()),
        FusedLayer("copy", "Reformat", "0x0", ()),
    )


def test_the_last_listing_counts_and_none_is_none() -> None:
    assert fused_layers([OLD, NEW])[0].kind == "shape_call"
    assert fused_layers(["Original: 11 layers", "Layer: x Host Persistent: 80 bytes"]) == ()


def test_messages_are_told_apart_and_repeats_dropped() -> None:
    trt = SimpleNamespace(ILogger=type("ILogger", (), {}))
    kept, terse = Messages(), Messages()
    for messages, verbose in ((kept, True), (terse, False)):
        logger = recording_logger(trt, messages, verbose=verbose)
        for severity, text in [
            (Severity.VERBOSE, NEW),
            (Severity.INFO, "(Sparsity) Found 2 layer(s) eligible to use sparse tactics: a, b"),
            (Severity.WARNING, "no"),
            (Severity.WARNING, "no"),
            (Severity.INTERNAL_ERROR, "worse"),
            (Severity.ERROR, "bad"),
        ]:
            logger.log(severity, text)
    assert (kept.warnings, kept.errors) == (("no",), ("worse", "bad"))
    assert kept.sparsity == ("(Sparsity) Found 2 layer(s) eligible to use sparse tactics: a, b",)
    assert [severity for severity, _ in terse.entries] == ["WARNING", "WARNING", "INTERNAL_ERROR", "ERROR"]
