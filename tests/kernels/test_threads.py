"""One layer from many threads, many layers at once, and sessions that outlive what they were made from."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sparse_graphs import open_session, sparse_graph, sparse_weights
from sparsify_kernels import SparseConv, SparseLinear, library_path, pack
from sparsify_kernels.packing import PRECISIONS

RNG = np.random.default_rng(0)
WEIGHTS = sparse_weights(RNG, 96, 160)
X = RNG.standard_normal((64, 160)).astype(np.float32)
EXPECTED = X.astype(np.float64) @ WEIGHTS.T


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_layer_gives_the_same_bits_from_every_thread(threads, precision):
    layer = SparseLinear(WEIGHTS, precision=precision, threads=threads)
    alone = layer(X)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(y, alone) for y in pool.map(layer, [X] * 40))


def test_layers_of_several_pools_run_at_once():
    layers = [SparseLinear(WEIGHTS, threads=threads) for threads in (1, 2, 3, 2)]
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda i: layers[i % 4](X), range(40)):
            np.testing.assert_allclose(y, EXPECTED, rtol=1e-5, atol=2e-5)


def test_a_convolution_gives_the_same_bits_from_every_thread():
    weights = sparse_weights(RNG, 32, 16, 3, 3)
    image = RNG.standard_normal((2, 16, 20, 20)).astype(np.float32)
    layer = SparseConv(weights, pads=(1, 1, 1, 1), threads=2)
    alone = layer(image)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(y, alone) for y in pool.map(layer, [image] * 20))


def _model():
    return sparse_graph(
        "SparseLinear", {"x": ["n", 160]}, {"w": pack(WEIGHTS)}, ["x", "w"], rows=96, columns=160, expected_n=64
    )


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_session_shares_work_over_its_own_threads(threads):
    session = open_session(_model(), library_path(), threads=threads)
    for n in (1, 2, 64, 17):
        [y] = session.run(None, {"x": X[:n]})
        np.testing.assert_allclose(y, EXPECTED[:n], rtol=1e-5, atol=2e-5)


def test_one_session_serves_several_callers():
    session = open_session(_model(), library_path(), threads=2)
    with ThreadPoolExecutor(4) as pool:
        for [y] in pool.map(lambda _: session.run(None, {"x": X}), range(40)):
            np.testing.assert_allclose(y, EXPECTED, rtol=1e-5, atol=2e-5)


def test_sessions_of_one_set_of_options_live_on_when_the_options_are_gone():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_path()))
    serialized = _model().SerializeToString()
    sessions = [onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"]) for _ in range(2)]
    del options
    first = sessions.pop(0).run(None, {"x": X})[0]
    np.testing.assert_array_equal(sessions[0].run(None, {"x": X})[0], first)


def test_a_forked_child_does_its_work_alone():
    script = """
import os, sys, warnings
import numpy as np
from sparsify_kernels import SparseLinear
warnings.simplefilter("ignore")  # Python 3.12 and later warn of a fork beside threads: that is what is tested
layer = SparseLinear(np.eye(64, dtype=np.float32), threads=2)
x = np.ones((64, 64), np.float32)
layer(x)
child = os.fork()
if child == 0:
    os._exit(0 if (layer(x) == 1).all() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")
def test_a_sessions_other_threads_work_too():
    """Told by processor time: idle threads sleep here, so what others than the caller take is work."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_path()))
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    weights = sparse_weights(RNG, 1024, 1024)
    model = sparse_graph(
        "SparseLinear", {"x": [64, 1024]}, {"w": pack(weights)}, ["x", "w"], rows=1024, columns=1024
    ).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x = np.ones((64, 1024), np.float32)
    whole, own = time.process_time(), time.thread_time()
    for _ in range(1000):
        session.run(None, {"x": x})
        of_others = (time.process_time() - whole) - (time.thread_time() - own)
        if of_others > 0.05:
            return
    raise AssertionError(f"expected another thread to work, got {of_others} s of others in 1000 runs")
