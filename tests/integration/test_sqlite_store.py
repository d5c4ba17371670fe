"""What only the embedded store promises: one process, durability, groups, recovery from a full or failing disk."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from balance import sqlite_store
from balance.documents import partition_tag
from balance.sqlite_store import SqliteStore, StoreLocked
from balance.store import (
    Committed,
    DueChange,
    DueItem,
    IndexChange,
    OutboxItem,
    StoreFailure,
    StoreFormatError,
    StoreUnusable,
    Transaction,
)
from tests.support.store_kit import Calls, create, key, update

ROOT = Path(__file__).parents[2]
WAIT_S = 20


def open_store(path: Path, **more: Any) -> SqliteStore:
    return SqliteStore(path, lambda: 0, **more)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_store(tmp_path / "s")
    yield store
    store.close()


@pytest.fixture
def calls(store: SqliteStore) -> Calls:
    return Calls(store)


def facts_of(store: SqliteStore) -> dict[str, Any]:
    facts = Calls(store).wait(store.describe)
    assert isinstance(facts, dict)
    return facts


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + WAIT_S
    while not condition():
        threading.Event().wait(0.005)
        assert time.monotonic() < ends, "did not come true"


def run_python(code: str, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **more)


class Gate:
    """A `deliver` that holds the store's thread inside a delivery, so that calls pile up into one group."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = threading.Event()
        self.deliveries = 0

    def __call__(self, call: Callable[[], None]) -> None:
        self.deliveries += 1
        self.inside.set()
        assert self.open.wait(WAIT_S)
        call()

    def block(self, store: SqliteStore) -> None:
        """Let the thread come to a stop."""
        store.read(1, [], lambda _outcome: None)
        assert self.inside.wait(WAIT_S)


# Opening


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    calls = Calls(store)
    data = calls.put("k", b"body")
    calls.write(events=(b"1", b"2"), due=(DueChange(b"m", 5),), indexes=(IndexChange(b"i", b"m", True),))
    calls.trim(1, 2)
    store.close()
    store = open_store(tmp_path / "s")
    calls = Calls(store)
    calls.write(events=(b"3",))
    assert calls.get("k") == data
    assert (calls.events(), calls.ripe(5), calls.members(b"i")) == ([OutboxItem(3, b"3")], [DueItem(b"m", 5)], [b"m"])
    store.close()


def test_a_second_opener_is_refused_and_told_who_holds_the_file(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", note="socket /run/ocs.sock")
    wanted = rf"s is held by another process \(pid {os.getpid()} socket /run/ocs.sock\)"
    with pytest.raises(StoreLocked, match=wanted) as refused:
        open_store(tmp_path / "s")
    assert refused.value.holder == f"pid {os.getpid()} socket /run/ocs.sock"
    store.close()
    open_store(tmp_path / "s").close()


def test_another_name_of_the_file_is_the_same_lock(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "s")
    with pytest.raises(StoreLocked):
        open_store(tmp_path / "link")


def test_another_process_is_refused_until_the_holder_dies(tmp_path: Path) -> None:
    code = (
        "import sys; from balance.sqlite_store import SqliteStore; store = SqliteStore(sys.argv[1], lambda: 0);"
        "print('open', flush=True); sys.stdin.read()"
    )
    with run_python(code, str(tmp_path / "s"), stdin=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=f"pid {holder.pid}"):
            open_store(tmp_path / "s")
        holder.kill()
        holder.wait(WAIT_S)
        open_store(tmp_path / "s").close()


def test_a_refused_opener_leaves_no_lock(tmp_path: Path) -> None:
    open_store(tmp_path / "s", partitions=8).close()
    for _ in range(2):
        with pytest.raises(StoreFormatError, match="made with 8 partitions, 64 were asked for"):
            open_store(tmp_path / "s")
    open_store(tmp_path / "s", partitions=8).close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path / "s").close()
    with sqlite3.connect(tmp_path / "s") as db:
        db.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
    db.close()
    with pytest.raises(StoreFormatError, match="has format 99, this release reads 1"):
        open_store(tmp_path / "s")


