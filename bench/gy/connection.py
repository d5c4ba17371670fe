"""One connection of a gateway under trio: capabilities, octets in and out in large pieces, the watchdog, the end."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Protocol

import trio

from bench.gy import templates
from bench.gy.avps import read_header, read_unsigned
from bench.gy.templates import Gateway

READ_OCTETS = 1 << 18
CONNECT_TIMEOUT_S = 10.0
RETRY_S = 0.1
Address = tuple[str, int]


class PeerError(Exception):
    """A server that cannot be loaded: it refuses us, closes, or speaks no Diameter."""


class Traffic(Protocol):
    """What a connection carries."""

    def next_requests(self, connection: int) -> bytes:
        """Whole requests that may be written now."""

    def take(self, connection: int, data: bytes) -> list[bytes]:
        """Take octets that were received; what is no answer to a request of ours comes back."""

    def repeats(self, connection: int) -> bytes:
        """Requests that wait for an answer, once more."""


class GyConnection:
    """Opened by `open`, served by `run` until it is cancelled, closed by `close`."""

    def __init__(self, number: int, address: Address, gateway: Gateway, traffic: Traffic, resend: bool) -> None:
        self.number = number
        self.address = address
        self.gateway = gateway
        self.reconnects = 0
        self._traffic = traffic
        self._resend = resend
        self._unsent = b""
        self._writable = trio.Event()
        self._ended = trio.Event()
        self._socket: socket.socket | None = None

    # Opening and closing

    async def open(self) -> None:
        """Connect and exchange capabilities; `PeerError` if the server does not want us."""
        one: socket.socket | None = None
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                one = await self._connect()
                request = templates.capabilities_request(self.gateway, one.getsockname()[0])
                answer = await self._exchange(one, request)
            code = read_unsigned(answer, templates.RESULT_CODE)
            if code != 2001:
                told = f"CEA with Result-Code {code}; does the server know {self.gateway.origin_host}?"
                raise PeerError(f"{self._peer}: {told}")
        except trio.TooSlowError:
            raise PeerError(f"{self._peer}: no CEA within {CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise PeerError(f"{self._peer}: {error}") from None
        else:
            # Only now: nothing may be written before the CEA.
            self._socket, one = one, None
        finally:
            if one is not None:
                one.close()

    async def _connect(self) -> socket.socket:
        stream = await trio.open_tcp_stream(*self.address)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The bare socket under trio's: a read or write that is possible at once then costs no turn of the loop.
        bare = socket.socket(fileno=stream.socket.detach())
        bare.setblocking(False)
        return bare

    async def _exchange(self, one: socket.socket, request: bytes) -> bytes:
        one.send(request)
        data = b""
        while len(data) < 20 or len(data) < read_header(data).length:
            await trio.lowlevel.wait_readable(one)
            # Up to the end of the answer: what comes behind it is not for us.
            missing = 20 - len(data) if len(data) < 20 else read_header(data).length - len(data)
            chunk = one.recv(missing)
            if not chunk:
                raise PeerError(f"{self._peer}: the server closed the connection without an answer")
            data += chunk
        return data

    async def close(self) -> None:
        """Send a DPR, wait a moment for its DPA, and close."""
        if self._socket is None:
            return
        self._write(templates.disconnect_request(self.gateway))
        with trio.move_on_after(2):
            await self._ended.wait()
        self._drop()

    def cut(self) -> None:
        """Close without a word."""
        self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._socket = None

    @property
    def _peer(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    # Serving

    async def run(self) -> None:
        """Read and answer until the server ends the connection; `PeerError` if it may not."""
        while not await self._serve():
            if not self._resend:
                raise PeerError(f"{self._peer}: the server closed connection {self.number + 1}")
            await self._open_again()
            self.reconnects += 1
            self._write(self._traffic.repeats(self.number))
            self.transmit()

    async def _serve(self) -> bool:
        """Whether the connection ended as it should, after a DPR of ours."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flush)
                await self._read()
                nursery.cancel_scope.cancel()
        except* (OSError, trio.ClosedResourceError):
            self._drop()
        return self._ended.is_set()

    async def _read(self) -> None:
        one = self._socket
        while one is not None and one is self._socket:
            await trio.lowlevel.wait_readable(one)
            try:
                data = one.recv(READ_OCTETS)
            except BlockingIOError:
                continue
            if not data:
                break
            for message in self._traffic.take(self.number, data):
                self._answer(message)
            self.transmit()
        self._drop()

    def _answer(self, message: bytes) -> None:
        header = read_header(message)
        if not header.is_request:
            if header.command == templates.DISCONNECT:
                self._ended.set()
        elif header.command in (templates.WATCHDOG, templates.DISCONNECT):
            self._write(templates.base_answer(self.gateway, message))
        else:
            self._write(templates.unable_to_deliver(self.gateway, message))

    async def _open_again(self) -> None:
        end = time.monotonic() + CONNECT_TIMEOUT_S
        while True:
            try:
                self._unsent = b""
                return await self.open()
            except PeerError:
                if time.monotonic() > end:
                    raise
            await trio.sleep(RETRY_S)

    # Writing

    def transmit(self) -> None:
        """Write the requests that may be written now."""
        if self._socket is not None:
            data = self._traffic.next_requests(self.number)
            if data:
                self._write(data)

    def _write(self, data: bytes) -> None:
        if self._socket is None:
            return
        if not self._unsent:
            # An error shows in the reader as well, which knows what to do.
            with contextlib.suppress(OSError):
                data = data[self._socket.send(data) :]
        if data:
            self._unsent += data
            self._writable.set()

    async def _flush(self) -> None:
        """Write what did not fit at once."""
        while True:
            await self._writable.wait()
            while self._unsent and self._socket is not None:
                await trio.lowlevel.wait_writable(self._socket)
                with contextlib.suppress(BlockingIOError):
                    self._unsent = self._unsent[self._socket.send(self._unsent) :]
            self._writable = trio.Event()
