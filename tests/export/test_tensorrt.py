"""The native runtime: what it says where it cannot run, its order of calls on fakes, and all of it on a real GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_tensorrt import FakeDevice, FakeEngine, fake_module
from sparsify.errors import UnavailableError, UsageError
from sparsify_export.runtimes import cuda_device, gpu, tensorrt
from sparsify_export.runtimes.tensorrt import TensorRt
from sparsify_export.runtimes.tensorrt_cache import PlanCache
from sparsify_export.runtimes.tensorrt_module import run_lacks
from sparsify_export.runtimes.tensorrt_options import BuildOptions
from tensorrt_graphs import convnet, mlp

A10 = gpu.Gpu(0, "NVIDIA A10", (8, 6), 2**34, "13.0")


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "cache", tmp_path / "plan.key")


@pytest.mark.skipif(bool(gpu.probe().gpus), reason="says what is said where there is no GPU; this machine has one")
@pytest.mark.parametrize("module", ["tensorrt", "tensorrt-rtx"])
def test_without_a_gpu_entering_is_exit_6_and_lists_what_is_missing(
    module: str, tmp_path: Path, cache: PlanCache
) -> None:
    runtime = TensorRt(mlp(tmp_path / "net.onnx"), module=module, cache=cache)
    with (
        pytest.raises(
            UnavailableError, match=f"running {module} is not available here: .*driver.*To make it so"
        ) as caught,
        runtime,
    ):
        pass
    assert caught.value.exit_code == 6
    assert not cache.root.exists(), "nothing is built for a run that cannot be"


class Fakes:
    """A GPU, a TensorRT that multiplies by 3, and a builder that counts; `plan` is what it writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.builds: list[BuildOptions] = []
        weight = 3 * np.eye(64, dtype=np.float32)
        monkeypatch.setattr(gpu, "probe", lambda: gpu.GpuProbe((A10,)))
        monkeypatch.setattr(tensorrt, "run_lacks", lambda _: ())
        monkeypatch.setattr(cuda_device, "CudaDevice", FakeDevice)
        monkeypatch.setitem(sys.modules, "tensorrt", fake_module(lambda _, logger: FakeEngine(weight, logger)))
        monkeypatch.setattr(tensorrt, "build_plan", self.build)

    def build(self, path: Path, *, module: str, options: BuildOptions, out: Path) -> Any:
        self.builds.append(options)
        out.write_bytes(b"plan")
        return type("Report", (), {"to_json": lambda _: {"layers": ["fused", "other"]}})()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return Fakes(monkeypatch)


def test_entering_builds_once_and_then_takes_the_cache(fakes: Fakes, tmp_path: Path, cache: PlanCache) -> None:
    path, feed = mlp(tmp_path / "net.onnx"), {"input": np.ones((2, 64), np.float32)}
    for plan in ("built", "cached"):
        with TensorRt(path, batch_sizes=[2, 8], cache=cache) as runtime:
            outputs, elapsed_ms = runtime.infer_timed(feed)
            np.testing.assert_array_equal(outputs["logits"], 3 * feed["input"])
            np.testing.assert_array_equal(runtime.infer(feed)["logits"], outputs["logits"])
            assert elapsed_ms == 0.5
            assert runtime.describe() == {
                "name": "tensorrt",
                "version": "10.99",
                "provider": "tensorrt",
                "threads": 1,
                "gpu": "NVIDIA A10",
                "compute_capability": "SM86",
                "driver": "13.0",
                "plan": plan,
                "fused_layers": 2,
            }
    assert [options.profiles["input"] for options in fakes.builds] == [((1, 64), (2, 64), (8, 64))]
    with TensorRt(path, batch_sizes=[4], cache=cache), TensorRt(mlp(path, seed=1), batch_sizes=[4], cache=cache):
        assert len(fakes.builds) == 3, "another profile and another graph are other plans"


def test_a_runtime_is_entered_before_it_infers(fakes: Fakes, tmp_path: Path, cache: PlanCache) -> None:
    runtime = TensorRt(mlp(tmp_path / "net.onnx"), cache=cache)
    assert (runtime.device, runtime.describe()["version"]) == ("cuda", "not loaded")
    with pytest.raises(UsageError, match="expected the runtime to be entered first"):
        runtime.infer({})
    with runtime:
        pass
    with pytest.raises(UsageError, match="expected the runtime to be entered first"):
        runtime.infer({})


