"""A connection of the load generator against a server that is played: capabilities, watchdog, unknown requests, the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from bench.gy.connection import GyConnection, PeerError
from bench.gy.plan import Plan
from protocols.diameter import dictionary as d
from protocols.diameter.avp import Message, decode_message, encode_message, first
from protocols.diameter.header import (
    CAPABILITIES_EXCHANGE,
    DEVICE_WATCHDOG,
    DISCONNECT_PEER,
    FLAG_PROXIABLE,
    FLAG_REQUEST,
)

RUN = 1_772_450_000_123
RE_AUTH = 258
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side, message by message."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = b""

    async def receive(self) -> Message:
        """The next message; it must be one."""
        while len(self._data) < 20 or len(self._data) < int.from_bytes(self._data[1:4], "big"):
            chunk = await self._stream.receive_some()
            assert chunk, "the generator closed the connection"
            self._data += bytes(chunk)
        length = int.from_bytes(self._data[1:4], "big")
        message, self._data = decode_message(self._data[:length]), self._data[length:]
        assert message.errors == []
        return message

    async def answer(self, request: Message, code: int) -> None:
        """An answer in one octet at a time, as a slow network brings it."""
        items: list[tuple[int, Any]] = [(d.RESULT_CODE, code), *ORIGIN]
        if request.command == CAPABILITIES_EXCHANGE:
            items += [(d.HOST_IP_ADDRESS, (1, "127.0.0.1")), (d.VENDOR_ID, 0), (d.PRODUCT_NAME, "played")]
        await self.send(request.command, 0, 0, items, request.hop_by_hop, request.end_to_end)

    async def send(self, command: int, application: int, flags: int, items: Any, hop: int, end: int) -> None:
        """Any message, octet by octet."""
        for octet in bytes(encode_message(command, application, flags, hop, end, items)):
            await self._stream.send_all(bytes([octet]))


ORIGIN: list[tuple[int, Any]] = [(d.ORIGIN_HOST, "ocs.example.net"), (d.ORIGIN_REALM, "example.net")]


class NoTraffic:
    """Nothing to ask; every message is for the connection."""

    def next_requests(self, connection: int) -> bytes:
        return b""

    def take(self, connection: int, data: bytes) -> list[bytes]:
        self.data = getattr(self, "data", b"") + data
        messages = []
        while len(self.data) >= 20 and len(self.data) >= (length := int.from_bytes(self.data[1:4], "big")):
            messages.append(self.data[:length])
            self.data = self.data[length:]
        return messages

    def repeats(self, connection: int) -> bytes:
        return b""


def play(script: Script, use: Callable[[GyConnection], Awaitable[None]]) -> None:
    """Run a server by a script, and a connection to it."""

    async def main() -> None:
        failures: list[BaseException] = []

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await script(Peer(stream))
                except BaseException as error:
                    failures.append(error)
                    raise

        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            address = listener.socket.getsockname()[:2]
            with trio.fail_after(10):
                await use(GyConnection(0, address, Plan().gateway(0, RUN), NoTraffic(), False))
            nursery.cancel_scope.cancel()
        assert not [one for one in failures if not isinstance(one, trio.Cancelled)]

    trio.run(main)


def test_capabilities_watchdog_foreign_requests_and_disconnection() -> None:
    seen: list[str] = []

    async def script(peer: Peer) -> None:
        cer = await peer.receive()
        assert (cer.command, cer.is_request) == (CAPABILITIES_EXCHANGE, True)
        assert first(cer.avps, d.ORIGIN_HOST) == "pgw01.bench.example.net"
        assert first(cer.avps, d.AUTH_APPLICATION_ID) == 4
        await peer.answer(cer, 2001)
        await peer.send(DEVICE_WATCHDOG, 0, FLAG_REQUEST, ORIGIN, 11, 12)
        dwa = await peer.receive()
        assert (dwa.command, dwa.is_request, dwa.hop_by_hop, dwa.end_to_end) == (DEVICE_WATCHDOG, False, 11, 12)
        assert first(dwa.avps, d.RESULT_CODE) == 2001
        session = [(d.SESSION_ID, "x;1;2"), *ORIGIN]
        await peer.send(RE_AUTH, 4, FLAG_REQUEST | FLAG_PROXIABLE, session, 13, 14)
        raa = await peer.receive()
        assert (raa.command, raa.application, raa.is_error, raa.hop_by_hop) == (RE_AUTH, 4, True, 13)
        assert first(raa.avps, d.RESULT_CODE) == 3001
        seen.append("served")
        dpr = await peer.receive()
        assert (dpr.command, first(dpr.avps, d.DISCONNECT_CAUSE)) == (DISCONNECT_PEER, 2)
        await peer.answer(dpr, 2001)
        seen.append("ended")

    async def use(connection: GyConnection) -> None:
        await connection.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            while "served" not in seen:  # noqa: ASYNC110
                await trio.sleep(0.001)
            await connection.close()
            nursery.cancel_scope.cancel()

    play(script, use)
    assert seen == ["served", "ended"]


def test_a_refused_capabilities_exchange_is_told_with_its_code() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(await peer.receive(), 3010)

    async def use(connection: GyConnection) -> None:
        with pytest.raises(PeerError, match=r"CEA with Result-Code 3010.*pgw01"):
            await connection.open()

    play(script, use)


def test_a_server_that_closes_at_once_is_told() -> None:
    async def script(peer: Peer) -> None:
        await peer.receive()

    async def use(connection: GyConnection) -> None:
        with pytest.raises(PeerError, match="closed the connection without an answer"):
            await connection.open()

    play(script, use)


def test_a_server_s_own_end_is_answered_and_told() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(await peer.receive(), 2001)
        await peer.send(DISCONNECT_PEER, 0, FLAG_REQUEST, [*ORIGIN, (d.DISCONNECT_CAUSE, 0)], 5, 6)
        dpa = await peer.receive()
        assert (dpa.command, dpa.is_request, first(dpa.avps, d.RESULT_CODE)) == (DISCONNECT_PEER, False, 2001)

    async def use(connection: GyConnection) -> None:
        await connection.open()
        with pytest.raises(PeerError, match="the server closed connection 1"):
            await connection.run()

    play(script, use)
