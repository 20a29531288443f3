"""The layout holds: import rules, public names, shipped recipes, what the README promises, what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparsify
from sparsify.cli.main import VERBS
from sparsify.pipeline.names import load_checked_prune
from sparsify.recipe.load import is_prune_recipe

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (ROOT / "sparsify", ROOT / "export" / "sparsify_export")
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
README = (ROOT / "README.md").read_text()
# What runs code found in data, or would let data name code.
UNSAFE_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "runpy"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
TORCH_READERS = {"load", "jit.load", "package"}


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_imports_point_down_only():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sparsify.__all__)
def test_public_name_exists(name):
    assert getattr(sparsify, name) is not None


def test_public_names_are_told_to_type_checkers_and_to_the_lazy_import_alike():
    tree = ast.parse((ROOT / "sparsify" / "__init__.py").read_text())
    told = {
        alias.asname: (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == sparsify._HOME
    assert sorted({*told, "__version__"}) == sorted(sparsify.__all__) == dir(sparsify)


def test_unknown_public_name_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'Tickets'; its names are .*Mask"):
        _ = sparsify.Tickets


def test_every_verb_has_its_file_and_every_file_its_verb():
    files = {path.stem for path in (ROOT / "sparsify" / "cli").glob("*.py") if _is_verb(path)}
    assert files == set(VERBS)


def _is_verb(path: Path) -> bool:
    tree = ast.parse(path.read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == "command" for node in tree.body)


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "recipes").glob("*.yaml")), ROOT / "benchmarks" / "imp.yaml"], ids=lambda path: path.name
)
def test_shipped_recipe_loads_and_says_what_it_is(path):
    recipe = load_checked_prune(path.read_text(), str(path)) if is_prune_recipe(path) else sparsify.load_recipe(path)
    assert recipe.name == path.stem or path.parent.name == "benchmarks"
    assert recipe.description


def test_readme_names_only_verbs_that_exist():
    named = set(re.findall(r"(?:^|`|\$ )sparsify ([a-z]+)\b", README, flags=re.MULTILINE))
    assert named, "the README names no verb"
    assert named <= set(VERBS)


def test_readme_names_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z]+)\b", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_readme_links_and_commands_name_only_files_that_exist():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    scripts = re.findall(r"\b((?:benchmarks|recipes|docs)/[\w./-]+\w)", README)
    missing = [name for name in {*links, *scripts} if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_source_cannot_run_code_found_in_data(path):
    faults: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            faults += [f"{node.lineno}: import {name}" for name in imported if name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.Call):
            faults += [f"{node.lineno}: {fault}" for fault in _unsafe_call(node)]
    assert not faults


def _unsafe_call(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    faults = [f"{name}(...)" for _ in (1,) if name in UNSAFE_CALLS]
    if (
        name.removeprefix("torch.") in TORCH_READERS
        and name.startswith("torch.")
        and given.get("weights_only") != "True"
    ):
        faults.append(f"{name} without weights_only=True")
    if name in {"np.load", "numpy.load"} and given.get("allow_pickle", "False") != "False":
        faults.append(f"{name} with pickles")
    if given.get("shell", "False") != "False":
        faults.append(f"{name} through a shell")
    return faults


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("eval('1')", "eval(...)"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("np.load(path, allow_pickle=True)", "np.load with pickles"),
        ("subprocess.run(line, shell=True)", "subprocess.run through a shell"),
    ],
)
def test_the_check_for_unsafe_calls_sees(code, fault):
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _unsafe_call(call) == [fault]


def test_no_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [_relative(path) for path in SOURCES if drawers & {path.stem, path.parent.name}]


def test_no_file_names_a_folder_of_one_machine():
    folder = re.compile(rb"(?<![\w.}:/-])/(home|root|Users|work|mnt)/(?!someone)\w")
    found = {
        f"{_relative(path)}:{number}"
        for path in _tracked()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if folder.search(line)
    }
    assert not found


def test_no_large_file_is_tracked():
    assert not [_relative(path) for path in _tracked() if path.stat().st_size > 1_000_000]
