"""Runs an ONNX file on the GPU with native TensorRT, module `tensorrt` or `tensorrt-rtx`.

Entering builds the plan, or takes it from the cache; torch tensors are the engine's device memory and CUDA events its
clock. There is no fallback: without a GPU, the module or torch's CUDA, entering raises UnavailableError.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from numpy.typing import NDArray

from sparsify.errors import UsageError
from sparsify_export.runtimes import cuda_device, gpu
from sparsify_export.runtimes.onnx_file import graph_digest
from sparsify_export.runtimes.protocol import Feed
from sparsify_export.runtimes.tensorrt_build import build_plan
from sparsify_export.runtimes.tensorrt_cache import CachedPlan, PlanCache, PlanIdentity
from sparsify_export.runtimes.tensorrt_engine import Engine
from sparsify_export.runtimes.tensorrt_module import load_module, refuse_lacks, run_lacks
from sparsify_export.runtimes.tensorrt_options import BuildOptions, batch_profiles


@final
class TensorRt:
    """One engine and one execution context over one ONNX file.

    `batch_sizes` are those it will be fed: the plan is tuned for the first and serves 1 to the largest. `options` takes
    their place where a graph needs more than a dynamic batch axis.
    """

    def __init__(
        self,
        onnx_path: Path,
        *,
        module: str = "tensorrt",
        batch_sizes: Sequence[int] = (1,),
        options: BuildOptions | None = None,
        cache: PlanCache | None = None,
    ) -> None:
        self._path = onnx_path
        self._module = module
        profiles = batch_profiles(onnx_path, batch_sizes)
        # The flag only permits sparse kernels: dense and ticket are built alike, and as they are exported.
        self._options = options or BuildOptions(profiles=profiles, sparse_weights=True)
        self._cache = cache or PlanCache.of_user()
        self._running: Engine | None = None
        self._facts: dict[str, str | int] = {"name": module, "version": "not loaded", "provider": module, "threads": 1}

    @property
    def device(self) -> str:
        """Always `cuda`."""
        return "cuda"

    def __enter__(self) -> Self:
        refuse_lacks(f"running {self._module}", run_lacks(self._module))
        trt = load_module(self._module)
        here = gpu.probe().gpus[0]
        if self._options.compute_capability not in (None, here.sm):
            wanted = self._options.compute_capability
            raise UsageError(
                f"compute_capability: expected {here.sm} ({here.name}), got {wanted}: that plan cannot run here"
            )
        cached = self._plan(trt, here)
        self._running = Engine(trt, cached.plan, cuda_device.CudaDevice())
        self._facts = {
            **self._facts,
            "version": str(trt.__version__),
            "gpu": here.name,
            "compute_capability": here.sm,
            "driver": here.driver,
            "plan": "cached" if cached.hit else "built",
            "fused_layers": len(cached.report["layers"]),
        }
        return self

    def _plan(self, trt: Any, here: gpu.Gpu) -> CachedPlan:
        identity = PlanIdentity(
            graph_sha256=graph_digest(self._path),
            module=self._module,
            module_version=str(trt.__version__),
            device=f"{here.name} {here.sm} driver {here.driver}",
            options=self._options.model_dump(mode="json"),
        )
        return self._cache.get(
            identity, lambda out: build_plan(self._path, module=self._module, options=self._options, out=out).to_json()
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.close()
        self._running = None

    def infer(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Outputs by name; host to host, synchronous."""
        return self.infer_timed(feed)[0]

    def infer_timed(self, feed: Feed) -> tuple[dict[str, NDArray[Any]], float]:
        """Outputs by name, and the milliseconds that the engine took on the GPU, copies apart.

        Raises:
            UsageError: If the feed does not fit the graph or its optimisation profile.
        """
        if self._running is None:
            raise UsageError("expected the runtime to be entered first: with TensorRt(path) as runtime: ...")
        return self._running.infer(feed)

    def describe(self) -> dict[str, str | int]:
        """Name, version, provider, threads, GPU, its driver, and whether the plan was cached; whole once entered."""
        return dict(self._facts)
