"""How a command reaches the HTTP interface: a running server's socket, or the same application over the store itself.

While a server runs a control socket answers, that of the first worker that is well; without one the command opens the
store for a moment (SQLite under its lock; Redis has none) and calls the application in process. Requests and answers are
the same.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

import httpx

from ocs.api.unix_client import UnixConnection, get_json, get_text
from ocs.cli.errors import BadInput, CommandError, Refused, Unavailable
from ocs.config import ConfigError, Settings, load_settings

WAIT_S = 5.0
"""How long a command waits while another one, or a server that starts or stops, holds the store."""

PAUSE_S = 0.02

HEALTH_TIMEOUT_S = 2.0
"""How long a worker may take to say that it is well, before another one is asked."""

ANSWER_MARGIN_S = 5.0
"""What a command waits beyond the server's own deadline for an answer."""

if TYPE_CHECKING:
    # The engine behind it need not be loaded where a server answers.
    from ocs.api.runtime import Runtime

    class CommandRuntime(Runtime, Protocol):
        """A runtime that a command opened for itself."""

        async def close(self) -> None:
            """Finish what is under way and give up the store."""


Json = dict[str, Any]
T = TypeVar("T")

_FIELDS = {"valid_until_s": "expires", "valid_for_s": "expires", "credit_limit_micros": "credit-limit"}
"""What the interface calls differently from the command line."""


async def open_runtime(settings: Settings) -> CommandRuntime:
    """The store under its lock, with an engine; see `ocs.runtime.open_runtime`."""
    from ocs import runtime

    opened: CommandRuntime = await runtime.open_runtime(settings, "command")
    return opened


class Api:
    """Calls of the HTTP interface."""

    def __init__(self, client: httpx.AsyncClient, served: bool) -> None:
        self._client = client
        self.served = served
        """Whether a server answers; else the application runs in this process."""

    async def get(self, path: str, **query: Any) -> Json:
        """The answer to a GET; parameters that are `None` are left out."""
        params = {name: value for name, value in query.items() if value is not None}
        return await self._call("GET", path, params=params)

    async def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """The answer to a POST."""
        return await self._call("POST", path, json=dict(body))

    async def _call(self, method: str, path: str, **what: Any) -> Json:
        try:
            answer = await self._client.request(method, path, **what)
        except httpx.TransportError as error:
            key = (what.get("json") or {}).get("key")
            hint = f"; repeat with --key {key} to learn whether the change was made" if key else ""
            raise Unavailable(f"the server went away: {str(error) or type(error).__name__}{hint}") from None
        if answer.is_success:
            found: Json = answer.json()
            return found
        raise _error_of(answer)


def _error_of(answer: httpx.Response) -> CommandError:
    try:
        error = answer.json()["error"]
        field, message = error["field"], error["message"]
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the server answered {answer.status_code} without a reason")
    text = f"{_FIELDS.get(field, field)}: {message}" if field and not error.get("problems") else str(message)
    if answer.status_code in (404, 409, 403):
        return Refused(text)
    return Unavailable(text) if answer.status_code >= 500 else BadInput(text)


def segment(name: str) -> str:
    """A name as one segment of a path; what cannot be one is refused, since nothing can have that name."""
    if not name or "/" in name or name in (".", ".."):
        raise Refused(f"nothing is named {name!r}")
    return quote(name, safe="")


def settings_of(config: str | None) -> Settings:
    """The configuration; its problems as bad input, one to a line."""
    try:
        return load_settings(config)
    except ConfigError as error:
        raise BadInput(str(error)) from None


def run(config: str | None, work: Callable[[Api], Awaitable[T]], create: bool = False) -> T:
    """Connect, do the work, disconnect. With `create` a store that is not there yet is made."""
    settings = settings_of(config)

    async def connect_and_work() -> T:
        async with connected(settings, create) as api:
            return await work(api)

    return asyncio.run(connect_and_work())


@asynccontextmanager
async def connected(settings: Settings, create: bool) -> AsyncIterator[Api]:
    """The interface of the server that holds the store, or of this process."""
    timeout = settings.control.deadline_s + ANSWER_MARGIN_S
    runtime = await _open(settings, create)
    if isinstance(runtime, Path):
        transport = _SocketTransport(runtime, timeout)
        async with httpx.AsyncClient(transport=transport, base_url="http://ocs", timeout=timeout) as client:
            yield Api(client, served=True)
        return
    from ocs.api.app import build_app
    from ocs.api.peer import WithPeer, user_name

    try:
        app: Any = WithPeer(build_app(runtime), user_name(os.getuid()))
        inside = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=inside, base_url="http://ocs", timeout=timeout) as client:
            yield Api(client, served=False)
    finally:
        await runtime.close()


