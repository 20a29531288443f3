import numpy as np
import pytest

from sparsify.data.labels import kind_of, no_labels, to_labels
from sparsify.errors import UsageError


@pytest.mark.parametrize(
    ("array", "kind", "shape"),
    [
        (np.arange(4, dtype=np.uint8), "classes", (4,)),
        (np.arange(4).reshape(4, 1), "classes", (4,)),
        (np.array([True, False, True, True]), "classes", (4,)),
        (np.zeros((4, 3), np.int32), "positions", (4, 3)),
        (np.zeros(4, np.float16), "values", (4,)),
        (np.zeros((4, 1)), "values", (4, 1)),
        (np.zeros((4, 3)), "values", (4, 3)),
    ],
)
def test_the_type_and_the_shape_tell_the_kind(array, kind, shape):
    labels = to_labels(array, 4, "y", positions=(3,))
    assert (kind_of(labels), labels.shape) == (kind, shape)
    assert labels.dtype == (np.float32 if kind == "values" else np.int64)


def test_no_labels_are_their_own_kind():
    assert kind_of(no_labels(4)) == "none" and len(no_labels(4)) == 4


@pytest.mark.parametrize(
    "array", [np.zeros((4, 2), int), np.zeros((3,), int), np.zeros((4, 0)), np.array(list("abcd"))]
)
def test_other_shapes_and_types_are_refused(array):
    with pytest.raises(UsageError, match="y: expected"):
        to_labels(array, 4, "y", positions=(3,))
