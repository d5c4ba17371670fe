"""The HTTP interface on a unix socket, inside the loop of the process that charges.

The socket has mode 0600 from the moment that it exists; who connects is told by the kernel (SO_PEERCRED). A socket file
that nobody listens on, left behind by a crash, is replaced; one that answers is not touched.

ControlSocketError
    ControlSocketInUse: another process listens there
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ocs.api.peer import WithPeer, peer_of_socket

SOCKET_MODE = 0o600

BACKLOG = 64
"""Connections that wait for being accepted."""

MAX_REQUESTS_IN_FLIGHT = 64
"""Requests of operators worked on at once; more are answered with 503, so that charging is not pushed aside."""

DRAIN_S = 5
"""How long requests may finish when the server stops."""


class ControlSocketError(Exception):
    """The control socket cannot be used."""


class ControlSocketInUse(ControlSocketError):
    """Another process listens on it."""


def bind_control_socket(path: Path) -> socket.socket:
    """A bound socket at `path`, mode 0600, not yet listening; raises `ControlSocketError`."""
    _remove_stale(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # On Linux the file takes the mode of the descriptor, so it never exists with a wider one. A umask would do the
        # same, but for every thread of the process, and so for files that the store makes meanwhile.
        os.fchmod(server.fileno(), SOCKET_MODE)
        server.bind(os.fspath(path))
        if stat.S_IMODE(path.stat().st_mode) & ~SOCKET_MODE:
            path.unlink()
            raise ControlSocketError(f"{path}: this system does not keep the mode of a socket")
        server.setblocking(False)
    except OSError as error:
        server.close()
        raise ControlSocketError(f"{path}: {error.strerror or error}") from error
    except BaseException:
        server.close()
        raise
    return server


def _remove_stale(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ControlSocketError(f"{path} is not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            raise ControlSocketError(f"{path}: {error.strerror or error}") from error
    raise ControlSocketInUse(f"{path}: another process listens there")


class _PeerProtocol(HttpToolsProtocol):
    """HTTP/1.1 that tells the application whose process is at the other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel once; a connection that it cannot tell is closed."""
        super().connection_made(transport)
        try:
            peer = peer_of_socket(transport.get_extra_info("socket").fileno())
        except OSError:
            transport.abort()
            return
        self.app = WithPeer(self.app, peer)


class _Server(uvicorn.Server):
    """uvicorn on a socket that is already bound, without its signal handlers: the process has its own."""

    def __init__(self, config: uvicorn.Config, bound: socket.socket) -> None:
        super().__init__(config)
        self._bound = bound
        self._ended = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the process's signal handlers alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await self.lifespan.startup()

        def protocol() -> asyncio.Protocol:
            return _PeerProtocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        loop = asyncio.get_running_loop()
        self.servers = [await loop.create_unix_server(protocol, sock=self._bound, backlog=BACKLOG)]
        self.started = True

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop wakes ten times a second to look for it and to renew a date."""
        await self._ended.wait()

    def end(self) -> None:
        """Take no more requests."""
        self.should_exit = True
        self._ended.set()


class UnixServer:
    """An ASGI application on a unix socket. `start` returns when it answers; `stop` lets requests finish."""

    def __init__(self, app: Any, path: Path) -> None:
        self.path = path
        self._app = app
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._inode = 0

    async def start(self) -> None:
        """Bind and listen; raises `ControlSocketError`."""
        bound = bind_control_socket(self.path)
        self._inode = self.path.stat().st_ino
        config = uvicorn.Config(
            self._app,
            http=_PeerProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            limit_concurrency=MAX_REQUESTS_IN_FLIGHT,
            timeout_graceful_shutdown=DRAIN_S,
        )
        self._server = _Server(config, bound)
        self._task = asyncio.get_running_loop().create_task(self._server.serve(), name="control-socket")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise ControlSocketError(f"{self.path}: the HTTP server ended at once")
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        """Take no more requests, let those in flight finish, remove the socket file."""
        if self._server is None or self._task is None:
            return
        self._server.end()
        with contextlib.suppress(FileNotFoundError):
            # Only our own file: another server may have put its socket in the place of one that was removed by hand.
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        await self._task
        self._server = self._task = None
