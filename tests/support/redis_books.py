"""What a Redis and the archive beside it hold, read without the product's store and reader: for the auditor."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.support.books import Books
from tests.support.redis_server import RedisServer

PAGE = 1000


class RedisBooks(Books):
    """All that a store holds as it was when this was made; nobody but the archiver works meanwhile.

    An event leaves the outbox only after it is in the archive, so who reads the outbox first misses none.
    """

    def __init__(self, server: RedisServer, home: Path) -> None:
        """`home`: where the workers keep their archive."""
        self._documents: dict[bytes, bytes] = {}
        self._indexes: dict[bytes, set[str]] = {}
        self._events: dict[int, dict[int, bytes]] = {}
        with server.client() as client:
            keys = sorted(client.scan_iter(count=PAGE))
            plain = [key for key in keys if key[6:7] == b":"]
            for start in range(0, len(plain), PAGE):
                page = plain[start : start + PAGE]
                found = zip(page, client.mget(page), strict=True)
                self._documents.update((key, data) for key, data in found if data is not None)
            for key in keys:
                partition, _, name = key.partition(b"!")
                if name == b"outbox":
                    with client.pipeline(transaction=True) as both:
                        trimmed, events = both.get(partition + b"!trimmed").lrange(key, 0, -1).execute()
                    self._events[int(partition[2:5])] = dict(enumerate(events, int(trimmed or 0) + 1))
                elif name.startswith(b"index:"):
                    members = {member.decode() for member in client.zrange(key, 0, -1)}
                    self._indexes.setdefault(name.removeprefix(b"index:"), set()).update(members)
        self.archived = 0
        for segment in sorted((home / "archive").glob("segment-*.sqlite")):
            self._read_segment(segment)
        for partition_number, events in self._events.items():
            assert sorted(events) == list(range(1, len(events) + 1)), (
                f"events of partition {partition_number} are missing"
            )

    def _read_segment(self, path: Path) -> None:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as segment:
            for partition, sequence, event in segment.execute("SELECT partition, sequence, event FROM events"):
                known = self._events.setdefault(partition, {}).setdefault(sequence, event)
                assert known == event, "one sequence number, two events"
                self.archived += 1

    def documents(self, kind: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        for key, data in self._documents.items():
            if key.split(b":", 2)[1] == kind:
                yield int(key[2:5]), key, data

    def raw_events(self) -> Iterator[bytes]:
        for events in self._events.values():
            yield from (events[sequence] for sequence in sorted(events))

    def members(self, index: bytes) -> set[str]:
        return self._indexes.get(index, set())
