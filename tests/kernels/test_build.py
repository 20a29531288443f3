"""How the library is built and packaged: headers, entry points, sanitizers, and what make says where it cannot be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "export" / "kernels"
HEADERS = {"onnxruntime_c_api.h", "onnxruntime_ep_c_api.h", "onnxruntime_error_code.h", "LICENSE"}
needs_compiler = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++")), reason="needs cmake and a C++ compiler"
)


def _run(*command, cwd, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment | variables, capture_output=True, text=True
    )


def _configure(source, build, **variables):
    variables = {"ONNXRUNTIME_INCLUDE_DIR": ""} | variables
    return _run("cmake", "-S", source, "-B", build, cwd=source, **variables)


@pytest.fixture
def checkout(tmp_path):
    """A copy of what is tracked: no headers, nothing built."""
    return Path(
        shutil.copytree(
            KERNELS, tmp_path / "kernels", ignore=shutil.ignore_patterns("build", "third_party", "__pycache__")
        )
    )


def _path_without_npm(folder: Path, **others: str) -> str:
    """A PATH with what cmake needs, and scripts in place of programs."""
    folder.mkdir()
    for name in ("cmake", "ninja", "make", "c++", "g++", "cc", "gcc", "as", "ld", "ar", "ranlib", "uname", "sh"):
        if program := shutil.which(name):
            (folder / name).symlink_to(program)
    for name, script in others.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_the_library_is_installed():
    if find_spec("sparsify_kernels") is None:
        pytest.skip("sparsify-kernels is not built here: `make kernels` says why")
    from sparsify_kernels import library_path

    assert library_path().is_file()


def test_only_the_entry_points_are_exported():
    if find_spec("sparsify_kernels") is None or not shutil.which("nm"):
        pytest.skip("needs the built library and nm")
    from sparsify_kernels import library_path

    listed = _run("nm", "-D", "--defined-only", library_path(), cwd=ROOT).stdout
    names = {line.split()[-1] for line in listed.splitlines()}
    header = (KERNELS / "native" / "c_api.h").read_text()
    assert names == {"RegisterCustomOps", *re.findall(r"^SK_API .*?\b(sk_\w+)\(", header, flags=re.MULTILINE)}


def test_every_function_of_the_c_abi_is_bound():
    if find_spec("sparsify_kernels") is None:
        pytest.skip("needs the built library")
    from sparsify_kernels import native

    header = (KERNELS / "native" / "c_api.h").read_text()
    assert set(native._SIGNATURES) == set(re.findall(r"^SK_API .*?\b(sk_\w+)\(", header, flags=re.MULTILINE))


@needs_compiler
def test_without_npm_the_remedy_is_named(checkout, tmp_path):
    done = _configure(checkout, tmp_path / "build", PATH=_path_without_npm(tmp_path / "bin"))
    assert done.returncode != 0
    assert "sparsify-kernels: ONNX Runtime's headers are not installed and npm" in done.stderr
    assert "ONNXRUNTIME_INCLUDE_DIR, or install npm" in done.stderr


@needs_compiler
def test_another_package_than_the_pinned_one_is_refused(checkout, tmp_path):
    path = _path_without_npm(tmp_path / "bin", npm="echo changed > com.github.asus4.onnxruntime-0.4.9.tgz")
    done = _configure(checkout, tmp_path / "build", PATH=path)
    assert done.returncode != 0
    assert "is not the package that was pinned" in done.stderr
    assert not (checkout / "third_party").exists()


@needs_compiler
def test_a_folder_without_headers_is_refused(checkout, tmp_path):
    done = _configure(checkout, tmp_path / "build", ONNXRUNTIME_INCLUDE_DIR=str(tmp_path))
    assert done.returncode != 0
    assert "has no onnxruntime_c_api.h" in done.stderr


@needs_compiler
def test_without_a_compiler_cmake_says_so_in_one_line(checkout, tmp_path):
    done = _configure(checkout, tmp_path / "build", CXX="/nonexistent")
    assert done.returncode != 0
    assert re.search(
        r"^ +sparsify-kernels: no C\+\+ compiler was found; install one \(.*\)$", done.stderr, re.MULTILINE
    )


@pytest.mark.slow
@needs_compiler
@pytest.mark.timeout(1200)
def test_the_sdist_carries_the_headers_with_their_licence_and_builds_offline(checkout, tmp_path):
    if not (KERNELS / "third_party").is_dir() and not shutil.which("npm"):
        pytest.skip("needs npm, which fetches the headers")
    if (KERNELS / "third_party").is_dir():  # 150 MB less to fetch
        shutil.copytree(KERNELS / "third_party", checkout / "third_party")
    done = _run(sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path, checkout, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    [source] = (tmp_path / "unpacked").iterdir()
    assert {path.name for path in (source / "third_party" / "onnxruntime").iterdir()} == HEADERS
    assert "MIT License" in (source / "third_party" / "onnxruntime" / "LICENSE").read_text()
    assert {path.name for path in (KERNELS / "native").glob("*.cpp")} <= {p.name for p in (source / "native").iterdir()}
    assert not (source / "build").exists()
    done = _configure(source, tmp_path / "build", PATH=_path_without_npm(tmp_path / "bin"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@needs_compiler
@pytest.mark.timeout(1200)
def test_make_says_in_one_line_that_the_target_is_unavailable_and_goes_on(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(
        KERNELS, tmp_path / "export" / "kernels", ignore=shutil.ignore_patterns("build", "third_party", "native")
    )
    done = _run("make", f"PYTHON={sys.executable}", "kernels-if-possible", cwd=tmp_path, CXX="/nonexistent")
    assert done.returncode == 0, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("make: no target sparse-cpu: sparsify-kernels was not built: no C++ compiler was found")
    assert not (tmp_path / ".venv" / ".kernels").exists()


@pytest.mark.slow
@needs_compiler
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_random_layers_run_clean_under(sanitizer):
    """The build stays, so that only what changed is compiled again; `make kernels-sanitize` runs ten times as many."""
    build = KERNELS / "build" / f"sanitize-{sanitizer}"
    options = ("-DSPARSIFY_TESTS=ON", f"-DSPARSIFY_SANITIZE={sanitizer}")
    for command in (("cmake", "-S", KERNELS, "-B", build, *options), ("cmake", "--build", build)):
        done = _run(*command, cwd=ROOT)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    done = _run(build / "random_layers", "30", "1", cwd=ROOT)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.startswith("30 layers of each kind")


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")),
    reason="needs cmake, a cross compiler for aarch64 and qemu-user",
)
@pytest.mark.timeout(3600)
def test_random_layers_run_on_neon():
    """Compiled for 64-bit Arm, and run by an emulator of one."""
    build = KERNELS / "build" / "aarch64"
    system = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64")
    options = ("-DSPARSIFY_TESTS=ON", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_EXE_LINKER_FLAGS=-static", *system)
    configure = ("cmake", "-S", KERNELS, "-B", build, "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++", *options)
    for command in (configure, ("cmake", "--build", build, "--target", "random_layers")):
        done = _run(*command, cwd=ROOT)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    done = _run("qemu-aarch64", build / "random_layers", "10", "1", cwd=ROOT)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.startswith("10 layers of each kind") and "on neon" in done.stdout
