"""Several engines over one memory store, with one clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ocs.charging.catalogue_rollout import CatalogueFollower
from ocs.charging.conductor import ChargingError
from ocs.charging.registry import WorkerEntry, ranges
from ocs.charging.settings import ChargingSettings
from tariffs.loader import load
from tariffs.model import Catalogue
from tariffs.problems import CatalogueError, Problem
from tests.support.books import AuditedStore
from tests.support.charging_kit import START_US, Kit


class World:
    """The store and the time that all workers share."""

    def __init__(self, workers: int = 2, settings: ChargingSettings | None = None) -> None:
        self.now_us = START_US
        self.underway: list[Callable[[], None]] | None = None
        """Answers of the store that have not arrived, if a test makes it a list; `None`: they arrive at once."""
        self.store = AuditedStore(now_us=lambda: self.now_us, deliver=self._deliver)
        self.settings = settings
        self.workers = [Worker(self, number) for number in range(workers)]

    def add(self) -> Worker:
        """Start one more."""
        worker = Worker(self, len(self.workers))
        self.workers.append(worker)
        return worker

    def _deliver(self, call: Callable[[], None]) -> None:
        if self.underway is None:
            call()
        else:
            self.underway.append(call)

    def settle(self, choose: Callable[[int], int]) -> None:
        """Let answers arrive, and timers ring, in the order that `choose(count)` gives, until none is left."""
        while True:
            pending = [*(self.underway or ()), *(call for worker in self.workers for call in worker.later)]
            if not pending:
                return
            call = pending[choose(len(pending))]
            for calls in (self.underway or [], *(worker.later for worker in self.workers)):
                if call in calls:
                    calls.remove(call)
            call()

    def beat(self, seconds: float = 0.2, each: Callable[[], None] = lambda: None) -> None:
        """Time passes in steps of 200 ms; in each, every worker that lives has its turn."""
        for _ in range(round(seconds * 5)):
            self.now_us += 200_000
            for worker in self.workers:
                worker.beat()
            each()


class Worker(Kit):
    """One engine of a world."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.alive = True
        self.failures = 0
        self.follower: CatalogueFollower | None = None
        """Made by `follow_catalogues`; `None`: this worker keeps the kit's catalogue."""
        self.cannot_load: str = ""
        """What is said of every text, if it is not empty."""
        self.loads = True
        """Off: it is busy and does not get to loading."""
        now_us = world.now_us
        super().__init__(world.store, world.settings, number=number, alone=False)
        world.now_us = now_us

    @property
    def now_us(self) -> int:
        """The world's clock."""
        return self.world.now_us

    @now_us.setter
    def now_us(self, value: int) -> None:
        self.world.now_us = value

    def beat(self) -> None:
        """What a process does every 200 ms, and each second."""
        if not self.alive:
            return
        if self.follower is not None and self.loads:
            self.run(self.follower.follow())
        for saga in (self.registry.turn(), self.desk.inbox_turn()):
            try:
                self.run(saga)
            except ChargingError:
                self.failures += 1
        if self.now_us % 1_000_000 == 0:
            self.sweep()

    def follow_catalogues(self) -> CatalogueFollower:
        """From now on this worker rates under what is in the store."""
        empty = Catalogue(0, "none", (), {}, {})
        self.follower = CatalogueFollower(
            self.engine, self.compile, empty, lambda: self.now_us, self.registry.note_change
        )
        return self.follower

    def compile(self, text: str, filename: str, version: int) -> Catalogue:
        """Compile a text, if this worker can."""
        if self.cannot_load:
            raise CatalogueError([Problem(filename, 3, self.cannot_load, "something else")])
        return load(text, filename, version)

    def entry(self) -> WorkerEntry:
        """As in the kit; what is loaded is told by the follower."""
        found = super().entry()
        follower = getattr(self, "follower", None)
        if follower is None:
            return found
        return msgspec.structs.replace(
            found,
            loaded=ranges(version for version in follower.loaded if version),
            failed=tuple(sorted(follower.failed.items())),
            current=follower.current,
        )

    def sweep(self) -> int:
        """A pass over this worker's partitions."""
        self.sweeper.is_mine = lambda partition: self.registry.sweeps(partition, self.store.partitions)
        handled: list[int] = []
        self.sweeper.sweep_mine(handled.append)
        return handled[0]


def partitions_of(worker: Worker) -> list[int]:
    """What a worker sweeps now."""
    count = worker.store.partitions
    return [partition for partition in range(count) if worker.registry.sweeps(partition, count)]
