"""Make sure that the tools of other projects which tests use as witnesses are there.

usage: python tools/fetch_tools.py NAME...

A tool on PATH is used as it is. Otherwise Debian's packages are downloaded and unpacked under `.tools/`, without root and
without installing anything. What is still missing is listed and makes the command exit with 3, unless the environment
says `ALLOW_MISSING=name,...`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / ".tools"
PACKAGES = {"tshark": ["tshark"]}
TIMEOUT_S = 600

WRAPPER = """#!/bin/sh
# Runs the unpacked tool with the libraries and data that were unpacked beside it.
root={root}
export LD_LIBRARY_PATH="$root/usr/lib/{arch}:$root/lib/{arch}:$root/usr/lib/{arch}/wireshark${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
export WIRESHARK_DATA_DIR="$root/usr/share/wireshark"
export WIRESHARK_PLUGIN_DIR="$root/usr/lib/{arch}/wireshark/plugins/4.0"
exec "$root/usr/bin/{name}" "$@"
"""


def main(names: list[str]) -> int:
    missing = [name for name in names if not provide(name)]
    allowed = {name.strip() for name in os.environ.get("ALLOW_MISSING", "").split(",")}
    for name in missing:
        verdict = "allowed by ALLOW_MISSING" if name in allowed else "needed; see docs/internals/testing.md"
        print(f"missing: {name} ({verdict})")
    return 3 if set(missing) - allowed else 0


def provide(name: str) -> bool:
    """Whether the tool runs, after fetching it if need be."""
    if find(name) is None and not fetch(name):
        return False
    path = find(name)
    if path is None or subprocess.run([path, "--version"], capture_output=True, check=False).returncode:
        return False
    print(f"{name}: {path}")
    return True


def find(name: str) -> str | None:
    """Path of a tool: on PATH, or unpacked."""
    unpacked = ROOT / "bin" / name
    return shutil.which(name) or (str(unpacked) if unpacked.exists() else None)


def fetch(name: str) -> bool:
    """Download and unpack Debian's packages of a tool with all that they depend on."""
    if name not in PACKAGES or shutil.which("apt-get") is None:
        return False
    print(f"{name}: fetching Debian's packages into {ROOT}", flush=True)
    downloads = ROOT / "packages"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        for package in closure(PACKAGES[name]):
            run(["apt-get", "download", package], downloads)
        for archive in sorted(downloads.glob("*.deb")):
            run(["dpkg-deb", "-x", str(archive), str(ROOT)], downloads)
    except (subprocess.SubprocessError, OSError) as error:
        detail = getattr(error, "stderr", b"") or b""
        print(f"{name}: {error}\n{detail.decode(errors='replace')}", file=sys.stderr)
        return False
    write_wrapper(name)
    return True


def closure(packages: list[str]) -> list[str]:
    """What apt would install for the packages on this machine, themselves included, without recommended ones."""
    simulated = simulate(packages)
    if simulated is None:
        # The package lists of a fresh machine are empty; filling them needs the rights of its owner.
        run(["apt-get", "-q", "update"], ROOT)
        simulated = simulate(packages)
    if simulated is None:
        raise OSError(f"apt knows no package {', '.join(packages)}")
    return simulated


def simulate(packages: list[str]) -> list[str] | None:
    command = ["apt-get", "--simulate", "--no-install-recommends", "install", *packages]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if result.returncode:
        return None
    return [line.split()[1] for line in result.stdout.splitlines() if line.startswith("Inst ")]


def run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)


def write_wrapper(name: str) -> None:
    arch = subprocess.run(
        ["dpkg-architecture", "-qDEB_HOST_MULTIARCH"], capture_output=True, text=True, check=False
    ).stdout.strip()
    wrapper = ROOT / "bin" / name
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(WRAPPER.format(root=ROOT, arch=arch or "x86_64-linux-gnu", name=name))
    wrapper.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