def test_a_plan_for_another_architecture_is_refused(fakes: Fakes, tmp_path: Path, cache: PlanCache) -> None:
    options = BuildOptions(compute_capability="SM89")
    runtime = TensorRt(mlp(tmp_path / "net.onnx"), options=options, cache=cache)
    with pytest.raises(UsageError, match=r"expected SM86 \(NVIDIA A10\), got SM89: that plan cannot run here"), runtime:
        pass
    assert fakes.builds == []


# From here on: a real GPU. Nothing below has a fake in it.


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def module(request: pytest.FixtureRequest) -> str:
    if lacks := run_lacks(request.param):
        pytest.skip("needs a CUDA device and TensorRT: " + "; ".join(lack.what for lack in lacks))
    return request.param


def reference(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    """ONNX's own reference evaluator: slow, in NumPy, and nobody's runtime."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(str(path)).run(None, feed)[0]


def images(size: int, shape: tuple[int, ...] = (4, 8, 8)) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(size).standard_normal((size, *shape)).astype(np.float32)}


@pytest.mark.gpu
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_gpu_parity_over_dynamic_batches(
    module: str, sparse: bool, residual: bool, tmp_path: Path, cache: PlanCache
) -> None:
    path = convnet(tmp_path / "net.onnx", sparse=sparse, residual=residual)
    profiles = {"input": ((1, 4, 8, 8), (8, 4, 8, 8), (32, 4, 8, 8))}
    options = BuildOptions(profiles=profiles, sparse_weights=sparse, tf32=False)
    with TensorRt(path, module=module, options=options, cache=cache) as runtime:
        for size in (1, 8, 32, 3, 1):
            outputs, elapsed_ms = runtime.infer_timed(images(size))
            np.testing.assert_allclose(outputs["logits"], reference(path, images(size)), rtol=1e-3, atol=1e-4)
            assert 0 < elapsed_ms < 10_000
        with pytest.raises(UsageError, match=r"got \[33, 4, 8, 8\]"):
            runtime.infer(images(33))
        np.testing.assert_allclose(runtime.infer(images(2))["logits"], reference(path, images(2)), rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_gpu_parity_against_eager_pytorch(module: str, tmp_path: Path, cache: PlanCache) -> None:
    import onnx
    import torch

    path = mlp(tmp_path / "net.onnx")
    weights = {
        tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for tensor in onnx.load(path).graph.initializer
    }
    feed = images(8, (64,))
    hidden = torch.relu(torch.nn.functional.linear(torch.tensor(feed["input"]), weights["first"], weights["bias"]))
    eager = (hidden @ weights["second"]).numpy()
    with TensorRt(path, module=module, batch_sizes=[8], cache=cache) as runtime:
        # TensorRT multiplies fp32 in TF32 by default: 10 bits of mantissa
        np.testing.assert_allclose(runtime.infer(feed)["logits"], eager, rtol=2e-2, atol=5e-2)


@pytest.mark.gpu
def test_gpu_second_entry_takes_the_cache(module: str, tmp_path: Path, cache: PlanCache) -> None:
    path = mlp(tmp_path / "net.onnx")
    answers = []
    for plan in ("built", "cached"):
        with TensorRt(path, module=module, batch_sizes=[8], cache=cache) as runtime:
            assert runtime.describe()["plan"] == plan
            answers.append(runtime.infer(images(8, (64,)))["logits"])
    np.testing.assert_array_equal(*answers)


@pytest.mark.gpu
def test_gpu_two_engines_live_side_by_side(module: str, tmp_path: Path, cache: PlanCache) -> None:
    """Interleaved timing holds both networks at once, in one process."""
    paths = [mlp(tmp_path / f"{seed}.onnx", seed=seed) for seed in (0, 1)]
    feed = images(8, (64,))
    first, second = (TensorRt(path, module=module, batch_sizes=[8], cache=cache) for path in paths)
    with first, second:
        alone = [runtime.infer(feed)["logits"] for runtime in (first, second)]
        for _ in range(20):
            for runtime, expected in zip((first, second), alone, strict=True):
                np.testing.assert_allclose(runtime.infer(feed)["logits"], expected, rtol=1e-6)
    assert not np.allclose(*alone)
