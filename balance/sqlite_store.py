"""The embedded store: one SQLite file, one process, level `safe` (DESIGN §2.3, §5).

A thread owns the connection. It takes everything that is queued, runs it in one transaction of the file, and delivers
the outcomes after the COMMIT, reads included: nobody ever sees what is not durable, and one fsync serves a whole group.
The file is held by `<path>.lock`; a second process is refused.

Opening raises `StoreLocked`, `StoreFormatError`, `StoreUnusable` (`balance.store`). Once open, nothing is raised but
`ValueError` for a broken contract: what SQLite refuses becomes `StoreFailure`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from balance.documents import DEFAULT_PARTITIONS, VERSION_OCTETS
from balance.leases import Leases
from balance.store import (
    CommitOutcome,
    Committed,
    Conflict,
    DueItem,
    Leased,
    OutboxItem,
    ReadOutcome,
    StoreError,
    StoreFailure,
    StoreFormatError,
    StoreUnusable,
    Transaction,
    Write,
    check_commit,
    check_page,
    check_partition,
    check_read,
    forget_nothing,
)

FORMAT = 1
"""Layout of the file; a newer one is refused."""

MAX_QUEUED = 20_000
"""Calls that may wait for the thread; more fail at once."""

MAX_GROUP = 512
"""Calls that share one transaction of the file."""

PURGE_ROWS = 64
"""Expired documents that a group removes, beside twice the number of those that it added with a time to live."""

PURGE_IDLE_ROWS = 1000
"""Expired documents that the thread removes in one go when nothing is asked of it."""

IDLE_S = 1.0
"""After so long without a call the thread looks for expired documents by itself."""

BUSY_TIMEOUT_S = 1.0
"""How long a group waits for a stranger (a backup, a shell) that has locked the file."""

CACHE_KIB = 32_768
"""Pages of the file that the connection keeps in memory."""

MAX_COUNTED = 100_000
"""`describe` counts rows up to here, so that it never stalls charging."""

SYNCHRONOUS_FULL = 2

Deliver = Callable[[Callable[[], None]], object]
"""Runs the callbacks of one group on the caller's loop, e.g. `loop.call_soon_threadsafe`."""


