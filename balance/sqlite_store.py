"""The embedded store: one SQLite file, one process, level `safe` (DESIGN §2.3, §5).

A thread owns the connection. It takes everything that is queued, runs it in one transaction, and delivers the outcomes
after the COMMIT, reads included: nobody ever sees what is not durable, and one fsync serves a whole group. The file is
held by `<path>.lock`; a second process is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from balance.documents import DEFAULT_PARTITIONS, VERSION_OCTETS
from balance.store import (
    CommitOutcome,
    Committed,
    Conflict,
    DueItem,
    OutboxItem,
    ReadOutcome,
    StoreFailure,
    Transaction,
    Write,
    check_batch,
    check_page,
)

FORMAT = 1
"""Layout of the file; a newer one is refused."""

MAX_QUEUED = 20_000
"""Calls that may wait for the thread; more fail at once."""

MAX_GROUP = 512
"""Calls that share one transaction of the file."""

PURGE_ROWS = 500
"""Expired documents that one purge removes."""

PURGE_EVERY_GROUPS = 200
IDLE_S = 1.0

Deliver = Callable[[Callable[[], None]], object]
"""Runs the callbacks of one group on the caller's loop, e.g. `loop.call_soon_threadsafe`."""


class StoreError(Exception):
    """Root: StoreLocked, StoreFormatError."""


class StoreLocked(StoreError):
    """Another process holds the file; `holder` is what it wrote into the lock, e.g. its process id."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is held by another process ({holder or 'unknown'})")
        self.holder = holder


class StoreFormatError(StoreError):
    """The file is of a newer release, of another partition count, or no store at all."""


_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (key BLOB PRIMARY KEY, data BLOB NOT NULL, expires_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX documents_expiry ON documents (expires_us) WHERE expires_us > 0;
CREATE TABLE outbox (
    partition INTEGER NOT NULL, sequence INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (partition, sequence)
) WITHOUT ROWID;
CREATE TABLE sequences (partition INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE due (
    partition INTEGER NOT NULL, member BLOB NOT NULL, at_us INTEGER NOT NULL, PRIMARY KEY (partition, member)
) WITHOUT ROWID;
CREATE INDEX due_time ON due (partition, at_us);
CREATE TABLE indexes (
    partition INTEGER NOT NULL, name BLOB NOT NULL, member BLOB NOT NULL, PRIMARY KEY (partition, name, member)
) WITHOUT ROWID;
"""


class _Call:
    """One queued call: what to run in the thread, and whom to tell."""

    __slots__ = ("done", "run", "writes")

    def __init__(self, run: Callable[[sqlite3.Connection], Any], done: Callable[[Any], None], writes: bool) -> None:
        self.run = run
        self.done = done
        self.writes = writes


