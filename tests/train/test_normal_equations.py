from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.train.normal_equations import Sums, solve


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 5), columns=st.integers(1, 7), ridge=st.sampled_from([0.0, 0.3]))
def test_each_row_is_numpys_least_squares_over_what_it_keeps(seed: int, rows: int, columns: int, ridge: float):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(1, 40, columns, generator=g).double(), torch.randn(1, 40, rows, generator=g).double()
    old = torch.randn(rows, columns, generator=g).double()
    kept = torch.rand(rows, columns, generator=g) < 0.6
    sums = Sums()
    for part in (slice(0, 13), slice(13, 40)):
        sums.add(x[:, part], y[:, part])
    new = solve(sums.xx[0], sums.yx[0], kept, old, torch.full((columns,), ridge, dtype=torch.float64), "layer")
    for row in range(rows):
        s = kept[row].numpy()
        # The ridge as further samples: sqrt(ridge) w = sqrt(ridge) old.
        a = np.vstack([x[0].numpy()[:, s], np.sqrt(ridge) * np.eye(int(s.sum()))])
        b = np.concatenate([y[0, :, row].numpy(), np.sqrt(ridge) * old[row].numpy()[s]])
        assert new[row].numpy()[s] == pytest.approx(np.linalg.lstsq(a, b)[0], abs=1e-9)
        assert not new[row].numpy()[~s].any()
    error = ((y[0] - x[0] @ new.T) ** 2).sum() / (y[0] ** 2).sum()
    assert sums.error(new[None]) == pytest.approx(float(error), abs=1e-9)


def test_inputs_that_do_not_determine_the_weights_are_refused_undamped():
    x = torch.ones(1, 4, 2).double()
    sums = Sums()
    sums.add(x, x[:, :, :1])
    kept, old = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2).double()
    with pytest.raises(UsageError, match=r"fc.weight: expected calibration inputs that determine .* raise damping"):
        solve(sums.xx[0], sums.yx[0], kept, old, torch.zeros(2).double(), "fc.weight")
    new = solve(sums.xx[0], sums.yx[0], kept, old, torch.full((2,), 1e-6).double(), "fc.weight")
    assert new[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
