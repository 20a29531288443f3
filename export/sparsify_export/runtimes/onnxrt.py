"""ONNX Runtime: CPU, CUDA and TensorRT providers, each verified to be the one that runs.

onnxruntime-gpu lists its CUDA and TensorRT providers on machines that have neither, and falls back to the CPU without a
word. Here the fallback is switched off and the session's providers are compared with what was asked.
"""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

from numpy.typing import NDArray

from sparsify.errors import CorruptError, InputOutputError, UnavailableError, UsageError
from sparsify_export.runtimes.protocol import Feed
from sparsify_export.sparse.available import MEND, kernels, library
from sparsify_export.sparse.operators import are_used_by

Provider = Literal["CPU", "CUDA", "TensorRT"]

PROVIDERS: dict[Provider, str] = {
    "CPU": "CPUExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "TensorRT": "TensorrtExecutionProvider",
}
_EXTRAS = "install one of the extras: pip install 'sparsify-tickets[cpu]' or 'sparsify-tickets[gpu]'"


def load_onnxruntime() -> ModuleType:
    """The onnxruntime module, or UnavailableError that names both extras; both distributions present is a warning."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(installed) == 2:
        message = (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; keep one: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install the extra you want, [cpu] or [gpu]"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(f"expected ONNX Runtime, got {error}; {_EXTRAS}") from error
    return onnxruntime


def require_provider(provider: Provider) -> ModuleType:
    """The onnxruntime module, whose build holds `provider`; UnavailableError says what is missing.

    A build that holds CUDA or TensorRT may still lack the GPU: that shows when a session opens.
    """
    runtime = load_onnxruntime()
    if PROVIDERS[provider] not in runtime.get_available_providers():
        raise UnavailableError(_missing(provider, "this build of ONNX Runtime does not contain it"))
    return runtime


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


class OnnxRuntime:
    """One session of ONNX Runtime over one ONNX file, or over bytes that were made of the file `source`.

    `threads` is the intra-op pool; inter-op is 1 and idle threads sleep instead of spinning, so that two sessions timed
    in one process do not take each other's cores. `as_written`: what is dequantised is multiplied in floats, where ONNX
    Runtime would round activations to 8 bits, too, even beside weights alone that are quantised.
    """

    def __init__(
        self,
        model: Path | bytes,
        provider: Provider = "CPU",
        threads: int = 1,
        source: Path | None = None,
        *,
        as_written: bool = False,
    ) -> None:
        self._model = model
        self._as_written = as_written
        self._source = source
        self._provider: Provider = provider
        self._threads = threads
        self._session: Any = None
        self._outputs: list[str] = []
        self._sparse: bool | None = None

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return "cpu" if self._provider == "CPU" else "cuda"

    def __enter__(self) -> Self:
        self._session = self._open(require_provider(self._provider), PROVIDERS[self._provider])
        self._outputs = [output.name for output in self._session.get_outputs()]
        return self

    def _open(self, runtime: ModuleType, wanted: str) -> Any:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # every error is raised, too
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._as_written:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if self._provider != "CPU":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if self._source is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self._source.parent)
            )
        if self._is_sparse():
            _register(options, library())
        source = self._model if isinstance(self._model, bytes) else str(self._model)
        try:
            session = runtime.InferenceSession(source, options, providers=[wanted])
        except Exception as error:  # onnxruntime raises its own classes, RuntimeError and ValueError alike
            raise self._refused(error) from error
        if session.get_providers()[0] != wanted:
            raise UnavailableError(_missing(self._provider, f"the session runs on {session.get_providers()[0]}"))
        return session

    @property
    def _name(self) -> str:
        if isinstance(self._model, Path):
            return str(self._model)
        return "the given bytes" if self._source is None else str(self._source)

    def _is_sparse(self) -> bool:
        """Whether the graph needs the sparse operators; read once, as sessions are opened by the hundred."""
        if self._sparse is None:
            self._sparse = are_used_by(self._model)
        return self._sparse

    def _refused(self, error: Exception) -> Exception:
        name = self._name
        if isinstance(self._model, Path) and not self._model.is_file():
            return InputOutputError(f"{name}: expected an ONNX file, found none; check the path")
        reason = str(error).strip().splitlines()[-1]
        if self._provider != "CPU":
            return UnavailableError(_missing(self._provider, reason))
        return CorruptError(
            f"{name}: ONNX Runtime cannot load it: {reason}; export it again, or check it with onnx.checker"
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def infer(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run the session; UsageError where the feed does not fit the graph."""
        if self._session is None:
            raise UsageError("expected the runtime to be entered first: with OnnxRuntime(path) as runtime: ...")
        try:
            outputs = self._session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime raises its own classes, RuntimeError and ValueError alike
            raise self._unsuited(feed, error) from error
        return dict(zip(self._outputs, outputs, strict=True))

    def _unsuited(self, feed: Feed, error: Exception) -> UsageError:
        given = ", ".join(f"{name} {array.dtype} {'x'.join(map(str, array.shape))}" for name, array in feed.items())
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        return UsageError(
            f"{self._name}: expected inputs that the graph can run on, got {given}: {reason}; give other shapes"
        )

    def describe(self) -> dict[str, str | int]:
        """Name, version, provider, threads, whether idle threads spin, and what sparse operators use of the CPU."""
        facts: dict[str, str | int] = {
            "name": "onnxruntime",
            "version": str(load_onnxruntime().__version__),
            "provider": PROVIDERS[self._provider],
            "threads": self._threads,
            "spinning": "off",
        }
        if self._is_sparse():
            _, native = kernels()
            facts["sparse operators"] = str(native.describe_cpu())
        return facts


def _register(options: Any, library: Path) -> None:
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # onnxruntime's Fail derives from Exception alone
        reason = str(error).strip().splitlines()[-1]
        raise UnavailableError(f"{library}: ONNX Runtime cannot load the sparse operators: {reason}; {MEND}") from error


def _missing(provider: Provider, found: str) -> str:
    needs: dict[Provider, str] = {
        "CPU": _EXTRAS,
        "CUDA": "it needs an NVIDIA GPU with its driver, CUDA 13, cuDNN 9, and pip install 'sparsify-tickets[gpu]'",
        "TensorRT": "it needs an NVIDIA GPU with its driver, TensorRT 10 (libnvinfer.so.10), and "
        "pip install 'sparsify-tickets[gpu]'",
    }
    return f"expected ONNX Runtime's {PROVIDERS[provider]}, got: {found}; {needs[provider]}"
