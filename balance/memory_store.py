"""The store in memory: the verified fake for tests and simulation. Obeys the same contract kit as the real ones."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence

from balance.documents import DEFAULT_PARTITIONS, version_of
from balance.leases import Leases
from balance.store import (
    CommitOutcome,
    Committed,
    Conflict,
    DueItem,
    Leased,
    OutboxItem,
    ReadOutcome,
    StoreFailure,
    Transaction,
    check_commit,
    check_page,
    check_partition,
    check_read,
    forget_nothing,
)

Deliver = Callable[[Callable[[], None]], object]
"""Runs a completed call's callback: at once by default, or when the simulator decides."""


def _at_once(call: Callable[[], None]) -> None:
    call()


class _Partition:
    """What one partition holds."""

    __slots__ = ("documents", "due", "indexes", "leases", "outbox", "sequence")

    def __init__(self) -> None:
        self.documents: dict[bytes, tuple[bytes, int]] = {}
        """key -> (document, UTC microseconds of its end; 0: none)"""
        self.due: dict[bytes, int] = {}
        self.indexes: dict[bytes, set[bytes]] = {}
        self.outbox: list[OutboxItem] = []
        self.sequence = 0
        self.leases = Leases()


class MemoryStore:
    """Partitions of plain dictionaries. A call takes effect at once; `deliver` decides when its caller hears of it."""

    def __init__(
        self,
        partitions: int = DEFAULT_PARTITIONS,
        now_us: Callable[[], int] = lambda: 0,
        deliver: Deliver = _at_once,
    ) -> None:
        """`now_us` is the clock of times to live, in UTC microseconds."""
        self.partitions = partitions
        self.forget: Callable[[], None] = forget_nothing
        self._now_us = now_us
        self._deliver = deliver
        self._data = [_Partition() for _ in range(partitions)]

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        """See `Store.read`."""
        check_read(self.partitions, partition, keys)
        outcome: Mapping[bytes, bytes | None] = {key: self._get(partition, key) for key in keys}
        self._deliver(lambda: done(outcome))

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        """See `Store.commit`."""
        check_commit(self.partitions, partition, transactions)
        outcome = [self._apply(partition, transaction) for transaction in transactions]
        self._deliver(lambda: done(outcome))

    def scan(
        self,
        partition: int,
        index: bytes,
        after: bytes,
        limit: int,
        done: Callable[[Sequence[bytes] | StoreFailure], None],
    ) -> None:
        """See `Store.scan`."""
        check_page(self.partitions, partition, limit)
        members = sorted(self._data[partition].indexes.get(index, ()))
        start = bisect.bisect_right(members, after)
        page = members[start : start + limit]
        self._deliver(lambda: done(page))

    def due(
        self, partition: int, now_us: int, limit: int, done: Callable[[Sequence[DueItem] | StoreFailure], None]
    ) -> None:
        """See `Store.due`."""
        check_page(self.partitions, partition, limit)
        ripe = [(at_us, member) for member, at_us in self._data[partition].due.items() if at_us <= now_us]
        page = [DueItem(member, at_us) for at_us, member in sorted(ripe)[:limit]]
        self._deliver(lambda: done(page))

    def outbox(
        self, partition: int, after: int, limit: int, done: Callable[[Sequence[OutboxItem] | StoreFailure], None]
    ) -> None:
        """See `Store.outbox`."""
        check_page(self.partitions, partition, limit)
        items = self._data[partition].outbox
        start = bisect.bisect_right(items, after, key=lambda item: item.sequence)
        page = items[start : start + limit]
        self._deliver(lambda: done(page))

    def trim(self, partition: int, upto: int, done: Callable[[StoreFailure | None], None]) -> None:
        """See `Store.trim`."""
        check_partition(self.partitions, partition)
        data = self._data[partition]
        data.outbox = [item for item in data.outbox if item.sequence > upto]
        self._deliver(lambda: done(None))

    def outbox_length(self, done: Callable[[int | StoreFailure], None]) -> None:
        """See `Store.outbox_length`."""
        length = sum(len(data.outbox) for data in self._data)
        self._deliver(lambda: done(length))

    def _get(self, partition: int, key: bytes) -> bytes | None:
        documents = self._data[partition].documents
        found = documents.get(key)
        if found is None:
            return None
        if found[1] and found[1] <= self._now_us():
            del documents[key]
            return None
        return found[0]

    def _apply(self, partition: int, transaction: Transaction) -> Committed | Conflict | Leased:
        if transaction.lease is not None:
            wait_ms = self._data[partition].leases.ask(transaction.lease, self._now_us())
            if wait_ms:
                return Leased(wait_ms)
        present = {write.key: self._get(partition, write.key) for write in transaction.writes}
        for write in transaction.writes:
            document = present[write.key]
            if (None if document is None else version_of(document)) != write.expected:
                return Conflict(present)
        data = self._data[partition]
        for write in transaction.writes:
            if write.data is None:
                data.documents.pop(write.key, None)
            else:
                ends_us = self._now_us() + write.ttl_s * 1_000_000 if write.ttl_s else 0
                data.documents[write.key] = (write.data, ends_us)
        for event in transaction.events:
            data.sequence += 1
            data.outbox.append(OutboxItem(data.sequence, event))
        self._note(data, transaction)
        return Committed()

    def _note(self, data: _Partition, transaction: Transaction) -> None:
        for item in transaction.due:
            if item.at_us is None:
                data.due.pop(item.member, None)
            else:
                data.due[item.member] = item.at_us
        for change in transaction.indexes:
            members = data.indexes.setdefault(change.name, set())
            if change.present:
                members.add(change.member)
            else:
                members.discard(change.member)
