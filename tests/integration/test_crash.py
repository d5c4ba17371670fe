"""The server is killed with its requests in flight; whoever was not answered asks again, and nobody pays twice."""

from __future__ import annotations

import random

import pytest

from tests.support.gy_client import INITIAL, MIB, TERMINATION, UPDATE, Requests, mscc, units
from tests.support.server_process import Server

ACCOUNTS, UPDATES, CENTS = 10, 20, 100_000


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.proves("CC-041")
def test_kill_9_under_load_charges_every_request_once(server: Server, seed: int) -> None:
    names = [f"a{number}" for number in range(ACCOUNTS)]
    for number, name in enumerate(names):
        server.subscriber(CENTS, msisdn=f"4477009{number:05d}", account=name)
    requests = Requests()
    updates = [
        requests.ccr(UPDATE, number, f"s-{name}", mscc(100, requested=[], used=[units(total=MIB)]), msisdn=None)
        for number in range(1, UPDATES + 1)
        for name in names
    ]
    with server.gateway() as gateway:
        for number, name in enumerate(names):
            opening = requests.ccr(INITIAL, 0, f"s-{name}", mscc(100, requested=[]), msisdn=f"4477009{number:05d}")
            assert gateway.exchange(opening).service.granted == {"total": 10 * MIB}
        gateway.send(b"".join(updates))
        answered = [gateway.receive() for _ in range(random.Random(seed).randrange(len(updates) - 20))]
        server.kill()
    server.start()
    with server.gateway() as gateway:
        again = {one.message.end_to_end: one.message.avps for one in map(gateway.exchange, updates)}
        # Answers may leave in another order than their requests came; what was told before is told again.
        assert all(again[one.message.end_to_end] == one.message.avps for one in answered)
        # 20 MiB at 10 each, and the grant that is open
        assert {server.balance(name) for name in names} == {(CENTS - 10 * UPDATES, 100)}
        for name in names:
            gateway.exchange(requests.ccr(TERMINATION, UPDATES + 1, f"s-{name}", msisdn=None))
    assert {server.balance(name) for name in names} == {(CENTS - 10 * UPDATES, 0)}
    assert all(sum(server.debits(name)) == 10 * UPDATES for name in names)
