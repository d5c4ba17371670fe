"""What a Redis holds, read key by key without the product's store: for the auditor."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.books import Books
from tests.support.redis_server import RedisServer

PAGE = 1000


class RedisBooks(Books):
    """All keys of a store as they were when this was made; nobody writes meanwhile."""

    def __init__(self, server: RedisServer) -> None:
        self._documents: dict[bytes, bytes] = {}
        self._outboxes: dict[bytes, list[bytes]] = {}
        self._indexes: dict[bytes, set[str]] = {}
        with server.client() as client:
            keys = sorted(client.scan_iter(count=PAGE))
            plain = [key for key in keys if key[6:7] == b":"]
            for start in range(0, len(plain), PAGE):
                page = plain[start : start + PAGE]
                found = zip(page, client.mget(page), strict=True)
                self._documents.update((key, data) for key, data in found if data is not None)
            for key in keys:
                partition, _, name = key.partition(b"!")
                assert name != b"trimmed", "events have left the outbox: these books would not balance"
                if name == b"outbox":
                    self._outboxes[partition] = client.lrange(key, 0, -1)
                elif name.startswith(b"index:"):
                    members = {member.decode() for member in client.zrange(key, 0, -1)}
                    self._indexes.setdefault(name.removeprefix(b"index:"), set()).update(members)

    def documents(self, kind: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        for key, data in self._documents.items():
            if key.split(b":", 2)[1] == kind:
                yield int(key[2:5]), key, data

    def raw_events(self) -> Iterator[bytes]:
        for events in self._outboxes.values():
            yield from events

    def members(self, index: bytes) -> set[str]:
        return self._indexes.get(index, set())
