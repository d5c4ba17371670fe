"""The proxy between a worker and Redis does what a test says, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.redis_server import RedisServer
from tests.support.resp import Octets
from tests.support.resp_proxy import Cut, Delay, Fault, Hold, Lose, RespProxy, Tear, at, at_random, no_fault

INCREASE = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[RespProxy]:
    with RespProxy(redis_server.address) as running:
        yield running


@pytest.fixture
def client(proxy: RespProxy) -> Iterator[redis.Redis]:
    with _client(proxy) as connected:
        yield connected


def _client(proxy: RespProxy, protocol: int = 2) -> redis.Redis:
    return redis.Redis(
        host="127.0.0.1", port=proxy.port, socket_timeout=5, retry=Retry(NoBackoff(), 0), protocol=protocol
    )


def _increase(client: redis.Redis, by: int = 1) -> int:
    return int(client.eval(INCREASE, 1, "n", by))


def _stored(server: RedisServer) -> int:
    with server.client() as direct:
        return int(direct.get("n") or 0)


@pytest.mark.parametrize("protocol", [2, 3])
def test_without_a_fault_everything_passes(proxy: RespProxy, protocol: int) -> None:
    value = bytes(range(256)) * 1000
    with _client(proxy, protocol) as client:
        assert client.set("binary", value)
        assert client.get("binary") == value
        assert client.get("nonesuch") is None
        client.hset("h", mapping={"a": "1", "b": "2"})
        assert client.hgetall("h") == {b"a": b"1", b"b": b"2"}
        client.xadd("x", {"f": b"\r\n$5\r\n"})
        assert client.xrange("x")[0][1] == {b"f": b"\r\n$5\r\n"}
        assert client.lrange("l", 0, -1) == []
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.incr("h")
        with client.pipeline(transaction=True) as several:
            assert several.incr("m").incr("m").lrange("l", 0, -1).execute() == [1, 2, []]
        assert [_increase(client) for _ in range(3)] == [1, 2, 3]
    assert (proxy.commits, proxy.replied, proxy.faults) == (3, 3, 0)


@pytest.mark.parametrize(
    ("fault", "done"), [(Lose(), True), (Tear(), True), (Cut(), False)], ids=["lose", "tear", "cut"]
)
def test_a_commit_whose_client_hears_nothing(
    redis_server: RedisServer, proxy: RespProxy, client: redis.Redis, fault: Fault, done: bool
) -> None:
    proxy.plan = at(2, fault)
    assert _increase(client) == 1
    with pytest.raises(redis.ConnectionError):
        _increase(client)
    assert _stored(redis_server) == 1 + done
    assert (proxy.commits, proxy.replied, proxy.faults) == (2, 1 + done, 1)
    assert _increase(client) == 2 + done  # over a new connection


def test_a_reply_lost_inside_a_pipeline(redis_server: RedisServer, proxy: RespProxy) -> None:
    """What stands before the lost reply may be heard, what stands behind it may be done; neither is promised."""
    proxy.plan = at(3, Lose())
    one = b"*5\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n1\r\n$1\r\nn\r\n$%d\r\n%d\r\n"
    heard = b""
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        for place in range(4):
            connection.sendall(one % (len(INCREASE), INCREASE.encode(), place + 1, 10**place))
        with contextlib.suppress(ConnectionResetError):
            while octets := connection.recv(4096):
                heard += octets
    assert heard in (b"", b":1\r\n", b":1\r\n:11\r\n")
    assert _stored(redis_server) in (111, 1111)
    assert proxy.faults == 1


def test_a_delayed_reply_comes_late_and_in_its_place(proxy: RespProxy, client: redis.Redis) -> None:
    proxy.plan = at(1, Delay(0.3))
    started = time.monotonic()
    with client.pipeline(transaction=False) as both:
        assert both.eval(INCREASE, 1, "n", 1).get("n").execute() == [1, b"1"]
    assert time.monotonic() - started > 0.29
    assert _increase(client) == 2
    assert time.monotonic() - started < 5


def test_a_held_reply_waits_for_the_test(redis_server: RedisServer, proxy: RespProxy, client: redis.Redis) -> None:
    proxy.plan = at(1, Hold())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_increase, client)
        proxy.wait_held()
        assert _stored(redis_server) == 1  # in the store, and nobody knows
        assert not asked.done()
        proxy.release()
        assert asked.result(5) == 1
        proxy.plan = at(2, Hold())
        asked = pool.submit(_increase, client)
        proxy.wait_held()
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            asked.result(5)
    assert proxy.held == 0


def test_a_reply_is_held_over_the_death_of_redis(private_redis: RedisServer) -> None:
    with RespProxy(private_redis.address, at(1, Hold())) as proxy, _client(proxy) as client:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(_increase, client)
            proxy.wait_held()
            private_redis.kill()
            time.sleep(0.05)
            assert not asked.done()
            proxy.cut()
            with pytest.raises(redis.ConnectionError):
                asked.result(5)
        with pytest.raises(redis.ConnectionError):
            client.ping()  # nobody is there
        private_redis.restart()
        assert _increase(client) == 2


def test_a_stalled_network_and_a_refused_connection(proxy: RespProxy, client: redis.Redis) -> None:
    client.ping()
    proxy.stall()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_increase, client)
        time.sleep(0.1)
        assert not asked.done()
        assert proxy.commits == 0
        proxy.flow()
        assert asked.result(5) == 1
    proxy.refusing = True
    proxy.cut()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.refusing = False
    assert client.ping()


def test_random_places_are_the_seeds_and_are_counted(redis_server: RedisServer) -> None:
    def lost_of(seed: int) -> list[int]:
        lost = []
        with RespProxy(redis_server.address) as proxy, _client(proxy) as client:
            proxy.plan = at_random(proxy, seed, 0.2, limit=7)
            for number in range(1, 101):
                try:
                    _increase(client)
                except redis.ConnectionError:
                    lost.append(number)
            assert (proxy.commits, proxy.faults) == (100, 7)
        return lost

    first, again, other = lost_of(1), lost_of(1), lost_of(2)
    assert len(first) == 7
    assert first == again != other
    assert _stored(redis_server) == 300


def test_connections_are_counted_together(redis_server: RedisServer, proxy: RespProxy) -> None:
    barrier = threading.Barrier(4)

    def fifty(_: int) -> None:
        with _client(proxy) as client:
            barrier.wait()
            for _ in range(50):
                _increase(client)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fifty, range(4)))
    assert (proxy.commits, _stored(redis_server)) == (200, 200)
    proxy.wait(lambda one: one.connections == 0)
    assert no_fault(1) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"+OK\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n:1\r\n$3\r\na\r\n\r\n",
        b"%1\r\n+a\r\n~2\r\n:1\r\n#t\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
        b"=5\r\ntxt:a\r\n",
    ],
)
def test_a_reply_ends_where_it_ends(octets: bytes) -> None:
    """One octet at a time, and with a second one behind it."""
    stream = Octets()
    for place in range(len(octets) - 1):
        stream.feed(octets[place : place + 1])
        assert list(stream.replies()) == []
    stream.feed(octets[-1:] + octets)
    assert [reply.octets for reply in stream.replies()] == [octets, octets]


def test_what_is_not_resp_is_an_error() -> None:
    stream = Octets()
    stream.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(ValueError, match="not RESP"):
        list(stream.replies())
