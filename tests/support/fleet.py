"""`ocs serve` with several workers on Redis: the supervisor as a process, and its workers to look at and to kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.processes import free_port, state_of
from tests.support.server_process import CATALOGUE, Server

OCS = (sys.executable, "-m", "ocs.cli.main")
TIMEOUT_S = 30.0


class Fleet(Server):
    """A supervisor with its workers. What `Server` asks is asked of worker 0."""

    def __init__(self, home: Path, store_url: str, workers: int = 2, port: int = 0, settings: str = "") -> None:
        super().__init__(
            home, f'\n[store]\nengine = "redis"\nurl = "{store_url}"\n[workers]\ncount = {workers}\n{settings}'
        )
        config = home / "ocs.toml"
        config.write_text(config.read_text().replace("port = 0", f"port = {port}"))
        self.sockets = [home / f"ocs.sqlite.sock{f'.{number}' if number else ''}" for number in range(workers)]
        self._clients = [
            httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://ocs", timeout=10)
            for path in self.sockets
        ]

    def __enter__(self) -> Self:
        # Before any worker runs: with Redis, a command without a server needs no lock.
        found = self.ocs("catalogue", "activate", str(CATALOGUE), "--reason", "a test")
        assert found.returncode == 0, found.stderr
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        for client in self._clients:
            client.close()

    def ocs(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command."""
        environment = {**os.environ, "OCS_HOME": str(self.home)}
        command = (*OCS, *arguments)
        return subprocess.run(
            command, env=environment, cwd=self.home, capture_output=True, text=True, timeout=60, check=False
        )

    def wait_until_ready(self) -> None:
        """Wait until every worker answers operators."""
        super().wait_until_ready()
        self.wait(lambda: all(self.status(number) for number in range(len(self.sockets))), "a worker does not serve")

    def wait(self, condition: Callable[[], object], complaint: str, seconds: float = TIMEOUT_S) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{complaint}:\n{self.log()[-3000:]}"
            time.sleep(0.02)

    def stop_status(self) -> int:
        """Wait until the supervisor ends by itself; its exit status."""
        assert self._process is not None
        return self._process.wait(TIMEOUT_S)

    def log(self) -> str:
        """What was written to standard error."""
        return self._log.read_text(errors="replace")

    def status(self, worker: int) -> dict[str, Any] | None:
        """What a worker says of itself, `None` if it does not answer."""
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self.sockets[worker])) != 0:
                return None
        try:
            found: dict[str, Any] = self._clients[worker].get("/v1/status").json()
        except httpx.TransportError:
            return None
        return found

    def told(self, worker: int) -> dict[str, Any]:
        """What a worker that answers says of itself."""
        found = self.status(worker)
        assert found is not None
        return found

    def port_of(self, worker: int) -> int:
        """Where a worker takes gateways."""
        (address,) = [one["address"] for one in self.told(worker)["listeners"] if one["name"] == "diameter"]
        return int(address.rpartition(":")[2])

    def worker_pids(self) -> list[int]:
        """Processes that the supervisor has started and that live."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        found = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        return [pid for pid in found if state_of(pid) not in "ZX"]


def adjacent_ports() -> int:
    """A free port whose next one is free too."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
