"""The session document: numbers seen, outcomes kept, and what it weighs (LEDGER §1, §4)."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from balance.account import BucketKind
from balance.reservation import Hold, Reservation
from ocs.charging.kept import OUTCOMES_MOST
from ocs.charging.requests import FinalAction, Outcome, QuotaKey, Reason, Result
from ocs.charging.session import MAX_RANGES, KeyState, Session
from tests.support.books import AuditedStore
from tests.support.charging_kit import MIB, START_US, Kit, messages, want

SECOND_US = 1_000_000
OPENED_S = START_US // SECOND_US


def a_session() -> Session:
    return Session("s", "a", "u", "gw1", "net", "data", "p", 1, OPENED_S, currency=978)


def numbers(session: Session) -> list[int]:
    return [kept.number for kept in session.outcomes.all()]


def test_numbers_in_order_are_one_range() -> None:
    session = a_session()
    for number in range(10_000):
        session.note(2, number)
    assert session.seen == [(2, 0, 9999)]


def test_type_and_number_together_are_the_key() -> None:
    session = a_session()
    session.note(1, 5)
    session.note(3, 6)
    assert session.was_seen(1, 5) and session.was_seen(3, 6)
    assert not session.was_seen(2, 5) and not session.was_seen(1, 6)


def test_a_gap_that_fills_joins_its_neighbours() -> None:
    session = a_session()
    for number in (1, 3, 2):
        session.note(2, number)
    assert session.seen == [(2, 1, 3)]


def test_the_lowest_gaps_close_and_count_as_seen() -> None:
    session = a_session()
    for number in range(0, 2 * MAX_RANGES + 2, 2):
        session.note(2, number)
    assert len(session.seen) == MAX_RANGES
    assert session.was_seen(2, 1) and not session.was_seen(2, 3)
    assert session.seen[0] == (2, 0, 2)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 40)), max_size=60))
def test_what_was_noted_stays_seen(requests: list[tuple[int, int]]) -> None:
    session = a_session()
    for kind, number in requests:
        session.note(kind, number)
    assert all(session.was_seen(kind, number) for kind, number in requests)
    assert len(session.seen) <= MAX_RANGES
    if len({(kind, number) for kind, number in requests}) <= MAX_RANGES:
        known = sum(high - low + 1 for _, low, high in session.seen)
        assert known == len(set(requests))


def test_the_last_four_outcomes_are_kept_however_old() -> None:
    session = a_session()
    for number in range(10):
        session.keep(2, number, b"", START_US + number * 3600 * SECOND_US, Outcome(Result.SUCCESS))
    assert numbers(session) == [6, 7, 8, 9]


def test_all_outcomes_of_the_last_minute_are_kept() -> None:
    session = a_session()
    times = [0, 1, 30, 31, 32, 33, 34, 60]
    for number, at in enumerate(times):
        session.keep(2, number, b"", START_US + at * SECOND_US, Outcome(Result.SUCCESS))
    assert numbers(session) == [1, 2, 3, 4, 5, 6, 7]  # the first is sixty seconds old


def test_never_more_outcomes_than_the_most() -> None:
    session = a_session()
    for number in range(100):
        session.keep(2, number, b"", START_US, Outcome(Result.SUCCESS))
    assert numbers(session) == list(range(100 - OUTCOMES_MOST, 100))


def test_the_newest_outcome_of_a_number_counts() -> None:
    session = a_session()
    session.keep(2, 1, b"old!", START_US, Outcome(Result.SUCCESS))
    session.keep(2, 1, b"new!", START_US, Outcome(Result.SERVICE_DENIED))
    assert session.kept(2, 1) == (Outcome(Result.SERVICE_DENIED), b"new!")
    assert session.kept(3, 1) is None


def test_what_a_session_holds_is_the_sum_over_its_keys() -> None:
    session = a_session()
    session.keys = [
        KeyState(QuotaKey(1), Reservation([Hold(0, 5), Hold(2, 7)])),
        KeyState(QuotaKey(2), Reservation([Hold(0, 3)])),
        KeyState(QuotaKey(3), Reservation()),
    ]
    assert session.held() == {0: 8, 2: 7}
    assert session.keys[0].reservation.held_of(2) == 7


def test_restricted_is_a_redirect_or_a_restriction() -> None:
    state = KeyState(QuotaKey(1), Reservation())
    assert not state.restricted
    for action, restricted in (
        (FinalAction.TERMINATE, False),
        (FinalAction.REDIRECT, True),
        (FinalAction.RESTRICT, True),
    ):
        state.final = int(action)
        assert state.restricted is restricted


# What documents weigh. Names are as long as real ones: a Session-Id of 40 octets, a host of 15, an account of 11.

SESSION_ID = "gw1.example.net;1772450000;4711;abcdef01"
ACCOUNT = "acct-000123"


def sizes(store: AuditedStore) -> dict[str, list[int]]:
    kinds = {"account": b"a", "session": b"s", "locator": b"l", "identity": b"i", "operation": b"o"}
    return {name: [len(data) for _, _, data in store.documents(kind)] for name, kind in kinds.items()}


def a_loaded_session() -> tuple[Kit, AuditedStore]:
    """Fifty updates of a key that quota of 10 MiB serves, one each five minutes."""
    store = AuditedStore(now_us=lambda: kit.now_us)
    kit = Kit(store)
    kit.initial(kit.account(ACCOUNT, cents=100_000), want(), session=SESSION_ID, digest=b"abcd")
    for number in range(1, 51):
        kit.now_us += 300 * SECOND_US
        service = want(used=10 * MIB, reason=Reason.QUOTA_EXHAUSTED)
        kit.update(number, service, session=SESSION_ID, digest=b"abcd")
    return kit, store


def test_documents_stay_small() -> None:
    # LEDGER §1: account 250, locator 100, identity 100, operation 150 octets.
    kit, store = a_loaded_session()
    for days in (30, 60):
        ends_s = OPENED_S + days * 86_400
        kit.top_up(ACCOUNT, amount=5 * 10**9, kind=BucketKind.OCTETS, valid_until_s=ends_s)
    measured = sizes(store)
    assert max(measured["account"]) <= 150  # with two buckets of units
    assert max(measured["locator"]) <= 60
    assert max(measured["identity"]) <= 60
    assert max(measured["operation"]) <= 60


def test_a_session_with_one_key_stays_small() -> None:
    # LEDGER §1: 350 octets, names (104 octets here) and four outcomes included.
    _, store = a_loaded_session()
    (session,) = store.sessions()
    assert len(session.outcomes.all()) == 4 and len(session.keys) == 1
    assert max(sizes(store)["session"]) <= 350


def test_a_session_grows_no_more_after_its_first_minutes() -> None:
    kit, store = a_loaded_session()
    before = max(sizes(store)["session"])
    for number in range(51, 551):
        kit.now_us += 300 * SECOND_US
        kit.update(number, want(used=10 * MIB, reason=Reason.QUOTA_EXHAUSTED), session=SESSION_ID, digest=b"abcd")
    assert max(sizes(store)["session"]) <= before + 30  # totals and numbers take some more octets


def test_an_events_tombstone_is_no_larger_than_its_names_and_one_answer() -> None:
    store = AuditedStore(now_us=lambda: START_US)
    kit = Kit(store)
    kit.event(kit.account(ACCOUNT, cents=100), messages(1), session=SESSION_ID, digest=b"abcd")
    assert max(sizes(store)["session"]) <= 310  # LEDGER §4: about 300


def test_an_account_never_lists_its_sessions() -> None:
    store = AuditedStore(now_us=lambda: START_US)
    kit = Kit(store)
    who = kit.account(ACCOUNT, cents=10**6)
    kit.initial(who, want(), session="s0")
    before = max(sizes(store)["account"])
    for number in range(1, 100):
        kit.initial(who, want(), session=f"s{number}")
    assert max(sizes(store)["account"]) <= before + 8
    assert Counter(len(session.keys) for session in store.sessions()) == {1: 100}