class SqliteStore:
    """Documents in one file. Every method returns at once; `done` is called through `deliver`."""

    def __init__(
        self,
        path: Path | str,
        now_us: Callable[[], int],
        deliver: Deliver = lambda call: call(),
        partitions: int = DEFAULT_PARTITIONS,
        note: str = "",
    ) -> None:
        """Open or create the file. `note` goes into the lock file beside the process id (the control socket's path).

        Raises `StoreLocked`, `StoreFormatError`, or `sqlite3.Error` for a file that cannot be opened.
        """
        self.path = Path(path)
        self.partitions = partitions
        self._now_us = now_us
        self._deliver = deliver
        self._lock = _take_lock(self.path, note)
        try:
            self._connection = _open(self.path, partitions)
        except BaseException:
            os.close(self._lock)
            raise
        self._queue: queue.Queue[_Call | None] = queue.Queue(MAX_QUEUED)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sqlite-store", daemon=True)
        self._thread.start()

    # The contract

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        """See `Store.read`."""
        wanted = tuple(keys)
        self._submit(lambda db: {key: self._get(db, key) for key in wanted}, done, writes=False)

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        """See `Store.commit`."""
        check_batch(transactions)
        batch = tuple(transactions)
        self._submit(lambda db: [self._apply(db, partition, one) for one in batch], done, writes=True)

    def scan(
        self,
        partition: int,
        index: bytes,
        after: bytes,
        limit: int,
        done: Callable[[Sequence[bytes] | StoreFailure], None],
    ) -> None:
        """See `Store.scan`."""
        check_page(limit)
        sql = "SELECT member FROM indexes WHERE partition = ? AND name = ? AND member > ? ORDER BY member LIMIT ?"
        found = (partition, index, after, limit)
        self._submit(lambda db: [row[0] for row in db.execute(sql, found)], done, writes=False)

    def due(
        self, partition: int, now_us: int, limit: int, done: Callable[[Sequence[DueItem] | StoreFailure], None]
    ) -> None:
        """See `Store.due`."""
        check_page(limit)
        sql = "SELECT member, at_us FROM due WHERE partition = ? AND at_us <= ? ORDER BY at_us, member LIMIT ?"
        found = (partition, now_us, limit)
        self._submit(lambda db: [DueItem(*row) for row in db.execute(sql, found)], done, writes=False)

    def outbox(
        self, partition: int, after: int, limit: int, done: Callable[[Sequence[OutboxItem] | StoreFailure], None]
    ) -> None:
        """See `Store.outbox`."""
        check_page(limit)
        sql = "SELECT sequence, event FROM outbox WHERE partition = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        found = (partition, after, limit)
        self._submit(lambda db: [OutboxItem(*row) for row in db.execute(sql, found)], done, writes=False)

    def trim(self, partition: int, upto: int, done: Callable[[StoreFailure | None], None]) -> None:
        """See `Store.trim`."""

        def run(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM outbox WHERE partition = ? AND sequence <= ?", (partition, upto))

        self._submit(run, done, writes=True)

    def describe(self, done: Callable[[dict[str, Any] | StoreFailure], None]) -> None:
        """Facts for `ocs doctor`."""
        self._submit(self._facts, done, writes=False)

    def close(self) -> None:
        """Finish what is queued, close the file, give up the lock. Blocks until done."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        os.close(self._lock)

    # The thread

    def _submit(self, run: Callable[[sqlite3.Connection], Any], done: Callable[[Any], None], writes: bool) -> None:
        if self._closed:
            self._deliver(lambda: done(StoreFailure("the store is closed", False)))
            return
        try:
            self._queue.put_nowait(_Call(run, done, writes))
        except queue.Full:
            self._deliver(lambda: done(StoreFailure(f"{MAX_QUEUED} calls wait for the store", False)))

    def _work(self) -> None:
        groups = 0
        last = False
        while not last:
            group, last = self._next_group()
            groups += 1
            if group:
                self._tell(group, self._run_group(group))
            if not group or groups % PURGE_EVERY_GROUPS == 0:
                self._purge()
        self._connection.close()

    def _next_group(self) -> tuple[list[_Call], bool]:
        """All that waits, at most `MAX_GROUP`; and whether the store is being closed."""
        group: list[_Call] = []
        try:
            call = self._queue.get(timeout=IDLE_S)
            while call is not None:
                group.append(call)
                if len(group) == MAX_GROUP:
                    return group, False
                call = self._queue.get_nowait()
        except queue.Empty:
            return group, False
        return group, True

    def _run_group(self, group: Sequence[_Call]) -> list[Any]:
        db = self._connection
        try:
            db.execute("BEGIN IMMEDIATE" if any(call.writes for call in group) else "BEGIN")
            outcomes = [call.run(db) for call in group]
        except Exception as error:
            # Whatever it is, nothing was committed, and the thread must live: without it every request would hang.
            self._roll_back()
            return [StoreFailure(f"{type(error).__name__}: {error}", False)] * len(group)
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            # Whether the group reached the file is not known to us, and must be read back (LEDGER §1).
            self._roll_back()
            return [StoreFailure(f"SQLite: {error}", call.writes) for call in group]
        return outcomes

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _tell(self, group: Sequence[_Call], outcomes: Sequence[Any]) -> None:
        def deliver_all() -> None:
            for call, outcome in zip(group, outcomes, strict=True):
                call.done(outcome)

        # A loop that is gone takes no more callbacks; what was committed stays committed.
        with contextlib.suppress(RuntimeError):
            self._deliver(deliver_all)

    def _purge(self) -> None:
        """Remove some expired documents; a failure is met again, and reported, by the next commit."""
        expired = "SELECT key FROM documents WHERE expires_us > 0 AND expires_us <= ? LIMIT ?"
        with contextlib.suppress(sqlite3.Error):
            sql = f"DELETE FROM documents WHERE key IN ({expired})"
            self._connection.execute(sql, (self._now_us(), PURGE_ROWS))

    # Inside the group's transaction

    def _get(self, db: sqlite3.Connection, key: bytes) -> bytes | None:
        row = db.execute("SELECT data, expires_us FROM documents WHERE key = ?", (key,)).fetchone()
        if row is None or (row[1] and row[1] <= self._now_us()):
            return None
        data: bytes = row[0]
        return data

    def _apply(self, db: sqlite3.Connection, partition: int, transaction: Transaction) -> Committed | Conflict:
        """Compare every version first, then write; so a loser leaves nothing behind and its neighbours stand."""
        present = {write.key: self._get(db, write.key) for write in transaction.writes}
        for write in transaction.writes:
            document = present[write.key]
            if (None if document is None else document[:VERSION_OCTETS]) != write.expected:
                return Conflict(present)
        for write in transaction.writes:
            self._write(db, write)
        if transaction.events:
            self._append(db, partition, transaction.events)
        for item in transaction.due:
            if item.at_us is None:
                db.execute("DELETE FROM due WHERE partition = ? AND member = ?", (partition, item.member))
            else:
                db.execute("INSERT OR REPLACE INTO due VALUES (?, ?, ?)", (partition, item.member, item.at_us))
        for change in transaction.indexes:
            place = (partition, change.name, change.member)
            if change.present:
                db.execute("INSERT OR IGNORE INTO indexes VALUES (?, ?, ?)", place)
            else:
                db.execute("DELETE FROM indexes WHERE partition = ? AND name = ? AND member = ?", place)
        return Committed()

    def _write(self, db: sqlite3.Connection, write: Write) -> None:
        if write.data is None:
            db.execute("DELETE FROM documents WHERE key = ?", (write.key,))
        else:
            ends_us = self._now_us() + write.ttl_s * 1_000_000 if write.ttl_s else 0
            db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (write.key, write.data, ends_us))

    def _append(self, db: sqlite3.Connection, partition: int, events: Sequence[bytes]) -> None:
        row = db.execute("SELECT sequence FROM sequences WHERE partition = ?", (partition,)).fetchone()
        first = (0 if row is None else row[0]) + 1
        rows = [(partition, first + place, event) for place, event in enumerate(events)]
        db.executemany("INSERT INTO outbox VALUES (?, ?, ?)", rows)
        db.execute("INSERT OR REPLACE INTO sequences VALUES (?, ?)", (partition, rows[-1][1]))

    def _facts(self, db: sqlite3.Connection) -> dict[str, Any]:
        def one(sql: str) -> int:
            value: int = db.execute(sql).fetchone()[0]
            return value

        return {
            "engine": "sqlite",
            "level": "safe",
            "path": str(self.path),
            "format": FORMAT,
            "partitions": self.partitions,
            "sqlite_version": sqlite3.sqlite_version,
            "journal_mode": db.execute("PRAGMA journal_mode").fetchone()[0],
            "synchronous": one("PRAGMA synchronous"),
            "octets": one("PRAGMA page_count") * one("PRAGMA page_size"),
            "documents": one("SELECT count(*) FROM documents"),
            "events": one("SELECT count(*) FROM outbox"),
            "due": one("SELECT count(*) FROM due"),
        }


def read_holder(path: Path | str) -> str:
    """What the holder of a store wrote into its lock file; empty if nobody holds it."""
    lock = Path(f"{path}.lock")
    if not lock.exists():
        return ""
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return file.read().strip() or "unknown"
    return ""


def _take_lock(path: Path, note: str) -> int:
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 4096).decode("utf-8", "replace").strip()
        os.close(handle)
        raise StoreLocked(path, holder) from error
    os.ftruncate(handle, 0)
    os.write(handle, f"pid {os.getpid()} {note}".strip().encode())
    return handle


def _open(path: Path, partitions: int) -> sqlite3.Connection:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        if mode != "wal" or db.execute("PRAGMA synchronous").fetchone()[0] != 2:
            raise StoreFormatError(
                f"{path}: SQLite gives journal mode {mode}; level `safe` needs wal and synchronous=FULL"
            )
        _prepare(db, path, partitions)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path, partitions: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:
        for statement in filter(str.strip, _TABLES.split(";")):
            db.execute(statement)
        db.executemany("INSERT INTO meta VALUES (?, ?)", [("format", FORMAT), ("partitions", partitions)])
    elif "meta" not in names:
        raise StoreFormatError(f"{path} is a SQLite file of something else")
    db.execute("COMMIT")
    meta = dict(db.execute("SELECT name, value FROM meta"))
    if meta["format"] > FORMAT:
        raise StoreFormatError(f"{path} has format {meta['format']}, this release reads {FORMAT}")
    if meta["partitions"] != partitions:
        raise StoreFormatError(f"{path} was made with {meta['partitions']} partitions, {partitions} were asked for")
