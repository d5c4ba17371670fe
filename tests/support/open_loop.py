"""Requests that leave when they are due, whatever the server does; latency counts from that instant."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.gy_client import Answer, GyClient


class Due(NamedTuple):
    """A request for one of the connections, whose Hop-by-Hop is its place in the list."""

    connection: int
    octets: bytes


class Measured(NamedTuple):
    """Latencies in seconds, sorted, and the answers by the requests' places."""

    latencies_s: list[float]
    answers: list[Answer]
    lag_s: float
    """How late the sender itself was at worst; it is in the latencies."""

    def percentile_s(self, percent: float) -> float:
        return self.latencies_s[min(len(self.latencies_s) - 1, int(len(self.latencies_s) * percent / 100))]

    def __str__(self) -> str:
        shown = ", ".join(f"p{percent:g} {1000 * self.percentile_s(percent):.1f} ms" for percent in (50, 90, 99, 99.9))
        return f"{len(self.latencies_s)} answers: {shown}, longest {1000 * self.latencies_s[-1]:.1f} ms"


def run_open_loop(
    clients: Sequence[GyClient], requests: Sequence[Due], per_second: int, timeout_s: float = 10.0
) -> Measured:
    """Send `requests` at a rate; `AssertionError` if one is without an answer `timeout_s` after the last was due."""
    stamped = [_stamped(one.octets, place) for place, one in enumerate(requests)]
    sockets: list[socket.socket] = [client.take_socket() for client in clients]
    for one in sockets:
        one.setblocking(False)
    buffers = [bytearray() for _ in sockets]
    unsent = [bytearray() for _ in sockets]
    answered: dict[int, tuple[float, bytes]] = {}
    start, place, lag_s = time.monotonic(), 0, 0.0
    last_due = start + len(requests) / per_second
    while len(answered) < len(requests):
        now = time.monotonic()
        assert now < last_due + timeout_s, f"{len(requests) - len(answered)} requests without an answer"
        due = min(len(requests), int((now - start) * per_second))
        if due > place:
            lag_s = max(lag_s, now - start - place / per_second)
            for number in range(place, due):
                unsent[requests[number].connection] += stamped[number]
            place = due
        _send(sockets, unsent)
        readable, _, _ = select.select(sockets, [], [], 0.0005 if place < len(requests) else 0.01)
        now = time.monotonic()
        for number, one in enumerate(sockets):
            if one in readable:
                _receive(one, buffers[number], answered, now)
    latencies = sorted(answered[number][0] - start - number / per_second for number in range(len(requests)))
    return Measured(latencies, [Answer(answered[number][1]) for number in range(len(requests))], lag_s)


def _stamped(octets: bytes, place: int) -> bytes:
    return octets[:12] + struct.pack(">I", place) + octets[16:]


def _send(sockets: list[socket.socket], unsent: list[bytearray]) -> None:
    for one, octets in zip(sockets, unsent, strict=True):
        if octets:
            with contextlib.suppress(BlockingIOError):
                del octets[: one.send(octets)]


def _receive(one: socket.socket, buffer: bytearray, answered: dict[int, tuple[float, bytes]], now: float) -> None:
    chunk = one.recv(1 << 18)
    assert chunk, "the server closed the connection"
    buffer += chunk
    start = 0
    while len(buffer) - start >= 20:
        length = int.from_bytes(buffer[start + 1 : start + 4], "big")
        if len(buffer) - start < length:
            break
        message = bytes(buffer[start : start + length])
        start += length
        if message[4] & 0x80:
            continue  # a watchdog of the server
        answered[struct.unpack_from(">I", message, 12)[0]] = (now, message)
    del buffer[:start]
