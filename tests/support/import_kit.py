"""Files for imports, and what a store holds after them in a form that two runs can be compared by."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from balance.account import Account, IdentityRecord, OperationRecord, Subscriber
from balance.documents import HEADER
from tests.support.books import Books

KINDS: dict[bytes, type[Any]] = {b"a": Account, b"u": Subscriber, b"i": IdentityRecord, b"o": OperationRecord}
MOMENTS = {"created_s": 0, "claimed_s": 0, "at_s": 0}
INDEXES = (b"accounts", b"subscribers")

SUBSCRIBER_HEADER = "subscriber,account,plan,currency,credit_limit,balance,msisdn,imsi,status"
BALANCE_HEADER = "account,amount,operation,expires"


class SqliteBooks(Books):
    """All that an SQLite store and the archive beside it hold; nobody works on them meanwhile."""

    def __init__(self, home: Path) -> None:
        with closing(sqlite3.connect(home / "ocs.sqlite")) as db:
            self._documents = dict(db.execute("SELECT key, data FROM documents ORDER BY key"))
            self._events = {
                (partition, sequence): event
                for partition, sequence, event in db.execute("SELECT partition, sequence, event FROM outbox")
            }
            self._indexes: dict[bytes, set[str]] = {}
            for name, member in db.execute("SELECT name, member FROM indexes"):
                self._indexes.setdefault(name, set()).add(member.decode("utf-8", "replace"))
        for path in sorted((home / "archive").glob("segment-*.sqlite")):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as segment:
                for partition, sequence, event in segment.execute("SELECT partition, sequence, event FROM events"):
                    assert self._events.setdefault((partition, sequence), event) == event

    def documents(self, kind: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        for key, data in self._documents.items():
            if key.split(b":", 2)[1] == kind:
                yield int(key[2:5]), key, data

    def raw_events(self) -> Iterator[bytes]:
        yield from (self._events[place] for place in sorted(self._events))

    def members(self, index: bytes) -> set[str]:
        return self._indexes.get(index, set())


def content(books: Books) -> dict[str, Any]:
    """What imports make, without versions, moments and the order between accounts."""
    documents = {}
    for kind, form in KINDS.items():
        for _, key, data in books.documents(kind):
            found = msgspec.msgpack.decode(data[HEADER.size :], type=form)
            moments = {name: 0 for name in MOMENTS if name in form.__struct_fields__}
            documents[key] = msgspec.structs.replace(found, **moments)
    events: dict[str, list[Any]] = {}
    for event in books.events():
        what = (event.kind, event.operation, event.key, event.reason, event.subscriber, tuple(event.entries))
        events.setdefault(event.account, []).append(what)
    return {"documents": documents, "events": events, "indexes": {name: books.members(name) for name in INDEXES}}


def write_subscribers(path: Path, count: int, *, broken: bool = True, first: int = 0) -> int:
    """Write a file in which every third subscriber shares the account of the one before; how many rows are wrong.

    With `broken` every 51st row has an unknown plan, and as many an IMSI that the row before has; accounts `a0`, `a3`, …
    are opened all the same.
    """
    wrong = 0
    lines = [SUBSCRIBER_HEADER]
    for i in range(first, first + count):
        owner = i - 1 if i % 3 == 2 else i
        plan, imsi = "d10", f"23415{i:010d}"
        if broken and i % 51 == 50:
            plan, wrong = "nothing", wrong + 1
        elif broken and i % 51 == 1:
            imsi, wrong = f"23415{i - 1:010d}", wrong + 1
        status = "suspended" if i % 7 == 3 else ""
        lines.append(f"s{i},a{owner},{plan},EUR,2.00,5.0{owner % 10},4477{i:08d},{imsi},{status}")
    path.write_text("\n".join(lines) + "\n")
    return wrong


def write_balances(path: Path, count: int, accounts: int, *, broken: bool = True) -> int:
    """Write a file of top-ups and adjustments of `a0`, `a1`, …; how many rows are wrong: no such account, too much."""
    wrong = 0
    lines = [BALANCE_HEADER]
    for i in range(count):
        account, amount, operation, expires = f"a{3 * (i % accounts)}", f"{1 + i % 9}.50", "topup", ""
        if i % 5 == 1:
            amount, expires = f"{1 + i % 9}MiB", "2099-12-31"
        elif i % 5 == 2:
            amount, operation = "-0.25", "adjust"
        if broken and i % 40 == 13:
            account, wrong = f"missing{i}", wrong + 1
        elif broken and i % 40 == 22:
            amount, operation, expires, wrong = "-5000.00", "adjust", "", wrong + 1
        lines.append(f"{account},{amount},{operation},{expires}")
    path.write_text("\n".join(lines) + "\n")
    return wrong
