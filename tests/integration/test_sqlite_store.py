"""What only the embedded store promises: one process, durability, recovery from a full disk."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from balance.documents import seal
from balance.sqlite_store import SqliteStore, StoreFormatError, StoreLocked, read_holder
from balance.store import Committed, StoreFailure, Transaction, Write
from tests.support.store_kit import Blocking, create

WRITER = """
import sys, time
from balance.sqlite_store import SqliteStore
from balance.store import Transaction, Write
from balance.documents import seal
store = SqliteStore(sys.argv[1], lambda: time.time_ns() // 1000)
def done(n):
    def told(outcome):
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
    return told
for n in range(1_000_000):
    pair = tuple(Write(b"%s%d" % (name, n), None, seal(None, b"writer-1", 1, b"x" * 200)) for name in (b"a", b"b"))
    store.commit(n % 64, (Transaction(pair, events=(b"%d" % n,)),), done(n))
    if n % 50 == 49:
        time.sleep(0.002)
"""


def open_store(path: Path, **more: Any) -> SqliteStore:
    return SqliteStore(path, lambda: 0, **more)


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    data = Blocking(store).put(2, b"k", b"body")
    Blocking(store).commit(2, Transaction((), events=(b"e",)))
    store.close()
    store = open_store(tmp_path / "s")
    assert Blocking(store).read(2, b"k") == {b"k": data}
    assert [item.event for item in Blocking(store).outbox(2)] == [b"e"]
    store.close()


def test_a_second_opener_is_refused_and_told_who_holds_the_file(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", note="socket /run/ocs.sock")
    with pytest.raises(StoreLocked, match=r"pid \d+ socket /run/ocs.sock"):
        open_store(tmp_path / "s")
    assert "socket /run/ocs.sock" in read_holder(tmp_path / "s")
    store.close()
    assert read_holder(tmp_path / "s") == ""
    open_store(tmp_path / "s").close()


def test_the_number_of_partitions_is_fixed_when_the_store_is_made(tmp_path: Path) -> None:
    open_store(tmp_path / "s", partitions=8).close()
    with pytest.raises(StoreFormatError, match="made with 8 partitions, 64 were asked for"):
        open_store(tmp_path / "s")
    open_store(tmp_path / "s", partitions=8).close()


def test_a_newer_format_and_a_strange_file_are_refused(tmp_path: Path) -> None:
    open_store(tmp_path / "s").close()
    with sqlite3.connect(tmp_path / "s") as db:
        db.execute("UPDATE meta SET value = 99 WHERE name = 'format'")
    db.close()
    with pytest.raises(StoreFormatError, match="format 99"):
        open_store(tmp_path / "s")
    with sqlite3.connect(tmp_path / "other") as db:
        db.execute("CREATE TABLE books (title)")
    db.close()
    with pytest.raises(StoreFormatError, match="something else"):
        open_store(tmp_path / "other")


def test_the_file_is_for_its_owner_only_and_the_level_is_safe(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    facts: list[Any] = []
    told = threading.Event()
    store.describe(lambda result: (facts.append(result), told.set()))
    assert told.wait(10)
    assert (facts[0]["level"], facts[0]["journal_mode"], facts[0]["synchronous"]) == ("safe", "wal", 2)
    store.close()


def test_a_full_disk_fails_the_commit_and_the_store_recovers(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    calls = Blocking(store)
    calls.put(1, b"before", b"body")
    store._connection.execute("PRAGMA max_page_count = 1")
    refused = calls.commit(1, Transaction((create(b"big", b"x" * 1_000_000),), events=(b"e",)))
    assert isinstance(refused, StoreFailure)
    assert not refused.unknown
    assert "full" in refused.detail
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert calls.read(1, b"big") == {b"big": None}
    assert calls.outbox(1) == []
    assert calls.commit(1, Transaction((create(b"big"),))) == [Committed()]
    store.close()


def test_one_failing_call_does_not_stop_the_thread(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    calls = Blocking(store)
    outcome = calls.commit(1, Transaction((Write(b"k", None, object()),)))  # type: ignore[arg-type]
    assert isinstance(outcome, StoreFailure)
    assert not outcome.unknown
    assert calls.commit(1, Transaction((create(b"other"),))) == [Committed()]
    store.close()


def test_expired_documents_leave_the_file(tmp_path: Path) -> None:
    now = [0]
    store = SqliteStore(tmp_path / "s", lambda: now[0])
    calls = Blocking(store)
    for number in range(20):
        calls.put(1, b"k%d" % number, b"body", ttl_s=1)
    now[0] = 2_000_000
    store._purge()
    facts: list[Any] = []
    told = threading.Event()
    store.describe(lambda result: (facts.append(result), told.set()))
    assert told.wait(10)
    assert facts[0]["documents"] == 0
    store.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    store.close()
    store.close()
    assert Blocking(store).read(1, b"k") == StoreFailure("the store is closed", False)


def test_kill_9_loses_no_acknowledged_commit_and_halves_none(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(3000)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    writer.wait(10)
    writer.stdout.close()
    store = open_store(tmp_path / "s")
    calls = Blocking(store)
    for n in acknowledged:
        assert None not in calls.read(n % 64, b"a%d" % n, b"b%d" % n).values(), n
    store.close()
    with sqlite3.connect(tmp_path / "s") as db:
        keys = {row[0] for row in db.execute("SELECT key FROM documents")}
        events = {int(row[0]) for row in db.execute("SELECT event FROM outbox")}
    db.close()
    halves = {int(key[1:]) for key in keys if key[:1] == b"a"} ^ {int(key[1:]) for key in keys if key[:1] == b"b"}
    assert halves == set()
    assert events == {int(key[1:]) for key in keys if key[:1] == b"a"}


def test_seal_counts_on() -> None:
    assert seal(None, b"12345678", 1, b"")[:8] == (1).to_bytes(8, "big")
    assert seal((7).to_bytes(8, "big") + b"otherone", b"12345678", 1, b"")[:8] == (8).to_bytes(8, "big")
