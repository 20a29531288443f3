from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsify.masks import exact
from sparsify.masks.exact import keep_highest

# Few different values, so that most scores are tied; both zeros are one score.
FLOATS = st.sampled_from([0.0, -0.0, -1.0, 1.0, 2.5, -1e-30, 1e30, float("inf"), -float("inf")])
DTYPES = {
    torch.float32: FLOATS | st.floats(width=32, allow_nan=False),
    torch.float64: FLOATS | st.floats(allow_nan=False),
    torch.float16: st.sampled_from([0.0, -0.0, -1.0, 1.0, 6e-8, 65504.0]),
    torch.bfloat16: st.sampled_from([0.0, -0.0, -1.0, 1.0, 1e-38, 1e38]),
    torch.int64: st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 1),
    torch.uint8: st.integers(0, 255),
    torch.bool: st.booleans(),
}


def by_stable_sort(scores: list[Tensor], count: int, candidates: list[Tensor] | None) -> list[Tensor]:
    """What selection was before it was quick: a stable descending sort of all candidates, cut at `count`."""
    flat = torch.cat([score.flatten() for score in scores])
    among = torch.ones_like(flat, dtype=torch.bool)
    if candidates is not None:
        among = torch.cat([candidate.flatten() for candidate in candidates])
    index = among.nonzero().squeeze(1)
    order = torch.sort(flat[index], descending=True, stable=True).indices
    keep = torch.zeros_like(among)
    keep[index[order[: max(count, 0)]]] = True
    return [part.view_as(s) for part, s in zip(keep.split([s.numel() for s in scores]), scores, strict=True)]


@st.composite
def cases(draw: Any) -> tuple[list[Tensor], int, list[Tensor] | None]:
    dtype = draw(st.sampled_from(list(DTYPES)))
    shapes = draw(st.lists(st.sampled_from([(2, 3), (5,), (0, 4), (1, 2, 2), ()]), min_size=1, max_size=3))

    def tensor(element: Any, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        size = torch.Size(shape).numel()
        return torch.tensor(draw(st.lists(element, min_size=size, max_size=size)), dtype=kind).view(shape)

    scores = [tensor(DTYPES[dtype], shape, dtype) for shape in shapes]
    masked = draw(st.booleans())
    candidates = [tensor(st.booleans(), shape, torch.bool) for shape in shapes] if masked else None
    return scores, draw(st.integers(-1, 20)), candidates


@given(cases())
def test_selection_is_that_of_a_stable_sort(case: tuple[list[Tensor], int, list[Tensor] | None]):
    expected, found = by_stable_sort(*case), keep_highest(*case)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    assert all(part.dtype == torch.bool for part in found)


@pytest.mark.parametrize("rounding", [None, 0, 2], ids=["distinct", "massively tied", "tied"])
@pytest.mark.parametrize("density", [1e-4, 0.1, 0.5, 0.99])
def test_many_scores_over_many_chunks_agree_with_a_stable_sort(
    rounding: int | None, density: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exact, "_CHUNK", 1000)
    monkeypatch.setattr(exact, "_SAMPLE", 512)
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(shape, generator=generator) for shape in [(70, 300), (1001,), (40, 10, 3, 3)]]
    scores = scores if rounding is None else [score.round(decimals=rounding) for score in scores]
    candidates = [torch.rand(score.shape, generator=generator) < 0.7 for score in scores]
    count = int(density * 20_000)
    for among in (None, candidates):
        pairs = zip(keep_highest(scores, count, among), by_stable_sort(scores, count, among), strict=True)
        assert all(torch.equal(found, expected) for found, expected in pairs)


def test_what_is_given_is_left_as_it_was():
    scores, candidates = [torch.tensor([3.0, -0.0, 2.0])], [torch.tensor([True, True, False])]
    for count in (0, 1, 5):
        keep_highest(scores, count, candidates)[0].fill_(False)
    assert scores[0].tolist() == [3.0, 0.0, 2.0] and scores[0][1].signbit()
    assert candidates[0].tolist() == [True, True, False]


def test_transposed_scores_are_ranked_as_they_read():
    scores = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).T  # reads 1 0 / 1 1
    assert keep_highest([scores], 2)[0].tolist() == [[True, False], [True, False]]


def test_mixed_dtypes_compete_without_being_rounded():
    found = keep_highest([torch.tensor([1.0, 2.0]), torch.tensor([1.0 + 1e-12], dtype=torch.float64)], 2)
    assert [part.tolist() for part in found] == [[False, True], [True]]
