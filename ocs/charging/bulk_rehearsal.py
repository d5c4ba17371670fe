"""An engine whose commits go nowhere: the same code over the same documents, so a dry run finds what a run would find.

Documents are read from the store; what is committed is compared by version and kept in memory, in front of the store,
until the rehearsal is thrown away. Events, due items and indexes are dropped: no operation reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from balance.documents import VERSION_OCTETS
from balance.store import (
    CommitOutcome,
    Committed,
    Conflict,
    DueItem,
    OutboxItem,
    ReadOutcome,
    Store,
    StoreFailure,
    Transaction,
    check_commit,
    forget_nothing,
)
from ocs.charging.conductor import Conductor
from ocs.charging.engine import Engine


class RehearsalStore:
    """Documents of a store, with changes that only this object knows. The store itself is never written."""

    def __init__(self, store: Store) -> None:
        self.partitions = store.partitions
        self.forget: Callable[[], None] = forget_nothing
        self._store = store
        self._known: dict[bytes, bytes | None] = {}
        """What was read or written; read once, so that a rehearsal sees one state of each document."""

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        """See `Store.read`."""
        missing = tuple(key for key in keys if key not in self._known)
        if not missing:
            done({key: self._known[key] for key in keys})
            return

        def on_read(outcome: ReadOutcome) -> None:
            if isinstance(outcome, StoreFailure):
                done(outcome)
                return
            for key, data in outcome.items():
                self._known.setdefault(key, data)
            done({key: self._known[key] for key in keys})

        self._store.read(partition, missing, on_read)

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        """See `Store.commit`; leases are not looked at."""
        check_commit(self.partitions, partition, transactions)
        keys = tuple({write.key: None for one in transactions for write in one.writes})

        def on_read(outcome: ReadOutcome) -> None:
            if isinstance(outcome, StoreFailure):
                done(outcome)
            else:
                done([self._apply(one) for one in transactions])

        self.read(partition, keys, on_read)

    def _apply(self, transaction: Transaction) -> Committed | Conflict:
        present = {write.key: self._known[write.key] for write in transaction.writes}
        for write in transaction.writes:
            document = present[write.key]
            if (None if document is None else document[:VERSION_OCTETS]) != write.expected:
                return Conflict(present)
        for write in transaction.writes:
            self._known[write.key] = write.data
        return Committed()

    def scan(
        self,
        partition: int,
        index: bytes,
        after: bytes,
        limit: int,
        done: Callable[[Sequence[bytes] | StoreFailure], None],
    ) -> None:
        """Of the store as it is."""
        self._store.scan(partition, index, after, limit, done)

    def due(
        self, partition: int, now_us: int, limit: int, done: Callable[[Sequence[DueItem] | StoreFailure], None]
    ) -> None:
        """Of the store as it is."""
        self._store.due(partition, now_us, limit, done)

    def outbox(
        self, partition: int, after: int, limit: int, done: Callable[[Sequence[OutboxItem] | StoreFailure], None]
    ) -> None:
        """Of the store as it is."""
        self._store.outbox(partition, after, limit, done)

    def trim(self, partition: int, upto: int, done: Callable[[StoreFailure | None], None]) -> None:
        """Does nothing."""
        done(None)

    def outbox_length(self, done: Callable[[int | StoreFailure], None]) -> None:
        """Of the store as it is."""
        self._store.outbox_length(done)


def rehearsal_of(engine: Engine) -> Engine:
    """An engine that reads what `engine` reads, and changes nothing."""
    store = RehearsalStore(engine.store)
    conductor = Conductor(
        store,
        engine.utc_us,
        engine.conductor.monotonic,
        engine.conductor.later,
        engine.conductor.report,
        engine.nonce,
        cached_documents=0,
    )
    return Engine(store, conductor, engine.settings, engine.catalogues, b"", engine.utc_us, engine.nonce)
