"""An engine kit with an archive beside it, and an auditor over archive and outbox together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from balance.account import Account
from balance.documents import account_key
from balance.ledger import Event, decode_event
from balance.store import OutboxItem
from ocs.archive.archiver import Archiver, store_mark
from ocs.archive.reader import ArchiveReader
from ocs.archive.segments import ArchivedEvent
from ocs.archive.settings import ArchiveSettings
from ocs.archive.writer import ArchiveWriter
from ocs.charging.leases import Leasehold
from ocs.charging.workspace import SCHEMAS, decode_document
from tests.support.charging_kit import Kit

EventId = tuple[str, int, int]


class ArchiveKit:
    """Archiver, reader and writer of a kit."""

    def __init__(self, kit: Kit, folder: Path, lease: Leasehold | None = None, **settings: Any) -> None:
        self.kit = kit
        self.folder = folder
        self.settings = ArchiveSettings(**settings)
        self.writer = ArchiveWriter(folder, self.settings)
        self.archiver = Archiver(
            kit.engine, self.writer, self.settings, lambda: kit.now_us, "test", lease, lambda: kit.now_us
        )
        self.reader = ArchiveReader(folder, store_mark(kit.engine.secret))
        kit.engine.history = self.reader

    def turn(self) -> bool:
        """One turn of the archiver."""
        more: bool = self.kit.run(self.archiver.turn())
        return more

    def catch_up(self) -> None:
        """Turns until the outbox is empty."""
        for _ in range(1000):
            if not self.turn() and not self.outbox():
                return
        raise AssertionError("the archiver never catches up")

    def outbox(self) -> list[tuple[int, OutboxItem]]:
        """(partition, item) of everything in the outbox."""
        found: list[tuple[int, OutboxItem]] = []
        for partition in range(self.kit.store.partitions):
            after = 0
            while page := _outbox(self.kit, partition, after):
                found += [(partition, item) for item in page]
                after = page[-1].sequence
        return found

    def archived(self) -> list[ArchivedEvent]:
        """Everything in the archive, in order of position."""
        return list(archived(self.reader))

    def events(self) -> list[Event]:
        """Archive, then outbox, each (partition, sequence, octets) once."""
        seen = {(one.partition, one.sequence, one.event) for one in self.archived()}
        events = [one.event for one in self.archived()]
        events += [one.event for partition, one in self.outbox() if (partition, *one) not in seen]
        return [decode_event(event) for event in events]


def archived(reader: ArchiveReader) -> Iterator[ArchivedEvent]:
    """Everything in an archive."""
    after = 0
    while page := reader.after(after, 1000):
        yield from page
        after = page[-1].position


def _outbox(kit: Kit, partition: int, after: int) -> list[OutboxItem]:
    pages: list[Any] = []
    kit.store.outbox(partition, after, 1000, pages.append)
    return list(pages[0])


def ids(events: list[Event]) -> list[EventId]:
    """The ids of events (LEDGER §9)."""
    return [(event.account, event.version, event.n) for event in events]


def check_books(kit: Kit, partition: int, account: str, events: list[Event]) -> None:
    """The entries of an account's events chain without a gap and end at what its document says (LEDGER §7.7)."""
    mine = [event for event in events if event.account == account]
    assert len(set(ids(mine))) == len(mine), "an event is there twice"
    state: Counter[tuple[int, str]] = Counter()
    for event in mine:
        for entry in event.entries:
            state[entry.bucket, "posted"] += entry.posted_change
            state[entry.bucket, "reserved"] += entry.reserved_change
            after = (state[entry.bucket, "posted"], state[entry.bucket, "reserved"])
            assert after == (entry.posted_after, entry.reserved_after), event
    found: list[Any] = []
    key = account_key(partition, account)
    kit.store.read(partition, [key], found.append)
    document = decode_document(found[0][key], Account, SCHEMAS[Account])
    for bucket in document.buckets:
        assert (state[bucket.id, "posted"], state[bucket.id, "reserved"]) == (bucket.posted, bucket.reserved)


class Crash(BaseException):
    """The process is gone."""


def crashing(call: Callable[..., Any], before: bool) -> Callable[..., Any]:
    """A call that dies before it does its work, or right after."""

    def crash(*arguments: Any) -> Any:
        if before:
            raise Crash
        call(*arguments)
        raise Crash

    return crash


def described(event: Event) -> dict[str, Any]:
    """An event as plain values, for comparisons."""
    plain: dict[str, Any] = msgspec.structs.asdict(event)
    return plain