@pytest.mark.parametrize("sql", ["CREATE TABLE books (title)", "CREATE TABLE meta (name, more)"])
def test_a_file_of_something_else_is_refused_untouched(tmp_path: Path, sql: str) -> None:
    with sqlite3.connect(tmp_path / "other") as db:
        db.execute(sql)
    db.close()
    before = (tmp_path / "other").read_bytes()
    with pytest.raises(StoreFormatError, match="a SQLite file of something else"):
        open_store(tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == before


def test_what_is_no_sqlite_file_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a store\n" * 500)
    with pytest.raises(StoreFormatError, match="file is not a database"):
        open_store(tmp_path / "text")
    assert (tmp_path / "text").read_text() == "not a store\n" * 500


def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match=r"nowhere/s\.lock: No such file or directory"):
        open_store(tmp_path / "nowhere" / "s")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreUnusable, match="folder: Is a directory"):
        open_store(tmp_path / "folder")


def test_the_file_is_for_its_owner_only(store: SqliteStore, calls: Calls, tmp_path: Path) -> None:
    calls.put("k", b"body")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"s": 0o600, "s-wal": 0o600, "s-shm": 0o600, "s.lock": 0o600}


def test_it_describes_itself(store: SqliteStore, calls: Calls, tmp_path: Path) -> None:
    calls.put("k", b"body")
    calls.write(events=(b"1", b"2", b"3"), due=(DueChange(b"m", 5),))
    calls.write(partition=2, events=(b"1",))
    calls.write(partition=3, events=(b"1",))
    calls.trim(1, 1)
    calls.trim(3, 1)
    facts = facts_of(store)
    assert facts.pop("octets") > 10_000
    assert facts == {
        "engine": "sqlite",
        "level": "safe",
        "path": str(tmp_path / "s"),
        "format": 1,
        "partitions": 64,
        "sqlite_version": sqlite3.sqlite_version,
        "journal_mode": "wal",
        "synchronous": 2,
        "documents": 1,
        "events": 3,
        "due": 1,
        "counted_up_to": 100_000,
        "recoveries": 0,
    }


# Groups


def test_what_piles_up_is_one_group_and_one_delivery(tmp_path: Path) -> None:
    gate = Gate()
    store = open_store(tmp_path / "s", deliver=gate)
    gate.block(store)
    outcomes: list[object] = []
    first = create("a")
    assert first.data is not None
    store.commit(1, [Transaction((first,))], outcomes.append)
    store.commit(1, [Transaction((create("a"), create("b")))], outcomes.append)
    store.read(1, [key("a"), key("b")], outcomes.append)
    store.commit(1, [Transaction((update(first.data, "a", None),))], outcomes.append)
    gate.open.set()
    store.close()
    assert [type(outcome) for outcome in outcomes] == [list, list, dict, list]
    assert [type(outcomes[place][0]).__name__ for place in (0, 1, 3)] == ["Committed", "Conflict", "Committed"]  # type: ignore[index]
    assert outcomes[2] == {key("a"): first.data, key("b"): None}
    assert gate.deliveries == 2


def test_a_group_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "MAX_GROUP", 3)
    gate = Gate()
    store = open_store(tmp_path / "s", deliver=gate)
    gate.block(store)
    outcomes: list[object] = []
    for number in range(7):
        store.commit(1, [Transaction((create(f"k{number}"),))], outcomes.append)
    gate.open.set()
    store.close()
    assert outcomes == [[Committed()]] * 7
    assert gate.deliveries == 1 + 3


def test_a_full_queue_refuses_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "MAX_QUEUED", 2)
    gate = Gate()
    gate.open.set()
    store = open_store(tmp_path / "s", deliver=gate)
    Calls(store).get("k")
    gate.open.clear()
    gate.inside.clear()
    gate.block(store)
    outcomes: list[object] = []
    refused: list[object] = []
    for name in ("a", "b"):
        store.commit(1, [Transaction((create(name),))], outcomes.append)
    store._deliver = lambda call: call()
    store.commit(1, [Transaction((create("c"),))], refused.append)
    assert refused == [StoreFailure("store queue full", unknown=False)]
    store._deliver = gate
    gate.open.set()
    until(lambda: len(outcomes) == 2)
    assert outcomes == [[Committed()], [Committed()]]
    assert Calls(store).get("c") is None
    store.close()


