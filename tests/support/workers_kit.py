"""Several engines over one memory store, with one clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable

from balance.memory_store import MemoryStore
from ocs.charging.conductor import ChargingError
from ocs.charging.settings import ChargingSettings
from tests.support.books import AuditedStore
from tests.support.charging_kit import START_US, Kit


class World:
    """The store and the time that all workers share."""

    def __init__(self, workers: int = 2, settings: ChargingSettings | None = None) -> None:
        self.now_us = START_US
        self.store = AuditedStore(now_us=lambda: self.now_us)
        self.settings = settings
        self.workers = [Worker(self, number) for number in range(workers)]

    def add(self) -> Worker:
        """Start one more."""
        worker = Worker(self, len(self.workers))
        self.workers.append(worker)
        return worker

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
        for saga in (self.registry.turn(), self.desk.inbox_turn()):
            try:
                self.run(saga)
            except ChargingError:
                self.failures += 1
        if self.now_us % 1_000_000 == 0:
            self.sweep()

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


def store_of(world: World) -> MemoryStore:
    """The store, for a look inside."""
    return world.store
