"""The Redis store where Redis is not as it should be: wrong, away, slow, emptied, full; and what it promises then."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis

from balance import redis_connection, redis_link, redis_store
from balance.redis_store import META_KEY
from balance.store import (
    CommitOutcome,
    Committed,
    Conflict,
    DueChange,
    StoreError,
    StoreFailure,
    StoreFormatError,
    StoreUnusable,
    Transaction,
    Write,
)
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.redis_store import ThreadedRedisStore
from tests.support.redis_store import redis_store as opened
from tests.support.resp_proxy import Cut, Hold, Lose, RespProxy, Tear, at
from tests.support.store_kit import Calls, create, key, update

WAIT_S = 15.0
SOON_S = 0.25
"""What is refused at once takes no longer, on a machine that others use too."""


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with RedisServer("safe") as running:
        yield running


@pytest.fixture
def server(shared: RedisServer) -> Iterator[RedisServer]:
    """Emptied, and put right again afterwards."""
    client = shared.client()
    client.flushall()
    yield shared
    client.replicaof("no", "one")
    for name, value in {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory-policy": "noeviction",
        "maxmemory": "0",
        "busy-reply-threshold": "5000",
    }.items():
        client.config_set(name, value)
    client.close()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    found = server.client()
    yield found
    found.close()


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server that the test may kill or pause."""
    with RedisServer("safe") as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here needs the patience of a server's start and of its checks."""
    monkeypatch.setattr(redis_store, "OPEN_DEADLINE_S", 0.3)
    monkeypatch.setattr(redis_connection, "RECHECK_S", 0.05)
    monkeypatch.setattr(redis_connection, "RECHECK_WRONG_S", 0.05)


