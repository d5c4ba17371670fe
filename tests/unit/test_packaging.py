"""The distribution says all that it needs, and the start-up check sees what is wrong with an installation."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ocs import startup

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = (*startup.PACKAGES, "bench")

INDIRECT = {
    "httptools": "uvicorn's fast parser, which it loads by name",
}
"""Dependencies that no module of ours imports, and why they are there."""


def canonical(requirement: str) -> str:
    """Return the normalised distribution name of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", requirement)[0]).lower()


def declared(extra: str | None = None) -> set[str]:
    project = PROJECT["project"]
    lines: list[str] = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {canonical(line) for line in lines}


def imports(path: Path) -> Iterator[str]:
    """Yield the top-level names that a module imports from elsewhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


def third_party() -> Iterator[tuple[Path, str]]:
    """Yield (module of ours, distribution that it imports)."""
    providers = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in set(imports(path)) - sys.stdlib_module_names - set(PACKAGES):
                assert name in providers, f"{path.relative_to(ROOT)} imports {name}, which nothing installed provides"
                yield path.relative_to(ROOT), canonical(providers[name][0])


def extra_of(path: Path) -> set[str]:
    """What a module may import beyond what every installation has."""
    if path.parts[:2] == ("ocs", "demo"):
        return declared("demo")
    return declared("bench") if path.parts[0] == "bench" and path.name.startswith("reference") else set()


def test_every_import_is_a_declared_dependency() -> None:
    runtime = declared()
    undeclared = {
        f"{path}: {name}" for path, name in third_party() if name not in runtime and name not in extra_of(path)
    }
    assert not undeclared


def test_every_dependency_is_imported() -> None:
    used = {name for _, name in third_party()}
    assert declared() - used == set(INDIRECT)


def test_locks_hold_every_declared_dependency() -> None:
    built_with = {canonical(line) for line in PROJECT["build-system"]["requires"]}
    needed = {
        "demo": declared() | declared("demo") | built_with,
        "test": declared() | declared("demo") | declared("test") | declared("dev") | built_with,
        "docs": declared("docs"),
    }
    for name, wanted in needed.items():
        lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        locked = {canonical(line) for line in lines if "==" in line}
        assert wanted <= locked, f"requirements/{name}.txt is old: run `make lock`"


def test_every_package_is_typed_and_every_extension_has_its_stub() -> None:
    assert all((ROOT / package / "py.typed").exists() for package in PACKAGES)
    extensions = [entry["name"] for entry in PROJECT["tool"]["setuptools"]["ext-modules"]]
    # The load generator's own is no part of a server, and has no twin.
    assert tuple(name for name in extensions if name != "cython_ext._loadgen") == startup.EXTENSIONS
    for name in extensions:
        base = ROOT / name.replace(".", "/")
        assert all(base.with_suffix(suffix).exists() for suffix in (".pyx", ".pxd", ".pyi"))


def test_nothing_below_ocs_asks_for_the_time() -> None:
    """`now` is a parameter. The import contract keeps the module `time` away; `datetime` may only format."""
    askers = {"now", "utcnow", "today"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("protocols", "tariffs", "balance", "ocs/charging")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in askers
        and ast.unparse(node.value).endswith(("date", "time"))
    ]
    assert not found


def test_the_installation_under_test_is_whole() -> None:
    facts = dict(startup.check_installation())
    assert facts["root"] == str(ROOT)


def test_packages_from_different_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = ModuleType("balance")
    stranger.__file__ = str(tmp_path / "balance" / "__init__.py")
    monkeypatch.setitem(sys.modules, "balance", stranger)
    with pytest.raises(startup.StartupError, match=rf"balance in {tmp_path}.*virtual environment"):
        startup.check_installation()


def test_a_missing_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tariffs", None)
    with pytest.raises(startup.StartupError, match="the package tariffs is missing"):
        startup.check_installation()


def test_a_missing_extension_is_refused_unless_the_twin_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCS_PURE", raising=False)
    monkeypatch.setitem(sys.modules, "cython_ext._avp", None)
    with pytest.raises(startup.StartupError, match=r"cython_ext\._avp cannot be loaded.*OCS_PURE=1"):
        startup.check_installation()
    monkeypatch.setenv("OCS_PURE", "1")
    assert "readable twin" in dict(startup.check_installation())["cython_ext._avp"]


def test_a_python_file_is_no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCS_PURE", raising=False)
    module = ModuleType("cython_ext._avp")
    module.__file__ = "/somewhere/cython_ext/_avp.py"
    monkeypatch.setitem(sys.modules, "cython_ext._avp", module)
    with pytest.raises(startup.StartupError, match="not compiled"):
        startup.check_installation()
