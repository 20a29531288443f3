"""Finding recipes and reading their text: a file's path, or the name of a recipe that ships with sparsify."""

from __future__ import annotations

from pathlib import Path

from sparsify.errors import InputOutputError, RecipeError
from sparsify.recipe.faults import Fault, Place
from sparsify.recipe.misfit import Misfit, near
from sparsify.recipe.yaml_source import place_after

MAX_BYTES = 1_000_000
_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_folder() -> Path | None:
    """The folder of shipped recipes: inside the package in a wheel, beside it in a checkout, or None."""
    in_wheel, in_checkout = _PACKAGE / "recipes", _PACKAGE.parent / "recipes"
    if in_wheel.is_dir():
        return in_wheel
    return in_checkout if in_checkout.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file() else None


def shipped_recipes() -> list[Path]:
    """The files of the recipes that ship with sparsify, sorted by name; a recipe's name is its file's stem."""
    folder = shipped_folder()
    return sorted(folder.glob("*.yaml")) if folder else []


def resolve_recipe_path(text: str) -> Path:
    """The file that `text` means: an existing file, or else the shipped recipe of that name.

    Raises:
        InputOutputError: neither is there; the message lists the shipped recipes.
    """
    path = Path(text)
    if path.exists() and not path.is_dir():
        return path
    shipped = {recipe.stem: recipe for recipe in shipped_recipes()}
    if text in shipped:
        return shipped[text]
    names = ", ".join(shipped) or "none found"
    mend = near(path.stem, shipped) or "check the path, or write a starter with `sparsify init`"
    got = "a folder" if path.is_dir() else "no such file"
    raise InputOutputError(
        f"{text}: expected a recipe's path or the name of a shipped recipe ({names}), got {got}; {mend}"
    )


def read_text(path: Path) -> str:
    """The file's text; InputOutputError if it cannot be read, RecipeError if it is over 1 MB or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputOutputError(
            f"{path}: expected a recipe that can be read, got {error.strerror}; check the path and its permissions"
        ) from error
    if len(data) > MAX_BYTES:
        misfit = Misfit((), expected="at most 1 MB", got="a larger file", mend="is this a recipe?")
        raise RecipeError([Fault.of(misfit, Place(str(path), 1, 1))])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        misfit = Misfit(
            (), expected="text in UTF-8", got=f"the byte 0x{data[error.start]:02x}", mend="save the file as UTF-8"
        )
        raise RecipeError([Fault.of(misfit, place_after(before, str(path)))]) from error