def until(holds: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends, f"not within {WAIT_S} s: {what}"
        time.sleep(0.005)


def commit(store: ThreadedRedisStore, *transactions: Transaction) -> CommitOutcome:
    return Calls(store).commit(1, transactions)


def refused(outcome: object, unknown: bool, detail: str = "") -> StoreFailure:
    assert isinstance(outcome, StoreFailure), outcome
    assert outcome.unknown is unknown
    assert detail in outcome.detail
    return outcome


def problem_of(store: ThreadedRedisStore) -> str:
    return "; ".join(store.thread.call(store.inner.problems))


# Level and identity, at the start

WRONG = [
    ("safe", "appendfsync", "everysec", "appendfsync is 'everysec'", "set: appendfsync always"),
    ("safe", "appendfsync", "no", "appendfsync is 'no'", "set: appendfsync always"),
    ("fast", "appendfsync", "no", "appendfsync is 'no'", "set: appendfsync everysec"),
    ("safe", "appendonly", "no", "appendonly is 'no'", "set: appendonly yes"),
    ("fast", "appendonly", "no", "appendonly is 'no'", "set: appendonly yes"),
    (
        "fast",
        "maxmemory-policy",
        "allkeys-lru",
        "maxmemory-policy is 'allkeys-lru'",
        "set: maxmemory-policy noeviction",
    ),
    ("safe", "no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite is 'yes'", "no-appendfsync-on-rewrite no"),
]


@pytest.mark.parametrize(("level", "name", "value", "found", "line"), WRONG)
def test_a_level_that_does_not_hold_is_refused_with_the_lines_to_set(
    server: RedisServer, client: redis.Redis, level: str, name: str, value: str, found: str, line: str
) -> None:
    client.config_set(name, value)
    with pytest.raises(StoreUnusable) as caught, opened(server.url, level=level):
        pass
    text = str(caught.value)
    assert f"does not give level {level}" in text
    assert found in text
    assert line in text
    fsync = {"safe": "always", "fast": "everysec"}[level]
    lines = ["appendonly yes", f"appendfsync {fsync}", "no-appendfsync-on-rewrite no", "maxmemory-policy noeviction"]
    assert [one.strip() for one in text.splitlines()[-4:]] == lines


def test_fast_takes_a_redis_that_is_safe(server: RedisServer) -> None:
    with opened(server.url, level="fast") as store:
        assert commit(store, Transaction((create("k"),))) == [Committed()]


def test_partitions_and_format_are_fixed_when_the_store_is_made(server: RedisServer, client: redis.Redis) -> None:
    with opened(server.url, partitions=8) as store:
        assert commit(store, Transaction((create("k"),))) == [Committed()]
    with pytest.raises(StoreFormatError, match="made with 8 partitions, 64 were asked for"), opened(server.url):
        pass
    client.set(META_KEY, b"tollgate-ocs 99 8 0011223344556677")
    with pytest.raises(StoreFormatError, match="has format 99, this release reads 1"), opened(server.url, partitions=8):
        pass
    client.set(META_KEY, b"something")
    with pytest.raises(StoreFormatError, match="is not ours: b'something'"), opened(server.url, partitions=8):
        pass


def test_a_database_of_something_else_is_refused_and_left_alone(server: RedisServer, client: redis.Redis) -> None:
    client.set("theirs", "1")
    with pytest.raises(StoreFormatError, match="holds 1 keys of something else"), opened(server.url):
        pass
    assert client.keys() == [b"theirs"]


def test_a_replica_is_refused(server: RedisServer, client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", str(free_port()))
    with pytest.raises(StoreUnusable, match="no primary; its role is 'slave'"), opened(server.url):
        pass


def test_a_redis_that_is_not_there_is_refused_by_name_without_its_password() -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/3"
    with pytest.raises(StoreUnusable, match=r"redis://127\.0\.0\.1:[0-9]+/3: Redis cannot be reached") as caught:
        opened(url).__enter__()
    assert "secret" not in str(caught.value)


def test_user_password_and_database_come_from_the_url(server: RedisServer, client: redis.Redis) -> None:
    client.execute_command("ACL SETUSER ocs on >pass%word ~* &* +@all")  # type: ignore[no-untyped-call]
    address = server.url.removeprefix("redis://").removesuffix("/0")
    try:
        with opened(f"redis://ocs:pass%25word@{address}/5") as store:
            assert commit(store, Transaction((create("k"),))) == [Committed()]
            facts = Calls(store).wait(lambda done: store.thread.call(lambda: store.inner.describe(done)))
            assert facts["url"] == f"redis://{address}/5"
            assert "pass" not in repr(facts)
        assert client.dbsize() == 0
        with pytest.raises(StoreUnusable, match="WRONGPASS") as caught, opened(f"redis://ocs:wrong@{address}/5"):
            pass
        assert "wrong@" not in str(caught.value)
    finally:
        client.execute_command("ACL DELUSER ocs")  # type: ignore[no-untyped-call]
        other = server.client()
        other.execute_command("SELECT 5")  # type: ignore[no-untyped-call]
        other.flushall()
        other.close()


def test_what_is_no_redis_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(StoreUnusable, match="does not speak its protocol: reply of kind b'H'"):
            opened(f"redis://127.0.0.1:{listener.getsockname()[1]}").__enter__()
        listener.shutdown(socket.SHUT_RDWR)


def test_facts_for_operators(server: RedisServer, client: redis.Redis) -> None:
    with opened(server.url) as store:
        commit(store, Transaction((create("k"),), events=(b"1", b"2"), due=(DueChange(b"m", 1),)))
        facts = Calls(store).wait(lambda done: store.thread.call(lambda: store.inner.describe(done)))
        wanted = {
            "engine": "redis",
            "level": "safe",
            "url": server.url,
            "format": 1,
            "partitions": 64,
            "redis_version": client.info()["redis_version"],
            "calls": "function",
            "appendonly": "yes",
            "appendfsync": "always",
            "keys": 4,
            "events": 2,
            "due": 1,
            "connects": 1,
            "losses": 0,
        }
        assert {name: facts[name] for name in wanted} == wanted
        assert problem_of(store) == ""


# Level and identity, later


def test_a_level_lost_in_use_refuses_commits_until_it_is_back(server: RedisServer, client: redis.Redis) -> None:
    noted: list[tuple[str, bool]] = []
    with opened(server.url, note=lambda line, is_problem: noted.append((line, is_problem))) as store:
        calls = Calls(store)
        data = calls.put("k", b"one")
        client.config_set("appendfsync", "everysec")
        until(lambda: "appendfsync is 'everysec'" in problem_of(store), "the level is seen to be lost")
        refused(commit(store, Transaction((create("other"),))), False, "does not give level safe")
        refused(calls.trim(1, 1), False, "does not give level safe")
        assert calls.get("k") == data
        assert calls.get("other") is None
        client.config_set("appendfsync", "always")
        until(lambda: problem_of(store) == "", "the level is back")
        assert commit(store, Transaction((create("other"),))) == [Committed()]
    lines = [(line.split(":")[0], is_problem) for line, is_problem in noted[1:]]
    assert lines == [("commits are refused", True), ("Redis gives level safe", False)]


def test_an_append_only_file_that_is_switched_on_counts_when_its_first_rewrite_has_ended(own: RedisServer) -> None:
    with own.client() as client, opened(own.url) as store:
        assert commit(store, *(Transaction((create(f"k{number}"),)) for number in range(60))) == [Committed()] * 60
        client.config_set("appendonly", "no")
        until(lambda: "appendonly is 'no'" in problem_of(store), "the level is seen to be lost")
        client.config_set("rdb-key-save-delay", "10000")
        client.config_set("appendonly", "yes")
        until(lambda: "not being written yet" in problem_of(store), "the rewrite is seen")
        refused(commit(store, Transaction((create("other"),))), False, "not being written yet")
        until(lambda: problem_of(store) == "", "the rewrite has ended")
        assert client.info("persistence")["aof_rewrite_in_progress"] == 0
        assert commit(store, Transaction((create("other"),))) == [Committed()]


def test_a_connection_made_anew_to_a_wrong_level_refuses_commits(own: RedisServer) -> None:
    with opened(own.url) as store:
        own.kill()
        own._settings["appendfsync"] = "everysec"
        own.restart()
        until(lambda: "appendfsync is 'everysec'" in problem_of(store), "connected and judged")
        refused(commit(store, Transaction((create("k"),))), False, "does not give level safe")
        assert Calls(store).get("k") is None


def test_a_primary_that_becomes_a_replica_takes_no_commit(server: RedisServer, client: redis.Redis) -> None:
    with opened(server.url) as store:
        forgotten = threading.Event()
        store.inner.forget = forgotten.set
        client.replicaof("127.0.0.1", str(free_port()))
        refused(commit(store, Transaction((create("k"),))), False)
        until(lambda: "its role is 'slave'" in problem_of(store), "the new role is seen")
        assert forgotten.is_set()
        refused(Calls(store).read(1, [key("k")]), False, "its role is 'slave'")
        client.replicaof("no", "one")
        until(lambda: problem_of(store) == "", "the primary is back")
        assert commit(store, Transaction((create("k"),))) == [Committed()]


def test_a_store_that_was_emptied_or_exchanged_is_not_used(server: RedisServer, client: redis.Redis) -> None:
    with opened(server.url) as store:
        made = client.get(META_KEY)
        assert isinstance(made, bytes)
        client.flushall()
        client.client_kill_filter(_type="normal", skipme=True)
        until(lambda: "the store is gone" in problem_of(store), "the emptied store is seen")
        refused(commit(store, Transaction((create("k"),))), False, "the store is gone")
        client.set(META_KEY, made[:-1] + (b"0" if made[-1:] != b"0" else b"1"))
        until(lambda: "another store" in problem_of(store), "the other store is seen")
        refused(Calls(store).read(1, [key("k")]), False, "another store")
        client.set(META_KEY, made)
        until(lambda: problem_of(store) == "", "the right store is back")
        assert commit(store, Transaction((create("k"),))) == [Committed()]


@pytest.mark.parametrize("evalsha", [False, True])
def test_functions_that_were_flushed_are_loaded_again_and_the_commit_is_made_once(
    server: RedisServer, client: redis.Redis, evalsha: bool
) -> None:
    with opened(server.url, evalsha=evalsha) as store:
        client.execute_command("SCRIPT FLUSH" if evalsha else "FUNCTION FLUSH")  # type: ignore[no-untyped-call]
        outcomes: list[Any] = []
        several = [[Transaction((create(f"k{number}"),), events=(b"%d" % number,))] for number in range(20)]

        def send() -> None:
            for one in several:
                store.inner.commit(1, one, outcomes.append)

        store.thread.call(send)
        until(lambda: len(outcomes) == 20, "all are told")
        assert outcomes == [[Committed()]] * 20
        assert sorted(int(item.event) for item in Calls(store).events()) == list(range(20))
        assert store.inner.numbers.reloads == 1


# Outcomes that are lost


@pytest.mark.parametrize(("fault", "applied"), [(Lose(), True), (Tear(), True), (Cut(), False)])
def test_a_commit_whose_reply_is_lost_is_unknown_and_never_repeated(
    server: RedisServer, fault: Any, applied: bool
) -> None:
    with RespProxy(server.address) as proxy, opened(proxy.url) as store:
        calls = Calls(store)
        forgotten: list[int] = []
        store.inner.forget = lambda: forgotten.append(1)
        proxy.plan = at(proxy.commits + 1, fault)
        refused(commit(store, Transaction((create("k"),), events=(b"e",))), True)
        until(lambda: problem_of(store) == "", "connected again")
        assert forgotten == [1]
        assert (calls.get("k") is not None, len(calls.events())) == (applied, applied)
        assert store.inner.numbers.losses == 1


def test_a_read_whose_reply_is_lost_is_no_unknown_commit(server: RedisServer) -> None:
    with RespProxy(server.address) as proxy, opened(proxy.url) as store:
        proxy.refusing = True
        outcomes: list[Any] = []
        proxy.plan = at(proxy.commits + 1, Hold())

        def send() -> None:
            store.inner.commit(1, [Transaction((create("k"),))], outcomes.append)
            store.inner.read(1, [key("k")], outcomes.append)

        store.thread.call(send)
        until(lambda: store.inner.pending == 2, "both are sent")
        time.sleep(0.05)
        proxy.cut()
        until(lambda: len(outcomes) == 2, "both are told")
        refused(outcomes[0], True)
        refused(outcomes[1], False)


def test_without_a_connection_calls_fail_at_once_and_it_comes_back_by_itself(own: RedisServer) -> None:
    with opened(own.url) as store:
        calls = Calls(store)
        data = calls.put("k", b"one")
        own.kill()
        until(lambda: problem_of(store) != "", "the loss is seen")
        for call in (
            lambda: calls.read(1, [key("k")]),
            lambda: commit(store, Transaction((create("other"),))),
            lambda: calls.scan(1, b"i"),
            lambda: calls.due(1, 5),
            lambda: calls.due(1, 2**60),
            lambda: calls.outbox(1),
            lambda: calls.trim(1, 1),
        ):
            started = time.monotonic()
            refused(call(), False)
            assert time.monotonic() - started < SOON_S
        until(lambda: "cannot be reached" in problem_of(store), "the reason is told")
        own.restart()
        until(lambda: problem_of(store) == "", "connected again")
        assert calls.get("k") == data
        assert calls.get("other") is None


@contextmanager
def paused(server: RedisServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def test_a_redis_that_stands_still_ends_calls_in_time_and_no_reply_goes_astray(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connection, "RECHECK_S", 60.0)
    with opened(own.url, timeout_ms=500) as store:
        calls = Calls(store)
        data = calls.put("k", b"one")
        with paused(own):
            started = time.monotonic()
            outcomes: list[Any] = []

            def send() -> None:
                store.inner.commit(1, [Transaction((create("new"),))], outcomes.append)
                store.inner.read(1, [key("k"), key("x")], outcomes.append)

            store.thread.call(send)
            until(lambda: len(outcomes) == 2, "both are told")
            assert 0.45 < time.monotonic() - started < 0.5 + 4 * SOON_S
            refused(outcomes[0], True, "did not answer in time")
            refused(outcomes[1], False, "did not answer in time")
            started = time.monotonic()
            refused(calls.read(1, [key("k")]), False, "does not answer")
            assert time.monotonic() - started < SOON_S
        until(lambda: not isinstance(calls.read(1, [key("k")]), StoreFailure), "Redis goes on")
        assert calls.read(1, [key("k"), key("new")]) == {key("k"): data, key("new"): create("new").data}
        assert (store.inner.numbers.timeouts, store.inner.numbers.losses) == (2, 0)
        assert store.inner.numbers.late_replies == 2


def test_what_lay_unread_in_a_given_up_connection_is_settled_before_the_next_is_used(own: RedisServer) -> None:
    with opened(own.url, timeout_ms=100) as store:
        calls = Calls(store)
        calls.put("k", b"one")
        with paused(own):
            outcomes: list[Any] = []

            def send() -> None:
                for number in range(200):
                    store.inner.commit(1, [Transaction((create(f"n{number}"),))], outcomes.append)

            store.thread.call(send)
            until(lambda: store.inner.numbers.losses == 1, "the connection is given up")
            assert len(outcomes) == 200
            assert all(refused(one, True) for one in outcomes)
        until(lambda: problem_of(store) == "", "connected again")
        names = [key(f"n{number}") for number in range(200)]
        seen = calls.read(1, names)
        assert not isinstance(seen, StoreFailure)
        time.sleep(0.2)
        assert calls.read(1, names) == seen


class LateNetwork:
    """Passes octets to Redis; once `holding`, keeps what comes, also when its sender is gone, until `release`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.holding = False
        self._kept: list[tuple[socket.socket, bytes]] = []
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def kept(self) -> int:
        return len(self._kept)

    def release(self) -> None:
        for upstream, data in self._kept:
            with suppress(OSError):
                upstream.sendall(data)

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                upstream = socket.create_connection(self._target)
                self._open += [client, upstream]
                threading.Thread(target=self._up, args=(client, upstream), daemon=True).start()
                threading.Thread(target=self._down, args=(upstream, client), daemon=True).start()

    def _up(self, client: socket.socket, upstream: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.holding:
                    self._kept.append((upstream, data))
                else:
                    upstream.sendall(data)

    def _down(self, upstream: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := upstream.recv(65536):
                client.sendall(data)


def test_a_commit_that_the_network_kept_is_not_applied_after_the_next_connection(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a read-back that said "not applied" would be made a lie, after the request was answered with an error."""
    monkeypatch.setattr(redis_connection, "RECHECK_S", 60.0)
    network = LateNetwork(server.address)
    try:
        with opened(network.url, timeout_ms=100) as store:
            time.sleep(0.1)
            network.holding = True
            refused(commit(store, Transaction((create("k"),), events=(b"e",))), True)
            assert network.kept == 1
            # What comes over the next connection passes; what the old one carried is still on its way.
            until(lambda: store.inner.numbers.losses == 1, "the connection is given up")
            network.holding = False
            until(lambda: problem_of(store) == "", "connected again")
            assert Calls(store).get("k") is None
            network.release()
            time.sleep(0.2)
            assert Calls(store).get("k") is None
            assert Calls(store).events() == []
    finally:
        network.close()


def test_the_queue_is_bounded(own: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "MAX_PENDING", 3)
    monkeypatch.setattr(redis_connection, "RECHECK_S", 60.0)
    with opened(own.url) as store:
        time.sleep(0.1)
        outcomes: list[Any] = []
        with paused(own):

            def send() -> None:
                for number in range(5):
                    store.inner.commit(1, [Transaction((create(f"k{number}"),))], outcomes.append)

            store.thread.call(send)
            until(lambda: len(outcomes) == 2, "what is too much is refused")
            for outcome in outcomes:
                refused(outcome, False, "too many calls wait")
        until(lambda: len(outcomes) == 5, "the others go through")
        assert outcomes[2:] == [[Committed()]] * 3


@pytest.mark.parametrize("evalsha", [False, True])
def test_a_full_redis_refuses_and_changes_nothing(server: RedisServer, client: redis.Redis, evalsha: bool) -> None:
    with opened(server.url, evalsha=evalsha) as store:
        calls = Calls(store)
        assert commit(store, Transaction((), events=(b"before",))) == [Committed()]
        client.config_set("maxmemory", "1")
        refused(commit(store, Transaction((create("k"), create("ttl", ttl_s=5)), events=(b"e",))), False, "OOM")
        assert calls.get("k") is None
        # What makes room again goes on, also over a new connection.
        client.client_kill_filter(_type="normal", skipme=True)
        until(lambda: store.inner.numbers.losses == 1 and problem_of(store) == "", "connected again")
        assert [item.event for item in calls.events()] == [b"before"]
        assert calls.trim(1, 1000) is None
        assert calls.events() == []
        client.config_set("maxmemory", "0")
        assert commit(store, Transaction((create("k"),))) == [Committed()]


def test_a_busy_redis_is_asked_again_until_it_answers(server: RedisServer, client: redis.Redis) -> None:
    client.config_set("busy-reply-threshold", "1")
    hog = server.client()

    def spin() -> None:
        with pytest.raises(redis.exceptions.ResponseError, match="killed"):
            hog.eval("while true do end", 0)

    thread = threading.Thread(target=spin)
    with opened(server.url, timeout_ms=5000) as store:
        thread.start()
        outcomes: list[Any] = []
        time.sleep(0.05)
        store.thread.call(lambda: store.inner.commit(1, [Transaction((create("k"),))], outcomes.append))
        until(lambda: store.inner.numbers.retries >= 3, "it is asked again")
        assert outcomes == []
        client.script_kill()
        until(lambda: len(outcomes) == 1, "it is told")
        assert outcomes == [[Committed()]]
        thread.join()
    hog.close()


def test_a_callback_that_raises_hurts_no_other(server: RedisServer) -> None:
    with opened(server.url) as store:
        told: list[Any] = []

        def send() -> None:
            store.inner.read(1, [key("a")], lambda _outcome: told.append(1 // 0))
            store.inner.read(1, [key("b")], told.append)

        store.thread.call(send)
        until(lambda: len(told) == 1, "the second is told")
        assert told == [{key("b"): None}]
        assert [type(one["exception"]) for one in store.thread.errors] == [ZeroDivisionError]
        store.thread.errors.clear()


def test_closing_finishes_what_is_under_way_and_refuses_what_comes_later(server: RedisServer) -> None:
    store = ThreadedRedisStore(server.url)
    outcomes: list[Any] = []
    store.thread.call(lambda: store.inner.commit(1, [Transaction((create("k"),))], outcomes.append))
    store.thread.wait(store.inner.close())
    assert outcomes == [[Committed()]]
    store.thread.call(lambda: store.inner.read(1, [key("k")], outcomes.append))
    until(lambda: len(outcomes) == 2, "the late call is told")
    refused(outcomes[1], False, "closed")
    store.thread.close()


# Several at once


def test_two_openings_at_once_make_one_store(server: RedisServer) -> None:
    found: list[ThreadedRedisStore] = []
    threads = [threading.Thread(target=lambda: found.append(ThreadedRedisStore(server.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({store.inner._identity for store in found}) == 1
    for store in found:
        store.close()


def test_two_processes_lose_no_update(server: RedisServer) -> None:
    with opened(server.url) as one, opened(server.socket_url, evalsha=True) as two:
        created = create("k", b"0")
        assert commit(one, Transaction((created,))) == [Committed()]
        assert created.data is not None

        def add(store: ThreadedRedisStore, nonce: bytes, document: bytes) -> None:
            for _ in range(100):
                while True:
                    body = b"%d" % (int(document[18:]) + 1)
                    write = update(document, "k", body, nonce)
                    [verdict] = commit(store, Transaction((write,), events=(body,)))  # type: ignore[misc]
                    if isinstance(verdict, Committed):
                        assert write.data is not None
                        document = write.data
                        break
                    assert isinstance(verdict, Conflict)
                    document = verdict.documents[key("k")] or b""

        threads = [
            threading.Thread(target=add, args=(store, nonce, created.data))
            for store, nonce in ((one, b"writer-1"), (two, b"writer-2"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (Calls(one).get("k") or b"")[18:] == b"200"
        assert [int(item.event) for item in Calls(two).events()] == list(range(1, 201))


def test_calls_of_any_size(server: RedisServer) -> None:
    """Beyond what Lua's stack takes at once: thousands of writes and events in one call, won and lost."""

    def names(number: int, writes: int = 120) -> Sequence[Write]:
        return [create(f"{number}-{place}") for place in range(writes)]

    with opened(server.url, timeout_ms=5000) as store:
        calls = Calls(store)
        batch = [Transaction(tuple(names(number)), (b"%d" % number,) * 100) for number in range(64)]
        assert calls.commit(1, batch) == [Committed()] * 64
        assert len(calls.events(after=6000)) == 400
        batch[7] = Transaction(tuple(create(f"new-{place}") for place in range(5000)), (b"x",) * 9000)
        outcome = calls.commit(1, batch)
        assert not isinstance(outcome, StoreFailure)
        assert outcome[7] == Committed()
        assert [type(one) for one in outcome].count(Conflict) == 63
        assert outcome[63] == Conflict({write.key: write.data for write in names(63)})
        assert len(calls.events(after=15_000)) == 400
        assert calls.get("new-4999") is not None


def test_what_was_answered_survives_kill_9(own: RedisServer) -> None:
    with opened(own.url) as store:
        answered = [
            name for name in map(str, range(100)) if commit(store, Transaction((create(name),))) == [Committed()]
        ]
        own.kill()
        own.restart()
        until(lambda: problem_of(store) == "", "connected again")
        found = Calls(store).read(1, [key(name) for name in answered])
        assert not isinstance(found, StoreFailure)
        assert len(answered) == 100
        assert None not in found.values()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1", "url of kind 'http'"),
        ("redis://127.0.0.1/zero", "database 'zero'"),
        ("redis://user:secret@host:port/0", "cannot be read"),
        ("unix://redis.sock", "absolute path"),
        ("unix:///tmp/redis.sock?db=x", "database 'x'"),
    ],
)
def test_urls_that_lead_nowhere(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        opened(url).__enter__()
    assert not isinstance(caught.value, StoreError)
    assert "secret" not in str(caught.value)
