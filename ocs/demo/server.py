"""The demonstration's server: `ocs serve` as a process of its own, on free ports, over an empty embedded store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0
CONFIG = """[node]
origin_host = "{host}"
origin_realm = "{realm}"

[diameter]
listen = "127.0.0.1"
port = 0
"""


class ServerFailed(Exception):
    """The server did not start, or an operator's request was refused."""


class Files(NamedTuple):
    """Names in the home folder."""

    config: str = "ocs.toml"
    log: str = "server.log"
    socket: str = "ocs.sqlite.sock"


STANDARD_FILES = Files()


class DemoServer:
    """One `ocs serve` and its operator's interface."""

    def __init__(
        self,
        home: Path,
        host: str,
        realm: str,
        arguments: Sequence[str] = (),
        settings: str = "",
        files: Files = STANDARD_FILES,
    ) -> None:
        """`arguments` go to `ocs serve`, `settings` is more TOML for its configuration."""
        self._arguments = arguments
        self.host = host
        self.realm = realm
        self._home = home
        self._log = home / files.log
        self._socket = home / files.socket
        self._config = home / files.config
        self._config.write_text(CONFIG.format(host=host, realm=realm) + settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._socket)), base_url="http://ocs", timeout=10
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.launch()
        self.wait_until_ready()

    def command(self) -> list[str]:
        """What is run."""
        return [sys.executable, "-m", "ocs.cli.main", "serve", "--config", str(self._config), *self._arguments]

    def launch(self) -> None:
        """Start the process; `wait_until_ready` must follow."""
        environment = {**os.environ, "OCS_HOME": str(self._home)}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(), env=environment, cwd=self._home, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_until_ready(self) -> None:
        """Wait until the process answers operators; `ServerFailed`, and no process, if it does not."""
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the process as an operator would; kill it if it does not obey."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if self._listens() and self._client.get("/v1/health").is_success:
                return
            time.sleep(0.05)
        raise ServerFailed(f"the server did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def _listens(self) -> bool:
        """Whether the control socket takes connections (asked without httpx, which leaks the socket of a failed try)."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    @property
    def port(self) -> int:
        """The Diameter port that the system chose."""
        for listener in self.get("/v1/doctor")["listeners"]:
            if listener["name"] == "diameter":
                return int(str(listener["address"]).rpartition(":")[2])
        raise ServerFailed("the server listens on no Diameter port")

    def get(self, path: str) -> dict[str, Any]:
        """A GET of the operator's interface."""
        return self._checked(self._client.get(path))

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """A POST of the operator's interface, with the demonstration as its reason."""
        return self._checked(self._client.post(path, json={"reason": "demonstration", **body}))

    def _checked(self, answer: httpx.Response) -> dict[str, Any]:
        if not answer.is_success:
            raise ServerFailed(f"{answer.request.method} {answer.request.url.path}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found
