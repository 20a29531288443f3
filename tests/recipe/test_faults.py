from __future__ import annotations

from sparsify.recipe.faults import Fault, Place
from sparsify.recipe.misfit import Misfit

MISFIT = Misfit(("prune", "levels"), expected="a whole number", got="'x'", mend="write 8")


def test_a_fault_in_a_file_begins_as_editors_parse_it():
    fault = Fault.of(MISFIT, Place("a.yaml", 3, 11))
    assert str(fault) == "a.yaml:3:11: prune.levels: expected a whole number, got 'x'; write 8"


def test_a_fault_in_an_override_begins_with_the_override():
    fault = Fault.of(MISFIT, Place("--set prune.levels=x", None, None, rank=1))
    assert str(fault).startswith("--set prune.levels=x: prune.levels: expected")


def test_a_fault_as_a_dict_has_every_part():
    assert Fault.of(MISFIT, Place("a.yaml", 3, 11)).as_dict() == {
        "file": "a.yaml",
        "line": 3,
        "column": 11,
        "path": "prune.levels",
        "expected": "a whole number",
        "got": "'x'",
        "mend": "write 8",
    }


def test_places_sort_by_position_and_overrides_last_in_their_order():
    places = [
        Place("--set b=1", None, None, 2),
        Place("--set c=1", None, None, 1),
        Place("f", 10, 1),
        Place("f", 9, 30),
    ]
    ordered = sorted(places, key=lambda place: place.order)
    assert [str(place) for place in ordered] == ["f:9:30", "f:10:1", "--set c=1", "--set b=1"]
