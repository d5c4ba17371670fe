"""Write the locks `requirements/*.txt`: exact versions and hashes of all that an installation brings.

`make lock` runs it after a change of the dependencies in `pyproject.toml`; `make lock UPGRADE=1` takes newer versions.
It needs `uv`. The versions hold for every Python from 3.11 on. The three files agree with each other, so that one
virtual environment may take several.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"demo": ("demo",), "test": ("demo", "test", "dev"), "docs": ("docs",)}
"""Lock file → the extras that it holds, beside the dependencies and the build's own tools (but `docs`: only its extra)."""
HEAD = """\
# {purpose}
# Written by `make lock` from pyproject.toml: do not edit. `make lock UPGRADE=1` takes newer versions.
"""
PURPOSES = {
    "demo": "What `make demo` installs: the product, its build tools and the foreign client of the demonstration.",
    "test": "What `make test`, `make test-peers` and `make check` install.",
    "docs": "What `make docs` installs.",
}


def inputs(project: dict[str, Any], name: str) -> list[str]:
    """Return the requirements that a lock file resolves; the build's own tools are locked with the product."""
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    wanted = [line for extra in EXTRAS[name] for line in extras[extra]]
    if name == "docs":
        return wanted
    built_with: list[str] = project["build-system"]["requires"]
    return [*project["project"]["dependencies"], *built_with, *wanted]


def compile_lock(requirements: list[str], target: Path, constraints: Path | None, *, upgrade: bool) -> None:
    """Resolve requirements into a file with hashes; versions already locked stay, unless `upgrade`."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "requirements.in"
        source.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--emit-build-options", "--output-file", str(target), str(source)]
        command += ["--constraint", str(constraints)] if constraints else []
        command += ["--upgrade"] if upgrade else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def main(arguments: list[str]) -> int:
    """Write all locks; `--upgrade` takes newer versions. Returns the exit status."""
    upgrade = "--upgrade" in arguments
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    widest = ROOT / "requirements" / "test.txt"
    for name in ("test", "demo", "docs"):
        target = ROOT / "requirements" / f"{name}.txt"
        compile_lock(inputs(project, name), target, None if target == widest else widest, upgrade=upgrade)
        body = "".join(line for line in target.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#"))
        target.write_text(HEAD.format(purpose=PURPOSES[name]) + body, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
