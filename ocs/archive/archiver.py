"""Moves events from the outboxes of all partitions into the archive: the first exporter (LEDGER §9).

One turn takes at most `BATCH` events, makes them durable in the archive, and only then has the store forget them. It
always begins at the head of an outbox: whatever stands there is not known to be archived. A crash in between leaves
events in both places; the archive passes over what it has, bit by bit. A turn is a saga, so it runs under any loop and
any store; the files are written off the loop.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from balance.account import Account
from balance.documents import DocumentError, account_key
from balance.store import Conflict, OutboxItem, Store, Transaction, Write
from ocs.archive.events import EventHead, head_of
from ocs.archive.folder import Identity
from ocs.archive.segments import ArchiveForeign, NewEvent
from ocs.archive.settings import ArchiveSettings
from ocs.archive.writer import DAY_US, Appended, ArchiveWriter
from ocs.charging.engine import Engine
from ocs.charging.leases import Leasehold
from ocs.charging.saga import Calls, Commit, Offload, Read, Saga
from ocs.charging.workspace import SCHEMAS, decode_document, encode_document

BATCH = 1000
"""Events that are archived and trimmed together; more would hold charging up for milliseconds."""

PARTITIONS_AT_ONCE = 8
PAGE = 125
"""Events of one partition in a batch, so that eight busy partitions fill it."""

LEAST_ROOM = 250
"""A batch with less room than this is full."""

ACCOUNTS_KNOWN = 200_000
"""Accounts whose currency is remembered."""

ARCHIVE_SCHEMA = 24
META_PARTITION = 0
ARCHIVE_KEY = b"{p000}:m:archive"


class ArchiveDocument(msgspec.Struct, array_like=True, frozen=True):
    """Which archive holds the events of this store."""

    archive: str
    place: str
    """Host and folder, for people."""
    since_s: int


def store_mark(secret: bytes) -> str:
    """What an archive knows its store by, without telling the secret."""
    return hashlib.blake2b(b"archive of " + secret, digest_size=8).hexdigest()


class Archiver:
    """The archiver of one process; of all processes on a store the one with the lease works."""

    def __init__(
        self,
        engine: Engine,
        writer: ArchiveWriter,
        settings: ArchiveSettings,
        utc_us: Callable[[], int],
        place: str,
        lease: Leasehold | None = None,
        lease_us: Callable[[], int] = lambda: 0,
    ) -> None:
        """`utc_us` is the charging clock, of days and ages; `place` names host and folder for people.

        `lease`: `None` where the store admits one process only; `lease_us` is its clock, real UTC microseconds.
        """
        self._engine = engine
        self._writer = writer
        self._settings = settings
        self._now_us = utc_us
        self._place = place
        self._lease = lease
        self._lease_us = lease_us
        self._bound = False
        self._next_partition = 0
        self._currencies: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._retired_day = 0
        self.waiting = 0
        """Events in the outboxes when they were last counted."""
        self.archived = 0
        """Events that this process archived."""
        self.diverged = 0
        """Events that came under the sequence number of another: the store lost commits that were archived before."""
        self.damaged = 0
        """Events that cannot be decoded; they are archived as they are."""
        self.retired = 0
        """Segments that this process deleted."""
        self.working = False
        """Whether this process held the lease in its last turn."""

    @property
    def fill_percent(self) -> int:
        """How full the outbox is, of its limit."""
        return self.waiting * 100 // self._settings.outbox_limit

    def turn(self) -> Saga[bool]:
        """Move one batch; whether there may be more to move at once. Counts the outbox and sets the admission."""
        yield from self.measure()
        if not (yield from self._may_work()):
            return False
        yield from self._bind()
        yield from self._retire()
        forgotten = self._engine.conductor.forgotten
        events, trims = yield from self._collect()
        if not events:
            return False
        if self._lease is not None and not self._lease.held(self._lease_us()):
            # Suspended for long: another may be at work. Nothing was changed yet.
            return True
        writer, now_us = self._writer, self._now_us()
        appended: Appended = yield Offload(lambda: writer.append(events, now_us))
        self.archived += appended.added
        self.diverged += appended.diverged
        if self._engine.conductor.forgotten != forgotten:
            # A store that came back without its last commits has given their numbers to events not archived yet.
            return True
        yield Calls(tuple(_trim(partition, upto) for partition, upto in trims))
        return self.waiting > len(events)

    def measure(self) -> Saga[None]:
        """Count what waits in the outbox, and admit or refuse new sessions by it."""
        (waiting,) = yield Calls((lambda store, done: store.outbox_length(done),))
        self.waiting = waiting
        self._engine.admitting = self.fill_percent < 90

    def release(self) -> Saga[None]:
        """Give the lease back at the end."""
        self.working = False
        if self._lease is not None:
            yield from self._lease.release(self._engine.nonce)

    def _may_work(self) -> Saga[bool]:
        lease = self._lease
        if lease is None:
            self.working = True
        else:
            now_us = self._lease_us()
            # Renewed at half of its length: a turn that takes long must not end without it.
            if not lease.held(now_us + lease.length_us // 2):
                yield from lease.acquire(now_us, self._engine.nonce)
            self.working = lease.held(now_us)
        return self.working

    # Whose archive it is

    def _bind(self) -> Saga[None]:
        """See that this folder is the archive of this store, and the only one; `ArchiveForeign` if it is not."""
        if self._bound:
            return
        writer, mark = self._writer, store_mark(self._engine.secret)
        identity: Identity | None = yield Offload(writer.identity)
        documents = yield Read(((META_PARTITION, ARCHIVE_KEY),))
        data = documents[ARCHIVE_KEY]
        if identity is None and data is None:
            identity = yield Offload(lambda: writer.adopt(mark))
        if identity is not None and identity.store != mark:
            raise ArchiveForeign(f"{writer.folder} holds the archive of another store; name another folder")
        if data is None:
            assert identity is not None
            data = yield from self._claim(identity)
        known = decode_document(data, ArchiveDocument, ARCHIVE_SCHEMA)
        if identity is None or known.archive != identity.archive:
            message = f"the archive {known.archive} of this store is at {known.place}, not in {writer.folder}"
            raise ArchiveForeign(f"{message}; put it there, or let the process at that place archive")
        self._bound = True

    def _claim(self, identity: Identity) -> Saga[bytes]:
        record = ArchiveDocument(identity.archive, self._place, self._engine.now_s())
        data = encode_document(None, self._engine.nonce(), ARCHIVE_SCHEMA, record)
        verdict = yield Commit(META_PARTITION, Transaction((Write(ARCHIVE_KEY, None, data),)))
        if isinstance(verdict, Conflict):
            present = verdict.documents[ARCHIVE_KEY]
            if present is not None:
                return present
        return data

    def _retire(self) -> Saga[None]:
        """Look for segments to delete once a day, and when this process begins."""
        now_us = self._now_us()
        if now_us // DAY_US != self._retired_day:
            writer = self._writer
            deleted: int = yield Offload(lambda: writer.retire(now_us))
            self.retired += deleted
            self._retired_day = now_us // DAY_US

    # What is moved

    def _collect(self) -> Saga[tuple[list[NewEvent], list[tuple[int, int]]]]:
        """Events from the heads of the outboxes, and up to where each partition may be trimmed afterwards."""
        if self.waiting == 0:
            return [], []
        partitions = self._engine.store.partitions
        first = self._next_partition
        taken: list[tuple[int, OutboxItem, EventHead | None]] = []
        uptos: dict[int, int] = {}
        open_partitions = deque((first + place) % partitions for place in range(partitions))
        while open_partitions and len(taken) <= BATCH - LEAST_ROOM:
            asked = [open_partitions.popleft() for _ in range(min(PARTITIONS_AT_ONCE, len(open_partitions)))]
            limit = min(PAGE, (BATCH - len(taken)) // PARTITIONS_AT_ONCE)
            pages = yield Calls(tuple(_outbox(partition, uptos.get(partition, 0), limit) for partition in asked))
            self._next_partition = (asked[-1] + 1) % partitions
            # The fuller ones again at once, or one busy partition would cost a look at all others for each of its pages.
            for partition, page in reversed(list(zip(asked, pages, strict=True))):
                if len(page) == limit:
                    open_partitions.appendleft(partition)
            for partition, page in zip(asked, pages, strict=True):
                if page:
                    taken += [(partition, item, head_of(item.event)) for item in page]
                    uptos[partition] = page[-1].sequence
        trims = list(uptos.items())
        yield from self._learn_currencies(taken)
        return [self._new_event(*one) for one in taken], trims

    def _new_event(self, partition: int, item: OutboxItem, head: EventHead | None) -> NewEvent:
        if head is None:
            self.damaged += 1
            return NewEvent(partition, item.sequence, "", "", 0, 0, 0, item.event)
        currency, exponent = self._currencies.get(head.account, (0, 0))
        return NewEvent(
            partition, item.sequence, head.account, head.session_id, head.at_us, currency, exponent, item.event
        )

    def _learn_currencies(self, taken: Sequence[tuple[int, OutboxItem, EventHead | None]]) -> Saga[None]:
        """An event does not say in which currency it is, for the sake of its size; its account's document does."""
        known = self._currencies
        wanted: dict[str, int] = {}
        for partition, _, head in taken:
            if head is None:
                continue
            if head.account in known:
                known.move_to_end(head.account)
            else:
                wanted[head.account] = partition
        if not wanted:
            return
        places = {name: (partition, account_key(partition, name)) for name, partition in wanted.items()}
        documents = yield Read(tuple(places.values()))
        for name, (_, key) in places.items():
            data = documents[key]
            if data is not None:
                try:
                    account = decode_document(data, Account, SCHEMAS[Account])
                except DocumentError:
                    # Its owner hears of it when it is charged; its events are archived all the same.
                    continue
                known[name] = (account.currency, account.exponent)
        while len(known) > ACCOUNTS_KNOWN:
            known.popitem(last=False)


def _outbox(partition: int, after: int, limit: int) -> Callable[[Store, Callable[[Any], None]], None]:
    return lambda store, done: store.outbox(partition, after, limit, done)


def _trim(partition: int, upto: int) -> Callable[[Store, Callable[[Any], None]], None]:
    return lambda store, done: store.trim(partition, upto, done)
