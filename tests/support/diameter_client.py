"""A blocking Diameter client on a raw socket, for tests that want to misbehave; and a server beside the test."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import uvloop

from ocs.servers.diameter_requests import ApplicationPort
from ocs.servers.diameter_server import DiameterServer
from ocs.servers.diameter_settings import DiameterSettings
from protocols.diameter.events import Event
from tests.support.diameter_kit import LOCAL, identifiers
from tests.support.gy_client import Answer, Requests

T = TypeVar("T")


class DiameterClient:
    """One TCP connection of a peer: `connect`, `cer`, `request`, `close`."""

    def __init__(self, address: tuple[str, int], origin_host: str = "gw1.example.net", timeout_s: float = 10.0) -> None:
        self.address = address
        self.requests = Requests(origin_host)
        self.timeout_s = timeout_s
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._buffer = b""

    def __enter__(self) -> DiameterClient:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, receive_buffer_octets: int | None = None) -> DiameterClient:
        """Open the connection; a small receive buffer makes a slow reader."""
        if receive_buffer_octets is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_octets)
        self.socket.settimeout(self.timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(self.address)
        return self

    def cer(self, applications: Sequence[int] = (4,)) -> Answer:
        """Exchange capabilities."""
        return self.request(self.requests.cer(applications))

    def request(self, data: bytes) -> Answer:
        """Send a request and receive its answer."""
        self.send(data)
        answer = self.receive()
        assert (answer.message.hop_by_hop, answer.message.end_to_end) == identifiers(data)
        return answer

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        self.socket.sendall(data)

    def receive(self) -> Answer:
        """The next answer; `ConnectionError` if the server closed."""
        return Answer(self.receive_octets())

    def receive_octets(self) -> bytes:
        """The next message."""
        while len(self._buffer) < 20 or len(self._buffer) < int.from_bytes(self._buffer[1:4], "big"):
            chunk = self.socket.recv(1 << 16)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            self._buffer += chunk
        length = int.from_bytes(self._buffer[1:4], "big")
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    def ending(self) -> str:
        """How the server ends the connection: `closed` or `reset`; what was received before is dropped."""
        with self.socket:
            try:
                while self.socket.recv(1 << 16):
                    pass
            except ConnectionResetError:
                return "reset"
            return "closed"

    def turned_away(self) -> str:
        """Connect where the server takes no connection: the reset may come before or after `connect` returns."""
        try:
            return self.connect().ending()
        except ConnectionResetError:
            return "reset"

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing, not even an end, comes within a time."""
        return not select.select([self.socket], [], [], seconds)[0]

    def close(self) -> None:
        """Close without a DPR."""
        self.socket.close()

    def kill(self) -> None:
        """Vanish as a killed process does, with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class LogLines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda text, **facts: self.lines.append((text, facts))


class RunningServer:
    """A `DiameterServer` on a loop in a thread of its own."""

    def __init__(
        self, server: DiameterServer, loop: asyncio.AbstractEventLoop, events: list[Event], log: LogLines
    ) -> None:
        self.server = server
        self.events = events
        self.log = log
        self.address = server.addresses[0]
        self.clients: list[DiameterClient] = []
        self._loop = loop

    def client(self, origin_host: str = "gw1.example.net", **options: Any) -> DiameterClient:
        """A client that is not connected yet; it is closed with the server at the latest."""
        client = DiameterClient(self.address, origin_host, **options)
        self.clients.append(client)
        return client

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the server's loop."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def stop(self) -> None:
        """Stop in order, as SIGTERM does."""
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(30)

    def wait(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait until something holds; `AssertionError` if it does not."""
        end = time.monotonic() + seconds
        while not self.call(condition):
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.01)


@contextlib.contextmanager
def running_server(application: ApplicationPort, **settings: Any) -> Iterator[RunningServer]:
    """A server on a free port of 127.0.0.1, stopped at the end."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="diameter-server", daemon=True)
    thread.start()
    events: list[Event] = []
    log = LogLines()
    values = {"listen": "127.0.0.1", "port": 0, "drain_s": 0.2, "disconnect_timeout_s": 0.5, **settings}
    server = DiameterServer(DiameterSettings(**values), LOCAL, application, heard=events.append, log=log)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    running = RunningServer(server, loop, events, log)
    try:
        yield running
    finally:
        running.stop()
        for client in running.clients:
            client.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
