"""Redis is paused, killed, stopped, cut off or silent: errors in time, no success without a commit, and back again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.books import audit
from tests.support.crowd import PASSING, Crowd
from tests.support.redis_books import RedisBooks
from tests.support.redis_server import RedisServer
from tests.support.resp_proxy import RespProxy
from tests.support.server_process import Server, Workers

BOTH = [0, 1]
DEADLINE_S = 2.0
MARGIN_S = 0.5
"""What this machine's other users may cost."""


SESSIONS = 4


class Place(NamedTuple):
    redis_server: RedisServer
    proxy: RespProxy
    workers: Workers
    towns: Iterator[int]

    @contextmanager
    def crowd(self) -> Iterator[Crowd]:
        """Forty sessions on ten accounts."""
        first, second = self.workers.servers
        with Crowd([lambda: first.port, lambda: second.port], seed=5) as crowd:
            crowd.settle(self.workers, accounts=10, sessions=SESSIONS, cents=10_000_000, town=next(self.towns))
            crowd.insist(crowd.openings(), BOTH)
            yield crowd

    def check(self, crowd: Crowd) -> None:
        """Everything is charged once, and every session has its grant of 10 MiB."""
        expected = {name: (cents, 100 * SESSIONS) for name, cents in crowd.expected_cents().items()}
        assert {name: self.workers.balance(name) for name in expected} == expected
        audit(RedisBooks(self.redis_server, self.workers.home))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two workers that no fault of this module may end."""
    with ExitStack() as stack:
        redis_server = stack.enter_context(RedisServer("safe"))
        proxy = stack.enter_context(RespProxy(redis_server.address))
        workers = stack.enter_context(Workers(tmp_path_factory.mktemp("gone"), [proxy.url] * 2))
        workers.prepare()
        pids = [server.pid for server in workers.servers]
        yield Place(redis_server, proxy, workers, itertools.count())
        assert [server.pid for server in workers.servers] == pids
        assert all(server.is_running() for server in workers.servers)


def _refuse(place: Place) -> None:
    place.proxy.refusing = True
    place.proxy.cut()


def _accept(place: Place) -> None:
    place.proxy.refusing = False


FAULTS: dict[str, tuple[Callable[[Place], None], Callable[[Place], None]]] = {
    "paused": (lambda place: place.redis_server.pause(), lambda place: place.redis_server.resume()),
    "killed": (lambda place: place.redis_server.kill(), lambda place: place.redis_server.restart()),
    "stopped": (lambda place: place.redis_server.stop(), lambda place: place.redis_server.restart()),
    "silent": (lambda place: place.proxy.stall(), lambda place: place.proxy.flow()),
    "refusing": (_refuse, _accept),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_redis_goes_and_comes_back(place: Place, fault: str) -> None:
    """Twice, for the second time meets what the first left behind."""
    go, come_back = FAULTS[fault]
    with place.crowd() as crowd:
        for _ in range(2):
            before = crowd.updates()
            crowd.ask(before, BOTH)
            crowd.receive()
            assert all(one.first is not None for one in before)
            go(place)
            lost = crowd.updates(2)
            crowd.longest_s = 0.0
            crowd.ask(lost, BOTH)
            crowd.receive()
            assert [one for one in lost if one.first is not None] == [], "a success without a commit"
            assert {code for one in lost for code in one.errors} <= PASSING
            assert crowd.longest_s < DEADLINE_S + MARGIN_S
            assert all(server.get("/v1/health")["status"] == "ok" for server in place.workers.servers)
            come_back(place)
            started = time.monotonic()
            crowd.insist(lost, BOTH)
            assert time.monotonic() - started < 5.0, "it did not recover by itself"
            crowd.repeat(before + lost, BOTH[::-1])
        place.check(crowd)


def test_a_slow_redis_is_waited_for(place: Place) -> None:
    """Slower than a call may take, faster than the deadline: paused for moments, and everything is charged once."""
    with place.crowd() as crowd:
        asked = crowd.updates(2)
        crowd.ask(asked, BOTH)
        for _ in range(5):
            place.redis_server.pause()
            time.sleep(0.1)
            place.redis_server.resume()
            time.sleep(0.02)
        crowd.receive()
        crowd.insist(asked, BOTH)
        place.check(crowd)


def test_queues_are_bounded_while_redis_stands_still(place: Place) -> None:
    """Twenty thousand requests against a Redis that answers nothing: errors in time, and memory stays."""
    with place.crowd() as crowd:
        before = [_resident_octets(server) for server in place.workers.servers]
        place.redis_server.pause()
        crowd.longest_s = 0.0
        asked = []
        for _ in range(100):
            some = crowd.updates(5)
            asked += some
            crowd.ask(some, BOTH)
            crowd.receive(seconds=0.001, patient=True)
        crowd.receive(seconds=30)
        grown = [_resident_octets(server) - old for server, old in zip(place.workers.servers, before, strict=True)]
        place.redis_server.resume()
        assert len(asked) == 20_000
        assert [one for one in asked if one.first is not None] == []
        assert {code for one in asked for code in one.errors} <= PASSING
        assert crowd.longest_s < DEADLINE_S + MARGIN_S
        assert max(grown) < 64 * 1024 * 1024
        # What was refused may have been done or not; the books balance in both cases.
        last = crowd.updates()
        crowd.insist(last, BOTH)
        audit(RedisBooks(place.redis_server, place.workers.home))


def _resident_octets(server: Server) -> int:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no VmRSS")
