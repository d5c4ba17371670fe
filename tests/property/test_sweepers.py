"""Sweeping is right without any lease: whoever sweeps the same partition beside another costs conflicts, never money."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from balance.account import BucketKind
from balance.ledger import Verb
from ocs.charging.requests import Result
from ocs.charging.settings import ChargingSettings
from tests.support.books import audit
from tests.support.charging_kit import MIB, START_US, want
from tests.support.workers_kit import World

SESSIONS = 12
CENTS = 5000
OCTETS = 3 * MIB


def prepared(workers: int) -> World:
    """Three accounts, whose sessions and unit buckets all end at the same time."""
    world = World(workers, ChargingSettings(notices=True))
    first = world.workers[0]
    for name in ("a", "b", "c"):
        who = first.account(name, cents=CENTS, plan="d10-300s")
        ends_s = START_US // 1_000_000 + 600
        first.top_up(name, amount=OCTETS, kind=BucketKind.OCTETS, valid_until_s=ends_s)
        for number in range(SESSIONS):
            assert first.initial(who, want(), session=f"{name}{number}").result is Result.SUCCESS
    world.beat(5)
    return world


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), workers=st.integers(2, 3), passes=st.integers(1, 3))
def test_several_sweepers_without_leases_never_double_anything(seed: int, workers: int, passes: int) -> None:
    world = prepared(workers)
    world.now_us = START_US + 601_000_000
    world.underway = []
    choose = random.Random(seed).randrange
    handled: list[int] = []
    for _ in range(passes):
        for worker in world.workers:
            # Each all partitions, and the next pass while the last is under way.
            worker.sweeper.sweep(handled.append)
    world.settle(choose)
    world.underway = None
    assert len(handled) == workers * passes
    for worker in world.workers:
        worker.sweeper.sweep(handled.append)
    events = world.store.events()
    closed = Counter(event.session_id for event in events if event.close_cause)
    assert closed == {f"{name}{number}": 1 for name in "abc" for number in range(SESSIONS)}
    expired = [entry.posted_change for event in events for entry in event.entries if entry.verb is Verb.EXPIRE]
    assert sorted(expired) == [-OCTETS] * 3
    for name in "abc":
        assert world.workers[0].balance(name) == (CENTS, 0)
    audit(world.store)
    assert not any(data.due for data in world.store._data)