def test_an_outcome_is_told_after_the_commit(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    found: list[object] = []

    def look(_outcome: object) -> None:
        stranger = sqlite3.connect(tmp_path / "s")
        found.append(stranger.execute("SELECT count(*) FROM documents").fetchone()[0])
        stranger.close()

    store.commit(1, [Transaction((create("k"),))], look)
    store.close()
    assert found == [1]


def test_outcomes_come_on_the_loop_that_asked(tmp_path: Path) -> None:
    async def ask() -> list[object]:
        loop = asyncio.get_running_loop()
        store = open_store(tmp_path / "s", deliver=loop.call_soon_threadsafe)
        answered: asyncio.Future[list[object]] = loop.create_future()

        def done(outcome: object) -> None:
            answered.set_result([outcome, threading.current_thread() is threading.main_thread()])

        store.commit(1, [Transaction((create("k"),))], done)
        try:
            return await asyncio.wait_for(answered, WAIT_S)
        finally:
            await loop.run_in_executor(None, store.close)

    assert asyncio.run(ask()) == [[Committed()], True]


def test_a_callback_that_raises_does_not_rob_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loud: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", loud.append)
    gate = Gate()
    store = open_store(tmp_path / "s", deliver=gate)
    gate.block(store)
    outcomes: list[object] = []

    def broken(_outcome: object) -> None:
        raise RuntimeError("a bug")

    store.commit(1, [Transaction((create("a"),))], broken)
    store.commit(1, [Transaction((create("b"),))], outcomes.append)
    gate.open.set()
    assert Calls(store).get("a") is not None
    store.close()
    assert outcomes == [[Committed()]]
    assert len(loud) == 1
    assert [str(error) for error in loud[0].exc_value.exceptions] == ["a bug"]


def test_a_loop_that_is_gone_does_not_stop_the_thread(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    loop = asyncio.new_event_loop()
    loop.close()
    store._deliver = loop.call_soon_threadsafe
    store.commit(1, [Transaction((create("k"),))], lambda _outcome: None)
    store.close()
    store = open_store(tmp_path / "s")
    assert Calls(store).get("k") is not None
    store.close()


def test_closing_finishes_what_is_queued_and_refuses_more(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    outcomes: list[object] = []
    for number in range(2000):
        store.commit(1, [Transaction((create(f"k{number}"),))], outcomes.append)
    store.close()
    assert outcomes == [[Committed()]] * 2000
    assert Calls(store).read(1, [key("k")]) == StoreFailure("the store is closed", False)
    store.close()


# What SQLite refuses


def test_a_full_disk_fails_the_commit_and_the_store_recovers(store: SqliteStore, calls: Calls) -> None:
    calls.put("before", b"body")
    assert store._db is not None
    store._db.execute("PRAGMA max_page_count = 1")
    refused = calls.commit(1, [Transaction((create("big", b"x" * 1_000_000),), events=(b"e",))])
    assert refused == StoreFailure("OperationalError: database or disk is full", unknown=False)
    assert calls.get("before") is not None, "reading goes on"
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert (calls.get("big"), calls.events()) == (None, [])
    assert calls.write(create("big")) == Committed()


def test_a_call_that_fails_in_the_thread_does_not_stop_it(calls: Calls) -> None:
    outcome = calls.commit(1, [Transaction((create("k"),), due=(DueChange(b"m", 2**63),))])
    assert isinstance(outcome, StoreFailure)
    assert (outcome.unknown, outcome.detail[:13]) == (False, "OverflowError")
    assert calls.get("k") is None
    assert calls.write(create("k")) == Committed()


def test_a_file_locked_by_a_stranger_is_a_failure_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "BUSY_TIMEOUT_S", 0.01)
    store = open_store(tmp_path / "s")
    calls = Calls(store)
    stranger = sqlite3.connect(tmp_path / "s", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    assert calls.commit(1, [Transaction((create("k"),))]) == StoreFailure(
        "OperationalError: database is locked", unknown=False
    )
    assert calls.get("k") is None
    stranger.execute("ROLLBACK")
    stranger.close()
    assert calls.write(create("k")) == Committed()
    store.close()


class FailingCommit:
    """A connection whose next COMMIT reports an I/O error; the group is applied or not."""

    def __init__(self, inner: sqlite3.Connection, applied: bool) -> None:
        self.inner = inner
        self.applied = applied

    def execute(self, sql: str, *values: Any) -> Any:
        if sql != "COMMIT":
            return self.inner.execute(sql, *values)
        if self.applied:
            self.inner.execute(sql)
        raise sqlite3.OperationalError("disk I/O error")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("applied", [True, False])
def test_a_commit_that_fails_is_of_unknown_outcome_until_it_is_read_back(tmp_path: Path, applied: bool) -> None:
    gate = Gate()
    store = open_store(tmp_path / "s", deliver=gate)
    gate.block(store)
    outcomes: list[object] = []
    store.read(1, [key("k")], outcomes.append)
    store.commit(1, [Transaction((create("k"),), events=(b"e",))], outcomes.append)
    assert store._db is not None
    store._db = FailingCommit(store._db, applied)  # type: ignore[assignment]
    gate.open.set()
    until(lambda: len(outcomes) == 2)
    calls = Calls(store)
    there = calls.get("k") is not None
    assert outcomes == [StoreFailure("OperationalError: disk I/O error", unknown) for unknown in (False, True)]
    assert there is applied
    assert calls.events() == ([OutboxItem(1, b"e")] if applied else [])
    assert facts_of(store)["recoveries"] == 1
    assert calls.write(create("other")) == Committed()
    store.close()


def test_a_file_that_is_gone_after_a_failure_is_not_made_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    calls = Calls(store)
    assert store._db is not None
    store._db = FailingCommit(store._db, applied=False)  # type: ignore[assignment]
    assert calls.commit(1, [Transaction((create("k"),))]) == StoreFailure("OperationalError: disk I/O error", True)
    (tmp_path / "s").rename(tmp_path / "aside")
    outcome = calls.read(1, [key("k")])
    assert outcome == StoreFailure(f"StoreUnusable: {tmp_path}/s: No such file or directory", False)
    (tmp_path / "aside").rename(tmp_path / "s")
    assert calls.write(create("k")) == Committed()
    store.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from balance.sqlite_store import SqliteStore
from balance.store import StoreFailure, Transaction
from tests.support.store_kit import Calls, create
path = Path(sys.argv[1])
store = SqliteStore(path, lambda: 0)
calls = Calls(store)
calls.put("before", b"body")
octets = Path(f"{path}-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (octets + 6000, resource.RLIM_INFINITY))
failed = calls.commit(1, [Transaction((create("k", b"x" * 20_000),), events=(b"e",))])
assert isinstance(failed, StoreFailure) and failed.unknown, failed
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert calls.get("before") is not None
assert (calls.get("k"), calls.events()) == (None, [])
calls.put("k", b"x" * 20_000)
store.close()
"""


def test_a_disk_that_fills_up_during_the_commit(tmp_path: Path) -> None:
    # The size limit of a process makes the kernel refuse the write, as a full disk does.
    with run_python(FULL_DISK, str(tmp_path / "s")) as process:
        _, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, errors) == (0, "")
    store = open_store(tmp_path / "s")
    assert len(Calls(store).get("k") or b"") == 20_018
    store.close()


# Expired documents


def mortal(count: int, prefix: str = "k") -> list[Transaction]:
    return [Transaction((create(f"{prefix}{number}", ttl_s=1),)) for number in range(count)]


def test_groups_remove_expired_documents_faster_than_they_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "PURGE_ROWS", 0)
    now_us = [0]
    store = SqliteStore(tmp_path / "s", lambda: now_us[0])
    calls = Calls(store)
    for generation in range(4):
        calls.commit(1, mortal(64, f"{generation}-"))
    now_us[0] = 999_999
    calls.commit(1, mortal(10, "early-"))
    assert facts_of(store)["documents"] == 256 + 10
    now_us[0] = 1_000_000
    calls.commit(1, mortal(10, "young-"))
    assert facts_of(store)["documents"] == 256 + 20 - 20
    store.close()


def test_an_idle_store_removes_expired_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "IDLE_S", 0.001)
    monkeypatch.setattr(sqlite_store, "PURGE_IDLE_ROWS", 50)
    now_us = [0]
    store = SqliteStore(tmp_path / "s", lambda: now_us[0])
    calls = Calls(store)
    kept = calls.put("kept", b"body")
    for generation in range(2):
        calls.commit(1, mortal(64, f"{generation}-"))
    now_us[0] = 999_999
    assert facts_of(store)["documents"] == 129
    now_us[0] = 1_000_000
    until(lambda: facts_of(store)["documents"] == 1)
    assert calls.get("kept") == kept
    store.close()


# kill -9

WRITER = """
import sys, threading, time
from balance.documents import partition_tag, seal
from balance.sqlite_store import SqliteStore
from balance.store import Committed, Transaction, Write
store = SqliteStore(sys.argv[1], lambda: time.time_ns() // 1000)
start, slots = int(sys.argv[2]), threading.Semaphore(200)
versions = {}
def done(number):
    def told(outcome):
        assert outcome == [Committed()], outcome
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        slots.release()
    return told
for number in range(start, start + 1_000_000):
    slots.acquire()
    partition = number % 8
    writes = []
    for name in (b"a", b"b"):
        key = partition_tag(partition) + name
        expected = versions.get(key) or (sys.argv[3:] and bytes.fromhex(sys.argv[3 + 2 * partition + (name == b"b")]))
        data = seal(expected or None, b"writer-1", 1, str(number).encode().ljust(300))
        versions[key] = data[:16]
        writes.append(Write(key, expected or None, data))
    store.commit(partition, [Transaction(tuple(writes), events=(str(number).encode(),))], done(number))
"""


def test_kill_9_loses_no_acknowledged_commit_and_halves_none(tmp_path: Path) -> None:
    start, versions = 0, list[str]()
    for lines in (1, 500, 3000):
        acknowledged = written_until_killed(tmp_path / "s", start, versions, lines)
        store = open_store(tmp_path / "s")
        versions = []
        for partition in range(8):
            last, own = standing(Calls(store), partition)
            versions += own
            assert last >= max((number for number in acknowledged if number % 8 == partition), default=-1)
            start = max(start, last + 1)
        store.close()
        # The writer counts on where no partition has been; each of them keeps its own residue.
        start += -start % 8
    assert start > 3500


def written_until_killed(path: Path, start: int, versions: list[str], lines: int) -> list[int]:
    """The numbers that a writer acknowledged; it is killed while it writes, after so many."""
    with run_python(WRITER, str(path), str(start), *versions) as writer:
        assert writer.stdout is not None
        acknowledged = list(itertools.islice(writer.stdout, lines))
        assert len(acknowledged) == lines, writer.communicate()
        writer.send_signal(signal.SIGKILL)
        acknowledged += [line for line in writer.stdout if line.endswith("\n")]
    return [int(line) for line in acknowledged]


def standing(calls: Calls, partition: int) -> tuple[int, list[str]]:
    """The last number of a partition, after checking that its documents and its events tell one story; versions."""
    names = [partition_tag(partition) + name for name in (b"a", b"b")]
    documents = calls.read(partition, names)
    assert not isinstance(documents, StoreFailure)
    one, two = documents[names[0]], documents[names[1]]
    events: list[int] = []
    after = 0
    while page := calls.events(after, partition=partition):
        events += [int(item.event) for item in page]
        after = page[-1].sequence
    assert after == len(events)
    if one is None or two is None:
        assert (one, two, events) == (None, None, [])
        return -1, ["", ""]
    assert one[18:] == two[18:]
    # Each winner counted the version up by one and told one event: nothing is missing in the middle.
    assert int.from_bytes(one[:8], "big") == int.from_bytes(two[:8], "big") == len(events)
    assert events == sorted(events)
    assert events[-1] == int(one[18:])
    return events[-1], [one[:16].hex(), two[:16].hex()]
