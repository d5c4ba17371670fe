"""A store's callbacks as plain blocking calls: for tests, and for tools that hold a store for a moment.

Never on an event loop, and never over a store that delivers to the calling thread's own loop: it would wait for itself.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any

from balance.store import (
    MAX_PAGE,
    CommitOutcome,
    DueItem,
    OutboxItem,
    ReadOutcome,
    Store,
    StoreFailure,
    Transaction,
)

TIMEOUT_S = 30.0
"""After so long a call raises `TimeoutError`; its outcome is unknown."""


class BlockingStore:
    """Each method makes one call of the store and returns its outcome, `StoreFailure` included."""

    def __init__(self, store: Store, timeout_s: float = TIMEOUT_S) -> None:
        self.store = store
        self.timeout_s = timeout_s

    def wait(self, start: Callable[[Callable[[Any], None]], None]) -> Any:
        """Run `start(done)` and return what `done` is called with."""
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        start(results.put)
        try:
            return results.get(timeout=self.timeout_s)
        except queue.Empty:
            raise TimeoutError(f"the store did not answer within {self.timeout_s} s") from None

    def read(self, partition: int, keys: Sequence[bytes]) -> ReadOutcome:
        """See `Store.read`."""
        outcome: ReadOutcome = self.wait(lambda done: self.store.read(partition, keys, done))
        return outcome

    def commit(self, partition: int, transactions: Sequence[Transaction]) -> CommitOutcome:
        """See `Store.commit`."""
        outcome: CommitOutcome = self.wait(lambda done: self.store.commit(partition, transactions, done))
        return outcome

    def scan(
        self, partition: int, index: bytes, after: bytes = b"", limit: int = MAX_PAGE
    ) -> Sequence[bytes] | StoreFailure:
        """See `Store.scan`."""
        outcome: Sequence[bytes] | StoreFailure = self.wait(
            lambda done: self.store.scan(partition, index, after, limit, done)
        )
        return outcome

    def due(self, partition: int, now_us: int, limit: int = MAX_PAGE) -> Sequence[DueItem] | StoreFailure:
        """See `Store.due`."""
        outcome: Sequence[DueItem] | StoreFailure = self.wait(
            lambda done: self.store.due(partition, now_us, limit, done)
        )
        return outcome

    def outbox(self, partition: int, after: int = 0, limit: int = MAX_PAGE) -> Sequence[OutboxItem] | StoreFailure:
        """See `Store.outbox`."""
        outcome: Sequence[OutboxItem] | StoreFailure = self.wait(
            lambda done: self.store.outbox(partition, after, limit, done)
        )
        return outcome

    def trim(self, partition: int, upto: int) -> StoreFailure | None:
        """See `Store.trim`."""
        outcome: StoreFailure | None = self.wait(lambda done: self.store.trim(partition, upto, done))
        return outcome

    def outbox_length(self) -> int | StoreFailure:
        """See `Store.outbox_length`."""
        outcome: int | StoreFailure = self.wait(self.store.outbox_length)
        return outcome
