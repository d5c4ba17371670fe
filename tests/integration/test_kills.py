"""kill -9, from outside, between a commit seen in the store and the answer on the wire (S11 c, d).

A proxy holds the reply of a commit that Redis has made: the worker cannot have answered. Then the worker, or Redis, is
killed under load, fifty times each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.books import audit
from tests.support.crowd import Asked, Crowd
from tests.support.redis_books import RedisBooks
from tests.support.redis_server import RedisServer
from tests.support.resp_proxy import Hold, RespProxy, at, no_fault
from tests.support.server_process import Workers

KILLS = 50
BOTH = [0, 1]


class Place:
    """Redis, two workers each behind a proxy, and a crowd."""

    def __init__(self, home: Path, redis_server: RedisServer, stack: ExitStack) -> None:
        self.redis_server = redis_server
        self.proxies = [stack.enter_context(RespProxy(redis_server.address)) for _ in BOTH]
        urls = [proxy.url for proxy in self.proxies]
        self.workers = stack.enter_context(Workers(home, urls, redis_server.level))
        self.workers.prepare()
        first, second = self.workers.servers
        self.crowd = stack.enter_context(Crowd([lambda: first.port, lambda: second.port], seed=KILLS))
        self.crowd.settle(self.workers, accounts=10, sessions=2, cents=10_000_000)
        self.crowd.insist(self.crowd.openings(), BOTH)
        self.limited: list[str] = []

    def load(self, number: int) -> tuple[list[Asked], list[Asked]]:
        """The crowd's reports, and fifteen sessions at once on a new account that has money for five."""
        account = f"limited{number}"
        msisdn = f"4477199{number:05d}"
        self.workers.subscriber(500, msisdn=msisdn, account=account)
        self.limited.append(account)
        return self.crowd.updates(2), self.crowd.strangers(account, msisdn, 15)

    def ask_until_held(self, asked: list[Asked], victim: int) -> None:
        """Send all, and wait until a commit of the victim is in the store and its reply is not with the victim."""
        proxy = self.proxies[victim]
        proxy.plan = at(proxy.commits + self.crowd.dice.randint(1, 6), Hold())
        self.crowd.ask(asked, BOTH)
        self.crowd.receive(lambda: proxy.held > 0)
        assert proxy.held, "no commit was held: nothing would be killed under load"
        proxy.plan = no_fault

    def settle(self, reports: list[Asked], openings: list[Asked]) -> None:
        """Everybody asks until there is a success, then once more; five of the fifteen are granted."""
        self.crowd.insist(reports + openings, BOTH)
        self.crowd.repeat(reports + openings, BOTH[::-1])
        codes = [one.first.service.result_code for one in openings if one.first is not None]
        assert (codes.count(2001), codes.count(4012)) == (5, 10)
        assert self.workers.balance(self.limited[-1]) == (500, 500)

    def close_the_books(self) -> None:
        """F28 and F35: every request is charged once; nothing stays reserved, neither ended nor forgotten sessions'."""
        audit(RedisBooks(self.redis_server, self.workers.home))
        self.crowd.insist(self.crowd.endings(), BOTH)
        expected = {name: (cents, 0) for name, cents in self.crowd.expected_cents().items()}
        assert {name: self.workers.balance(name) for name in expected} == expected
        self.workers.advance(2 * 3600)
        assert {self.workers.balance(name) for name in self.limited} == {(500, 0)}
        audit(RedisBooks(self.redis_server, self.workers.home))


@pytest.fixture
def place(tmp_path: Path, private_redis: RedisServer) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, private_redis, stack)


@pytest.fixture
def fast_place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack.enter_context(RedisServer("fast")), stack)


@pytest.mark.proves("S11", "F27", "F28", "F35", "CC-041")
def test_s11_c_a_worker_is_killed_between_commit_and_answer(place: Place) -> None:
    for number in range(KILLS):
        victim = number % 2
        reports, openings = place.load(number)
        place.ask_until_held(openings + reports, victim)
        place.workers.servers[victim].kill()
        place.proxies[victim].cut()
        place.crowd.leave(victim)
        place.workers.servers[victim].launch()
        place.crowd.receive()  # the other one goes on
        missing = [one for one in openings + reports if one.first is None]
        assert missing, "every request was answered before the kill"
        place.crowd.insist(missing, [1 - victim])
        place.workers.wait_until_ready()
        place.settle(reports, openings)
    place.close_the_books()


@pytest.mark.proves("S11", "F27", "F28", "F35", "CC-041")
def test_s11_c_redis_is_killed_between_commit_and_answer(place: Place) -> None:
    """Of level `safe`: nothing that was acknowledged is lost. The workers live on."""
    kill_redis(place, KILLS)


def test_redis_of_level_fast_loses_nothing_when_it_is_killed(fast_place: Place) -> None:
    """Only a power cut may cost what was acknowledged in the last second."""
    kill_redis(fast_place, KILLS // 5)


def kill_redis(place: Place, kills: int) -> None:
    pids = [server.pid for server in place.workers.servers]
    for number in range(kills):
        reports, openings = place.load(number)
        place.ask_until_held(openings + reports, number % 2)
        place.redis_server.kill()
        for proxy in place.proxies:
            proxy.cut()
        place.redis_server.restart()
        place.crowd.receive()
        place.settle(reports, openings)
    place.close_the_books()
    assert [server.pid for server in place.workers.servers] == pids
    assert all(server.is_running() for server in place.workers.servers)


@pytest.mark.proves("S11", "CC-041")
def test_s11_d_a_worker_is_killed_before_its_commit(place: Place) -> None:
    """The commit never reaches Redis: the request is processed once, when it comes again."""
    for victim in BOTH:
        reports, openings = place.load(victim)
        proxy = place.proxies[victim]
        proxy.stall()
        seen = proxy.commits
        place.crowd.ask(openings + reports, [victim])
        assert place.crowd.receive(lambda: False, seconds=0.3, patient=True) == 0
        assert proxy.commits == seen
        place.workers.servers[victim].kill()
        proxy.cut()
        proxy.flow()
        place.crowd.leave(victim)
        place.workers.servers[victim].launch()
        place.workers.wait_until_ready()
        place.settle(reports, openings)
    place.close_the_books()
