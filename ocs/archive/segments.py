"""One segment of the archive: a SQLite file with events in the order in which they were archived.

An event's *position* counts from 1 over all segments, without gaps. A segment is appended to by one transaction for each
batch, durable (`synchronous=FULL`) when `append` returns; a closed one never changes again. Hashes of account and
Session-Id are indexed; who reads compares the names themselves.

    ArchiveError
    ├── ArchiveUnusable     a file cannot be read or written
    ├── ArchiveForeign      the folder is another store's, or of another release
    └── SegmentClosed       another process closed the segment meanwhile; open the archive anew
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ocs.charging.conductor import ChargingError

FORMAT = 1
BUSY_TIMEOUT_S = 5.0
CACHE_KIB = 8192

_NAME = re.compile(r"segment-([0-9]{8})\.sqlite")

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE partitions (partition INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE pages (
    partition INTEGER NOT NULL, last_sequence INTEGER NOT NULL, first_sequence INTEGER NOT NULL,
    first_position INTEGER NOT NULL, last_position INTEGER NOT NULL,
    PRIMARY KEY (partition, last_sequence, first_position)
) WITHOUT ROWID;
CREATE TABLE events (
    position INTEGER PRIMARY KEY, partition INTEGER NOT NULL, sequence INTEGER NOT NULL, account INTEGER NOT NULL,
    session INTEGER, currency INTEGER NOT NULL, exponent INTEGER NOT NULL, event BLOB NOT NULL
);
CREATE INDEX events_account ON events (account, position);
CREATE INDEX events_session ON events (session, position) WHERE session IS NOT NULL;
"""

_COLUMNS = "position, partition, sequence, currency, exponent, event"


class ArchiveError(ChargingError):
    """Root of what the archive raises."""


class ArchiveUnusable(ArchiveError):
    """A file of the archive cannot be read or written."""


class ArchiveForeign(ArchiveError):
    """The folder holds the archive of another store, or of another release."""


class SegmentClosed(ArchiveError):
    """Another process closed this segment."""


class NewEvent(NamedTuple):
    """One event on its way into the archive."""

    partition: int
    sequence: int
    account: str
    session: str
    """Session-Id; empty: none."""
    at_us: int
    currency: int
    exponent: int
    event: bytes
    """As it stood in the outbox."""


class ArchivedEvent(NamedTuple):
    """One event of the archive."""

    position: int
    partition: int
    sequence: int
    currency: int
    """ISO 4217 numeric of the account; 0: the account was gone when the event was archived."""
    exponent: int
    event: bytes


class SegmentFacts(NamedTuple):
    """What a segment says of itself."""

    number: int
    archive: str
    """Id of the archive."""
    first_position: int
    last_position: int
    """`first_position - 1` while it is empty."""
    newest_us: int
    """UTC microseconds of its youngest event; 0: none."""
    day: int
    """UTC day, counted from 1970, on which it was begun."""
    closed: bool


Chooser = Callable[[dict[int, int]], Sequence[NewEvent]]
"""Decides inside the transaction what is appended, given the last archived sequence of each partition."""


