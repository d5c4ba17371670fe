"""Make sure that the tools of other projects which tests use are there: tshark, redis-server, valgrind.

usage: python3 tools/fetch_tools.py NAME...

A tool on PATH is used as it is. Otherwise Debian's packages are downloaded and unpacked under `.tools/`, with or without
root; nothing is installed on the machine and no service is started. Each tool must then show that it works. What is
still missing is listed and makes the exit status 3, unless the environment names it: `ALLOW_MISSING=name,...`; tests
that need it are then reported as not run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent / ".tools"
UNPACKED = ROOT / "root"
TIMEOUT_S = 600

OWN_LISTS = [
    "-oDir::State::lists=" + str(ROOT / "apt" / "lists"),
    "-oDir::Cache=" + str(ROOT / "apt" / "cache"),
    "-oDebug::NoLocking=1",
    "-oAPT::Sandbox::User=",
]
"""Package lists of our own, which need no root; the machine's sources and its installed packages still count."""

WRAPPER = """\
#!/bin/sh
# Runs the unpacked tool with the libraries and data that were unpacked beside it. Wireshark ignores WIRESHARK_DATA_DIR
# when root runs it, so root becomes nobody; nobody may not come here by the full path, hence the relative ones.
# Arguments of all tools name files by absolute paths.
cd -- "$(dirname -- "$0")/../root" || exit 1
for folder in usr/lib/*-linux-gnu* lib/*-linux-gnu*; do
    [ -d "$folder" ] && LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
done
export LD_LIBRARY_PATH
@BEFORE@exec usr/bin/@NAME@ "$@"
"""

BEFORE_TSHARK = """\
export WIRESHARK_DATA_DIR=usr/share/wireshark
if [ "$(id -u)" = 0 ]; then
    export HOME=/nonexistent
    exec setpriv --reuid=65534 --regid=65534 --clear-groups usr/bin/tshark "$@"
fi
"""


BEFORE_VALGRIND = """\
export VALGRIND_LIB="$PWD/usr/libexec/valgrind"
"""


class Tool(NamedTuple):
    """A tool, the Debian packages that bring it, and the proof that it works."""

    packages: tuple[str, ...]
    """Downloaded even if the machine has them; what they depend on comes only if the machine lacks it."""
    works: Callable[[str], bool]
    before: str = ""
    """What the wrapper does before it runs the tool."""


def main(names: list[str]) -> int:
    """Provide the named tools; return the exit status."""
    missing = [name for name in names if not provide(name)]
    allowed = {name.strip() for name in os.environ.get("ALLOW_MISSING", "").split(",")}
    for name in missing:
        print(f"missing: {name}" + (" (ALLOW_MISSING lets it be)" if name in allowed else f": apt install {name}"))
    return 3 if set(missing) - allowed else 0


def provide(name: str) -> bool:
    """Whether the tool works, after fetching it if need be."""
    tool = TOOLS[name]
    if find(name) is not None:
        return True
    print(f"fetching {name}: Debian packages {', '.join(tool.packages)}, unpacked in .tools", flush=True)
    try:
        fetch(name, tool)
    except (subprocess.SubprocessError, OSError) as error:
        detail = getattr(error, "stderr", b"") or b""
        print(f"{name}: {error}\n{detail.decode(errors='replace')}".strip(), file=sys.stderr)
        return False
    return tool.works(str(ROOT / "bin" / name))


def find(name: str) -> str | None:
    """Path of a tool that works: on PATH, or unpacked; `None` if there is none."""
    for path in (shutil.which(name), str(ROOT / "bin" / name)):
        if path is not None and TOOLS[name].works(path):
            return path
    return None


