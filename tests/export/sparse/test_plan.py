from __future__ import annotations

import json

import onnx
import pytest

from sparsify.errors import CorruptError
from sparsify_export.sparse.plan import KEY, Plan, Row, store, stored_plan

ROWS = (
    Row("a", "MatMul", "w", (16, 24), 0.9, True, "why", "k", "f32", "unstructured", ("bias",), 5, 2.0, 1.0, 1000, 131),
    Row("b", "Conv", "", (), None, False, "it multiplies two activations"),
)


def test_a_plan_is_read_as_it_was_written_and_beside_other_metadata():
    model = onnx.ModelProto()
    model.metadata_props.add(key="producer", value="me")
    for _ in range(2):
        store(model, Plan("f32", "a rule", ROWS))
    assert [entry.key for entry in model.metadata_props] == ["producer", KEY]
    found = stored_plan(model.metadata_props)
    assert found == json.loads(json.dumps(Plan("f32", "a rule", ROWS).to_json()))
    assert found["summary"] == "1 of 2 layers replaced, 13.1% of their dense bytes: a rule"


def test_no_plan_is_none():
    assert stored_plan(onnx.ModelProto().metadata_props) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "precision": "", "rule": "", "layers": [{}]}']
)
def test_a_damaged_plan_is_corrupt(text: str):
    model = onnx.ModelProto()
    model.metadata_props.add(key=KEY, value=text)
    with pytest.raises(CorruptError, match=r"metadata sparsify\.plan: expected a plan as it was written"):
        stored_plan(model.metadata_props)
