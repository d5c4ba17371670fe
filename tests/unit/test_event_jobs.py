"""One-time events beyond the rows: tokens, hostile amounts, several services, sessions under the same id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance.account import BucketKind
from ocs.charging.event_jobs import RefundToken, open_token, seal_token
from ocs.charging.requests import EventAction, QuotaKey, Result, ServiceRequest, Units
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import DATA, MIB, START_US, VOICE, Kit, messages, only, want

SECRET = b"k" * 32


@pytest.fixture
def kit() -> Kit:
    def now_us() -> int:
        return made.now_us

    made = Kit(AuditedStore(now_us=now_us))
    return made


def store_of(kit: Kit) -> AuditedStore:
    assert isinstance(kit.store, AuditedStore)
    return kit.store


TOKENS = st.builds(
    RefundToken,
    account=st.text(max_size=20),
    entry=st.text(max_size=40),
    split=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 3), st.integers(1, 2**62)), max_size=4).map(tuple),
    until_s=st.integers(0, 2**40),
)


@given(TOKENS)
def test_a_token_comes_back_as_it_was(token: RefundToken) -> None:
    assert open_token(seal_token(token, SECRET), SECRET) == token
    assert open_token(seal_token(token, SECRET), b"o" * 32) is None


@given(TOKENS, st.data())
def test_a_token_with_any_bit_changed_is_none(token: RefundToken, data: st.DataObject) -> None:
    sealed = bytearray(seal_token(token, SECRET))
    place = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[place // 8] ^= 1 << place % 8
    assert open_token(bytes(sealed), SECRET) is None


@given(st.binary(max_size=80))
def test_any_octets_are_no_token_and_no_exception(data: bytes) -> None:
    assert open_token(data, SECRET) is None


def test_signed_octets_that_are_no_token_are_none() -> None:
    import hashlib

    body = b"\xc1 damaged"
    signature = hashlib.blake2b(body, key=SECRET, digest_size=16).digest()
    assert open_token(signature + body, SECRET) is None


def test_what_an_event_counts_is_the_tariffs_unit(kit: Kit) -> None:
    who = kit.account(cents=1000)
    seconds = kit.event(who, ServiceRequest(QuotaKey(), Units(seconds=61)), session="v", context=VOICE)
    assert seconds.cost_micros == 120_000  # two started minutes at 6
    octets = kit.event(who, ServiceRequest(QuotaKey(100), Units(octets=MIB + 1)), session="d", context=DATA)
    assert octets.cost_micros == 200_000
    wrong = kit.event(who, ServiceRequest(QuotaKey(), Units(octets=5)), session="w")
    assert (wrong.result, wrong.detail) == (Result.RATING_FAILED, "requested_unit")
    money = kit.event(who, ServiceRequest(QuotaKey(), Units(money_micros=5)), session="m")
    assert (money.result, money.detail) == (Result.INVALID_VALUE, "requested_money")
    assert kit.balance() == (968, 0)


@pytest.mark.parametrize("units", [2**64 - 1, 2**63])
def test_an_event_that_no_price_can_hold_is_refused(kit: Kit, units: int) -> None:
    before_who = kit.account(cents=1000)
    before = store_of(kit).state()
    assert kit.event(before_who, messages(units)).result is Result.INVALID_VALUE
    assert store_of(kit).state() == before


def test_rules_of_the_plan_apply_to_events(kit: Kit) -> None:
    who = kit.account(cents=1000)
    expected = {
        300: Result.NOT_APPLICABLE,
        400: Result.SERVICE_DENIED,
        500: Result.AUTHORIZATION_REJECTED,
        999: Result.RATING_FAILED,
    }
    for group, result in expected.items():
        service = ServiceRequest(QuotaKey(group), Units(octets=5))
        assert kit.event(who, service, session=f"e{group}", context=DATA).result is result
    assert kit.balance() == (1000, 0)


def test_a_free_service_beside_a_priced_one_is_told_apart(kit: Kit) -> None:
    who = kit.account(cents=1000)
    free, priced = (ServiceRequest(QuotaKey(group), Units(octets=MIB)) for group in (300, 100))
    outcome = kit.event(who, free, priced, context=DATA)
    assert outcome.result is Result.SUCCESS
    assert [one.result for one in outcome.services] == [Result.NOT_APPLICABLE, Result.SUCCESS]
    assert kit.balance() == (990, 0)


def test_each_service_of_an_event_is_refunded_once_by_its_own_token(kit: Kit) -> None:
    who = kit.account(cents=1000)
    services = [ServiceRequest(QuotaKey(group), Units(octets=MIB)) for group in (100, 200)]
    outcome = kit.event(who, *services, context=DATA)
    assert kit.balance() == (970, 0)
    for number, (service, left) in enumerate(zip(outcome.services, (980, 1000), strict=True)):
        refund = {"action": EventAction.REFUND, "refund_token": service.refund_token}
        assert kit.event(who, session=f"r{number}", **refund).result is Result.SUCCESS
        assert kit.balance() == (left, 0)
        assert kit.event(who, session=f"again{number}", **refund).result is Result.INVALID_VALUE
    audit(store_of(kit))


def test_a_refund_to_a_bucket_that_is_gone_takes_nothing_and_says_so(kit: Kit) -> None:
    who = kit.account(cents=0)
    kit.top_up("a", amount=1, kind=BucketKind.EVENTS, valid_until_s=START_US // 1_000_000 + 100)
    token = only(kit.event(who, messages(1))).refund_token
    kit.top_up("a", amount=1, kind=BucketKind.EVENTS, valid_until_s=START_US // 1_000_000 + 100)
    kit.advance(100)  # both buckets retire
    before = store_of(kit).state()
    refund = kit.event(who, session="r", action=EventAction.REFUND, refund_token=token)
    assert (refund.result, refund.detail) == (Result.UNABLE_TO_COMPLY, "bucket_gone")
    assert store_of(kit).state() == before


@pytest.mark.proves("CC-146")
def test_money_of_a_bucket_that_is_gone_comes_back_to_the_main_balance(kit: Kit) -> None:
    # CC-146: Refund restores to the balances/buckets the debit came from if known, otherwise main balance.
    who = kit.account(cents=0)
    kit.top_up("a", cents=9, valid_until_s=START_US // 1_000_000 + 100)
    token = only(kit.event(who, messages(1))).refund_token
    kit.top_up("a", cents=9, valid_until_s=START_US // 1_000_000 + 100)
    kit.advance(100)  # both buckets retire
    assert [bucket["bucket"] for bucket in kit.buckets()] == [0]
    refund = kit.event(who, session="r", action=EventAction.REFUND, refund_token=token)
    assert refund.result is Result.SUCCESS
    assert kit.balance() == (9, 0)
    audit(store_of(kit))


def test_an_event_without_services_is_one_of_the_default_key(kit: Kit) -> None:
    outcome = kit.event(kit.account(cents=100))
    assert only(outcome).granted == 1 and not only(outcome).in_group
    assert kit.balance() == (91, 0)


def test_a_thousand_asks_of_ten_cents_on_one_euro(kit: Kit) -> None:
    # F27: 1.00 left, 1,000 parallel asks -> exactly those that fit, the rest 4012, never below 0. One message costs 9.
    who = kit.account(cents=100)
    results = [kit.event(who, messages(1), session=f"e{number}").result for number in range(1000)]
    assert results.count(Result.SUCCESS) == 11 and results.count(Result.CREDIT_LIMIT_REACHED) == 989
    assert kit.balance() == (1, 0)
    audit(store_of(kit))


def test_an_event_after_a_denied_initial_of_the_same_id(kit: Kit) -> None:
    who = kit.account(cents=100, plan="all-free")
    assert kit.initial(who, want(), session="x").result is Result.NOT_APPLICABLE
    assert kit.event(who, messages(1), session="x").result is Result.RATING_FAILED
    assert kit.balance() == (100, 0)
