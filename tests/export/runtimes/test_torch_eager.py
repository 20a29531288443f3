from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sparsify.errors import UsageError
from sparsify_export.runtimes.torch_eager import TorchEager


def test_it_runs_in_evaluation_mode_and_puts_modes_and_threads_back():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9))
    module[1].eval()
    threads = torch.get_num_threads()
    images = np.arange(6, dtype=np.float32).reshape(2, 3)
    with TorchEager(module, threads=threads + 1) as runtime:
        assert torch.get_num_threads() == threads + 1
        outputs = runtime.infer({"input": images})
        assert not module.training
    np.testing.assert_allclose(outputs["logits"], images / np.sqrt(np.float32(1 + 1e-5)), rtol=1e-6)
    assert (module.training, module[0].training, module[1].training) == (True, True, False)
    assert torch.get_num_threads() == threads


def test_inference_before_entering_is_refused():
    with pytest.raises(UsageError, match="entered first"):
        TorchEager(nn.Identity()).infer({})
