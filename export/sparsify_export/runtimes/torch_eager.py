"""Eager PyTorch on the CPU: the reference that every other runtime is held against."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import nn

from sparsify.errors import UsageError
from sparsify_export.runtimes.protocol import Feed


class TorchEager:
    """Runs `module` in evaluation mode with gradients off; the module's own mode is put back on leaving."""

    device = "cpu"

    def __init__(
        self, module: nn.Module, input_name: str = "input", output_name: str = "logits", threads: int = 1
    ) -> None:
        self._module = module
        self._input_name = input_name
        self._output_name = output_name
        self._threads = threads
        self._before: tuple[int, dict[str, bool]] | None = None

    def __enter__(self) -> Self:
        modes = {name: child.training for name, child in self._module.named_modules()}
        self._before = (torch.get_num_threads(), modes)
        torch.set_num_threads(self._threads)
        self._module.eval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            threads, modes = self._before
            torch.set_num_threads(threads)
            for name, child in self._module.named_modules():
                child.training = modes[name]
        self._before = None

    def infer(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run the module on `feed[input_name]`; a tensor of any shape comes back as `output_name`."""
        if self._before is None:
            raise UsageError("expected the runtime to be entered first: with TorchEager(module) as runtime: ...")
        with torch.inference_mode():
            output = self._module(torch.from_numpy(feed[self._input_name]))
        return {self._output_name: output.numpy()}

    def describe(self) -> dict[str, str | int]:
        """Name, version, provider and threads."""
        return {
            "name": "torch-eager",
            "version": str(torch.__version__),
            "provider": "cpu",
            "threads": self._threads,
        }
