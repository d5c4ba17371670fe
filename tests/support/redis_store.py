"""A RedisStore for tests that block: on a loop of its own thread, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, SupportsIndex, TypeVar

import redis
import uvloop

from balance.redis_store import RedisStore
from balance.store import (
    CommitOutcome,
    DueItem,
    OutboxItem,
    ReadOutcome,
    StoreFailure,
    Transaction,
    forget_nothing,
)

T = TypeVar("T")

WAIT_S = 30.0


class LoopThread:
    """A uvloop in a thread."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, name="store-loop", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there; returns or raises what it does."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    def call(self, work: Callable[[], T]) -> T:
        """Run a function there."""

        async def run() -> T:
            return work()

        return self.wait(run())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()
        assert not self.errors, self.errors


class ThreadedRedisStore:
    """The store's contract for callers in another thread than the store's loop."""

    def __init__(self, url: str, **more: Any) -> None:
        self.thread = LoopThread()
        self.forget: Callable[[], None] = forget_nothing
        try:
            self.inner = self.thread.wait(RedisStore.open(url, **more))
        except BaseException:
            self.thread.close()
            raise
        self.partitions = self.inner.partitions

    def close(self) -> None:
        self.thread.wait(self.inner.close())
        self.thread.close()

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        self.thread.call(lambda: self.inner.read(partition, keys, done))

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        self.thread.call(lambda: self.inner.commit(partition, transactions, done))

    def scan(
        self,
        partition: int,
        index: bytes,
        after: bytes,
        limit: int,
        done: Callable[[Sequence[bytes] | StoreFailure], None],
    ) -> None:
        self.thread.call(lambda: self.inner.scan(partition, index, after, limit, done))

    def due(
        self, partition: int, now_us: int, limit: int, done: Callable[[Sequence[DueItem] | StoreFailure], None]
    ) -> None:
        self.thread.call(lambda: self.inner.due(partition, now_us, limit, done))

    def outbox(
        self, partition: int, after: int, limit: int, done: Callable[[Sequence[OutboxItem] | StoreFailure], None]
    ) -> None:
        self.thread.call(lambda: self.inner.outbox(partition, after, limit, done))

    def trim(self, partition: int, upto: int, done: Callable[[StoreFailure | None], None]) -> None:
        self.thread.call(lambda: self.inner.trim(partition, upto, done))

    def outbox_length(self, done: Callable[[int | StoreFailure], None]) -> None:
        self.thread.call(lambda: self.inner.outbox_length(done))


class RedisClock(list[int]):
    """A list of one moment, as the contract kit moves it: what Redis keeps for a time is made that much older.

    What is left of a time to live is rounded up to a second first, so that the time which the test itself takes does not
    count; so a test moves it by whole seconds.
    """

    def __init__(self, client: redis.Redis, now_us: int) -> None:
        super().__init__([now_us])
        self._client = client

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        assert isinstance(index, int)
        passed_ms, rest = divmod(value - self[index], 1000)
        assert rest == 0
        super().__setitem__(index, value)
        for key in self._client.scan_iter(count=1000):
            left_ms: int = self._client.pttl(key)
            if left_ms == -1:
                continue
            new_ms = -(-left_ms // 1000) * 1000 - passed_ms
            if new_ms > 0:
                self._client.pexpire(key, new_ms)
            else:
                self._client.delete(key)


@contextmanager
def redis_store(url: str, **more: Any) -> Iterator[ThreadedRedisStore]:
    """An open store, closed at the end."""
    store = ThreadedRedisStore(url, **more)
    try:
        yield store
    finally:
        store.close()
