"""The store's contract: versioned documents, and compare-and-set transactions inside one partition.

A store knows nothing about charging. It keeps documents (bytes behind the fixed header of `balance.documents`),
compares the whole version of each document that a transaction writes, and appends the transaction's events, due items
and index changes if and only if the comparison holds. Methods complete through `done(outcome)`, called once on the loop
of the caller (or by the simulator); no method blocks and none is a coroutine, so the same contract serves a thread, a
socket and a virtual clock.

What opening a store raises; once open, nothing is raised but `ValueError` for a broken contract:

    StoreError
    ├── StoreFormatError    made by a newer release, with another partition count, or no store at all
    ├── StoreUnusable       cannot be opened, or does not give the level that was asked for
    └── (each engine's own, e.g. `sqlite_store.StoreLocked`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from balance.documents import HEADER, VERSION_OCTETS, partition_tag

MAX_TRANSACTIONS_PER_COMMIT = 64
"""Transactions that may share one `commit` call."""

MAX_PAGE = 1000
"""Largest `limit` of `scan`, `due` and `outbox`."""

MAX_TTL_S = 3_155_760_000
"""Longest time to live: a hundred years."""

MAX_LEASE_MS = 10_000
"""Longest lease on a root; a holder that dies keeps others waiting no longer."""

MAX_LEASE_NAME_OCTETS = 255
"""Longest root and longest holder of a lease."""


class StoreError(Exception):
    """Root of what opening a store raises."""


class StoreFormatError(StoreError):
    """What is there was made by a newer release, with another partition count, or is no store at all."""


class StoreUnusable(StoreError):
    """The engine cannot be opened, or does not give the level that was asked for; the text says what to do."""


class Write(NamedTuple):
    """One document of a transaction; a transaction names each key at most once."""

    key: bytes
    """Begins with the tag of its partition (`documents.partition_tag`)."""
    expected: bytes | None
    """The 16 octets of the version that was read; `None`: the document must be absent (create-if-absent)."""
    data: bytes | None
    """The new document with its header, whose version differs from `expected`; `None`: delete."""
    ttl_s: int = 0
    """Seconds after which the document counts as absent and may be forgotten; 0: never, whatever it was before.

    Forbidden for what holds a reservation.
    """


class DueChange(NamedTuple):
    """Set, move or remove the one due time of a member. The due set of a partition maps member -> time."""

    member: bytes
    at_us: int | None
    """UTC microseconds; `None`: remove the member."""


class IndexChange(NamedTuple):
    """Add a member to, or remove it from, a named index of the partition. Both are idempotent."""

    name: bytes
    member: bytes
    present: bool


class Lease(NamedTuple):
    """Fairness between writers of one root (LEDGER §6); correctness stays with the versions."""

    root: bytes
    """What is contended, e.g. the key of the root account; any name of the partition."""
    holder: bytes
    """Who commits: one name for each process."""
    take_ms: int = 0
    """Milliseconds from now for which others are refused, also when this transaction itself conflicts; 0: respect a
    lease, take none."""


class Transaction(NamedTuple):
    """All or nothing, within one partition. Without writes it always wins, unless its lease refuses it."""

    writes: tuple[Write, ...]
    events: tuple[bytes, ...] = ()
    """Appended to the partition's outbox in this order."""
    due: tuple[DueChange, ...] = ()
    indexes: tuple[IndexChange, ...] = ()
    lease: Lease | None = None
    """`None`: leases of others are not looked at."""


class Committed(NamedTuple):
    """The transaction is durable at the store's level."""


class Conflict(NamedTuple):
    """Nothing of the transaction was applied; the documents of all its writes as they are now."""

    documents: Mapping[bytes, bytes | None]


class Leased(NamedTuple):
    """Nothing was applied or compared: another holder's lease stands on the root. Wait, then commit the same again."""

    wait_ms: int
    """Milliseconds until the lease ends, at least 1."""


class StoreFailure(NamedTuple):
    """The engine under the store did not answer, or answered with an error."""

    detail: str
    unknown: bool
    """True when a commit may have been applied; its outcome must be read back, never guessed (LEDGER §1, §4)."""


ReadOutcome = Mapping[bytes, bytes | None] | StoreFailure
CommitOutcome = Sequence[Committed | Conflict | Leased] | StoreFailure


class DueItem(NamedTuple):
    """A member whose time has come."""

    member: bytes
    at_us: int


class OutboxItem(NamedTuple):
    """One event with its sequence number, which grows without end inside a partition."""

    sequence: int
    event: bytes


def check_partition(partitions: int, partition: int) -> None:
    """Refuse a partition that the store does not have; `ValueError` is our own bug, so it is raised, not delivered."""
    if not 0 <= partition < partitions:
        raise ValueError(f"partition {partition}, expected 0 to {partitions - 1}")


def check_page(partitions: int, partition: int, limit: int) -> None:
    """Refuse a page that would stall the store; `ValueError` as above."""
    check_partition(partitions, partition)
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"page of {limit}, expected 1 to {MAX_PAGE}")