def fetch(name: str, tool: Tool) -> None:
    """Download packages with all that they depend on and this machine lacks, and unpack them under `.tools/root`."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise OSError("this machine has no apt-get and dpkg-deb")
    downloads = ROOT / "packages" / name
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        download(tool.packages, downloads, [])
    except subprocess.SubprocessError:
        # The machine's package lists are empty or old.
        (ROOT / "apt" / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (ROOT / "apt" / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        run(["apt-get", *OWN_LISTS, "-q", "update"], downloads)
        download(tool.packages, downloads, OWN_LISTS)
    for archive in sorted(downloads.glob("*.deb")):
        run(["dpkg-deb", "-x", str(archive), str(UNPACKED)], downloads)
    shutil.rmtree(downloads)
    with contextlib.suppress(OSError):
        downloads.parent.rmdir()  # unless another tool is being fetched
    shutil.rmtree(ROOT / "apt", ignore_errors=True)
    wrapper = ROOT / "bin" / name
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(WRAPPER.replace("@NAME@", name).replace("@BEFORE@", tool.before), encoding="utf-8")
    wrapper.chmod(0o755)


def download(packages: tuple[str, ...], folder: Path, options: list[str]) -> None:
    """Download the packages and what a simulated installation would bring with them."""
    simulated = run(["apt-get", *options, "--simulate", "--no-install-recommends", "install", *packages], folder)
    wanted = {line.split()[1] for line in simulated.splitlines() if line.startswith("Inst ")}
    run(["apt-get", *options, "-q", "download", *sorted(wanted.union(packages))], folder)


def run(command: list[str], folder: Path) -> str:
    """Run a command without input; return what it prints, raise if it fails."""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.decode(errors="replace")


def tshark_works(path: str) -> bool:
    """Whether tshark names the command of a Diameter message: its libraries and its dictionary are in place."""
    arguments = [path, "-r", "-", "-T", "fields", "-e", "diameter.cmd.code", "-e", "diameter.Origin-Host"]
    try:
        done = subprocess.run(arguments, input=watchdog_capture(), capture_output=True, check=False, timeout=60)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.split() == [b"280", b"gw.example.net"]


def watchdog_capture() -> bytes:
    """A capture file with one TCP segment that carries a Device-Watchdog-Request."""
    host = struct.pack(">IB3s", 264, 0x40, (8 + 14).to_bytes(3, "big")) + b"gw.example.net" + bytes(2)
    message = struct.pack(">B3sB3sIII", 1, (20 + len(host)).to_bytes(3, "big"), 0x80, bytes((0, 1, 24)), 0, 1, 1) + host
    tcp = struct.pack(">HHIIBBHHH", 40000, 3868, 1, 1, 5 << 4, 0x18, 65535, 0, 0)
    addresses = bytes((192, 0, 2, 1, 192, 0, 2, 2))
    packet = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp) + len(message), 1, 0, 64, 6, 0) + addresses + tcp + message
    link_raw_ip = 101
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_raw_ip)
    return header + struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet


def redis_server_works(path: str) -> bool:
    """Whether a Redis server of version 6.2 or later starts, writes its log of changes and answers."""
    with tempfile.TemporaryDirectory(prefix="ocs-redis-") as folder:
        address = str(Path(folder, "s"))
        command = [path, "--port", "0", "--unixsocket", address, "--dir", folder, "--save", "", "--appendonly", "yes"]
        try:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        except OSError:
            return False
        try:
            found = re.search(rb"redis_version:([0-9]+)\.([0-9]+)", ask_redis(server, address))
        finally:
            server.kill()
            server.wait()
    return found is not None and (int(found[1]), int(found[2])) >= (6, 2)


def ask_redis(server: subprocess.Popen[bytes], address: str) -> bytes:
    """What the server says of itself, empty if it ends or says nothing within ten seconds."""
    end = time.monotonic() + 10
    while server.poll() is None and time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.connect(address)
            connection.sendall(b"INFO server\r\n")
            return connection.recv(4096)
        time.sleep(0.01)
    return b""


def valgrind_works(path: str) -> bool:
    """Whether callgrind counts the instructions of a program."""
    command = [path, "--quiet", "--tool=callgrind", "--callgrind-out-file=/dev/null", "/bin/true"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    except OSError:
        return False
    return done.returncode == 0


TOOLS = {
    "redis-server": Tool(("redis-server", "redis-tools"), redis_server_works),
    "tshark": Tool(("tshark",), tshark_works, BEFORE_TSHARK),
    "valgrind": Tool(("valgrind",), valgrind_works, BEFORE_VALGRIND),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
