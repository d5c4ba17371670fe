"""What one worker does, the other one knows at its next request, whatever it has cached (LEDGER §1).

The answers here are those that commit nothing: a commit would be compared with what is stored, these are only read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from protocols.diameter import dictionary as d
from tests.support.gy_client import (
    CHECK_BALANCE,
    DIRECT_DEBITING,
    EVENT,
    INITIAL,
    MIB,
    TERMINATION,
    UPDATE,
    Answer,
    GyClient,
    mscc,
    units,
)
from tests.support.redis_server import RedisServer
from tests.support.server_process import Server, Workers

SMS = "32274@3gpp.org"
PRICE_CENTS = 9
ENOUGH, NO_CREDIT = 0, 1


class Two:
    """A gateway at each worker."""

    def __init__(self, workers: Workers, stack: ExitStack) -> None:
        self.workers = workers
        self.gateways: list[GyClient] = [stack.enter_context(server.gateway()) for server in workers.servers]
        self.account = ""
        self.msisdn = ""
        self._numbers = itertools.count(1)

    def subscriber(self, cents: int) -> None:
        """Another account; it is the one that is talked of from now on."""
        self.name_another()
        self.workers.subscriber(cents, msisdn=self.msisdn, account=self.account)

    def name_another(self) -> None:
        """Names of an account and its subscriber that do not exist yet."""
        number = next(self._numbers)
        self.account, self.msisdn = f"a{number}", f"44771{number:07d}"

    def session(self) -> str:
        """A new Session-Id."""
        return f"s{next(self._numbers)}"

    def initial(self, worker: int, session: str) -> Answer:
        """A session's first request."""
        return self.gateways[worker].ccr(INITIAL, 0, session, mscc(100, requested=[]), msisdn=self.msisdn)

    def balance(self) -> tuple[int, int]:
        return self.workers.balance(self.account)

    def sms(self, worker: int, action: int = DIRECT_DEBITING) -> Answer:
        """A new event at a worker."""
        service = mscc(None, requested=units(events=1))
        more = {"context": SMS, "action": action, "msisdn": self.msisdn}
        return self.gateways[worker].ccr(EVENT, 0, self.session(), service, **more)

    def operator(self, worker: int) -> Server:
        return self.workers.servers[worker]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with ExitStack() as stack:
        redis_server = stack.enter_context(RedisServer("safe"))
        workers = stack.enter_context(Workers(tmp_path_factory.mktemp("two"), [redis_server.url] * 2))
        workers.prepare()
        yield Two(workers, stack)


def test_money_that_came_through_the_other_worker_is_spent(two: Two) -> None:
    two.subscriber(0)
    for worker in (0, 1, 0, 1):
        other = 1 - worker
        assert two.sms(worker).code == 4012  # cached: nothing there
        two.operator(other).top_up(PRICE_CENTS, two.account)
        assert two.sms(worker).code == 2001
        assert two.sms(other).code == 4012
    assert two.balance() == (0, 0)


def test_money_that_the_other_worker_spent_is_gone(two: Two) -> None:
    two.subscriber(2 * PRICE_CENTS)
    for worker in (0, 1):
        other = 1 - worker
        assert two.sms(worker, CHECK_BALANCE).get(d.CHECK_BALANCE_RESULT) == ENOUGH
        assert two.sms(other, CHECK_BALANCE).get(d.CHECK_BALANCE_RESULT) == ENOUGH
        assert two.sms(worker).code == 2001
        expected = ENOUGH if worker == 0 else NO_CREDIT
        assert two.sms(other, CHECK_BALANCE).get(d.CHECK_BALANCE_RESULT) == expected
        assert two.sms(worker, CHECK_BALANCE).get(d.CHECK_BALANCE_RESULT) == expected
    assert two.balance() == (0, 0)


def test_a_status_and_a_plan_that_the_other_worker_changed_hold_at_once(two: Two) -> None:
    two.subscriber(10_000)
    for worker in (0, 1):
        other = 1 - worker
        assert two.initial(worker, two.session()).service.granted == {"total": 10 * MIB}
        two.operator(other).post(f"/v1/subscribers/sub-{two.account}/change", plan="d10-50")
        assert two.initial(worker, two.session()).service.granted == {"total": 50 * MIB}
        two.operator(other).post(f"/v1/accounts/{two.account}/suspend")
        assert two.sms(worker).code != 2001
        assert two.sms(other).code != 2001
        two.operator(worker).post(f"/v1/accounts/{two.account}/resume")
        assert two.sms(other).code == 2001
        two.operator(other).post(f"/v1/subscribers/sub-{two.account}/change", plan="d10")


def test_a_session_that_the_other_worker_closed_is_closed(two: Two) -> None:
    two.subscriber(1000)
    for worker in (0, 1):
        here, there = two.gateways[worker], two.gateways[1 - worker]
        session = two.session()
        report = mscc(100, requested=[], used=[units(total=MIB)])
        assert two.initial(worker, session).code == 2001
        assert here.ccr(UPDATE, 1, session, report, msisdn=None).code == 2001
        assert there.ccr(TERMINATION, 2, session, msisdn=None).code == 2001
        assert here.ccr(UPDATE, 3, session, report, msisdn=None).code == 5002
        assert here.ccr(TERMINATION, 2, session, msisdn=None).code == 2001  # a repeat
    assert two.balance() == (980, 0)


def test_a_subscriber_that_was_unknown_here_and_made_there_is_served(two: Two) -> None:
    two.name_another()
    assert two.sms(0).code == two.sms(1).code == 5030
    two.workers.subscriber(1000, msisdn=two.msisdn, account=two.account)
    assert two.sms(0).code == two.sms(1).code == 2001
    assert two.balance() == (1000 - 2 * PRICE_CENTS, 0)
