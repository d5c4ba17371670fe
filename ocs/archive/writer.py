"""The writing side of an archive: durable batches, each event once, segments closed by size and day, old ones deleted.

Everything here blocks; it runs in a thread of its own, one call at a time. Two processes that write at once (the lease
of one ended while it was suspended) do no harm: what is new is decided inside the transaction that appends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ocs.archive.exports import exported_position
from ocs.archive.folder import Identity, make_identity, read_identity
from ocs.archive.segments import (
    ArchiveForeign,
    ArchiveUnusable,
    NewEvent,
    Segment,
    SegmentClosed,
    SegmentFacts,
    segment_numbers,
    segment_path,
    sync_folder,
    told,
)
from ocs.archive.settings import ArchiveSettings

DAY_US = 86_400_000_000
ATTEMPTS = 5
"""How often a batch is tried again because another process closed the segment."""


class Appended(NamedTuple):
    """What became of a batch; all of it is durable."""

    position: int
    """Last position of the archive."""
    added: int
    """Events that were new."""
    diverged: int
    """Those of them whose sequence number another event had: the store lost commits that were archived."""


class ArchiveWriter:
    """Appends to the newest segment of a folder."""

    def __init__(self, folder: Path, settings: ArchiveSettings) -> None:
        self.folder = folder
        self._settings = settings
        self._identity: Identity | None = None
        self._segment: Segment | None = None
        self._facts: SegmentFacts | None = None

    def identity(self) -> Identity | None:
        """Whose archive the folder is; `None`: nobody's yet."""
        self._identity = read_identity(self.folder)
        return self._identity

    def adopt(self, store: str) -> Identity:
        """Make the folder the archive of a store, unless it is somebody's already."""
        self._identity = make_identity(self.folder, store)
        return self._identity

    def append(self, events: Sequence[NewEvent], now_us: int) -> Appended:
        """Make a batch durable. Events that the archive has already, bit by bit, are passed over."""
        choice = _Choice(self, events)
        for _ in range(ATTEMPTS):
            segment = self._open(now_us)
            try:
                position = segment.append(choice)
            except SegmentClosed:
                self.close()
                continue
            except ArchiveUnusable:
                # Perhaps the file was replaced or the disk came back: the next attempt opens it anew.
                self.close()
                raise
            return Appended(position, choice.added, choice.diverged)
        raise ArchiveUnusable(f"{self.folder}: other processes keep closing the segment")

    def close(self) -> None:
        """Close the open segment file; it is opened again when needed."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    def known(self, partition: int, first: int, last: int) -> set[tuple[int, bytes]]:
        """What closed segments have of a span of sequences."""
        found: set[tuple[int, bytes]] = set()
        newest = self._segment
        for number in reversed(segment_numbers(self.folder)):
            path = segment_path(self.folder, number)
            if newest is not None and path == newest.path:
                found.update(newest.known(partition, first, last))
                continue
            segment = Segment(path)
            try:
                found.update(segment.known(partition, first, last))
            finally:
                segment.close()
            if len({sequence for sequence, _ in found}) == last - first + 1:
                break
        return found

    def retire(self, now_us: int) -> int:
        """Delete the oldest segments that nobody needs any more; how many. The newest one always stays."""
        days = self._settings.ledger_retention_days
        if not days:
            return 0
        exported = None if self._settings.delete_unexported else exported_position(self.folder)
        deleted = 0
        for number in segment_numbers(self.folder)[:-1]:
            path = segment_path(self.folder, number)
            facts = _facts_of(path)
            young = facts.newest_us >= now_us - days * DAY_US
            if not facts.closed or young or (exported is not None and exported < facts.last_position):
                break
            _delete(path)
            deleted += 1
        if deleted:
            with told(self.folder):
                sync_folder(self.folder)
        return deleted

    # Segments

    def _open(self, now_us: int) -> Segment:
        """The segment to append to, a new one if the present one is full or of another day."""
        if self._segment is None:
            self._segment = self._newest(now_us)
        segment = self._segment
        facts = segment.facts()
        empty = facts.last_position < facts.first_position
        full = segment.octets() >= self._settings.segment_octets
        if facts.closed or (not empty and (full or facts.day != now_us // DAY_US)):
            segment.finish()
            self._segment = self._next(segment, now_us)
        return self._segment

    def _newest(self, now_us: int) -> Segment:
        numbers = segment_numbers(self.folder)
        for number in numbers[:-1]:
            self._settle(number)
        if not numbers:
            return self._make(1, 1, {}, now_us)
        segment = Segment(segment_path(self.folder, numbers[-1]), write=True)
        try:
            if segment.made:
                self._check(segment)
                return segment
            # A crash came between the file and its tables.
            if len(numbers) == 1:
                segment.make(numbers[-1], self._archive, 1, now_us // DAY_US, {})
                return segment
        except BaseException:
            segment.close()
            raise
        segment.close()
        previous = Segment(segment_path(self.folder, numbers[-2]), write=True)
        return self._next(previous, now_us)

    def _next(self, segment: Segment, now_us: int) -> Segment:
        """The segment after a closed one, which is given up."""
        try:
            facts = segment.facts()
            fresh = self._make(facts.number + 1, facts.last_position + 1, segment.sequences(), now_us)
        finally:
            segment.settle()
            segment.close()
        return fresh

    def _make(self, number: int, first_position: int, sequences: dict[int, int], now_us: int) -> Segment:
        segment = Segment(segment_path(self.folder, number), write=True)
        try:
            segment.make(number, self._archive, first_position, now_us // DAY_US, sequences)
            with told(self.folder):
                # Before anything in it counts as durable its name must be.
                sync_folder(self.folder)
            self._check(segment)
        except BaseException:
            segment.close()
            raise
        return segment

    def _settle(self, number: int) -> None:
        path = segment_path(self.folder, number)
        if path.with_name(path.name + "-wal").exists():
            segment = Segment(path, write=True)
            try:
                if segment.facts().closed:
                    segment.settle()
            finally:
                segment.close()

    def _check(self, segment: Segment) -> None:
        if segment.facts().archive != self._archive:
            raise ArchiveForeign(f"{segment.path} belongs to another archive than {self.folder}")

    @property
    def _archive(self) -> str:
        if self._identity is None:
            raise ArchiveForeign(f"{self.folder} is nobody's archive yet")
        return self._identity.archive


class _Choice:
    """Which events of a batch are new, given what is archived."""

    def __init__(self, writer: ArchiveWriter, events: Sequence[NewEvent]) -> None:
        self._writer = writer
        self._events = events
        self.added = 0
        self.diverged = 0

    def __call__(self, sequences: dict[int, int]) -> Sequence[NewEvent]:
        suspects: defaultdict[int, list[int]] = defaultdict(list)
        for one in self._events:
            if one.sequence <= sequences.get(one.partition, 0):
                suspects[one.partition].append(one.sequence)
        known = {partition: self._writer.known(partition, min(seen), max(seen)) for partition, seen in suspects.items()}
        fresh = [one for one in self._events if (one.sequence, one.event) not in known.get(one.partition, ())]
        self.added = len(fresh)
        # Normally a sequence number only grows; an event that is new under an old one is of another history.
        self.diverged = sum(one.sequence <= sequences.get(one.partition, 0) for one in fresh)
        return fresh


def _facts_of(path: Path) -> SegmentFacts:
    segment = Segment(path)
    try:
        return segment.facts()
    finally:
        segment.close()


def _delete(path: Path) -> None:
    with told(path):
        path.unlink(missing_ok=True)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