class StoreLocked(StoreError):
    """Another process holds the file; `holder` is what it wrote into the lock: its process id, its control socket."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is held by another process ({holder or 'unknown'})")
        self.holder = holder


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

_OUTBOX_LENGTH = """
SELECT coalesce(sum(sequence + 1 - (
    SELECT min(outbox.sequence) FROM outbox WHERE outbox.partition = sequences.partition
)), 0) FROM sequences
"""
"""Sequence numbers have no gaps and only the oldest are trimmed, so first and last of a partition give its length."""


class _Call:
    """One queued call: what to run in the thread, and whom to tell."""

    __slots__ = ("done", "run", "writes")

    def __init__(self, run: Callable[[_Group], Any], done: Callable[[Any], None], writes: bool) -> None:
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

        `now_us` is the clock of times to live, in UTC microseconds; it is read once for each group, by the thread.
        Raises `StoreLocked`, `StoreFormatError`, `StoreUnusable`.
        """
        # Resolved, so that two names of one file share one lock.
        self.path = Path(path).resolve()
        self.partitions = partitions
        self.forget: Callable[[], None] = forget_nothing
        # Memory is enough: one process holds the file, and a lease is only fairness.
        self._leases = [Leases() for _ in range(partitions)]
        self._now_us = now_us
        self._deliver = deliver
        self._lock = _take_lock(self.path, note)
        try:
            self._db: sqlite3.Connection | None = _open(self.path, partitions, create=True)
        except BaseException:
            _give_up_lock(self._lock)
            raise
        self._queue: deque[_Call] = deque()
        self._waiting = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sqlite-store", daemon=True)
        self._thread.start()

    # The contract

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        """See `Store.read`."""
        check_read(self.partitions, partition, keys)
        wanted = tuple(keys)
        self._submit(lambda group: {key: group.get(key) for key in wanted}, done)

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        """See `Store.commit`."""
        check_commit(self.partitions, partition, transactions)
        batch = tuple(transactions)
        self._submit(lambda group: [group.apply(partition, one) for one in batch], done, writes=True)

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
        sql = "SELECT member FROM indexes WHERE partition = ? AND name = ? AND member > ? ORDER BY member LIMIT ?"
        found = (partition, index, after, limit)
        self._submit(lambda group: [row[0] for row in group.db.execute(sql, found)], done)

    def due(
        self, partition: int, now_us: int, limit: int, done: Callable[[Sequence[DueItem] | StoreFailure], None]
    ) -> None:
        """See `Store.due`."""
        check_page(self.partitions, partition, limit)
        sql = "SELECT member, at_us FROM due WHERE partition = ? AND at_us <= ? ORDER BY at_us, member LIMIT ?"
        found = (partition, now_us, limit)
        self._submit(lambda group: [DueItem(*row) for row in group.db.execute(sql, found)], done)

    def outbox(
        self, partition: int, after: int, limit: int, done: Callable[[Sequence[OutboxItem] | StoreFailure], None]
    ) -> None:
        """See `Store.outbox`."""
        check_page(self.partitions, partition, limit)
        sql = "SELECT sequence, event FROM outbox WHERE partition = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        found = (partition, after, limit)
        self._submit(lambda group: [OutboxItem(*row) for row in group.db.execute(sql, found)], done)

    def trim(self, partition: int, upto: int, done: Callable[[StoreFailure | None], None]) -> None:
        """See `Store.trim`."""
        check_partition(self.partitions, partition)

        def run(group: _Group) -> None:
            group.db.execute("DELETE FROM outbox WHERE partition = ? AND sequence <= ?", (partition, upto))

        self._submit(run, done, writes=True)

    def outbox_length(self, done: Callable[[int | StoreFailure], None]) -> None:
        """See `Store.outbox_length`."""
        self._submit(lambda group: group.db.execute(_OUTBOX_LENGTH).fetchone()[0], done)

    def describe(self, done: Callable[[dict[str, Any] | StoreFailure], None]) -> None:
        """Facts for `ocs doctor`; `documents` and `due` are counted up to `MAX_COUNTED`."""
        self._submit(self._facts, done)

    def problems(self) -> list[str]:
        """Why the store cannot be used as it should: whatever it is, each call meets and reports it."""
        return []

    def close(self) -> None:
        """Finish what is queued, close the file, give up the lock. Blocks until the last outcome was delivered."""
        with self._waiting:
            first, self._closed = not self._closed, True
            self._waiting.notify()
        self._thread.join()
        if first:
            _give_up_lock(self._lock)

    # The thread

    def _submit(self, run: Callable[[_Group], Any], done: Callable[[Any], None], writes: bool = False) -> None:
        with self._waiting:
            if self._closed:
                refused = "the store is closed"
            elif len(self._queue) >= MAX_QUEUED:
                refused = "store queue full"
            else:
                self._queue.append(_Call(run, done, writes))
                self._waiting.notify()
                return
        self._deliver(lambda: done(StoreFailure(refused, False)))

    def _work(self) -> None:
        while True:
            group, closing = self._next_group()
            if group:
                self._tell(group, self._run_group(group))
            elif closing:
                break
            else:
                # Nobody waits for this; a failure is met again, and reported, by the next commit.
                self._run_group([_Call(lambda group: group.purge(PURGE_IDLE_ROWS), lambda _outcome: None, writes=True)])
        self._drop_connection()

    def _next_group(self) -> tuple[list[_Call], bool]:
        """All that waits, at most `MAX_GROUP`; and whether the store is being closed."""
        with self._waiting:
            if not self._queue and not self._closed:
                self._waiting.wait(IDLE_S)
            count = min(len(self._queue), MAX_GROUP)
            return [self._queue.popleft() for _ in range(count)], self._closed

    def _run_group(self, calls: Sequence[_Call]) -> Sequence[Any]:
        """The outcomes of the calls, all of them durable; or one `StoreFailure` for each."""
        writes = any(call.writes for call in calls)
        try:
            db = self._db or self._reopen()
            db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            group = _Group(db, self._now_us(), self._leases)
            outcomes = [call.run(group) for call in calls]
            if writes:
                group.purge(PURGE_ROWS + 2 * group.mortal)
        except Exception as error:
            # Whatever it is, nothing was committed, and the thread must live: without it every request would hang.
            self._roll_back()
            return [_failure(error, False)] * len(calls)
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._drop_connection()
            return [_failure(error, call.writes) for call in calls]
        return outcomes

    def _roll_back(self) -> None:
        if self._db is not None and self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop_connection()

    def _drop_connection(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _reopen(self) -> sqlite3.Connection:
        """Open the file again after a COMMIT failed, and settle whether that group exists.

        A COMMIT whose fsync failed is rolled back by SQLite, yet its record may stand in the WAL and come alive in a
        recovery after a crash. A read-back in between would say "not applied" of a commit that is applied later.
        So nothing is answered before the WAL is emptied into the file and a write of our own is durable; then that
        group exists for good, or never will.
        """
        db = _open(self.path, self.partitions, create=False)
        try:
            if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreUnusable(f"{self.path}: another program reads the file, and a recovery must wait for it")
            db.execute("UPDATE meta SET value = value + 1 WHERE name = 'recoveries'")
        except BaseException:
            db.close()
            raise
        self._db = db
        return db

    def _tell(self, calls: Sequence[_Call], outcomes: Sequence[Any]) -> None:
        def deliver_all() -> None:
            raised: list[Exception] = []
            for call, outcome in zip(calls, outcomes, strict=True):
                try:
                    call.done(outcome)
                except Exception as error:
                    # One callback's bug must not leave its neighbours without their outcome.
                    raised.append(error)
            if raised:
                raise ExceptionGroup("callbacks of the store raised", raised)

        try:
            self._deliver(deliver_all)
        except RuntimeError:
            # The loop is gone and takes no more callbacks; what was committed stays committed.
            return
        except Exception:
            # Only a `deliver` that calls at once gets here. Loud, and the thread lives.
            kind, error, trace = sys.exc_info()
            assert kind is not None
            threading.excepthook(threading.ExceptHookArgs((kind, error, trace, self._thread)))

    def _facts(self, group: _Group) -> dict[str, Any]:
        def one(sql: str) -> Any:
            return group.db.execute(sql).fetchone()[0]

        def count(table: str) -> int:
            number: int = one(f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {MAX_COUNTED})")
            return number

        return {
            "engine": "sqlite",
            "level": "safe",
            "path": str(self.path),
            "format": FORMAT,
            "partitions": self.partitions,
            "sqlite_version": sqlite3.sqlite_version,
            "journal_mode": one("PRAGMA journal_mode"),
            "synchronous": one("PRAGMA synchronous"),
            "octets": one("PRAGMA page_count") * one("PRAGMA page_size"),
            "documents": count("documents"),
            "events": one(_OUTBOX_LENGTH),
            "due": count("due"),
            "counted_up_to": MAX_COUNTED,
            "recoveries": one("SELECT value FROM meta WHERE name = 'recoveries'"),
        }


class _Group:
    """What calls do inside their group's transaction; one moment for all of them."""

    __slots__ = ("db", "leases", "mortal", "now_us")

    def __init__(self, db: sqlite3.Connection, now_us: int, leases: Sequence[Leases]) -> None:
        self.db = db
        self.now_us = now_us
        self.leases = leases
        self.mortal = 0
        """Documents with a time to live that this group wrote."""

    def get(self, key: bytes) -> bytes | None:
        """A document as this group sees it; expired ones are absent."""
        row = self.db.execute("SELECT data, expires_us FROM documents WHERE key = ?", (key,)).fetchone()
        if row is None or 0 < row[1] <= self.now_us:
            return None
        data: bytes = row[0]
        return data

    def apply(self, partition: int, transaction: Transaction) -> Committed | Conflict | Leased:
        """Compare every version first, then write; so a loser leaves nothing behind and its neighbours stand."""
        if transaction.lease is not None:
            wait_ms = self.leases[partition].ask(transaction.lease, self.now_us)
            if wait_ms:
                return Leased(wait_ms)
        present = {write.key: self.get(write.key) for write in transaction.writes}
        for write in transaction.writes:
            document = present[write.key]
            if (None if document is None else document[:VERSION_OCTETS]) != write.expected:
                return Conflict(present)
        for write in transaction.writes:
            self._write(write)
        if transaction.events:
            self._append(partition, transaction.events)
        self._note(partition, transaction)
        return Committed()

    def _write(self, write: Write) -> None:
        if write.data is None:
            self.db.execute("DELETE FROM documents WHERE key = ?", (write.key,))
            return
        ends_us = 0
        if write.ttl_s:
            ends_us = self.now_us + write.ttl_s * 1_000_000
            self.mortal += 1
        self.db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (write.key, write.data, ends_us))

    def _append(self, partition: int, events: Sequence[bytes]) -> None:
        # The last number is kept beside the outbox: after a trim the outbox itself would give numbers out again.
        row = self.db.execute("SELECT sequence FROM sequences WHERE partition = ?", (partition,)).fetchone()
        first = (0 if row is None else row[0]) + 1
        rows = [(partition, first + place, event) for place, event in enumerate(events)]
        self.db.executemany("INSERT INTO outbox VALUES (?, ?, ?)", rows)
        self.db.execute("INSERT OR REPLACE INTO sequences VALUES (?, ?)", (partition, rows[-1][1]))

    def _note(self, partition: int, transaction: Transaction) -> None:
        for item in transaction.due:
            if item.at_us is None:
                self.db.execute("DELETE FROM due WHERE partition = ? AND member = ?", (partition, item.member))
            else:
                self.db.execute("INSERT OR REPLACE INTO due VALUES (?, ?, ?)", (partition, item.member, item.at_us))
        for change in transaction.indexes:
            place = (partition, change.name, change.member)
            if change.present:
                self.db.execute("INSERT OR IGNORE INTO indexes VALUES (?, ?, ?)", place)
            else:
                self.db.execute("DELETE FROM indexes WHERE partition = ? AND name = ? AND member = ?", place)

    def purge(self, rows: int) -> None:
        """Remove some expired documents. In proportion to what a group adds they never pile up, and none waits long."""
        expired = "SELECT key FROM documents WHERE expires_us > 0 AND expires_us <= ? LIMIT ?"
        self.db.execute(f"DELETE FROM documents WHERE key IN ({expired})", (self.now_us, rows))


