"""Say what a machine lacks to build this project, before anything is installed.

usage: python3 tools/prerequisites.py

Runs on the machine's own Python, whatever its age, with the standard library alone. What is missing is listed with the
Debian package that brings it; the exit status is then 3.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig

MINIMUM = (3, 11)


def missing() -> list[str]:
    """List what is missing, each as `what: how to get it`."""
    found = []
    if sys.version_info < MINIMUM:
        found.append(
            f"Python 3.{MINIMUM[1]} or newer, this is {sys.version.split()[0]}: name it with `make PYTHON=...`"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        found.append("Python's venv module: apt install python3-venv")
    compiler = os.environ.get("CC") or (sysconfig.get_config_var("CC") or "cc").split()[0]
    if not any(shutil.which(name) for name in (compiler.split()[0], "cc", "gcc")):
        found.append("a C compiler: apt install gcc libc6-dev")
    if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
        found.append("Python's headers: apt install python3-dev")
    return found


def main() -> int:
    """Print what is missing; return the exit status."""
    found = missing()
    for line in found:
        print("missing: " + line)
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main())
