"""What a worker and its supervisor agree on, and what both tell the service manager. No loop: each has one of its own.

The supervisor passes its orders in the environment of the worker's process; the worker says over a pipe when it serves,
and asks the kernel to be stopped when the supervisor is gone, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

from ocs.config import Settings

READY_FD = "OCS_READY_FD"
SUPERVISOR_PID = "OCS_SUPERVISOR_PID"
CLOCK_START_US = "OCS_TEST_CLOCK_START_US"
NOTIFY_SOCKET = "NOTIFY_SOCKET"
"""Where systemd, or a container's init that does the same, wants to hear that the service is ready."""

READY = b"ready\n"
MARGIN_S = 12.0
"""What a drain may take beyond the waits for gateways: operators' requests, the store's last commits, a busy machine."""

_PR_SET_PDEATHSIG = 1


class SupervisorGone(Exception):
    """The supervisor ended while this worker started."""


class Orders(NamedTuple):
    """What a supervisor tells one of its workers."""

    supervisor_pid: int
    ready_fd: int
    """Descriptor of the pipe on which the worker says that it serves."""
    clock_start_us: int | None = None
    """Where a test clock starts, so that those of all workers agree."""

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The worker's environment: what the supervisor has, and the orders."""
        own = {name: value for name, value in inherited.items() if name != NOTIFY_SOCKET}
        own |= {SUPERVISOR_PID: str(self.supervisor_pid), READY_FD: str(self.ready_fd)}
        return own if self.clock_start_us is None else {**own, CLOCK_START_US: str(self.clock_start_us)}


def take_orders(environment: MutableMapping[str, str] = os.environ) -> Orders | None:
    """The orders of this process's supervisor, `None` if it has none. They are not left for processes started later."""
    pid, ready_fd, clock_start_us = (environment.pop(name, None) for name in (SUPERVISOR_PID, READY_FD, CLOCK_START_US))
    if pid is None or ready_fd is None:
        return None
    return Orders(int(pid), int(ready_fd), int(clock_start_us) if clock_start_us else None)


def die_with_supervisor(orders: Orders) -> None:
    """Have the kernel send SIGTERM, so a drain, when the supervisor is gone. `SupervisorGone`: it is already.

    SIGTERM and not SIGKILL: the requests under way are answered; `end_within` bounds the drain.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != orders.supervisor_pid:
        raise SupervisorGone("the supervisor ended while this worker started")
    os.set_inheritable(orders.ready_fd, False)
    # Meant for the supervisor: a worker has nothing to reload.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def say_ready(orders: Orders) -> None:
    """Tell the supervisor that this worker serves. One that is gone has sent its signal already."""
    with contextlib.suppress(BrokenPipeError):
        os.write(orders.ready_fd, READY)
    os.close(orders.ready_fd)


def end_within(seconds: float) -> None:
    """Have the kernel end this process after that time, even if its loop stands still."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def drain_limit_s(settings: Settings) -> float:
    """How long a worker may take to stop: requests in flight, DPR and DPA, operators' requests, the store."""
    return settings.diameter.drain_s + settings.diameter.disconnect_timeout_s + MARGIN_S


def tell_service_manager(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send a line such as `READY=1` to the service manager, if there is one (sd_notify); it is never waited for."""
    address = environment.get(NOTIFY_SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    path = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.connect(path)
        manager.send(state.encode())