def hash_of(text: str) -> int:
    """What stands in the index for a name: 63 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def segment_path(folder: Path, number: int) -> Path:
    """Where a segment lies."""
    return folder / f"segment-{number:08d}.sqlite"


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of the segments of a folder, oldest first; none if there is no folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ArchiveUnusable(f"{folder}: {error.strerror}") from error
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into `ArchiveUnusable` with the path."""
    try:
        yield
    except sqlite3.Error as error:
        raise ArchiveUnusable(f"{path}: {error}") from error
    except OSError as error:
        raise ArchiveUnusable(f"{path}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Segment:
    """An open segment file. `ArchiveUnusable` where it cannot be used; not for several threads at a time."""

    def __init__(self, path: Path, write: bool = False) -> None:
        """Open a segment that exists. Its tables may be missing while another process makes it: see `made`."""
        self.path = path
        with told(path):
            if write:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
                if write:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        with told(self.path):
            self._db.close()

    @property
    def made(self) -> bool:
        """Whether the tables are there."""
        with told(self.path):
            return self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is not None

    def make(self, number: int, archive: str, first_position: int, day: int, sequences: dict[int, int]) -> None:
        """Make the tables; `sequences`: last archived sequence of each partition. Another process may have done so."""
        with told(self.path), self._transaction():
            if self.made:
                return
            for statement in filter(str.strip, _TABLES.split(";")):
                self._db.execute(statement)
            meta = {
                "format": FORMAT,
                "number": number,
                "archive": archive,
                "first_position": first_position,
                "last_position": first_position - 1,
                "newest_us": 0,
                "day": day,
                "closed": 0,
            }
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
            self._db.executemany("INSERT INTO partitions VALUES (?, ?)", list(sequences.items()))

    def facts(self) -> SegmentFacts:
        """What it says of itself; `ArchiveForeign` if that is not a segment of this release."""
        if not self.made:
            raise ArchiveForeign(f"{self.path} is no segment of an archive")
        with told(self.path):
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
        if meta.get("format") != FORMAT:
            raise ArchiveForeign(f"{self.path} has format {meta.get('format')}, this release reads {FORMAT}")
        fields = SegmentFacts._fields
        return SegmentFacts(**{**{name: meta[name] for name in fields}, "closed": bool(meta["closed"])})

    def sequences(self) -> dict[int, int]:
        """Last archived sequence of each partition, in this and all earlier segments."""
        with told(self.path):
            return dict(self._db.execute("SELECT partition, sequence FROM partitions"))

    def octets(self) -> int:
        """Size of the file, without what is still in the write-ahead log."""
        with told(self.path):
            pages: int = self._db.execute("PRAGMA page_count").fetchone()[0]
            size: int = self._db.execute("PRAGMA page_size").fetchone()[0]
            return pages * size

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state of the segment."""
        with told(self.path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # Writing

    def append(self, choose: Chooser) -> int:
        """Append what `choose(last sequences)` gives, in one durable transaction; the last position afterwards.

        `choose` runs inside the transaction, so no other process can append between its decision and the commit.
        """
        with told(self.path), self._transaction():
            facts = self.facts()
            if facts.closed:
                raise SegmentClosed(f"{self.path} was closed by another process")
            sequences = self.sequences()
            events = choose(sequences)
            position = facts.last_position
            # One by one, so that charging gets the interpreter back at each step of SQLite.
            rows = (_row(position + 1 + place, one) for place, one in enumerate(events))
            self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.executemany("INSERT INTO pages VALUES (?, ?, ?, ?, ?)", _pages(position + 1, events))
            for one in events:
                sequences[one.partition] = max(one.sequence, sequences.get(one.partition, 0))
            self._db.executemany(
                "INSERT OR REPLACE INTO partitions VALUES (?, ?)",
                [(partition, sequences[partition]) for partition in {one.partition for one in events}],
            )
            position += len(events)
            newest_us = max((one.at_us for one in events), default=0)
            self._set("last_position", position)
            self._set("newest_us", max(newest_us, facts.newest_us))
        return position

    def finish(self) -> None:
        """Close it for good: nobody appends any more."""
        with told(self.path), self._transaction():
            self._set("closed", 1)

    def settle(self) -> bool:
        """Make a closed segment one plain file without a log beside it; `False` while readers are in the way."""
        with told(self.path):
            try:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                mode = self._db.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
            except sqlite3.OperationalError:
                return False
            return bool(mode == "delete")

    def _set(self, name: str, value: int) -> None:
        self._db.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    # Reading

    def after(self, position: int, limit: int) -> list[ArchivedEvent]:
        """Events in order of position."""
        return self._events("position > ? ORDER BY position LIMIT ?", (position, limit))

    def of_account(self, account: str, position: int, limit: int) -> list[ArchivedEvent]:
        """Events of an account, in order; now and then one of another account with the same hash."""
        where = "account = ? AND position > ? ORDER BY position LIMIT ?"
        return self._events(where, (hash_of(account), position, limit))

    def of_session(self, session: str, position: int, limit: int) -> list[ArchivedEvent]:
        """Events of a session; as `of_account`."""
        where = "session = ? AND position > ? ORDER BY position LIMIT ?"
        return self._events(where, (hash_of(session), position, limit))

    def known(self, partition: int, first: int, last: int) -> list[tuple[int, bytes]]:
        """(sequence, event) of what is archived of a span of a partition's sequences."""
        with told(self.path):
            pages = self._db.execute(
                "SELECT first_position, last_position FROM pages"
                " WHERE partition = ? AND last_sequence >= ? AND first_sequence <= ?",
                (partition, first, last),
            ).fetchall()
            found: list[tuple[int, bytes]] = []
            for low, high in pages:
                found += self._db.execute(
                    "SELECT sequence, event FROM events"
                    " WHERE position BETWEEN ? AND ? AND partition = ? AND sequence BETWEEN ? AND ?",
                    (low, high, partition, first, last),
                )
            return found

    def _events(self, where: str, values: tuple[int, ...]) -> list[ArchivedEvent]:
        with told(self.path):
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM events WHERE {where}", values)
            return [ArchivedEvent(*row) for row in rows]


def _row(position: int, one: NewEvent) -> tuple[int, int, int, int, int | None, int, int, bytes]:
    session = hash_of(one.session) if one.session else None
    return (
        position,
        one.partition,
        one.sequence,
        hash_of(one.account),
        session,
        one.currency,
        one.exponent,
        one.event,
    )


def _pages(position: int, events: Sequence[NewEvent]) -> list[tuple[int, int, int, int, int]]:
    """One row for each run of a partition: where its sequences stand."""
    pages: list[tuple[int, int, int, int, int]] = []
    for place, one in enumerate(events):
        last = pages[-1] if pages else None
        if last is not None and last[0] == one.partition and one.sequence > last[1]:
            pages[-1] = (last[0], one.sequence, last[2], last[3], position + place)
        else:
            pages.append((one.partition, one.sequence, one.sequence, position + place, position + place))
    return pages
