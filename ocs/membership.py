"""One process among those that work on a store, on its loop: its lease, its inbox, and the catalogues in step with all.

What is decided and written is in `ocs.charging`: `registry`, `notices`, `catalogue_rollout`. Here are the clock and the
turns. A store that admits one process only (SQLite) needs no turns: nobody else changes anything.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from ocs.charging.catalogue_rollout import AHEAD_US, Activated, CatalogueFollower, readiness
from ocs.charging.catalogue_store import publish, switch
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.notice_documents import NoticeKind
from ocs.charging.notices import NoticeDesk
from ocs.charging.operations import Order
from ocs.charging.registry import PeersHeld, Registry, WorkerEntry, describe_workers, ranges
from ocs.charging.saga import Saga
from tariffs.loader import load
from tariffs.model import Catalogue

T = TypeVar("T")

TURN_EVERY_S = 0.2
"""How often the inbox and the catalogue pointer are looked at."""

GATHER_S = 0.02
"""How long further changes are waited for before one is told."""

TURN_DEADLINE_S = 5.0
READY_LIMIT_S = 8
"""How long an activation waits for the workers: longer than a dead one's lease, shorter than an operator's request."""

LOOK_AGAIN_S = 0.05

log = structlog.get_logger("ocs.membership")


def wall_us() -> int:
    """The clock that the processes of a host share, whatever time is charged by; only the switch of a catalogue needs it."""
    return time.time_ns() // 1000


class Membership:
    """Registry, notices and catalogues of one process."""

    def __init__(
        self,
        engine: Engine,
        worker_id: str,
        number: int,
        empty: Catalogue,
        loop: asyncio.AbstractEventLoop,
        listeners: Callable[[], Sequence[Mapping[str, object]]],
        *,
        alone: bool,
        is_server: bool,
        ready_limit_s: int = READY_LIMIT_S,
    ) -> None:
        """`alone`: the store admits one process only. A process that is no server looks, and is not entered.

        `ready_limit_s`: how long an activation waits for the workers.
        """
        self._engine = engine
        self._worker_id = worker_id
        self._number = number
        self._loop = loop
        self._listeners = listeners
        self._is_server = is_server
        self._ready_limit_s = ready_limit_s
        self._host = socket.gethostname()
        self._started_s = engine.now_s()
        self._serving = self._sweeping = False
        self.peers = PeersHeld()
        self._follower = CatalogueFollower(engine, load, empty, wall_us, self._note_change)
        self.registry = Registry(self._describe, engine.nonce, loop.time, alone, is_member=is_server)
        self.peers.changed = self._note_change
        self.desk = NoticeDesk(engine, self.registry, engine.utc_us, loop.time, self._deliver_to_nobody)
        self.failures = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._following = asyncio.Lock()
        self._failure = ""

    # Coming and going

    async def join(self) -> None:
        """Enter the registry, then load the catalogues: who activates one meanwhile waits for this process."""
        if self._is_server and not self.registry.alone:
            await self._run(self.registry.renew())
            self._tasks.append(self._loop.create_task(self._take_turns()))
        await self.follow()

    def serve(self) -> None:
        """From now on this process listens, and takes its share of what has to be done."""
        self._serving = self._sweeping = True
        self._note_change()
        if self._is_server and not self.registry.alone:
            self._tasks.append(self._loop.create_task(self._keep_following()))

    def stop_sweeping(self) -> None:
        """Leave the sweep to others: this process's clock is not to be believed."""
        self._sweeping = False
        self._note_change()

    async def leave(self) -> None:
        """Give the lease back. What the inbox still holds goes to others."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        try:
            await self._run(self.registry.leave())
        except ChargingError as error:
            log.info("the lease ends by itself", error=str(error))

    # Catalogues

    async def follow(self) -> None:
        """Load what has been published, and switch if it is time."""
        async with self._following:
            before = self._follower.current
            await self._run(self._follower.follow())
            self._note_switch(before)
            ahead_us = self._follower.switches_in_us()
            if ahead_us:
                self._loop.call_later(ahead_us / 1e6, self._adopt)

    def _adopt(self) -> None:
        before = self._follower.current
        self._follower.adopt()
        self._note_switch(before)

    def _note_switch(self, before: int) -> None:
        if self._follower.current != before:
            log.info("catalogue in use", version=self._follower.current, before=before)

    async def activate(self, order: Order, text: str, filename: str) -> Activated:
        """Publish a checked text, wait for the workers to load it, make it current; returns when it is.

        `CatalogueBlocked` names the worker that has not loaded it or cannot; the version stays published, and trying
        again goes on from there. `CatalogueConflict` if another one came between.
        """
        published = await self._run(publish(self._engine, order, text, filename))
        version = published.version
        await self.follow()
        pointer = self._follower.pointer
        if pointer.published != version:
            return Activated(version, pointer.current, False, published.repeated, ())
        ready = await self._until_ready(version)
        now_us = wall_us()
        others = any(one.worker_id != self._worker_id for one in ready)
        at_us = now_us + (AHEAD_US if others else 0)
        await self._run(switch(self._engine, version, now_us, at_us))
        await asyncio.sleep((at_us - now_us) / 1e6)
        await self.follow()
        return Activated(version, version, True, published.repeated, ready)

    async def _until_ready(self, version: int) -> tuple[WorkerEntry, ...]:
        ends = self._loop.time() + self._ready_limit_s
        while True:
            found = readiness(await self._run(self.registry.look()), version)
            if found.check(version):
                return found.ready
            if self._loop.time() > ends:
                raise found.refuse(version, self._ready_limit_s)
            await asyncio.sleep(LOOK_AGAIN_S)

    # What is told

    async def workers(self) -> dict[str, Any]:
        """Workers and peers of the whole store, read now."""
        return describe_workers(await self._run(self.registry.look()))

    def numbers(self) -> dict[str, int]:
        """Gauges and counters for `ocs doctor` and for metrics."""
        desk = self.desk
        return {
            "workers_seen": len(self.registry.members),
            "sweep_partitions": self.registry.share(self._engine.store.partitions),
            "membership_turns_failed": self.failures,
            "notices_delivered": desk.delivered,
            "notices_unheard": desk.unheard,
            "notices_homeless": desk.homeless,
            "notices_outstanding": desk.delivering,
            "requests_waiting_for_catalogue": len(self._engine.parking),
            "requests_waited_for_catalogue": self._engine.parking.total,
        }

    def problems(self) -> list[str]:
        """What is wrong, one sentence each."""
        found = self._follower.problems()
        if self._failure:
            found.append(f"this worker is not in touch with the others: {self._failure}")
        return found

    def warnings(self) -> list[str]:
        """What an operator should look at."""
        return self._follower.warnings()

    def _describe(self) -> WorkerEntry:
        follower = self._follower
        return WorkerEntry(
            self._worker_id,
            self._number,
            self._host,
            os.getpid(),
            self._started_s,
            tuple((str(one["name"]), str(one["address"])) for one in self._listeners()),
            self.peers.listed(),
            ranges(version for version in follower.loaded if version),
            tuple(sorted(follower.failed.items())),
            follower.current,
            self._serving,
            self._sweeping,
        )

    # Turns

    def _note_change(self) -> None:
        self.registry.note_change()
        self._changed.set()

    async def _run(self, saga: Saga[T]) -> T:
        future: asyncio.Future[T | ChargingError] = self._loop.create_future()

        def done(result: T | ChargingError) -> None:
            if not future.done():
                future.set_result(result)

        self._engine.run(saga, self._loop.time() + TURN_DEADLINE_S, done)
        result = await future
        if isinstance(result, ChargingError):
            raise result
        return result

    async def _take_turns(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TURN_EVERY_S):
                    await self._changed.wait()
                # Changes come in swarms, such as all gateways after a restart.
                await asyncio.sleep(GATHER_S)
            except TimeoutError:
                pass
            self._changed.clear()
            await self._guarded(self._turn())

    async def _turn(self) -> None:
        await self._run(self.registry.turn())
        await self._run(self.desk.inbox_turn())
        if self._failure and self.registry.held():
            log.info("in touch with the other workers again")
            self._failure = ""

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(TURN_EVERY_S)
            await self._guarded(self.follow())

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """One turn; whatever it raises, the next one comes."""
        try:
            await work
        except ChargingError as error:
            self.failures += 1
            if not self._failure:
                log.warning("not in touch with the other workers", error=str(error))
            self._failure = str(error)
            # The store is unwell; it does not become better by being asked more often.
            await asyncio.sleep(TURN_EVERY_S)
        except Exception as error:
            # Our bug. Without turns this worker would lose its lease and never hear of a catalogue again.
            self.failures += 1
            log.error("a turn failed", exc_info=error)
            await asyncio.sleep(TURN_EVERY_S)

    def _deliver_to_nobody(self, session_id: str, kind: NoticeKind, done: Callable[[bool], None]) -> None:
        """The port of notices until a server sets its own: counted, and heard."""
        log.debug("notice", session=session_id, kind=kind.name.lower())
        done(True)
