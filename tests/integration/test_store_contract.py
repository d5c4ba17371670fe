"""Every store obeys one contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from balance.memory_store import MemoryStore
from balance.sqlite_store import SqliteStore
from balance.store import Committed, StoreFailure, Transaction
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.redis_server import RedisServer
from tests.support.redis_store import RedisClock, ThreadedRedisStore, redis_store
from tests.support.store_kit import SECOND_US, Calls, StoreKit, create, key


@pytest.fixture
def clock() -> list[int]:
    return [1_772_450_000_000_000]


class TestMemoryStore(StoreKit):
    @pytest.fixture
    def store(self, clock: list[int]) -> MemoryStore:
        return MemoryStore(now_us=lambda: clock[0])


class TestFaultyStoreWithoutFaults(StoreKit):
    @pytest.fixture
    def store(self, clock: list[int]) -> FaultyStore:
        return FaultyStore(MemoryStore(now_us=lambda: clock[0]))


class TestSqliteStore(StoreKit):
    @pytest.fixture
    def store(self, clock: list[int], tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(tmp_path / "store", lambda: clock[0])
        yield store
        store.close()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer("fast") as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """A client of an emptied server."""
    found = server.client()
    found.flushall()
    yield found
    found.close()


class TestRedisStore(StoreKit):
    """By functions over TCP, and by scripts over the unix socket."""

    grain_us = SECOND_US

    @pytest.fixture
    def clock(self, client: redis.Redis) -> list[int]:
        return RedisClock(client, 1_772_450_000_000_000)

    @pytest.fixture(params=["function", "evalsha"])
    def store(
        self, request: pytest.FixtureRequest, server: RedisServer, client: redis.Redis
    ) -> Iterator[ThreadedRedisStore]:
        evalsha = request.param == "evalsha"
        url = server.socket_url if evalsha else server.url
        with redis_store(url, level="fast", evalsha=evalsha) as store:
            yield store


class TestFaults:
    """What the faulty store does on demand is what other tests believe that it does."""

    @pytest.mark.parametrize(
        ("fault", "unknown", "applied"),
        [("refused", False, False), ("lost before", True, False), ("lost after", True, True)],
    )
    def test_a_commit_fails_once(self, fault: Fault, unknown: bool, applied: bool) -> None:
        store = FaultyStore(MemoryStore())
        calls = Calls(store)
        store.fail_commits(fault)
        failed = calls.commit(1, [Transaction((create("k"),), events=(b"e",))])
        assert isinstance(failed, StoreFailure)
        assert failed.unknown is unknown
        assert (calls.get("k") is not None, len(calls.events())) == (applied, applied)
        assert calls.write(create("other")) == Committed()

    def test_reads_fail_as_often_as_asked(self) -> None:
        store = FaultyStore(MemoryStore())
        calls = Calls(store)
        store.fail_reads(4)
        failed = [calls.read(1, []), calls.scan(1, b"i"), calls.due(1, 0), calls.outbox(1)]
        assert [isinstance(outcome, StoreFailure) and not outcome.unknown for outcome in failed] == [True] * 4
        assert calls.get("k") is None

    def test_what_is_held_took_effect_and_is_told_later_in_order(self) -> None:
        store = FaultyStore(MemoryStore())
        outcomes: list[object] = []
        store.hold()
        store.fail_commits("lost before")
        store.commit(1, [Transaction((create("a"),))], outcomes.append)
        store.commit(1, [Transaction((create("b"),))], outcomes.append)
        store.read(1, [key("a"), key("b")], outcomes.append)
        assert (outcomes, store.held) == ([], 3)
        store.release_one()
        assert [type(outcome) for outcome in outcomes] == [StoreFailure]
        store.release()
        assert outcomes[1:] == [[Committed()], {key("a"): None, key("b"): create("b").data}]
        store.read(1, [key("a")], outcomes.append)
        assert len(outcomes) == 4
