from __future__ import annotations

import json
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sparsify.recipe.yaml_source import MAX_DEPTH, MAX_VALUES, read_yaml


def faults(text: str) -> list[str]:
    return [str(fault) for fault in read_yaml(text, "f").faults]


def test_every_key_and_value_knows_its_line_and_column():
    document = read_yaml("a: 1\nb:\n  - x\n  - {c: 2, d: [3,  4]}\n# end\n", "f")
    assert document.tree == {"a": 1, "b": ["x", {"c": 2, "d": [3, 4]}]}
    assert not document.faults
    where = {path: str(place) for path, place in document.values.items()}
    assert where == {
        (): "f:1:1",
        ("a",): "f:1:4",
        ("b",): "f:3:3",
        ("b", 0): "f:3:5",
        ("b", 1): "f:4:5",
        ("b", 1, "c"): "f:4:9",
        ("b", 1, "d"): "f:4:15",
        ("b", 1, "d", 0): "f:4:16",
        ("b", 1, "d", 1): "f:4:20",
    }
    keys = {path: str(place) for path, place in document.keys.items()}
    assert keys == {("a",): "f:1:1", ("b",): "f:2:1", ("b", 1, "c"): "f:4:6", ("b", 1, "d"): "f:4:12"}


def test_an_empty_value_stands_where_its_key_does():
    document = read_yaml("a:\nb:\n  c:\n\n\nd: 1\n", "f")
    assert [str(document.values[path]) for path in (("a",), ("b", "c"))] == ["f:1:1", "f:3:3"]


def test_a_path_that_stands_nowhere_is_placed_at_the_nearest_key_above():
    document = read_yaml("a: 1\nb:\n  c: 2\n", "f")
    assert str(document.place(("b", "missing"))) == "f:2:1"
    assert str(document.place(("missing",))) == "f:1:1"
    assert str(document.place(("b", "c"))) == "f:3:6"
    assert str(document.place(("b", "c"), at_key=True)) == "f:3:3"


keys = st.text(alphabet="abcxyz*._-", min_size=1, max_size=6).filter(lambda key: key[0] in "abcxyz")
leaves = st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), st.text(alphabet="ab 1:#", max_size=8))
trees = st.dictionaries(
    keys,
    st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)),
    min_size=1,
    max_size=4,
)


def _block_yaml(tree: object) -> str:
    stream = StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.dump(tree, stream)
    return stream.getvalue()


@given(trees, st.sampled_from([_block_yaml, json.dumps]))
def test_reads_what_an_independent_writer_wrote(tree, write):
    document = read_yaml(write(tree), "f")
    assert not document.faults
    assert document.tree == tree


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3:1: a: expected each key once, got it again after line 1; remove one of the two"),
        ("p: {q: 1, q: 2}", "f:1:11: p.q: expected each key once, got it again after line 1; remove one of the two"),
        ("a: &x 1\n", "f:1:4: a: expected a value without an anchor, got &x; remove the anchor"),
        ("a: 1\nb: *x\n", "f:2:4: b: expected a value, got the alias *x; write the value out"),
        ("&x a: 1\n", "f:1:1: a: expected a value without an anchor, got &x; remove the anchor"),
        (
            "a:\n  <<: {b: 1}\n",
            'f:2:3: a."<<": expected keys that are text, got a merge key; write the merged keys out',
        ),
        ("a: !x 1\n", "f:1:4: a: expected a value without a tag, got '!x'; remove the tag"),
        ("a: !!python/object/apply:os.system [ls]\n", "without a tag, got 'tag:yaml.org,2002:python/object/apply:os"),
        ("a: !!str 1\n", "f:1:4: a: expected a value without a tag, got 'tag:yaml.org,2002:str'; remove the tag"),
        ("3: x\n", "f:1:1: 3: expected keys that are text, got the number 3; put the key in quotes"),
        ("true: x\n", "f:1:1: true: expected keys that are text, got true; put the key in quotes"),
        ("? [a, b]\n: 1\n", "f:1:3: recipe: expected keys that are text, got a list of 2 items; write plain"),
        ("a: 1\n--- \nb: 2\n", "f:2:1: recipe: expected one document, got a second, after ---"),
        ("%YAML 1.1\n---\na: 1\n", "f:1:1: recipe: expected YAML 1.2, got %YAML 1.1; remove the directive"),
        ("a: [1, 2\n", "f:2:1: recipe: expected valid YAML, got a syntax error: "),
        ("a:\n\tb: 1\n", "f:2:1: recipe: expected valid YAML, got a syntax error: found character '\\t'"),
        ("a:\n\tb: 1\n", "; indent with spaces, not tabs"),
        (
            "a: b: c\n",
            "f:1:5: recipe: expected valid YAML, got a syntax error: mapping values are not allowed here; put",
        ),
        ("a: 1\nb: '\n", "expected valid YAML, got a syntax error: found unexpected end of stream"),
        ("a: 1\nbc: x\x07y\n", "f:2:6: recipe: expected printable text, got the character '\\x07'; remove it"),
        ('a: "\\ud800"\n', "f:1:4: a: expected Unicode text, got half a surrogate pair"),
        ('"\\ud800": 1\n', "expected Unicode text, got half a surrogate pair"),
    ],
)
def test_what_makes_a_recipe_ambiguous_or_unsafe_is_refused_where_it_stands(text, fault):
    [found] = faults(text)
    assert fault in found
    assert "\n" not in found


def test_all_of_them_are_found_in_one_pass():
    text = "a: &x 1\nb: *x\na: 2\nc: !t 3\n1: 2\n--- \n"
    assert [fault.split(":")[1] for fault in faults(text)] == ["1", "2", "3", "4", "5", "6"]


def test_what_was_refused_is_opaque_and_the_rest_is_read():
    document = read_yaml("a: &x 1\nb: *x\nc: !t {d: 3}\ne: 4\n", "f")
    assert document.opaque == {("b",), ("c",)}
    assert document.tree["a"] == 1
    assert document.tree["e"] == 4


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_is_bounded(opening):
    [fault] = faults("top: " + opening * 100_000 if opening != "- " else opening * 100_000)
    assert f"expected at most {MAX_DEPTH} levels of nesting, got more" in fault


def test_nesting_up_to_the_bound_is_read():
    assert not faults("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_the_number_of_values_is_bounded():
    assert not faults("[" + "1, " * 100 + "]")
    [fault] = faults("a: [" + "1, " * (MAX_VALUES + 5) + "]")
    assert f"expected at most {MAX_VALUES} values, got more" in fault


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_document_is_none(text):
    document = read_yaml(text, "f")
    assert document.tree is None
    assert not document.faults


@given(st.text(alphabet="ab:-[]{}&*!|>'\"%?#, \n\t<01~"))
def test_any_text_is_read_or_refused_and_never_breaks(text):
    document = read_yaml(text, "f")
    assert all(fault.place.line and fault.place.line <= text.count("\n") + 2 for fault in document.faults)
