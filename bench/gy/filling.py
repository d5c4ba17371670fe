"""Many sessions that are opened, report a few times, and stay open."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import trio

from bench.gy import templates
from bench.gy.connection import Address, GyConnection, PeerError
from bench.gy.plan import Plan

NS = 1_000_000_000
FOR_EVER = 1_000_000
"""Updates of a session that is not to end."""


class Filled(NamedTuple):
    """What was done."""

    requests: int
    open_sessions: int
    codes: dict[int, int]
    problems: dict[str, int]


class _Filling:
    """Sends until every session has had its requests."""

    def __init__(self, plan: Plan, requests_each: int) -> None:
        self.run = time.time_ns() // 1_000_000
        self.load = plan._replace(updates=FOR_EVER).load(self.run, staggered=False)
        self.most = plan.sessions * requests_each
        self.done = trio.Event()

    def next_requests(self, connection: int) -> bytes:
        """Requests in the window, while some are to be sent."""
        return self.load.fill(connection, time.monotonic_ns()) if self.load.sent < self.most else b""

    def take(self, connection: int, data: bytes) -> list[bytes]:
        """Hand octets to the message path."""
        others = self.load.receive(connection, data, time.monotonic_ns())
        if self.load.sent >= self.most and not self.load.in_flight:
            self.done.set()
        return others

    def repeats(self, connection: int) -> bytes:
        """None: a lost connection ends the filling."""
        del connection
        return b""


def fill(plan: Plan, addresses: Sequence[Address], requests_each: int, timeout_s: float) -> Filled:
    """Open the plan's sessions, each with an INITIAL and updates up to so many requests, and leave them open.

    `PeerError` if a connection fails or the time runs out.
    """
    filling = _Filling(plan, requests_each)
    filling.load.set_event_time(time.time_ns() // NS + templates.NTP_EPOCH_S)
    failed: BaseException | None = None
    try:
        trio.run(_fill, plan, addresses, filling, timeout_s)
    except* PeerError as group:
        # What is raised in here would come out as a group again.
        failed = group.exceptions[0]
    if failed is not None:
        raise PeerError(f"the sessions could not be opened: {failed}")
    load = filling.load
    return Filled(load.sent, load.open_sessions, load.codes(), load.problems()[0])


async def _fill(plan: Plan, addresses: Sequence[Address], filling: _Filling, timeout_s: float) -> None:
    connections = [
        GyConnection(number, addresses[number % len(addresses)], plan.gateway(number, filling.run), filling, False)
        for number in range(plan.connections)
    ]
    for connection in connections:
        await connection.open()
    async with trio.open_nursery() as nursery:
        for connection in connections:
            nursery.start_soon(connection.run)
            connection.transmit()
        with trio.move_on_after(timeout_s) as limit:
            await filling.done.wait()
        if limit.cancelled_caught:
            raise PeerError(f"only {filling.load.sent} of {filling.most} requests within {timeout_s:g} s")
        nursery.cancel_scope.cancel()
    for connection in connections:
        # Without a DPR: a gateway that is only cut off keeps its sessions.
        connection.cut()
