"""What is inside a run, a stage, a file of tensors or an ONNX file, as plain JSON values."""

from sparsify.pipeline.inspection.inspect import inspect as inspect

__all__ = ["inspect"]
