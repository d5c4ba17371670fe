"""The archive of one process on its loop: threads for the files, the archiver's turns, what an operator must know."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from ocs.archive.archiver import Archiver, store_mark
from ocs.archive.reader import ArchiveReader
from ocs.archive.segments import ArchiveUnusable
from ocs.archive.settings import ArchiveSettings
from ocs.archive.writer import ArchiveWriter
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.leases import Leasehold
from ocs.charging.saga import Saga

T = TypeVar("T")

THREADS = 4
LEASE_US = 6_000_000
TURN_DEADLINE_S = 30.0

FULL_PAUSE_S = 0.002
"""Pause between two batches while there is more to move: charging comes first."""

CLOSE_S = 3.0
"""How long the last events are waited for when the process ends; what is left waits for the next start."""

WATCH_S = 1.0
"""How often the outbox is counted, whatever the archiver does: a disk that hangs must not hide that it fills up."""

STUCK_S = 30.0
"""A turn that takes longer is told as a problem."""

ALARM_PERCENT = 50

log = structlog.get_logger("ocs.archive")


class ArchiveService:
    """Reads for queries; archives once `start` was called."""

    def __init__(
        self,
        engine: Engine,
        settings: ArchiveSettings,
        folder: Path,
        utc_us: Callable[[], int],
        worker_id: str,
        alone: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`alone`: the store admits one process only, so that no lease is needed. The engine has its secret already."""
        self._engine = engine
        self._settings = settings
        self._loop = loop
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")
        self._writer = ArchiveWriter(folder, settings)
        self.reader = ArchiveReader(folder, store_mark(engine.secret))
        lease = None if alone else Leasehold(0, "archive", worker_id, LEASE_US)
        place = f"{socket.gethostname()}:{folder.resolve()}"
        self.archiver = Archiver(engine, self._writer, settings, utc_us, place, lease, lambda: time.time_ns() // 1000)
        engine.offload = self._offload
        engine.history = self.reader
        self._failure = ""
        self._failed_turns = 0
        self._alarmed = False
        self._diverged = 0
        self._turn_began = 0.0
        """Loop time at which the turn under way began; 0: none is."""
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Begin to move events."""
        if not self._tasks:
            self._tasks = (self._loop.create_task(self._work()), self._loop.create_task(self._watch()))

    async def close(self) -> None:
        """Move what is left, within `CLOSE_S`, and close the files."""
        if self._tasks:
            self._stop.set()
            await asyncio.gather(*self._tasks)
            await self._finish()
        await self._loop.run_in_executor(self._pool, self._close_writer)
        self._engine.history = None
        self._pool.shutdown(wait=True)

    def problems(self) -> Sequence[str]:
        """What is wrong, one sentence each."""
        found = []
        archiver = self.archiver
        if self._failure:
            found.append(f"archive: {self._failure}")
        if self._turn_began and self._loop.time() - self._turn_began > STUCK_S:
            found.append(f"archive: no answer from the store or the disk for more than {STUCK_S:.0f} s")
        if archiver.fill_percent >= ALARM_PERCENT:
            refused = "" if self._engine.admitting else "; new sessions are refused"
            found.append(
                f"archive: {archiver.waiting} events wait in the store's outbox, {archiver.fill_percent} % of its"
                f" limit{refused}"
            )
        if archiver.diverged:
            found.append(
                f"archive: {archiver.diverged} events came under the numbers of others that were archived before: the"
                " store lost commits, compare its balances with the archive"
            )
        if archiver.damaged:
            found.append(f"archive: {archiver.damaged} events cannot be decoded; they are archived as they are")
        return found

    def numbers(self) -> dict[str, int]:
        """Gauges for `ocs doctor` and for metrics."""
        archiver = self.archiver
        return {
            "outbox_events": archiver.waiting,
            "outbox_percent": archiver.fill_percent,
            "outbox_admitting": int(self._engine.admitting),
            "archive_working": int(archiver.working),
            "archive_events_moved": archiver.archived,
            "archive_events_diverged": archiver.diverged,
            "archive_events_damaged": archiver.damaged,
            "archive_segments_deleted": archiver.retired,
            "archive_turns_failed": self._failed_turns,
        }

    # On the loop

    def _offload(self, work: Callable[[], object], done: Callable[[object], None]) -> None:
        try:
            future = self._loop.run_in_executor(self._pool, work)
        except RuntimeError as error:
            done(ArchiveUnusable(f"the archive is closed: {error}"))
            return

        def deliver(ended: asyncio.Future[object]) -> None:
            done(ended.exception() or ended.result())

        future.add_done_callback(deliver)

    async def _run(self, saga: Saga[T]) -> T:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._engine.run(saga, self._loop.time() + TURN_DEADLINE_S, future.set_result)
        result = await future
        if isinstance(result, ChargingError):
            raise result
        found: T = result
        return found

    async def _work(self) -> None:
        while not self._stop.is_set():
            pause_s = self._settings.interval_ms / 1000
            self._turn_began = self._loop.time()
            try:
                if await self._run(self.archiver.turn()):
                    pause_s = FULL_PAUSE_S
            except ChargingError as error:
                self._failed_turns += 1
                self._note_failure(str(error))
            else:
                self._note_failure("")
            self._turn_began = 0.0
            await self._pause(pause_s)

    async def _watch(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(ChargingError):
                # A store that does not answer is told elsewhere, and louder.
                await self._run(self.archiver.measure())
            self._note_fill()
            await self._pause(WATCH_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _finish(self) -> None:
        ends = self._loop.time() + CLOSE_S
        try:
            while self._loop.time() < ends and await self._run(self.archiver.turn()):
                pass
            await self._run(self.archiver.release())
        except ChargingError as error:
            log.warning("events are left in the outbox for the next start", error=str(error))

    def _close_writer(self) -> None:
        try:
            self._writer.close()
        except ChargingError as error:
            log.warning("archive", error=str(error))

    def _note_failure(self, failure: str) -> None:
        if failure and failure != self._failure:
            log.error("events cannot be archived", error=failure)
        elif self._failure and not failure:
            log.info("events are archived again")
        self._failure = failure

    def _note_fill(self) -> None:
        archiver = self.archiver
        if archiver.diverged > self._diverged:
            self._diverged = archiver.diverged
            log.error("the store lost commits that were archived", events=archiver.diverged)
        alarmed = archiver.fill_percent >= ALARM_PERCENT
        if alarmed and not self._alarmed:
            log.error("the outbox fills up", events=archiver.waiting, percent=archiver.fill_percent)
        elif self._alarmed and not alarmed:
            log.info("the outbox is emptied", events=archiver.waiting)
        self._alarmed = alarmed
