"""The reading side of an archive: by account, by session, by position. Blocks; any number of processes may read.

Segment files are opened for one call each, so that a closed one can be settled into a plain file, and an old one
deleted, at any time. What never changes of a closed segment is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ocs.archive.events import head_of
from ocs.archive.folder import Identity, read_identity
from ocs.archive.segments import (
    ArchivedEvent,
    ArchiveError,
    ArchiveForeign,
    ArchiveUnusable,
    Segment,
    SegmentFacts,
    segment_numbers,
    segment_path,
)
from ocs.charging.history import HistoryPage, PastEvent

Lookup = Callable[[Segment, int, int], list[ArchivedEvent]]
"""(segment, after, limit) -> candidates in order of position."""


class ArchiveFacts(NamedTuple):
    """What an operator wants to know of an archive."""

    archive: str
    segments: int
    events: int
    """Events that it holds; those of deleted segments are not counted."""
    first_position: int
    last_position: int
    octets: int


class ArchiveReader:
    """Reads a folder of segments, whatever another thread or process does to it meanwhile."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        """`store`: the mark of the store whose archive it must be; `None`: whosever it is."""
        self.folder = folder
        self._store = store
        self._identity: Identity | None = None
        self._closed: dict[int, SegmentFacts] = {}

    def identity(self) -> Identity | None:
        """Whose archive it is, `None` while there is none; `ArchiveForeign` if it is another store's."""
        if self._identity is None:
            found = read_identity(self.folder)
            if found is not None and self._store is not None and found.store != self._store:
                raise ArchiveForeign(f"{self.folder} holds the archive of another store")
            self._identity = found
        return self._identity

    # What queries ask (ocs.charging.history.History)

    def of_account(self, partition: int, account: str, after: int, limit: int) -> HistoryPage:
        """See `History.of_account`."""

        def lookup(segment: Segment, position: int, most: int) -> list[ArchivedEvent]:
            return segment.of_account(account, position, most)

        def wanted(one: ArchivedEvent) -> bool:
            head = head_of(one.event)
            return head is not None and head.account == account

        return self._page(lookup, wanted, partition, after, limit)

    def of_session(self, partition: int | None, session: str, after: int, limit: int) -> HistoryPage:
        """See `History.of_session`."""

        def lookup(segment: Segment, position: int, most: int) -> list[ArchivedEvent]:
            return segment.of_session(session, position, most)

        def wanted(one: ArchivedEvent) -> bool:
            head = head_of(one.event)
            return head is not None and head.session_id == session

        return self._page(lookup, wanted, partition, after, limit)

    def archived(self, partition: int) -> int:
        """See `History.archived`."""
        if self.identity() is None:
            return 0
        for number in reversed(segment_numbers(self.folder)):
            with self._open(number) as segment:
                if segment is not None:
                    return segment.sequences().get(partition, 0)
        return 0

    def _page(
        self, lookup: Lookup, wanted: Callable[[ArchivedEvent], bool], partition: int | None, after: int, limit: int
    ) -> HistoryPage:
        found: list[PastEvent] = []
        upto, archived = after, 0
        if self.identity() is None:
            return HistoryPage((), upto, 0, False)
        numbers = segment_numbers(self.folder)
        for number in numbers:
            # The newest that has tables is always looked at: what is archived is read in one moment with its events.
            if number not in numbers[-2:] and self._is_before(number, after):
                continue
            with self._open(number) as segment:
                if segment is None:
                    continue
                with segment.snapshot():
                    facts = self._facts(number, segment)
                    position = after
                    while True:
                        batch = lookup(segment, position, limit)
                        for one in batch:
                            if wanted(one):
                                found.append(PastEvent(one.position, one.partition, one.sequence, one.event))
                                if len(found) == limit:
                                    return HistoryPage(found, one.position, 0, True)
                        if len(batch) < limit:
                            break
                        position = batch[-1].position
                    upto = max(upto, facts.last_position)
                    archived = 0 if partition is None else segment.sequences().get(partition, 0)
        return HistoryPage(found, upto, archived, False)

    # What exports ask

    def after(self, position: int, limit: int) -> list[ArchivedEvent]:
        """Events after a position, at most `limit`, of one segment; none: the archive ends there.

        `ArchiveUnusable` if the next one is missing: its segment was deleted.
        """
        for number in segment_numbers(self.folder):
            if self._is_before(number, position):
                continue
            with self._open(number) as segment:
                if segment is None:
                    continue
                self._facts(number, segment)
                found = segment.after(position, limit)
            if found:
                if found[0].position != position + 1:
                    message = f"positions {position + 1} to {found[0].position - 1} are missing"
                    raise ArchiveUnusable(f"{self.folder}: {message}; their segments were deleted")
                return found
        return []

    def session_before(self, session: str, position: int) -> Iterator[ArchivedEvent]:
        """Events of a session up to and including a position, youngest first."""
        for number in reversed(segment_numbers(self.folder)):
            with self._open(number) as segment:
                if segment is None or self._facts(number, segment).first_position > position:
                    continue
                found: list[ArchivedEvent] = []
                after = 0
                while batch := segment.of_session(session, after, 1000):
                    found += [one for one in batch if one.position <= position]
                    after = batch[-1].position
            for one in reversed(found):
                head = head_of(one.event)
                if head is not None and head.session_id == session:
                    yield one

    def first_position(self) -> int:
        """Position of the oldest event that is still there; 1 if there is none."""
        for number in segment_numbers(self.folder):
            with self._open(number) as segment:
                if segment is not None:
                    return self._facts(number, segment).first_position
        return 1

    def facts(self) -> ArchiveFacts | None:
        """What there is; `None`: no archive yet."""
        identity = self.identity()
        if identity is None:
            return None
        count, octets, first, last = 0, 0, 0, 0
        for number in segment_numbers(self.folder):
            with self._open(number) as segment:
                if segment is None:
                    continue
                facts = self._facts(number, segment)
                count, octets = count + 1, octets + segment.octets()
                first, last = first or facts.first_position, facts.last_position
        return ArchiveFacts(identity.archive, count, last - first + 1 if count else 0, first, last, octets)

    @contextmanager
    def _open(self, number: int) -> Iterator[Segment | None]:
        """A segment, `None` if it was deleted meanwhile or is being made."""
        path = segment_path(self.folder, number)
        try:
            segment = Segment(path)
            made = segment.made
        except ArchiveError:
            if path.exists():
                raise
            yield None
            return
        try:
            yield segment if made else None
        finally:
            segment.close()

    def _facts(self, number: int, segment: Segment) -> SegmentFacts:
        facts = self._closed.get(number)
        if facts is None:
            facts = segment.facts()
            if facts.closed:
                self._closed[number] = facts
        return facts

    def _is_before(self, number: int, position: int) -> bool:
        """Whether a segment is known to hold nothing after a position."""
        facts = self._closed.get(number)
        return facts is not None and facts.last_position <= position
