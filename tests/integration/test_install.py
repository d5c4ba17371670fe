"""Wheel and editable installation, each in a virtual environment of its own outside the clone.

The environments hold nothing of ours but what is under test; the dependencies are borrowed from the environment that runs
the tests (tests/unit/test_packaging.py sees to it that they are declared).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ocs.startup import EXTENSIONS, PACKAGES

ROOT = Path(__file__).resolve().parents[2]
ALL_PACKAGES = (*PACKAGES, "bench")
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", *ALL_PACKAGES)
"""All that a build needs of the clone."""

WHERE = f"""
import importlib, json
names = {[*ALL_PACKAGES, *EXTENSIONS]!r}
print(json.dumps({{name: importlib.import_module(name).__file__ for name in names}}))
"""


def run(*command: str | Path, cwd: Path, expect: int = 0) -> str:
    """Run a command in an environment without our settings; return what it prints."""
    dropped = ("PYTHONPATH", "OCS_PURE", "PIP_CONSTRAINT")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == expect, f"{command}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(*arguments: str | Path, cwd: Path) -> None:
    """Run pip offline: everything that a build needs is installed."""
    run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the build needs, without anything that was built before."""
    folder = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            leave_out = shutil.ignore_patterns("__pycache__", "*.so", "*.c", "*.html")
            shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def make_environment(folder: Path) -> Path:
    """Make a virtual environment that borrows our dependencies; return its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A path file's lines are put on the path as they are: path files in that folder, like our own editable
    # installation's, are not followed.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", target, source, cwd=target)
    (built,) = target.glob("tollgate_ocs-*.whl")
    return built


@pytest.fixture(scope="module")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("from-wheel")
    python = make_environment(folder / "venv")
    pip("--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return python


@pytest.fixture(scope="module")
def editable(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with an editable installation of the copy."""
    folder = tmp_path_factory.mktemp("editable")
    python = make_environment(folder / "venv")
    # The build runs in the borrowed environment, whose Cython and setuptools `--python` finds by the path file.
    pip("--python", python, "install", "--no-deps", "--no-index", "--no-build-isolation", "-e", source, cwd=folder)
    return python


def files(python: Path) -> dict[str, Path]:
    """Return the files that our packages and extensions are loaded from."""
    text = run(python, "-I", "-c", WHERE, cwd=python.parent)
    return {name: Path(file) for name, file in json.loads(text).items()}


def commands_running() -> list[str]:
    """Return the command lines of all processes."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


def test_wheel_brings_all_packages_and_the_compiled_extension(from_wheel: Path) -> None:
    environment = from_wheel.parent.parent
    for name, file in files(from_wheel).items():
        assert file.is_relative_to(environment), name
    assert all(files(from_wheel)[name].suffix == ".so" for name in EXTENSIONS)


def test_wheel_brings_data_types_and_licence(from_wheel: Path) -> None:
    site = files(from_wheel)["ocs"].parent.parent
    assert all((site / package / "py.typed").exists() for package in ALL_PACKAGES)
    assert (site / "cython_ext" / "_avp.pyi").exists()
    assert (site / "ocs" / "demo" / "catalogue.toml").exists()
    (metadata,) = site.glob("tollgate_ocs-*.dist-info")
    assert "Apache License" in (metadata / "licenses" / "LICENSE").read_text(encoding="utf-8")
    assert not (site / "tests").exists()
    assert not (site / "tools").exists()


def test_commands_run_from_the_wheel(from_wheel: Path, tmp_path: Path) -> None:
    assert "Usage" in run(from_wheel.parent / "ocs", "--help", cwd=tmp_path)
    assert "compiled" in run(from_wheel.parent / "ocs", "doctor", cwd=tmp_path)
    assert "usage: python -m bench" in run(from_wheel, "-m", "bench", "--help", cwd=tmp_path)


def test_installation_from_the_wheel_is_whole(from_wheel: Path, tmp_path: Path) -> None:
    check = "from ocs.startup import check_installation\nfor name, value in check_installation(): print(name, value)"
    facts = run(from_wheel, "-I", "-c", check, cwd=tmp_path)
    assert str(from_wheel.parent.parent) in facts
    assert "compiled" in facts


def test_the_demonstration_runs_from_the_wheel_and_leaves_nothing_running(from_wheel: Path, tmp_path: Path) -> None:
    text = run(from_wheel.parent / "ocs", "demo", cwd=tmp_path)
    assert "Ledger" in text
    assert not [command for command in commands_running() if str(from_wheel.parent) in command]
    assert not list(tmp_path.iterdir())


def test_a_stranger_of_the_same_name_is_noticed(from_wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "balance").mkdir()
    (tmp_path / "balance" / "__init__.py").write_text("", encoding="utf-8")
    check = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import ocs.startup; ocs.startup.check_installation()"
    done = subprocess.run([from_wheel, "-I", "-c", check], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert f"balance in {tmp_path}" in done.stderr


def test_editable_installation_is_the_source_with_its_compiled_extension(editable: Path, source: Path) -> None:
    for name, file in files(editable).items():
        assert file.is_relative_to(source), name
    assert all(files(editable)[name].suffix == ".so" for name in EXTENSIONS)
    assert "Usage" in run(editable.parent / "ocs", "--help", cwd=editable.parent)
