"""Servers of the load generator's own: a Redis and `ocs serve` in a temporary folder, ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

from bench.gy.connection import Address
from ocs.config import Settings, parse_settings

Level = Literal["safe", "fast"]
FSYNC = {"safe": "always", "fast": "everysec"}
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
PAGE = 1000
BUNDLED_REDIS = Path(__file__).resolve().parents[2] / ".tools" / "bin" / "redis-server"
"""Where `make redis` unpacks it in a clone."""

CONFIG = """[node]
origin_host = "ocs.example.net"
origin_realm = "example.net"

[log]
level = "warning"
form = "text"

[workers]
count = {workers}

[diameter]
listen = "127.0.0.1"
port = {port}
realms = ["ocs.example.net"]

{store}
{more}
"""


class ServerError(Exception):
    """A server did not start, or refused what it was asked."""


class Process:
    """A process of ours: started, waited for, and ended by its id; it does not outlive this one."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = log
        dying = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
        with log.open("wb") as written:
            self._process = subprocess.Popen(
                [*dying, *command],
                env={**os.environ, **(environment or {})},
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self, deadline: float) -> None:
        """`ServerError` with the end of the log if the process ended or the deadline passed."""
        if self._process.poll() is not None or time.monotonic() > deadline:
            raise ServerError(f"{self.name} did not start:\n{self.said()}")

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it does not obey."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Redis:
    """A Redis configured for a level, on a unix socket and a loopback port of its own."""

    def __init__(self, folder: Path, level: Level, program: str | None = None) -> None:
        """`program` is the path of a `redis-server`; `None`: that of the machine, or of `make redis`."""
        self.level = level
        self._folder = folder
        self._program = program or find_redis()
        self._process: Process | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self._folder / "redis.sock"),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": FSYNC[self.level],
            "maxmemory-policy": "noeviction",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._process = Process("redis-server", [self._program, *arguments], self._folder / "redis.log")
        deadline = time.monotonic() + START_TIMEOUT_S
        while not listens(self._folder / "redis.sock"):
            self._process.check(deadline)
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()

    def url(self, over: str = "unix") -> str:
        """How to reach it: over `unix` or `tcp`."""
        return f"unix://{self._folder / 'redis.sock'}" if over == "unix" else f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid


def find_redis() -> str:
    """Path of a `redis-server`; `ServerError` says what to do if there is none."""
    found = shutil.which("redis-server") or (str(BUNDLED_REDIS) if BUNDLED_REDIS.exists() else None)
    if found is None:
        raise ServerError(
            "there is no redis-server: install one, run `make redis`, or name it with --redis-server PATH"
        )
    return found


class Operator:
    """What a running server tells over a control socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._client = httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://ocs", timeout=60)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON of a GET; `ServerError` if it is refused."""
        try:
            answer = self._client.get(path)
        except httpx.HTTPError as error:
            raise ServerError(f"{self.path}: {error}") from None
        if not answer.is_success:
            raise ServerError(f"GET {path}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    def accounts(self) -> dict[str, tuple[int, int]]:
        """Balance and what is reserved of it, in micro-units, of every account."""
        found: dict[str, tuple[int, int]] = {}
        cursor = ""
        while True:
            page = self.get(f"/v1/accounts?limit={PAGE}{cursor}")
            found |= {one["account"]: (one["balance_micros"], one["reserved_micros"]) for one in page["items"]}
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    def balance_of(self, identity: str) -> tuple[int, int]:
        """The same of the account behind an identity (`e164:…`)."""
        account = self.get(f"/v1/subscribers/{identity}")["balance"]
        return account["balance_micros"], account["reserved_micros"]

    def session_cost(self, session_id: str) -> int:
        """What a session has cost so far, in micro-units."""
        found = self.get(f"/v1/session?session={quote(session_id, safe='')}")
        cost_micros: int = found["cost_micros"]
        return cost_micros

    def facts(self) -> dict[str, Any]:
        """What `ocs doctor` shows."""
        return self.get("/v1/doctor")


class Ocs:
    """`ocs serve`, with as many workers as asked for."""

    def __init__(self, home: Path, workers: int, store: str, more: str = "") -> None:
        """`store` is the section `[store]` of the configuration, `more` what else shall stand there."""
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._file = home / "ocs.toml"
        self._file.write_text(CONFIG.format(workers=workers, port=0, store=store, more=more))
        self.settings: Settings = parse_settings(self._file.read_text(), str(self._file), str(home))
        self._process: Process | None = None
        self.operators: list[Operator] = []
        """One for each worker."""
        self.addresses: list[Address] = []
        """Where each worker takes gateways."""
        self.workers: dict[str, int] = {}
        """Process ids by name: `worker 0` and so on, and `supervisor` if there are several."""
        self.program: tuple[str, ...] = ("ocs.cli.main", "serve")
        """Module that serves, and its arguments."""
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        environment = {"OCS_HOME": str(self._home), "OCS_CONFIG": str(self._file), **self.environment}
        command = [sys.executable, "-m", *self.program]
        self._process = Process("ocs serve", command, self._home / "server.log", environment)
        try:
            self._wait()
        except BaseException:
            self._process.stop()
            raise
        return self

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        for path in self.settings.socket_paths():
            while not listens(path):
                self._process.check(deadline)
                time.sleep(0.05)
            self.operators.append(Operator(path))
        for number, operator in enumerate(self.operators):
            facts = operator.facts()
            listener = next(one for one in facts["listeners"] if one["name"] == "diameter")
            self.addresses.append(("127.0.0.1", int(str(listener["address"]).rpartition(":")[2])))
            self.workers[f"worker {number}"] = int(facts["pid"])
        if len(self.operators) > 1:
            self.workers["supervisor"] = self._process.pid

    def __exit__(self, *_: object) -> None:
        for operator in self.operators:
            operator.close()
        if self._process is not None:
            self._process.stop()

    def said(self) -> str:
        """The end of its log."""
        return "" if self._process is None else self._process.said()


def listens(path: Path) -> bool:
    """Whether a unix socket takes connections."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
    return port
