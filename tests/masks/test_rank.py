from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsify.masks import rank
from sparsify.masks.rank import Keys, take, threshold

WIDTHS = {16: np.uint16, 32: np.uint32, 64: np.uint64}


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, list[Keys], int, Keys | None]:
    """Width, keys in chunks, a count, and a sample that may mislead as much as it likes."""
    bits = draw(st.sampled_from(sorted(WIDTHS)))
    few = st.sampled_from([0, 1, 2, 1 << (bits - 1), (1 << bits) - 1])
    key = draw(st.sampled_from([few, st.integers(0, (1 << bits) - 1)]))
    drawn = draw(st.lists(st.lists(key, max_size=20), min_size=1, max_size=4).filter(any))
    chunks = [np.array(chunk, dtype=WIDTHS[bits]) for chunk in drawn]
    everything = sorted(k for chunk in drawn for k in chunk)
    sample = draw(st.one_of(st.none(), st.lists(st.sampled_from(everything), max_size=6)))
    count = draw(st.integers(1, len(everything)))
    return bits, chunks, count, None if sample is None else np.array(sample, dtype=WIDTHS[bits])


def overwriting(chunks: list[Keys]) -> Iterator[Keys]:
    """The chunks one after another in one buffer, as a file is read."""
    buffer = np.empty(max(chunk.size for chunk in chunks), dtype=chunks[0].dtype)
    for chunk in chunks:
        buffer[: chunk.size] = chunk
        yield buffer[: chunk.size]


@pytest.mark.parametrize("few", [0, 1 << 16], ids=["many", "few"])
@given(case=cases())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_cut_is_that_of_a_sorted_list_whatever_the_sample(
    case: tuple[int, list[Keys], int, Keys | None], few: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rank, "_FEW", few)
    bits, chunks, count, sample = case
    ordered = sorted((int(k) for chunk in chunks for k in chunk), reverse=True)
    found = threshold(lambda: overwriting(chunks), count, len(ordered), bits=bits, sample=sample)
    assert found.key == ordered[count - 1]
    assert found.equal == ordered.count(found.key)
    assert found.ties == count - sum(k > found.key for k in ordered)


@pytest.mark.parametrize("sampled", [False, True], ids=["radix", "sample"])
@pytest.mark.parametrize("tied", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("share", [1e-5, 0.1, 0.5, 0.9, 1.0])
def test_many_keys_agree_with_a_sort(share: float, tied: float, sampled: bool):
    generator = np.random.default_rng(0)
    keys = generator.standard_normal(200_000).astype(np.float32).__abs__().view(np.uint32)
    keys[generator.random(keys.size) < tied] = 0
    count = max(int(share * keys.size), 1)
    found = threshold(
        lambda: np.array_split(keys, 7), count, keys.size, bits=32, sample=keys[::50] if sampled else None
    )
    assert found.key == np.sort(keys)[-count]


def test_a_good_sample_saves_passes():
    keys = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint32)
    passes = 0

    def chunks() -> Iterator[Keys]:
        nonlocal passes
        passes += 1
        yield keys

    threshold(chunks, 50_000, keys.size, bits=32, sample=keys[::10])
    assert passes == 1
    threshold(chunks, 50_000, keys.size, bits=32)
    assert passes == 1 + 2


@given(
    values=st.lists(st.integers(0, 3), max_size=30),
    cut=st.integers(0, 3),
    ties=st.integers(0, 12),
    at=st.integers(0, 30),
)
def test_ties_are_taken_from_the_front_across_chunks(values: list[int], cut: int, ties: int, at: int):
    kept: list[bool] = []
    left = ties
    for chunk in (values[:at], values[at:]):
        part, left = take(np.array(chunk, dtype=np.uint32), cut, left)
        kept += part.tolist()
    equal = [i for i, value in enumerate(values) if value == cut]
    assert kept == [value > cut or i in equal[:ties] for i, value in enumerate(values)]
    assert left == max(ties - len(equal), 0)
