from __future__ import annotations

import pytest

from sparsify.cli.shapes import read_shape
from sparsify.errors import UsageError


def test_a_shape_is_a_name_and_its_sides():
    assert read_shape("a=b=1x3x8") == ("a=b", (1, 3, 8))
    for wrong in ("1x3", "a=", "a=1x0", "a=1,3", "=1x3"):
        with pytest.raises(UsageError, match="--shape: expected an input and its shape"):
            read_shape(wrong)