class _SocketTransport(httpx.AsyncBaseTransport):
    """A server's socket for httpx, blocking: a command has nothing else to do.

    httpx's own transport loads everything that any loop may need, which takes longer than most commands.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._connection = UnixConnection(path, timeout_s)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its answer; `httpx.TransportError` if there is none."""
        body = await request.aread()
        try:
            target = request.url.raw_path.decode("ascii")
            self._connection.request(request.method, target, body, dict(request.headers))
            answer = self._connection.getresponse()
            return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise httpx.TransportError(str(error) or type(error).__name__) from error

    async def aclose(self) -> None:
        """Close the connection."""
        self._connection.close()


async def _open(settings: Settings, create: bool) -> CommandRuntime | Path:
    """The control socket of a server that answers, else this process's own runtime."""
    path = settings.store_path
    ends = time.monotonic() + WAIT_S
    while (served := answering_socket(settings)) is None:
        if not create and settings.store.engine == "sqlite" and not path.exists():
            raise Unavailable(f"no server answers on {settings.socket_path}, and there is no store {path}")
        try:
            return await _open_store(settings)
        except _Held as held:
            if time.monotonic() > ends:
                message = f"{held}, and no server answers on {settings.socket_path}"
                raise Unavailable(message) from None
        await asyncio.sleep(PAUSE_S)
    return served


class _Held(Exception):
    """Another process holds the store."""


async def _open_store(settings: Settings) -> CommandRuntime:
    import sqlite3

    from balance.sqlite_store import StoreLocked
    from balance.store import StoreError
    from ocs.charging.conductor import ChargingError

    _quiet()
    try:
        if settings.store.engine == "sqlite":
            settings.store_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return await open_runtime(settings)
    except StoreLocked as error:
        raise _Held(str(error)) from None
    except (StoreError, ChargingError) as error:
        raise Unavailable(f"store: {error}") from None
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"store: {settings.store_path}: {error}") from None


def _quiet() -> None:
    """Standard output belongs to the command: what the runtime logs goes to standard error, from warnings up."""
    import logging

    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def answers(path: Path) -> bool:
    """Whether a server listens on a socket; `Unavailable` if this user may not ask it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except PermissionError:
            message = f"{path}: this user may not use the control socket; run as the user of the server"
            raise Unavailable(message) from None
        except OSError:
            return False
    return True


def answering_socket(settings: Settings) -> Path | None:
    """The control socket of the first worker that answers; `Unavailable` if this user may not ask it."""
    paths = settings.socket_paths()
    if len(paths) == 1:
        return paths[0] if answers(paths[0]) else None
    # A worker that hangs still has its connections accepted by the kernel; another one may do its work.
    return next((path for path in paths if answers(path) and _is_well(path)), None)


def _is_well(path: Path) -> bool:
    try:
        return get_json(path, "/v1/health", HEALTH_TIMEOUT_S).get("status") == "ok"
    except (OSError, ValueError):
        return False


def ask_workers(settings: Settings, target: str, timeout_s: float = HEALTH_TIMEOUT_S) -> list[str | None]:
    """What each worker answers to a GET, `None` for one that does not answer; `Unavailable` if this user may not ask."""
    return [_text_of(path, target, timeout_s) for path in settings.socket_paths()]


def _text_of(path: Path, target: str, timeout_s: float) -> str | None:
    # One that hangs is found out sooner by asking for less.
    if not (answers(path) and _is_well(path)):
        return None
    try:
        return get_text(path, target, timeout_s)
    except OSError:
        return None


def run_on_workers(settings: Settings, work: Callable[[Sequence[Api]], Awaitable[T]]) -> T:
    """Connect to every worker, do the work, disconnect; `Unavailable`, and nothing was done, if one does not answer."""
    paths = settings.socket_paths()
    for worker, path in enumerate(paths):
        if not answers(path):
            raise Unavailable(f"worker {worker} does not answer on {path}")
    timeout = settings.control.deadline_s + ANSWER_MARGIN_S

    async def connect_and_work() -> T:
        async with AsyncExitStack() as open_clients:
            apis = []
            for path in paths:
                transport = _SocketTransport(path, timeout)
                client = httpx.AsyncClient(transport=transport, base_url="http://ocs", timeout=timeout)
                apis.append(Api(await open_clients.enter_async_context(client), served=True))
            return await work(apis)

    return asyncio.run(connect_and_work())
