"""One worker process: started, heard to be ready, signalled, waited for. It never outlives its supervisor.

trio's own processes are not used: they are started by a thread that ends when it has been idle, and the kernel takes the
end of the thread that forked for the death of the parent (`PR_SET_PDEATHSIG`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

import trio

from ocs.supervised import READY, Orders

Command = Callable[[int], Sequence[str]]
"""The command line of a worker, by its number."""


class WorkerProcess:
    """A process from its start to its end. All methods belong to the supervisor's thread."""

    def __init__(self, command: Sequence[str], clock_start_us: int | None = None) -> None:
        """Start it, in a process group of its own so that Ctrl-C reaches the supervisor alone; `OSError`."""
        read_fd, write_fd = os.pipe()
        try:
            orders = Orders(os.getpid(), write_fd, clock_start_us)
            self._popen = subprocess.Popen(
                command,
                env=orders.environment(os.environ),
                stdin=subprocess.DEVNULL,
                pass_fds=(write_fd,),
                process_group=0,
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        self.pid = self._popen.pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._popen.kill()
            self._popen.wait()
            os.close(read_fd)
            raise
        self._says = trio.lowlevel.FdStream(read_fd)
        self._started = time.monotonic()

    @property
    def lived_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    async def becomes_ready(self) -> bool:
        """Wait until it says that it serves; false: it ended, or closed the pipe, without saying so."""
        said = b""
        while len(said) < len(READY):
            part = await self._says.receive_some(len(READY) - len(said))
            if not part:
                return False
            said += part
        return said == READY

    async def wait(self) -> int:
        """Wait for the end: the exit status, or the negative number of the signal. One task at a time may wait."""
        if self._popen.returncode is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        status = self._popen.wait()
        self._close()
        return status

    def terminate(self) -> None:
        """Ask it to drain."""
        self._popen.terminate()

    def kill(self) -> None:
        """End it now."""
        self._popen.kill()

    def _close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
            self._says.close()


def told(status: int) -> str:
    """How a process ended, for people."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
