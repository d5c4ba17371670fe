"""Whatever is asked, in whatever order: the books balance, each debit is the one that the requirements say, and nothing
is spent twice or out of nothing (LEDGER §7.7)."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balance.account import AccountStatus, BucketKind
from ocs.charging.account_operations import TopUp
from ocs.charging.requests import EventAction, QuotaKey, Reason, RequestKind, ServiceRequest, Units
from tests.support.charging_kit import START_US
from tests.support.charging_world import GROUPS, LIMITS, World

ACCOUNTS = st.sampled_from(sorted(LIMITS))
SESSIONS = st.sampled_from(["s1", "s2", "s3"])
AMOUNTS = st.one_of(st.integers(0, 1500), st.sampled_from([0, 1, 6, 60, 100, 1000, 1001]))
REASONS = st.sampled_from([Reason.NONE, Reason.NONE, Reason.NONE, Reason.FINAL, Reason.QUOTA_HOLDING_TIME])


@st.composite
def units_of(draw: st.DrawFn) -> Units:
    """A report, now and then with other kinds than the key's beside it."""
    amount = draw(AMOUNTS)
    if draw(st.booleans()):
        return Units(octets=amount, seconds=amount % 100, events=amount % 3)
    return Units(input_octets=amount // 2, output_octets=amount - amount // 2, seconds=amount % 70, events=amount % 2)


@st.composite
def services(draw: st.DrawFn) -> tuple[ServiceRequest, ...]:
    """Up to three keys; the same one may stand twice (CC-074)."""
    listed = []
    for group in draw(st.lists(st.sampled_from([10, 10, 30, *GROUPS]), min_size=1, max_size=3)):
        requested = draw(st.sampled_from([Units(), Units(), None, Units(octets=250, seconds=30, events=3)]))
        used = tuple(draw(st.lists(units_of(), max_size=2)))
        listed.append(ServiceRequest(QuotaKey(group), requested, used, draw(REASONS)))
    return tuple(listed)


@st.composite
def top_ups(draw: st.DrawFn) -> TopUp:
    """Money into the main bucket, or anything into a bucket of its own."""
    if draw(st.booleans()):
        return TopUp(draw(st.integers(1, 30_000)))
    ends = draw(st.sampled_from([0, 50, 200, 5000]))
    return TopUp(
        amount=draw(st.integers(1, 2500)),
        kind=draw(st.sampled_from(list(BucketKind))),
        valid_until_s=START_US // 1_000_000 + ends if ends else 0,
        priority=draw(st.integers(0, 1)),
        rating_group=draw(st.sampled_from([-1, -1, 10, 30])),
    )


NUMBERS = st.integers(0, 6)
STEPS = st.tuples(st.just("step"), SESSIONS, services(), ACCOUNTS, st.integers(0, 7))
"""The likely next request of a session: opens it, updates it, now and then ends it."""
STRAYS = st.tuples(
    st.just("request"),
    SESSIONS,
    st.sampled_from([RequestKind.INITIAL, RequestKind.UPDATE, RequestKind.UPDATE, RequestKind.TERMINATION]),
    NUMBERS,
    services(),
    ACCOUNTS,
)
ACTIONS = st.sampled_from([EventAction.DIRECT_DEBIT] * 3 + [EventAction.CHECK_BALANCE, EventAction.PRICE_ENQUIRY])
EVENTS = st.tuples(
    st.just("event"),
    st.sampled_from(["e1", "e2", "e3", "s1"]),
    ACCOUNTS,
    ACTIONS,
    st.sampled_from([40, 30, 10, 60]),
    st.integers(0, 5),
)
OPERATIONS = st.one_of(
    st.tuples(st.just("top_up"), ACCOUNTS, top_ups()),
    st.tuples(st.just("top_up"), ACCOUNTS, top_ups()),
    st.tuples(st.just("adjust"), ACCOUNTS, st.integers(0, 4), st.integers(-3000, 3000)),
    st.tuples(st.just("status"), ACCOUNTS, st.sampled_from([AccountStatus.ACTIVE] * 2 + [AccountStatus.SUSPENDED])),
    st.tuples(st.just("plan"), ACCOUNTS, st.sampled_from(["p", "q"])),
    st.tuples(st.just("clock"), st.sampled_from([0, 1, 30, 61, 199, 3601]), st.booleans()),
    st.tuples(st.just("repeat"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("refund"), st.sampled_from(["r1", "r2"]), ACCOUNTS, st.integers(0, 3)),
)
COMMANDS = st.lists(st.one_of(STEPS, STEPS, STEPS, STEPS, STRAYS, EVENTS, OPERATIONS), min_size=12, max_size=40)
START = [("top_up", "a", TopUp(20_000)), ("top_up", "b", TopUp(1500, BucketKind.OCTETS, rating_group=10))]


def play(world: World, commands: list[Any]) -> None:
    """Run commands; each is checked by the world."""
    for name, *arguments in [*START, *commands]:
        getattr(world, name)(*arguments)


@settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(COMMANDS)
def test_any_sequence_balances_and_costs_what_the_rows_say(commands: list[Any]) -> None:
    play(World(), commands)
