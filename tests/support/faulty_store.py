"""A store that fails on demand, around any store: what a lost connection or a full disk does to the callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from balance.store import (
    CommitOutcome,
    DueItem,
    OutboxItem,
    ReadOutcome,
    Store,
    StoreFailure,
    Transaction,
    forget_nothing,
)

Fault = Literal["refused", "lost before", "lost after"]
"""`refused`: not applied, and known to be. `lost before`, `lost after`: of unknown outcome; not applied, or applied."""


class FaultyStore:
    """Passes everything through, except what a test asked to go wrong."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.partitions = inner.partitions
        self.forget: Callable[[], None] = forget_nothing
        self._read_faults = 0
        self._commit_faults: list[Fault] = []
        self._holding = False
        self._held: list[Callable[[], None]] = []

    # What goes wrong

    def fail_reads(self, count: int = 1) -> None:
        """The next `count` calls of `read`, `scan`, `due` or `outbox` fail."""
        self._read_faults += count

    def fail_commits(self, fault: Fault, count: int = 1) -> None:
        """The next `count` commits, after those that were already asked to fail, meet this fault."""
        self._commit_faults += [fault] * count

    def hold(self) -> None:
        """Calls take effect from now on, but nobody hears of it until `release`."""
        self._holding = True

    def release(self) -> None:
        """Deliver what was held, in order, and hold no more."""
        self._holding = False
        while self._held:
            self._held.pop(0)()

    def release_one(self) -> None:
        """Deliver the oldest outcome only."""
        self._held.pop(0)()

    @property
    def held(self) -> int:
        """Outcomes that wait for `release`."""
        return len(self._held)

    def _tell(self, done: Callable[[Any], None]) -> Callable[[Any], None]:
        def told(outcome: Any) -> None:
            if self._holding:
                self._held.append(lambda: done(outcome))
            else:
                done(outcome)

        return told

    def _read_fails(self, done: Callable[[Any], None]) -> bool:
        if not self._read_faults:
            return False
        self._read_faults -= 1
        self._tell(done)(StoreFailure("read refused by the test", False))
        return True

    # The contract

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        """See `Store.read`."""
        if not self._read_fails(done):
            self.inner.read(partition, keys, self._tell(done))

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        """See `Store.commit`."""
        tell = self._tell(done)
        fault = self._commit_faults.pop(0) if self._commit_faults else None
        if fault is None:
            self.inner.commit(partition, transactions, tell)
        elif fault == "lost after":
            lost = StoreFailure("commit lost by the test", True)
            self.inner.commit(partition, transactions, lambda _outcome: tell(lost))
        else:
            tell(StoreFailure(f"commit {fault} by the test", fault == "lost before"))

    def scan(
        self,
        partition: int,
        index: bytes,
        after: bytes,
        limit: int,
        done: Callable[[Sequence[bytes] | StoreFailure], None],
    ) -> None:
        """See `Store.scan`."""
        if not self._read_fails(done):
            self.inner.scan(partition, index, after, limit, self._tell(done))

    def due(
        self, partition: int, now_us: int, limit: int, done: Callable[[Sequence[DueItem] | StoreFailure], None]
    ) -> None:
        """See `Store.due`."""
        if not self._read_fails(done):
            self.inner.due(partition, now_us, limit, self._tell(done))

    def outbox(
        self, partition: int, after: int, limit: int, done: Callable[[Sequence[OutboxItem] | StoreFailure], None]
    ) -> None:
        """See `Store.outbox`."""
        if not self._read_fails(done):
            self.inner.outbox(partition, after, limit, self._tell(done))

    def trim(self, partition: int, upto: int, done: Callable[[StoreFailure | None], None]) -> None:
        """See `Store.trim`."""
        self.inner.trim(partition, upto, self._tell(done))

    def outbox_length(self, done: Callable[[int | StoreFailure], None]) -> None:
        """See `Store.outbox_length`."""
        self.inner.outbox_length(self._tell(done))