def check_read(partitions: int, partition: int, keys: Sequence[bytes]) -> None:
    """Refuse a read of more than `MAX_PAGE` keys, or of keys of another partition; `ValueError` as above."""
    check_partition(partitions, partition)
    if len(keys) > MAX_PAGE:
        raise ValueError(f"read of {len(keys)} keys, expected at most {MAX_PAGE}")
    tag = partition_tag(partition)
    for key in keys:
        if not key.startswith(tag):
            raise ValueError(f"key {key!r} is not of partition {partition}")


def check_commit(partitions: int, partition: int, transactions: Sequence[Transaction]) -> None:
    """Refuse a commit that breaks the contract before any of it is queued; `ValueError` as above."""
    check_partition(partitions, partition)
    check_transactions(partition_tag(partition), transactions)


def check_transactions(tag: bytes, transactions: Sequence[Transaction]) -> None:
    """Refuse as `check_commit` does; `tag` is what the keys of the partition begin with."""
    if not 1 <= len(transactions) <= MAX_TRANSACTIONS_PER_COMMIT:
        raise ValueError(f"{len(transactions)} transactions in one commit, expected 1 to {MAX_TRANSACTIONS_PER_COMMIT}")
    for transaction in transactions:
        writes = transaction.writes
        if len(writes) > 1 and len({write.key for write in writes}) < len(writes):
            raise ValueError("a transaction writes one key twice")
        for write in writes:
            _check_write(write, tag)
        if transaction.lease is not None:
            _check_lease(transaction.lease)


def _check_write(write: Write, tag: bytes) -> None:
    key, expected, data, ttl_s = write
    if not key.startswith(tag):
        raise ValueError(f"key {key!r} is not of the partition {tag!r}")
    if expected is not None and len(expected) != VERSION_OCTETS:
        raise ValueError(f"expected version of {len(expected)} octets for {key!r}, not {VERSION_OCTETS}")
    if not 0 <= ttl_s <= MAX_TTL_S:
        raise ValueError(f"time to live of {ttl_s} s for {key!r}, expected 0 to {MAX_TTL_S}")
    if data is None:
        return
    if len(data) < HEADER.size:
        raise ValueError(f"document of {len(data)} octets for {key!r}, expected at least {HEADER.size}")
    if data[:VERSION_OCTETS] == expected:
        # The next writer could not see that this write happened, and would undo it.
        raise ValueError(f"the write of {key!r} does not change the version")


def _check_lease(lease: Lease) -> None:
    root, holder, take_ms = lease
    if not 0 <= take_ms <= MAX_LEASE_MS:
        raise ValueError(f"lease of {take_ms} ms, expected 0 to {MAX_LEASE_MS}")
    for name in (root, holder):
        if not 1 <= len(name) <= MAX_LEASE_NAME_OCTETS:
            raise ValueError(f"name of {len(name)} octets in a lease, expected 1 to {MAX_LEASE_NAME_OCTETS}")


def forget_nothing() -> None:
    """What `Store.forget` is until its owner sets it."""


class Store(Protocol):
    """What every engine provides; `tests/support/store_kit.py` is the executable form of this contract.

    A call that breaks the contract (partition, keys, sizes: the `check_*` functions) raises `ValueError` at once, and
    `done` is not called. Every other call completes exactly once. Calls of one partition take effect in their order.
    """

    partitions: int
    """Fixed when the store is made (64 unless said otherwise)."""

    forget: Callable[[], None]
    """Set by the owner; called on the caller's loop when documents that were read before may be of a history that ended:
    the connection was lost, or another primary answers. Whoever caches documents drops them all."""

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        """Read at most `MAX_PAGE` documents of one partition; absent and expired ones come back as `None`."""

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        """Apply 1..64 transactions in order; each wins or loses alone, and only winners' events are appended.

        Later transactions see what earlier ones wrote. One outcome per transaction, in order, or one `StoreFailure` for
        the whole call: then either nothing was applied, or (`unknown`) all winners may have been.
        """

    def scan(
        self,
        partition: int,
        index: bytes,
        after: bytes,
        limit: int,
        done: Callable[[Sequence[bytes] | StoreFailure], None],
    ) -> None:
        """Members of an index greater than `after`, in octet order, at most `limit`."""

    def due(
        self, partition: int, now_us: int, limit: int, done: Callable[[Sequence[DueItem] | StoreFailure], None]
    ) -> None:
        """Members due at or before `now_us`, earliest first, at most `limit`. Nothing is removed."""

    def outbox(
        self, partition: int, after: int, limit: int, done: Callable[[Sequence[OutboxItem] | StoreFailure], None]
    ) -> None:
        """Events with a sequence greater than `after` (0: from the start), in order, at most `limit`."""

    def trim(self, partition: int, upto: int, done: Callable[[StoreFailure | None], None]) -> None:
        """Forget events with a sequence up to and including `upto`."""

    def outbox_length(self, done: Callable[[int | StoreFailure], None]) -> None:
        """How many events wait in the outboxes of all partitions; cheap enough to be asked every second."""
