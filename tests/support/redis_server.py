"""A Redis server of the test's own: on a free loopback port, in a temporary folder, killed and restarted at will."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.processes import DYING_WITH_THE_TEST, free_port, state_of
from tools.redis_server import find_redis_server

START_TIMEOUT_S = 20.0
FSYNC = {"safe": "always", "fast": "everysec"}


class RedisServer:
    """`with RedisServer("safe") as server:`; the port, the folder and what it stored outlive `kill` and `restart`."""

    def __init__(self, level: Literal["safe", "fast"] = "safe", settings: dict[str, str] | None = None) -> None:
        """`settings` are lines of redis.conf that come last, so they may break the level on purpose."""
        self.level = level
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    @property
    def url(self) -> str:
        """How a store reaches it over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def socket_url(self) -> str:
        """How a store reaches it over its unix socket."""
        return f"unix://{self.folder / 'redis.sock'}"

    @property
    def folder(self) -> Path:
        assert self._folder is not None, "the server was not started"
        return self._folder

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def client(self, timeout_s: float = 10.0) -> redis.Redis:
        """A client of the test itself, which tries once; the caller closes it."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """Start on a port that is free, once; `restart` keeps it."""
        assert self._process is None, "the server is running"
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="ocs-redis-"))
        for attempt in range(5):
            self.port = free_port()
            try:
                self._launch()
            except OSError as error:
                # Somebody may have taken the port between the look and the start.
                if attempt == 4 or "in use" not in str(error):
                    raise
            else:
                return

    def kill(self) -> None:
        """SIGKILL, as when the kernel runs out of memory; returns when the process is gone. Works on a paused one."""
        assert self._process is not None, "the server is not running"
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Start again with the same port and folder; returns when all that was stored is loaded."""
        if self._process is not None:
            self.stop()
        self._launch()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered. Returns when the process stands still."""
        self._signal(signal.SIGSTOP, "T")

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT, "SRD")

    def stop(self) -> None:
        """SIGTERM: as an operator stops it, with all that was answered on disk."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _signal(self, number: signal.Signals, states: str) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)
        end = time.monotonic() + 5
        while state_of(self.pid) not in states:
            assert time.monotonic() < end, f"redis-server does not obey {number.name}"
            time.sleep(0.001)

    def _arguments(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self.folder / "redis.sock"),
            "dir": str(self.folder),
            "logfile": str(self.folder / "redis.log"),
            "save": "",
            "appendonly": "yes",
            "appendfsync": FSYNC[self.level],
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": "0",
            **self._settings,
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _launch(self) -> None:
        self._process = subprocess.Popen(
            [*DYING_WITH_THE_TEST, str(find_redis_server()), *self._arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_until_loaded()
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._process = None
            raise

    def _wait_until_loaded(self) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while self._process is not None and self._process.poll() is None and time.monotonic() < end:
                try:
                    # Our own: another one may have come to the port a moment earlier.
                    facts = client.info()
                    if facts["process_id"] == self._process.pid and not facts["loading"]:
                        return
                except redis.ConnectionError:
                    pass  # not listening yet, or a BusyLoadingError
                time.sleep(0.005)
        log = self.folder / "redis.log"
        said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise OSError(f"redis-server did not start:\n{said}")
