from __future__ import annotations

import os
from pathlib import Path

import pytest

from sparsify.errors import InputOutputError, RecipeError
from sparsify.recipe import files
from sparsify.recipe.files import MAX_BYTES, read_text, resolve_recipe_path, shipped_recipes

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_shipped_recipes_are_those_of_the_checkout():
    assert [path.name for path in shipped_recipes()] == sorted(path.name for path in RECIPES.glob("*.yaml"))
    assert "digits" in [path.stem for path in shipped_recipes()]


def test_shipped_recipes_are_found_inside_an_installed_package(tmp_path, monkeypatch):
    inside = tmp_path / "site" / "sparsify" / "recipes"
    inside.mkdir(parents=True)
    (inside / "mine.yaml").touch()
    monkeypatch.setattr(files, "_PACKAGE", inside.parent)
    assert shipped_recipes() == [inside / "mine.yaml"]
    assert resolve_recipe_path("mine") == inside / "mine.yaml"


def test_a_stranger_called_recipes_beside_an_installed_package_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "site" / "recipes").mkdir(parents=True)
    (tmp_path / "site" / "recipes" / "cake.yaml").touch()
    monkeypatch.setattr(files, "_PACKAGE", tmp_path / "site" / "sparsify")
    assert shipped_recipes() == []


def test_a_file_is_taken_before_a_shipped_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_recipe_path("digits").parent.name == "recipes"
    Path("digits").mkdir()
    assert resolve_recipe_path("digits").parent.name == "recipes"
    Path("digits").rmdir()
    Path("digits").touch()
    assert resolve_recipe_path("digits") == Path("digits")


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("digts", "did you mean digits?"),
        ("recipes/digit.yaml", "did you mean digits?"),
        ("zzz", "check the path, or write a starter with `sparsify init`"),
    ],
)
def test_a_missing_recipe_is_told_the_near_names(tmp_path, monkeypatch, text, mend):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputOutputError) as raised:
        resolve_recipe_path(text)
    assert str(raised.value).startswith(f"{text}: expected a recipe's path or the name of a shipped recipe (digits, ")
    assert str(raised.value).endswith(f"got no such file; {mend}")


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(InputOutputError, match="got a folder"):
        resolve_recipe_path(str(tmp_path))


def test_a_byte_order_mark_is_dropped(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_text(path) == "name: x\n"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"a: 1\nb: \xff\n", ":2:4: recipe: expected text in UTF-8, got the byte 0xff; save the file as UTF-8"),
        ("ä: ö".encode("latin-1"), ":1:1: recipe: expected text in UTF-8, got the byte 0xe4"),
        ("é: ".encode() + b"\xe9", ":1:4: recipe: expected text in UTF-8, got the byte 0xe9"),
        ("a: 1".encode("utf-16"), ":1:1: recipe: expected text in UTF-8, got the byte 0xff"),
        (b"a" * (MAX_BYTES + 1), ":1:1: recipe: expected at most 1 MB, got a larger file; is this a recipe?"),
    ],
    ids=["stray byte", "latin-1", "after a wide letter", "utf-16", "too large"],
)
def test_what_is_not_a_page_of_text_is_refused_where_it_begins(tmp_path, data, fault):
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError) as raised:
        read_text(path)
    [found] = raised.value.faults
    assert str(found).startswith(f"{path}{fault}")


def test_the_largest_file_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * MAX_BYTES)
    assert len(read_text(path)) == MAX_BYTES


def test_an_endless_file_is_not_read_whole():
    with pytest.raises(RecipeError, match="at most 1 MB"):
        read_text(Path("/dev/zero"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "a.yaml"
    path.touch(mode=0o000)
    with pytest.raises(InputOutputError, match="expected a recipe that can be read, got Permission denied"):
        read_text(path)


def test_a_file_that_went_away(tmp_path):
    with pytest.raises(InputOutputError, match=r"gone\.yaml: expected a recipe that can be read, got No such file"):
        read_text(tmp_path / "gone.yaml")
