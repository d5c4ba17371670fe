"""Is this installation whole? Asked at every start, so that nobody charges with strangers' or half-built code.

Our packages carry plain names (`ocs`, `balance`), some of which other projects use too; and a missing extension would
only show as a thirty-fold slowdown (ADR 0001).
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import NamedTuple

DISTRIBUTION = "tollgate-ocs"
PACKAGES = ("ocs", "protocols", "balance", "tariffs", "cython_ext")
EXTENSIONS = ("cython_ext._avp", "cython_ext._credit", "cython_ext._rating", "cython_ext._resp")
MINIMUM_PYTHON = (3, 11)


class StartupError(Exception):
    """The installation cannot be trusted; the text says what is wrong and what to do."""


class Fact(NamedTuple):
    """One thing found out about the installation, for `ocs doctor`."""

    name: str
    value: str


def check_installation() -> list[Fact]:
    """Return what is installed and where.

    Raises StartupError if our packages do not come from one folder, or if an extension is missing or is no compiled one;
    `OCS_PURE=1` in the environment does without extensions.
    """
    root = common_root(PACKAGES)
    facts = [Fact("python", f"{platform.python_version()} ({platform.python_implementation()})")]
    facts.append(Fact(DISTRIBUTION, _version()))
    facts.append(Fact("root", str(root)))
    if is_pure():
        facts += [Fact(name, "readable twin (OCS_PURE=1): slow, for tests") for name in EXTENSIONS]
    else:
        facts += [Fact(name, f"compiled, {check_extension(name).name}") for name in EXTENSIONS]
    return facts


def is_pure() -> bool:
    """Whether the readable twins were asked for in place of the compiled extensions."""
    return os.environ.get("OCS_PURE") == "1"


def common_root(packages: tuple[str, ...]) -> Path:
    """Return the folder that all packages lie in; StartupError names the strangers."""
    roots = {name: _folder(name) for name in packages}
    ours = roots[packages[0]]
    strangers = [f"{name} in {folder}" for name, folder in roots.items() if folder != ours]
    if strangers:
        raise StartupError(
            f"packages come from different folders: {packages[0]} in {ours}, but {', '.join(strangers)}. "
            f"Another project installs the same names: install {DISTRIBUTION} in a virtual environment of its own"
        )
    return ours


def check_extension(name: str) -> Path:
    """Import a compiled extension and return its file; StartupError says why it is not there."""
    advice = f"install {DISTRIBUTION} with a C compiler at hand, or set OCS_PURE=1 to run the slow readable twin"
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise StartupError(f"the compiled extension {name} cannot be loaded ({error}): {advice}") from error
    file = Path(module.__file__ or "")
    if not file.name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
        raise StartupError(f"{name} is {file}, which is not compiled: {advice}")
    return file


def _folder(package: str) -> Path:
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise StartupError(f"the package {package} is missing: install {DISTRIBUTION} again") from error
    if module.__file__ is None:
        raise StartupError(f"{package} is a folder without code ({list(module.__path__)}), not our package")
    return Path(module.__file__).resolve().parent.parent


def _version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "not installed, run from its folder"