def _failure(error: Exception, unknown: bool) -> StoreFailure:
    return StoreFailure(f"{type(error).__name__}: {error}", unknown)


# The lock and the file


def _take_lock(path: Path, note: str) -> int:
    try:
        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{path}.lock: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 4096).decode("utf-8", "replace").strip()
        os.close(handle)
        raise StoreLocked(path, holder) from error
    os.ftruncate(handle, 0)
    os.write(handle, f"pid {os.getpid()} {note}".strip().encode())
    return handle


def _give_up_lock(handle: int) -> None:
    # Emptied, so that who is refused in the moment before the next holder writes is not told of this one. The file
    # stays: removing it would let two processes hold two files of one name.
    os.ftruncate(handle, 0)
    os.close(handle)


def _open(path: Path, partitions: int, create: bool) -> sqlite3.Connection:
    """A connection to a file that is ours and safe; `StoreFormatError`, `StoreUnusable`."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600))
        db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
    except OSError as error:
        raise StoreUnusable(f"{path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StoreUnusable(f"{path}: {error}") from error
    try:
        # A stranger's file is refused before anything in it is touched.
        made = _is_made(db, path, partitions)
        _make_safe(db, path)
        if not made and create:
            _make(db, partitions)
        elif not made:
            raise StoreUnusable(f"{path}: the file was emptied while it was open")
    except sqlite3.Error as error:
        db.close()
        strange = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB
        raise (StoreFormatError if strange else StoreUnusable)(f"{path}: {error}") from error
    except BaseException:
        db.close()
        raise
    return db


def _is_made(db: sqlite3.Connection, path: Path, partitions: int) -> bool:
    """Whether the store was made already; `StoreFormatError` if it is not one of ours."""
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:
        return False
    columns = [row[1] for row in db.execute("PRAGMA table_info(meta)")]
    meta = dict(db.execute("SELECT name, value FROM meta")) if columns == ["name", "value"] else {}
    if "format" not in meta:
        raise StoreFormatError(f"{path} is a SQLite file of something else")
    if meta["format"] != FORMAT:
        raise StoreFormatError(f"{path} has format {meta['format']}, this release reads {FORMAT}")
    if meta["partitions"] != partitions:
        raise StoreFormatError(f"{path} was made with {meta['partitions']} partitions, {partitions} were asked for")
    return True


def _make_safe(db: sqlite3.Connection, path: Path) -> None:
    """Set level `safe` and read back that it holds; `StoreUnusable` where it does not (some network file systems)."""
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, synchronous) != ("wal", SYNCHRONOUS_FULL):
        raise StoreUnusable(
            f"{path}: SQLite gives journal_mode {mode}, synchronous {synchronous}; level `safe` needs wal and"
            f" {SYNCHRONOUS_FULL} (FULL)"
        )


def _make(db: sqlite3.Connection, partitions: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in filter(str.strip, _TABLES.split(";")):
        db.execute(statement)
    meta = {"format": FORMAT, "partitions": partitions, "recoveries": 0}
    db.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
    db.execute("COMMIT")
