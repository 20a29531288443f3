from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sparsify.recipe.step import Step

ADAPTER = TypeAdapter(Step)
counts = st.integers(0, 999_999_999)


@given(counts, st.sampled_from(["ep", "it"]))
def test_a_step_reads_back_as_written(count, unit):
    step = Step(count, unit)
    assert Step.parse(f"{count}{unit}") == step
    assert Step.parse(str(step)) == step
    assert ADAPTER.validate_python(str(step), strict=True) == step
    assert ADAPTER.dump_python(step, mode="json") == f"{count}{unit}"


@pytest.mark.parametrize(
    "text", ["", "10", "ep", "1.5ep", "-1it", "01it", "10 ep", "10ep\n", "10EP", "1e3it", "٣it", "9999999999it"]
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"expected epochs or iterations such as 10ep or 2000it, got .*; write"):
        Step.parse(text)


@pytest.mark.parametrize(("value", "mend"), [(600, "write 600it or 600ep"), (True, "ep or it"), (1.5, "ep or it")])
def test_a_bare_number_is_told_how_to_get_its_unit(value, mend):
    with pytest.raises(ValidationError, match=mend):
        ADAPTER.validate_python(value)


@given(counts, st.integers(1, 10_000))
def test_epochs_count_their_iterations(count, per_epoch):
    assert Step(count, "ep").iterations(per_epoch) == sum([per_epoch] * 3) * count // 3
    assert Step(count, "it").iterations(per_epoch) == count
