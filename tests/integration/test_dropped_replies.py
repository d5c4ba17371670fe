"""The replies of a thousand commits are lost at random places: the books balance, every repeat is told what was done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.books import audit
from tests.support.crowd import Crowd
from tests.support.redis_books import RedisBooks
from tests.support.redis_server import RedisServer
from tests.support.resp_proxy import Cut, Fault, Lose, RespProxy, Tear, at_random
from tests.support.server_process import Workers

BOTH = [0, 1]
DEADLINE_S = 2.0
MARGIN_S = 0.5
"""What this machine's other users may cost."""


@pytest.mark.parametrize(
    ("fault", "places"), [(Lose(), 1000), (Tear(), 100), (Cut(), 100)], ids=["lose", "tear", "cut"]
)
@pytest.mark.proves("CC-041", "F28")
def test_f28_replies_lost_at_random_places(
    tmp_path: Path, redis_server: RedisServer, fault: Fault, places: int
) -> None:
    """A quarter of the answers is asked for again, at any worker, and is compared."""
    proxies = [RespProxy(redis_server.address) for _ in BOTH]
    with proxies[0] as first, proxies[1] as second, Workers(tmp_path, [first.url, second.url]) as workers:
        workers.prepare()
        with Crowd([lambda: workers.servers[0].port, lambda: workers.servers[1].port], seed=places) as crowd:
            crowd.settle(workers, accounts=20, sessions=4, cents=10_000_000)
            for number, proxy in enumerate(proxies):
                proxy.plan = at_random(proxy, number, probability=0.2, limit=places // 2, fault=fault)
            crowd.insist(crowd.openings(), BOTH)
            crowd.flow(lambda: all(proxy.faults == places // 2 for proxy in proxies), BOTH, 0.25, seconds=200)
            crowd.insist(crowd.endings(), BOTH)
        assert sum(proxy.faults for proxy in proxies) == places
        assert {name: workers.balance(name) for name in crowd.cents} == {
            name: (cents, 0) for name, cents in crowd.expected_cents().items()
        }
        audit(RedisBooks(redis_server, tmp_path))
        assert crowd.longest_s < DEADLINE_S + MARGIN_S
