"""What the tests' own processes need: to die with the test, and a port that stays theirs over a restart."""

from __future__ import annotations

import random
import socket
from pathlib import Path

DYING_WITH_THE_TEST = ("setpriv", "--pdeathsig", "KILL", "--")
"""Before a command: the kernel kills the process when the thread that started it ends, however it ends."""

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_dice = random.SystemRandom()


def free_port() -> int:
    """A free loopback port below those that the system gives to clients, so that it is still free after a restart."""
    first_ephemeral = int(_EPHEMERAL.read_text().split()[0])
    for _ in range(100):
        port = _dice.randrange(10_000, first_ephemeral)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from 10000 to {first_ephemeral}")


def state_of(pid: int) -> str:
    """The kernel's letter for the state of a process (`T` stopped, `Z` dead and not waited for, `X` gone)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
