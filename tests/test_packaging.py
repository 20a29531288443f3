"""What is built is what is needed: the content of the wheel and of the sdist; `test_demo.py` runs the wheel."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from cases_installed import run_alone

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted(path.name for path in (ROOT / "recipes").glob("*.yaml"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist made from the checkout, and the wheel made from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run_alone(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    [path] = built.glob("*.whl")
    return path


def test_wheel_holds_both_packages_the_recipes_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sparsify").rglob("*") if _is_source(path)}
    exports = {
        path.relative_to(ROOT / "export").as_posix()
        for path in (ROOT / "export" / "sparsify_export").rglob("*")
        if _is_source(path)
    }
    recipes = {f"sparsify/recipes/{name}" for name in RECIPES}
    held = {name for name in names if ".dist-info/" not in name}
    assert packages | exports | recipes <= held
    assert {name.split("/")[0] for name in held} == {"sparsify", "sparsify_export"}
    assert {Path(name).suffix for name in held - packages - exports} <= {".yaml", ".json"}


def _is_source(path: Path) -> bool:
    return path.suffix == ".py" or path.name == "py.typed"


def test_wheel_says_what_it_is(wheel):
    archive = zipfile.ZipFile(wheel)
    [info] = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    assert metadata["Name"] == "sparsify-tickets"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "cpu",
        "gpu",
        "tensorrt-rtx",
        "vision",
        "hf",
        "lightning",
        "sparse-cpu",
        "dev",
    }
    assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert archive.read(f"{info}/entry_points.txt").decode().split() == [
        *["[console_scripts]", "sparsify", "=", "sparsify.cli.main:main"]
    ]


def test_runtimes_are_extras_and_never_among_the_base_dependencies(wheel):
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    wanted = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])
    assert not [line for line in wanted if "extra ==" not in line and line.startswith(("onnxruntime", "tensorrt"))]


def test_sdist_builds_and_holds_no_tests_and_no_runs(built):
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    tops = {name.split("/")[0] for name in names}
    assert {"pyproject.toml", "LICENSE", "README.md", "sparsify", "export", "recipes"} <= tops
    assert not tops & {"tests", "runs", "benchmarks", ".venv", ".ci"}
