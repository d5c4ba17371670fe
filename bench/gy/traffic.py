"""One run of load: connections under trio around the compiled message path, and what was seen of it."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import trio

from bench.gy import templates
from bench.gy.connection import Address, GyConnection, PeerError
from bench.gy.plan import Plan
from bench.gy.processes import ProcessUse, uses_of
from bench.gy.timer import Alarm
from cython_ext._loadgen import Load

TURN_NS = 400_000
"""Least time between two looks for due requests: what becomes due in between leaves together, at most so much late."""
NS = 1_000_000_000


class Progress(NamedTuple):
    """How a run stands."""

    phase: str
    elapsed_s: float
    answers: int
    """Since the beginning."""
    in_flight: int
    problems: int


class Seen(NamedTuple):
    """What came of one run."""

    seconds: float
    counts: dict[str, int]
    codes: dict[int, int]
    service_codes: dict[int, int]
    latencies: list[tuple[int, int]]
    """(longest latency of a bucket in ns, requests), in order."""
    longest_ns: int
    lags: list[tuple[int, int]]
    """The same for how late requests were written."""
    problems: dict[str, int]
    examples: list[str]
    spent_micros: list[int]
    """By account: what its sessions must have been debited."""
    sessions: list[tuple[str, int]]
    """Session-Id of some that ended, and what each must have cost."""
    cpu_us: dict[str, int]
    """By process, in the measured time; `generator` is this one."""
    rss_octets: dict[str, int]
    reconnects: int
    unanswered: int
    overdue: int
    """Requests that were due at the end of the measured time and not written, for want of a session."""


class Run:
    """Sends by a plan to some addresses, the connections in turn."""

    def __init__(
        self,
        plan: Plan,
        addresses: Sequence[Address],
        processes: Mapping[str, int],
        show: Callable[[Progress], None] = lambda _progress: None,
    ) -> None:
        """`processes` are those whose CPU time is taken, by name; `show` is told once a second how the run stands."""
        self.plan = plan
        self._number = time.time_ns() // 1_000_000
        self._load: Load = plan.load(self._number)
        self._processes = processes
        self._show = show
        self._paced = False
        self._began_ns = 0
        self._connections = [
            GyConnection(
                number, addresses[number % len(addresses)], plan.gateway(number, self._number), self, plan.resend
            )
            for number in range(plan.connections)
        ]
        self._overdue = 0
        self._uses: list[dict[str, ProcessUse]] = []
        self._failure: str | None = None

    # What connections ask for

    def next_requests(self, connection: int) -> bytes:
        """Requests in the window, or those that are due."""
        now_ns = time.monotonic_ns()
        return self._load.fill_due(connection, now_ns) if self._paced else self._load.fill(connection, now_ns)

    def take(self, connection: int, data: bytes) -> list[bytes]:
        """Hand octets to the message path."""
        return self._load.receive(connection, data, time.monotonic_ns())

    def repeats(self, connection: int) -> bytes:
        """Requests that wait, with the T flag."""
        return self._load.resend(connection)

    # The run

    def run(self) -> Seen:
        """Run it; `PeerError` if no connection can be opened."""
        gc.collect()
        gc.disable()
        failed: BaseException | None = None
        try:
            trio.run(self._run)
        except* PeerError as group:
            # What is raised in here would come out as a group again.
            failed = _first(group)
        finally:
            gc.enable()
        if failed is not None:
            raise PeerError(str(failed))
        return self._seen()

    async def _run(self) -> None:
        async with trio.open_nursery() as opening:
            for connection in self._connections:
                opening.start_soon(connection.open)
        try:
            async with trio.open_nursery() as nursery:
                for connection in self._connections:
                    nursery.start_soon(connection.run)
                nursery.start_soon(self._tell)
                await self._phases(nursery)
                nursery.cancel_scope.cancel()
        except* (PeerError, ValueError) as group:
            # What was seen until then is still told, and the run has failed.
            self._failure = str(_first(group))
        finally:
            for connection in self._connections:
                connection.cut()

    async def _phases(self, nursery: trio.Nursery) -> None:
        plan, load = self.plan, self._load
        self._began_ns = time.monotonic_ns()
        from_ns = self._began_ns + int(plan.warm_up_s * NS)
        to_ns = from_ns + int(plan.duration_s * NS)
        load.measure(from_ns, to_ns)
        load.set_event_time(time.time_ns() // NS + templates.NTP_EPOCH_S)
        self._from_ns, self._to_ns = from_ns, to_ns
        if plan.rate is None:
            self._transmit()
        else:
            self._paced = True
            load.open_loop(self._began_ns, plan.rate)
            nursery.start_soon(self._pace)
        await _sleep_until(from_ns)
        self._sample()
        await _sleep_until(to_ns)
        self._sample()
        if self._paced:
            self._overdue = load.overdue(to_ns)
            self._paced = False
        await self._end_sessions()
        for connection in self._connections:
            await connection.close()

    async def _end_sessions(self) -> None:
        """Let every session report and end, so that no money is held when the books are read."""
        load = self._load
        load.stop()
        with trio.move_on_after(self.plan.drain_s):
            while load.open_sessions or load.in_flight:
                self._transmit()
                await trio.sleep(0.01)

    async def _pace(self) -> None:
        with Alarm() as alarm:
            looked_ns = self._began_ns
            while self._paced:
                await alarm.wait_until(max(self._load.next_due(), looked_ns + TURN_NS))
                looked_ns = time.monotonic_ns()
                self._transmit()

    async def _tell(self) -> None:
        while True:
            await trio.sleep(1)
            now_ns = time.monotonic_ns()
            self._load.set_event_time(time.time_ns() // NS + templates.NTP_EPOCH_S)
            phase = "warm-up" if now_ns < self._from_ns else "measured" if now_ns < self._to_ns else "ending"
            answers = sum(self._load.codes().values())
            problems = sum(self._load.problems()[0].values())
            elapsed_s = (now_ns - self._began_ns) / NS
            self._show(Progress(phase, elapsed_s, answers, self._load.in_flight, problems))

    def _transmit(self) -> None:
        for connection in self._connections:
            connection.transmit()

    def _sample(self) -> None:
        own = ProcessUse(time.process_time_ns() // 1000, 0)
        self._uses.append({**uses_of(self._processes), "generator": own})

    def _seen(self) -> Seen:
        load = self._load
        latencies, longest_ns = load.latencies()
        problems, examples = load.problems()
        told = [_describe(*one, self._number) for one in examples]
        if self._failure is not None:
            problems["the connection failed"] = 1
            told.append(self._failure)
        before, after = self._uses if len(self._uses) == 2 else ({}, {})
        return Seen(
            seconds=self.plan.duration_s,
            counts=load.counts(),
            codes=load.codes(),
            service_codes=load.service_codes(),
            latencies=latencies,
            longest_ns=longest_ns,
            lags=load.lags(),
            problems=problems,
            examples=told,
            spent_micros=load.spent_micros(),
            sessions=[
                (self.plan.session_id(connection, self._number, number), micros)
                for connection, number, _account, micros in load.last_sessions()
            ],
            cpu_us={name: after[name].cpu_us - before[name].cpu_us for name in after if name in before},
            rss_octets={name: use.rss_octets for name, use in after.items() if use.rss_octets},
            reconnects=sum(connection.reconnects for connection in self._connections),
            unanswered=load.in_flight,
            overdue=self._overdue,
        )


def percentile_ns(buckets: Sequence[tuple[int, int]], percent: float) -> int:
    """The latency that `percent` of all requests did not pass, to the width of a bucket; 0 if there were none."""
    total = sum(count for _top, count in buckets)
    rank = math.ceil(total * percent / 100)
    seen = 0
    for top_ns, count in buckets:
        seen += count
        if seen >= rank:
            return top_ns
    return 0


def _first(group: BaseExceptionGroup) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _describe(name: str, session: int | None, number: int | None, expected: int, found: int, run: int) -> str:
    where = "" if session is None else f"session {run};{session:010d} request {number}: "
    return f"{where}{name}, expected {expected}, found {found}"


async def _sleep_until(instant_ns: int) -> None:
    await trio.sleep(max(0.0, (instant_ns - time.monotonic_ns()) / NS))
