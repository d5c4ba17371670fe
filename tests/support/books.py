"""An auditor of the books: what must be true of the documents and of the outbox after every commit.

It recomputes each balance from the entries and each reservation from the sessions, and believes no total that a
document states. The store under it refuses a commit that breaks a rule of the documents themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator

from balance.account import MAIN_BUCKET, Account, Bucket, BucketKind
from balance.documents import header_of
from balance.ledger import Cause, Entry, Event, Verb, decode_event
from balance.memory_store import MemoryStore
from balance.store import Committed, Conflict, Leased, Transaction
from ocs.charging.session import SESSION_SCHEMA, Session
from ocs.charging.session_jobs import SESSIONS_INDEX, account_sessions_index, peer_sessions_index
from ocs.charging.workspace import SCHEMAS, decode_document

CREDITING = {Verb.TOP_UP, Verb.REFUND, Verb.ADJUST}


class Books(ABC):
    """All that a store holds, for one who audits it."""

    @abstractmethod
    def documents(self, kind: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """(partition, key, document) of every live document whose key is of a kind (`a`, `s`, ...)."""

    @abstractmethod
    def raw_events(self) -> Iterator[bytes]:
        """Every event in the outbox, those of a partition in order."""

    @abstractmethod
    def members(self, index: bytes) -> set[str]:
        """Members of an index, over all partitions."""

    def accounts(self) -> dict[str, Account]:
        """Every account by id."""
        found = (decode_document(data, Account, SCHEMAS[Account]) for _, _, data in self.documents(b"a"))
        return {account.id: account for account in found}

    def sessions(self) -> list[Session]:
        """Every session, tombstones too."""
        return [decode_document(data, Session, SESSION_SCHEMA) for _, _, data in self.documents(b"s")]

    def events(self, account: str | None = None) -> list[Event]:
        """Every event in the outbox, of one account if asked, in order."""
        found = (decode_event(octets) for octets in self.raw_events())
        return [event for event in found if account is None or event.account == account]


class AuditedStore(MemoryStore, Books):
    """A memory store that checks every write: versions without gaps, no time to live on what holds a reservation."""

    def _apply(self, partition: int, transaction: Transaction) -> Committed | Conflict | Leased:
        before = {write.key: self._get(partition, write.key) for write in transaction.writes}
        verdict = super()._apply(partition, transaction)
        if not isinstance(verdict, Committed):
            return verdict
        for write in transaction.writes:
            if write.data is None:
                continue
            old, header = before[write.key], header_of(write.data)
            assert header.counter == (1 if old is None else header_of(old).counter + 1), "a version is missing"
            if header.schema == SESSION_SCHEMA:
                session = decode_document(write.data, Session, SESSION_SCHEMA)
                assert bool(write.ttl_s) == bool(session.closed), "time to live belongs to tombstones, and only to them"
                assert not (session.closed and session.held()), "a tombstone holds a reservation"
            if header.schema == SCHEMAS[Account]:
                assert write.ttl_s == 0, "an account has a time to live"
        return verdict

    def documents(self, kind: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        for partition in range(self.partitions):
            for key in list(self._data[partition].documents):
                data = self._get(partition, key)
                if data is not None and key.split(b":", 2)[1] == kind:
                    yield partition, key, data

    def raw_events(self) -> Iterator[bytes]:
        return (item.event for data in self._data for item in data.outbox)

    def members(self, index: bytes) -> set[str]:
        return {one.decode() for data in self._data for one in data.indexes.get(index, ())}

    def state(self) -> tuple[object, ...]:
        """Everything that is stored, for a test that nothing changed; a locator may be written anew at any time."""
        return tuple(
            (
                tuple(sorted(one for one in data.documents.items() if one[0].split(b":", 2)[1] != b"l")),
                tuple(sorted(data.due.items())),
                tuple(sorted((name, tuple(sorted(members))) for name, members in data.indexes.items() if members)),
                len(data.outbox),
            )
            for data in self._data
        )


def audit(store: Books) -> None:
    """Check every account, session and index against each other and against the events."""
    sessions = store.sessions()
    by_account: dict[str, list[Event]] = {}
    for event in store.events():
        by_account.setdefault(event.account, []).append(event)
    for account in store.accounts().values():
        events = by_account.get(account.id, [])
        _check_documents(account)
        _check_holds(account, [one for one in sessions if one.account == account.id])
        _check_replay(account, events)
        _check_totals(account, events)
        _check_versions(events)
    _check_indexes(store, sessions)


def _check_documents(account: Account) -> None:
    """credited = debited + expired + reserved + available, per kind, from the account alone (LEDGER §7.7)."""
    for kind in BucketKind:
        buckets = [one for one in account.buckets if one.kind == kind]
        retired = [one for one in account.retired if one.kind == kind]
        credited = sum(one.credited for one in buckets) + sum(one.credited for one in retired)
        gone = sum(one.debited + one.expired for one in buckets) + sum(one.debited + one.expired for one in retired)
        reserved = sum(one.reserved for one in buckets)
        available = sum(one.posted - one.reserved for one in buckets)
        assert credited == gone + reserved + available, (account.id, kind)
    for bucket in account.buckets:
        assert bucket.reserved >= 0
        if bucket.kind != BucketKind.MONEY or bucket.id != MAIN_BUCKET:
            assert bucket.posted >= bucket.reserved, bucket


def _check_holds(account: Account, sessions: list[Session]) -> None:
    """What sessions hold is what buckets count as reserved."""
    held: Counter[int] = Counter()
    for session in sessions:
        held.update(session.held())
    for bucket in account.buckets:
        assert held.pop(bucket.id, 0) == bucket.reserved, bucket
    assert not held, f"holds on buckets that are gone: {held}"
    assert account.open_sessions == sum(not one.closed for one in sessions)


def _check_replay(account: Account, events: list[Event]) -> None:
    """Entries chain without a gap and end at exactly what the account says."""
    state: dict[int, tuple[int, int]] = {}
    for event in events:
        for entry in event.entries:
            posted, reserved = state.get(entry.bucket, (0, 0))
            after = (posted + entry.posted_change, reserved + entry.reserved_change)
            assert after == (entry.posted_after, entry.reserved_after), (event.request, entry)
            state[entry.bucket] = after
    for bucket in account.buckets:
        assert state.pop(bucket.id, (0, 0)) == (bucket.posted, bucket.reserved), bucket
    assert all(rest == (0, 0) for rest in state.values()), "a bucket went away with something in it"


def _check_totals(account: Account, events: list[Event]) -> None:
    """credited + refunded ± adjusted = debited + expired + what is there, from the events alone."""
    for kind in BucketKind:
        entries = [entry for event in events for entry in event.entries if entry.kind == kind]
        credited = sum(one.posted_change for one in entries if one.verb in CREDITING)
        debited = -sum(one.posted_change for one in entries if one.verb is Verb.DEBIT)
        expired = -sum(one.posted_change for one in entries if one.verb is Verb.EXPIRE)
        posted = sum(one.posted for one in account.buckets if one.kind == kind)
        assert credited == debited + expired + posted, (account.id, kind)
        quiet = [one for one in entries if one.verb in (Verb.RESERVE, Verb.RELEASE, Verb.UNCOLLECTED)]
        assert all(one.posted_change == 0 for one in quiet)


def _check_versions(events: list[Event]) -> None:
    """(version, n) grows; within a version n counts from 0."""
    last = (0, -1)
    for event in events:
        if event.version == last[0]:
            assert event.n == last[1] + 1
        else:
            assert event.version > last[0] and event.n == 0
        last = (event.version, event.n)


def _check_indexes(store: Books, sessions: list[Session]) -> None:
    """Indexes list exactly the open sessions."""
    opened = [one for one in sessions if not one.closed]
    assert store.members(SESSIONS_INDEX) == {one.id for one in opened}
    for account in store.accounts():
        assert store.members(account_sessions_index(account)) == {one.id for one in opened if one.account == account}
    for peer in {one.origin_host for one in sessions}:
        assert store.members(peer_sessions_index(peer)) == {one.id for one in opened if one.origin_host == peer}


class Replay:
    """Walks the entries of one account and checks each stroke against the rules of spending."""

    def __init__(self, account: str, limit_micros: int) -> None:
        self.account = account
        self.limit_micros = limit_micros
        self.posted: Counter[int] = Counter()
        self.reserved: Counter[int] = Counter()
        self.kinds: dict[int, int] = {}

    def available_micros(self) -> int:
        """A: posted minus reserved money."""
        money = [bucket for bucket, kind in self.kinds.items() if kind == BucketKind.MONEY]
        return sum(self.posted[one] - self.reserved[one] for one in money)

    def take(self, entry: Entry) -> None:
        """Apply one entry; no reservation and no event may leave A below minus the limit."""
        self.kinds[entry.bucket] = entry.kind
        self.posted[entry.bucket] += entry.posted_change
        self.reserved[entry.bucket] += entry.reserved_change
        if entry.kind != BucketKind.MONEY:
            assert self.posted[entry.bucket] >= self.reserved[entry.bucket] >= 0, entry
            return
        event = entry.verb is Verb.DEBIT and entry.cause is Cause.EVENT
        if entry.verb is Verb.RESERVE or event:
            assert self.available_micros() + self.limit_micros >= 0, entry
        if entry.verb is Verb.DEBIT and entry.cause is Cause.USAGE:
            assert entry.posted_change == entry.reserved_change, "usage within a grant comes out of its reservation"

    def free(self, bucket: Bucket) -> int:
        """What is neither spent nor reserved of a bucket at this point."""
        return self.posted[bucket.id] - self.reserved[bucket.id]
