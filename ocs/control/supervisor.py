"""The supervisor: has a process in the place of each worker, until it is told to stop. Runs on trio.

    start     worker 0 first, alone, so that what is wrong for all is said once; then the others together
    death     the place is filled again, with a pause that grows (`ocs.control.restarts`)
    SIGHUP    rolling restart: one place after the other, each ready before the next is stopped
    SIGTERM, SIGINT    all drain at once; who does not end in time is killed

SupervisorFailed
    the workers cannot be kept running; the text says why
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import structlog
import trio

from ocs.config import ConfigError
from ocs.control.process import Command, WorkerProcess, told
from ocs.control.restarts import UNAVAILABLE, GivenUp, Policy, Restarts
from ocs.supervised import tell_service_manager

READY_LIMIT_S = 60.0
"""How long a worker may take from its start until it serves; then it is killed, and that is a death."""

log = structlog.get_logger("ocs.control")


class SupervisorFailed(Exception):
    """The workers cannot be kept running."""


class Plan(NamedTuple):
    """What the configuration wants."""

    workers: int
    """How many."""
    stop_limit_s: float
    """How long a worker may drain."""


class _Run:
    """One process in a place, from before its start until its end is known."""

    def __init__(self) -> None:
        self.process: WorkerProcess | None = None
        self.ready = False
        self.settled = trio.Event()
        """It is ready, or never will be."""
        self.ended = trio.Event()

    def end(self) -> None:
        self.settled.set()
        self.ended.set()


class _Place:
    """The place of one worker: its number, its process, what is wanted of it."""

    def __init__(self, number: int, policy: Policy) -> None:
        self.number = number
        self.restarts = Restarts(policy)
        self.run = _Run()
        self.planned = False
        """The end of the process is wanted, and another one is to follow at once."""
        self.leaving = False
        """The end of the process is wanted, and none is to follow."""
        self.hurry = trio.Event()
        """Ends the pause before the next start."""
        self._begun = trio.Event()

    def begin(self) -> None:
        """Begin the next run."""
        self.run = _Run()
        self.planned = False
        self.hurry = trio.Event()
        self._begun.set()
        self._begun = trio.Event()

    async def run_after(self, old: _Run) -> _Run:
        """Wait for the run that follows `old`."""
        while self.run is old:
            await self._begun.wait()
        return self.run

    def leave(self) -> None:
        """Let no process follow."""
        self.leaving = True
        self.hurry.set()


class Supervisor:
    """Keeps workers running; `run` returns the exit status."""

    def __init__(
        self,
        plan: Plan,
        command: Command,
        reload: Callable[[], Plan],
        *,
        policy: Policy | None = None,
        ready_limit_s: float = READY_LIMIT_S,
        clock_start_us: int | None = None,
    ) -> None:
        """`reload` reads the configuration anew for a rolling restart; it may raise `ConfigError`."""
        self._plan = plan
        self._command = command
        self._reload = reload
        self._policy = policy or Policy()
        self._ready_limit_s = ready_limit_s
        self._clock_start_us = clock_start_us
        self._places: list[_Place] = []
        self.serving = trio.Event()
        """All workers were ready once: from then on a start that fails is a death, and not the end."""
        self._over = trio.Event()
        self._status = 0
        self._failure = ""
        self._nursery: trio.Nursery

    async def run(self) -> int:
        """Start, keep, stop. 0: told to stop, and all drained; 1: one had to be killed; else that of a failed start.

        `SupervisorFailed` if a worker dies whenever it is started. No worker is left in any case.
        """
        try:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                async with trio.open_nursery() as self._nursery:
                    roll_wanted, rolls = trio.open_memory_channel[None](1)
                    self._nursery.start_soon(self._obey, signals, roll_wanted)
                    self._nursery.start_soon(self._serve, rolls)
                    await self._over.wait()
                    await self._stop_all()
                    self._nursery.cancel_scope.cancel()
        finally:
            # Only after a fault of ours is there anything left to kill.
            for place in self._places:
                if place.run.process is not None and not place.run.ended.is_set():
                    place.run.process.kill()
        if self._failure:
            raise SupervisorFailed(self._failure)
        return self._status

    def _end(self, status: int = 0, failure: str = "") -> None:
        """Stop; the first reason counts."""
        if not self._over.is_set():
            self._status, self._failure = status, failure
            self._over.set()

    async def _obey(self, signals: AsyncIterator[int], roll_wanted: trio.MemorySendChannel[None]) -> None:
        async for number in signals:
            if number != signal.SIGHUP:
                log.info("stopping", signal=signal.Signals(number).name)
                self._end()
            elif not self.serving.is_set():
                log.warning("no rolling restart: the workers are starting")
            else:
                # One that waits stands for all that are asked for meanwhile.
                with contextlib.suppress(trio.WouldBlock):
                    roll_wanted.send_nowait(None)

    async def _serve(self, rolls: trio.MemoryReceiveChannel[None]) -> None:
        await self._start_all()
        self.serving.set()
        log.info("all workers serve", workers=len(self._places))
        tell_service_manager("READY=1")
        async for _ in rolls:
            tell_service_manager(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            await self._roll()
            tell_service_manager("READY=1")

    # Starting

    async def _start_all(self) -> None:
        """Return when all are ready. One that fails ends the supervisor (`_start_failed`), and this never returns."""
        for first, last in ((0, 1), (1, self._plan.workers)):
            for number in range(first, last):
                self._add_place(number)
            for place in self._places:
                while not place.run.ready:
                    run = place.run
                    await run.settled.wait()
                    if not run.ready:
                        await place.run_after(run)

    def _add_place(self, number: int) -> _Place:
        place = _Place(number, self._policy)
        self._places.append(place)
        self._nursery.start_soon(self._keep, place)
        return place

    # One place

    async def _keep(self, place: _Place) -> None:
        """Have a process in a place for as long as it is wanted."""
        while not place.leaving:
            run = place.run
            status, lived_s = await self._live(place, run)
            run.end()
            if place.leaving:
                self._left(place, status)
            elif place.planned:
                log.info("worker ended, as planned", worker=place.number, how=told(status))
            elif not run.ready and not self.serving.is_set():
                self._start_failed(place, status)
                return
            elif not await self._mourn(place, run, status, lived_s):
                return
            # No checkpoint between the end of a planned run and the beginning of the next.
            place.begin()

    def _left(self, place: _Place, status: int) -> None:
        """A process ended that was asked to. By SIGTERM itself: it had not begun to serve."""
        log.info("worker ended", worker=place.number, how=told(status))
        if status not in (0, -signal.SIGTERM):
            self._status = self._status or 1

    async def _live(self, place: _Place, run: _Run) -> tuple[int, float]:
        """From the start to the end of a process: its exit status and how long it lived."""
        try:
            process = WorkerProcess(self._command(place.number), self._clock_start_us)
        except OSError as error:
            log.error("worker cannot be started", worker=place.number, error=str(error))
            return UNAVAILABLE, 0.0
        run.process = process
        log.info("worker started", worker=place.number, worker_pid=process.pid)
        status = 0
        with trio.move_on_after(self._ready_limit_s) as limit:
            run.ready = await process.becomes_ready()
            if not run.ready:
                status = await process.wait()
        if limit.cancelled_caught:
            log.error("worker is not ready in time and is killed", worker=place.number, limit_s=self._ready_limit_s)
            process.kill()
            status = await process.wait()
        elif run.ready:
            log.info("worker serves", worker=place.number, worker_pid=process.pid, after_s=round(process.lived_s, 3))
            run.settled.set()
            status = await process.wait()
        return status, process.lived_s

    def _start_failed(self, place: _Place, status: int) -> None:
        """The first start failed. A worker that ends by itself has said why, and its status is ours."""
        if status > 0:
            self._end(status)
        else:
            self._end(failure=f"worker {place.number} ended before it served: {told(status)}")

    async def _mourn(self, place: _Place, run: _Run, status: int, lived_s: float) -> bool:
        """Log a death that nobody wanted and wait before the next start; false if there is to be none."""
        facts = {"worker": place.number, "how": told(status), "lived_s": round(lived_s, 3), "served": run.ready}
        try:
            pause_s = place.restarts.pause_s(lived_s, run.ready, status)
        except GivenUp as error:
            log.error("worker died and is given up", **facts)
            self._end(failure=f"worker {place.number} is given up: {error}, at last with {told(status)}")
            return False
        log.error("worker died", **facts, restart_in_s=pause_s)
        with trio.move_on_after(pause_s):
            await place.hurry.wait()
        return True

    # Stopping and rolling

    async def _stop(self, place: _Place) -> None:
        """Drain the process of a place; `ended` follows at the latest after the limit."""
        run = place.run
        if run.process is None or run.ended.is_set():
            return
        run.process.terminate()
        with trio.move_on_after(self._plan.stop_limit_s) as limit:
            await run.ended.wait()
        if limit.cancelled_caught:
            log.error("worker does not drain in time and is killed", worker=place.number)
            run.process.kill()
            await run.ended.wait()

    async def _stop_all(self) -> None:
        tell_service_manager("STOPPING=1")
        for place in self._places:
            place.leave()
        async with trio.open_nursery() as stops:
            for place in self._places:
                stops.start_soon(self._stop, place)

    async def _roll(self) -> None:
        """Replace one worker after the other by one that reads the configuration as it is now."""
        try:
            self._plan = self._reload()
        except ConfigError as error:
            log.error("the configuration is refused: nothing is restarted", problems=str(error).splitlines())
            return
        log.info("rolling restart begins", workers=self._plan.workers)
        for place in self._places[: self._plan.workers]:
            if not await self._replaced(place):
                log.error(
                    "rolling restart ends: this worker does not serve, the next are left alone", worker=place.number
                )
                return
        await self._resize()
        log.info("rolling restart is done", workers=len(self._places))

    async def _replaced(self, place: _Place) -> bool:
        """Replace the process of a place; whether the new one serves."""
        old = place.run
        place.planned = True
        place.hurry.set()
        await self._stop(place)
        run = await place.run_after(old)
        await run.settled.wait()
        return run.ready

    async def _resize(self) -> None:
        """Add and take away places until there are as many as wanted."""
        while len(self._places) < self._plan.workers and not self._over.is_set():
            place = self._add_place(len(self._places))
            await place.run.settled.wait()
        while len(self._places) > self._plan.workers and not self._over.is_set():
            place = self._places[-1]
            place.leave()
            await self._stop(place)
            self._places.pop()
