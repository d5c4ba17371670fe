"""One process over one open store: engine, lanes, catalogues and the sweep, on the loop that runs it.

`ocs serve` puts sockets around it; a command line uses it for a moment. It is the only place that chooses the store.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import structlog
from prometheus_client.core import Metric

from balance.redis_store import RedisStore
from balance.sqlite_store import SqliteStore
from balance.store import StoreFailure
from ocs.archive.service import ArchiveService
from ocs.charging import catalogue_store
from ocs.charging.catalogue_rollout import Activated
from ocs.charging.catalogue_store import Secret
from ocs.charging.conductor import ChargingError, Conductor, StoreUnavailable
from ocs.charging.engine import Engine
from ocs.charging.operations import Order
from ocs.charging.pricing import Catalogues
from ocs.charging.saga import Saga
from ocs.charging.sweeper import Sweeper
from ocs.clock import Clock, SteppedClock, SystemClock
from ocs.config import Settings
from ocs.membership import READY_LIMIT_S, Membership
from tariffs.model import Catalogue

T = TypeVar("T")

START_DEADLINE_S = 10.0
SWEEP_EVERY_S = 1.0
MAX_CLOCK_STEP_S = 5.0
"""A step of the wall clock above this stops sweeping until the process is restarted (LEDGER §8)."""

log = structlog.get_logger("ocs.runtime")


def _nonces() -> Callable[[], bytes]:
    """Nonces of documents: random, seeded by the system, so that no two processes or histories share one."""
    draw = random.Random(os.urandom(32)).getrandbits
    return lambda: draw(64).to_bytes(8, "big")


_nonce = _nonces()


class StoreRuntime:
    """The engine over an open store. Made by `open_runtime`."""

    def __init__(
        self,
        settings: Settings,
        store: SqliteStore | RedisStore,
        clock: Clock,
        mode: Literal["server", "command"],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.mode: Literal["server", "command"] = mode
        self.worker_id: str = os.urandom(8).hex()
        """Names this start of this process among all that share the store; a restarted worker has another one."""
        self._loop = loop
        self._opened = loop.time()
        conductor = Conductor(
            store,
            clock.utc_us,
            loop.time,
            loop.call_later,
            self._report,
            _nonce,
            soon=loop.call_soon,
            holder=b"" if settings.store.engine == "sqlite" else self.worker_id.encode(),
            cached_documents=settings.charging.cached_documents,
        )
        empty = Catalogues({0: empty_catalogue()}, 0)
        alone = isinstance(store, SqliteStore)
        self.engine = Engine(store, conductor, settings.charging, empty, b"", clock.utc_us, _nonce)
        self.sweeper = Sweeper(self.engine, clock.utc_us, loop.time)
        self.extra_numbers: Callable[[], Mapping[str, int]] = dict
        self.extra_families: Callable[[], Iterable[Metric]] = tuple
        self.extra_listeners: Callable[[], Sequence[Mapping[str, object]]] = tuple
        self.engine.offload = self._offload
        self.membership = Membership(
            self.engine,
            self.worker_id,
            settings.worker,
            empty_catalogue(),
            loop,
            self.listeners,
            alone=alone,
            is_server=mode == "server",
            ready_limit_s=min(READY_LIMIT_S, settings.control.deadline_s),
        )
        self.sweeper.notices = self.membership.desk
        self.sweeper.is_mine = lambda partition: self.membership.registry.sweeps(partition, store.partitions)
        self.archive: ArchiveService | None = None
        """Made by `prepare`; `None`: events stay in the outbox."""
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweeping = False
        self._alarmed = False

    # Starting and stopping

    async def prepare(self) -> None:
        """Read the signing secret and the catalogues."""
        fresh = Secret(os.urandom(32), self.engine.now_s())
        self.made: Secret = await self.run(catalogue_store.store_secret(fresh, _nonce()))
        self.engine.secret = self.made.secret
        if self.settings.archive.enabled:
            self.archive = ArchiveService(
                self.engine,
                self.settings.archive,
                self.settings.archive_path,
                self.clock.utc_us,
                self.worker_id,
                isinstance(self.store, SqliteStore),
                self._loop,
            )
        await self.membership.join()

    async def close(self) -> None:
        """Stop sweeping, finish what is under way, close the store."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        await self.membership.leave()
        if self.archive is not None:
            await self.archive.close()
        if isinstance(self.store, RedisStore):
            await self.store.close()
        else:
            # The store's thread delivers its last outcomes to this loop, so the loop must not be blocked by joining it.
            await self._loop.run_in_executor(None, self.store.close)

    async def run(self, saga: Saga[T], deadline_s: float = START_DEADLINE_S) -> T:
        """Result of a saga; raises the `ChargingError` that ended it."""
        future: asyncio.Future[T | ChargingError] = self._loop.create_future()

        def done(result: T | ChargingError) -> None:
            if not future.done():
                future.set_result(result)

        self.engine.run(saga, self._loop.time() + deadline_s, done)
        result = await future
        if isinstance(result, ChargingError):
            raise result
        return result

    def _report(self, where: object, error: Exception) -> None:
        """A job or a saga raised: our bug or a damaged document. The request fails; the operator must know."""
        self.engine.counters.failed_jobs += 1
        log.error(
            "charging failed", where=type(where).__name__, error=f"{type(error).__name__}: {error}", exc_info=error
        )

    def _offload(self, work: Callable[[], object], done: Callable[[object], None]) -> None:
        future = self._loop.run_in_executor(None, work)
        future.add_done_callback(lambda ended: done(ended.exception() or ended.result()))

    # Catalogues

    async def activate_catalogue(
        self, text: str, filename: str, who: str, reason: str, key: str | None = None
    ) -> Activated:
        """Make a checked text the current version; running sessions keep theirs for as long as they are pinned.

        The same key with the same text activates once. `CatalogueBlocked` names the worker that has not loaded it.
        """
        order = Order(key or os.urandom(8).hex(), who, reason)
        done = await self.membership.activate(order, text, filename)
        log.info(
            "catalogue activated", version=done.version, changed=done.changed, file=filename, who=who, reason=reason
        )
        return done

    async def workers(self) -> Mapping[str, Any]:
        """Workers and peers of the whole store."""
        return await self.membership.workers()

    # Archiving

    def start_archiving(self) -> None:
        """Move events from the outbox into the archive, if there is to be one."""
        if self.archive is not None:
            self.archive.start()

    # Sweeping

    def start_sweeping(self) -> None:
        """Take a share of the sweep: look every second for what is due."""
        self.membership.serve()
        self._sweep_timer = self._loop.call_later(SWEEP_EVERY_S, self._tick)

    def _tick(self) -> None:
        self._sweep_timer = self._loop.call_later(SWEEP_EVERY_S, self._tick)
        if self._clock_stepped():
            if not self._alarmed:
                self._alarmed = True
                self.membership.stop_sweeping()
                log.error("the wall clock was stepped: nothing expires until the server is restarted")
        elif not self._sweeping:
            self._sweeping = True
            self.sweeper.sweep_mine(self._swept)

    def _swept(self, handled: int) -> None:
        self._sweeping = False
        if handled:
            log.info("swept", items=handled)

    async def sweep(self) -> int:
        """Handle everything that is due now, whoever's it is, and what that makes due."""
        total = 0
        while True:
            future: asyncio.Future[int] = self._loop.create_future()
            self.sweeper.sweep(future.set_result)
            handled = await future
            total += handled
            if handled == 0:
                return total

    def _clock_stepped(self) -> bool:
        return isinstance(self.clock, SystemClock) and abs(self.clock.wall_step_s()) > MAX_CLOCK_STEP_S

    # What the HTTP interface asks

    @property
    def stepped(self) -> bool:
        """Whether time is stepped by `advance`."""
        return isinstance(self.clock, SteppedClock)

    def monotonic(self) -> float:
        """The loop's time: deadlines are real even when the charging clock is stepped."""
        return self._loop.time()

    def now_us(self) -> int:
        """The charging clock."""
        return self.clock.utc_us()

    def advance(self, seconds: int) -> None:
        """Step the test clock."""
        if isinstance(self.clock, SteppedClock):
            self.clock.advance(seconds)

    async def store_facts(self) -> Mapping[str, object]:
        """What the store says of itself."""
        future: asyncio.Future[dict[str, Any] | StoreFailure] = self._loop.create_future()

        def done(result: dict[str, Any] | StoreFailure) -> None:
            if not future.done():
                future.set_result(result)

        self.store.describe(done)
        facts = await future
        if isinstance(facts, StoreFailure):
            raise StoreUnavailable(facts.detail)
        return facts

    def uptime_s(self) -> int:
        """Whole seconds since the store was opened."""
        return int(self._loop.time() - self._opened)

    def listeners(self) -> Sequence[Mapping[str, object]]:
        """What is listened on."""
        return self.extra_listeners()

    def numbers(self) -> Mapping[str, int]:
        """Counters beyond the engine's own."""
        own = {
            "swept_items": self.sweeper.swept,
            "sweep_failures": self.sweeper.failures,
            "sweep_passes_put_off": self.sweeper.put_off,
            **self.membership.numbers(),
            **({} if self.archive is None else self.archive.numbers()),
        }
        if isinstance(self.store, RedisStore):
            own |= {f"store_{name}": value for name, value in self.store.counts().items()}
        return {**own, **self.extra_numbers()}

    def families(self) -> Iterable[Metric]:
        """Metrics with labels of their own: those of the servers around this runtime."""
        return self.extra_families()

    def warnings(self) -> Sequence[str]:
        """What is not as it should be and yet does not stop the service."""
        stepped = ["time is stepped by hand (--test-clock): for tests only"] if self.stepped else []
        return [*stepped, *self.membership.warnings()]

    def problems(self) -> Sequence[str]:
        """What is wrong."""
        found = [*self.membership.problems(), *(f"store: {problem}" for problem in self.store.problems())]
        if self.archive is not None:
            found += self.archive.problems()
        if self._clock_stepped():
            found.append("the wall clock was stepped; sweeping has stopped, restart the server when the clock is right")
        return found


def empty_catalogue() -> Catalogue:
    """What is sold before a catalogue was activated: nothing."""
    return Catalogue(0, "none", (), {}, {})


async def open_runtime(
    settings: Settings, mode: Literal["server", "command"], clock: Clock | None = None, note: str = ""
) -> StoreRuntime:
    """Open the store and what works on it; raises `StoreError` when it is held or unusable, `ChargingError` if it fails."""
    loop = asyncio.get_running_loop()
    clock = clock or SystemClock()
    store = await _open_store(settings, clock, loop, note)
    runtime = StoreRuntime(settings, store, clock, mode, loop)
    try:
        await runtime.prepare()
    except BaseException:
        await runtime.close()
        raise
    return runtime


async def _open_store(
    settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop, note: str
) -> SqliteStore | RedisStore:
    chosen = settings.store
    if chosen.engine == "redis":
        return await RedisStore.open(chosen.url, chosen.level, chosen.partitions, chosen.timeout_ms, _log_store)
    settings.store_path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteStore(settings.store_path, clock.utc_us, loop.call_soon_threadsafe, chosen.partitions, note)


def _log_store(line: str, is_problem: bool) -> None:
    if is_problem:
        log.error("store", detail=line)
    else:
        log.info("store", detail=line)
