"""One-time events, row by row (docs/requirements/credit-control.md §1, §8, §14), asked of the engine.

Amounts are cents; a message costs 9.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

import pytest

from balance.account import BucketKind
from ocs.charging import subscriber_operations
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.requests import (
    EventAction,
    Identity,
    Outcome,
    QuotaKey,
    RequestKind,
    Result,
    ServiceRequest,
    UnitKind,
    Units,
)
from ocs.charging.settings import ChargingSettings
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import MIB, SMS, START_US, Kit, messages, only, report, want
from tests.support.faulty_store import FaultyStore

NOBODY = Identity("e164", "15550000")


def a_kit(settings: ChargingSettings | None = None) -> tuple[Kit, AuditedStore]:
    store = AuditedStore(now_us=lambda: kit.now_us)
    kit = Kit(store, settings)
    return kit, store


def test_cc_012_an_event_without_identity_is_5005() -> None:
    # CC-012: at least one usable Subscription-Id ... None: cmd 5005.
    kit, _ = a_kit()
    assert kit.ask(RequestKind.EVENT, 0, messages(1), context=SMS).result is Result.IDENTITY_MISSING
    assert kit.ask(RequestKind.INITIAL, 0, want()).result is Result.IDENTITY_MISSING


def test_cc_013_an_unknown_subscriber_is_5030() -> None:
    # CC-013: Identity present, subscriber not provisioned. cmd 5030.
    kit, store = a_kit()
    kit.account(cents=100)
    before = store.state()
    assert kit.event(NOBODY, messages(1)).result is Result.USER_UNKNOWN
    assert kit.initial(NOBODY, want()).result is Result.USER_UNKNOWN
    assert store.state() == before


def test_cc_014_identities_are_tried_in_order_and_must_not_contradict() -> None:
    # CC-014: Several Subscription-Ids: try in configured order. If two resolve to different subscribers: cmd 5007.
    kit, _ = a_kit()
    first, second = kit.account("a", cents=100), kit.account("b", cents=100)
    imsi = Identity("imsi", "234150000000001")
    kit.run(subscriber_operations.add_identity(kit.engine, kit.order(), "sub-a", imsi))
    expected = {
        (first, NOBODY): Result.SUCCESS,
        (NOBODY, first): Result.SUCCESS,
        (first, imsi): Result.SUCCESS,
        (first, second): Result.CONTRADICTING_IDENTITIES,
    }
    for number, (who, result) in enumerate(expected.items()):
        asked = kit.ask(
            RequestKind.EVENT,
            0,
            messages(1),
            session=f"e{number}",
            who=who,
            context=SMS,
            action=EventAction.DIRECT_DEBIT,
        )
        assert asked.result is result
    assert (kit.balance("a"), kit.balance("b")) == ((73, 0), (100, 0))


def test_cc_140_a_direct_debit_is_at_once_and_without_session() -> None:
    # CC-140: DIRECT_DEBITING(0): rate, debit at once, no session. GSU = units debited. 2001 + GSU.
    kit, store = a_kit()
    outcome = kit.event(kit.account(cents=100), messages(2))
    answer = only(outcome)
    assert (outcome.result, answer.result, answer.unit, answer.granted) == (
        Result.SUCCESS,
        Result.SUCCESS,
        UnitKind.EVENTS,
        2,
    )
    assert outcome.cost_micros == 180_000 and kit.balance() == (82, 0)
    assert store.accounts()["a"].open_sessions == 0 and kit.advance(100_000) == 0
    audit(store)


def test_cc_140_units_come_before_money() -> None:
    kit, store = a_kit()
    who = kit.account(cents=20)
    kit.top_up("a", amount=3, kind=BucketKind.EVENTS)
    assert kit.event(who, messages(5)).result is Result.SUCCESS
    assert kit.balance() == (2, 0) and kit.buckets()[1]["posted"] == 0
    audit(store)


def test_cc_141_a_debit_that_is_not_covered_takes_nothing() -> None:
    # CC-141: Direct debit not covered: nothing is debited (no partial). 4012. B=5, price 9.
    kit, store = a_kit()
    who = kit.account(cents=5)
    assert kit.event(who, messages(1)).result is Result.CREDIT_LIMIT_REACHED
    assert kit.balance() == (5, 0)
    kit.top_up("a", amount=2, kind=BucketKind.EVENTS)
    assert kit.event(who, messages(3), session="e2").result is Result.CREDIT_LIMIT_REACHED
    assert kit.balance() == (5, 0) and kit.buckets()[1]["posted"] == 2
    audit(store)


def test_cc_141_several_services_are_one_debit() -> None:
    kit, _ = a_kit()
    who = kit.account(cents=20)
    one, two = (ServiceRequest(QuotaKey(None, (number,)), Units(events=number)) for number in (1, 2))
    assert kit.event(who, one, two).result is Result.CREDIT_LIMIT_REACHED  # 9 fits, 27 does not
    assert kit.balance() == (20, 0)


def test_cc_141_what_is_reserved_is_not_there_for_an_event() -> None:
    kit, _ = a_kit()
    who = kit.account(cents=105)
    kit.initial(who, want())
    assert kit.event(who, messages(1)).result is Result.CREDIT_LIMIT_REACHED
    assert kit.balance() == (105, 100)


def test_cc_142_the_denial_stands_at_both_levels() -> None:
    # CC-142: Level of the failure code for IEC in 3gpp: set both cmd and MSCC to 4012.
    kit, _ = a_kit()
    outcome = kit.event(kit.account(cents=5), messages(1))
    assert (outcome.result, only(outcome).result) == (Result.CREDIT_LIMIT_REACHED,) * 2


def test_cc_142_a_repeat_of_a_denial_is_the_denial_even_after_a_top_up() -> None:
    kit, store = a_kit()
    who = kit.account(cents=5)
    first = kit.event(who, messages(1))
    kit.top_up("a", 100)
    before = store.state()
    assert kit.event(who, messages(1)) == first and store.state() == before
    assert kit.event(who, messages(1), session="e2").result is Result.SUCCESS


def test_cc_039_repeats_of_an_event_are_one_debit() -> None:
    # CC-039: EVENT never creates a session. CC-040: a repeat returns the stored answer and changes nothing.
    kit, store = a_kit()
    who = kit.account(cents=100)
    first = kit.event(who, messages(1))
    before = store.state()
    kit.now_us += 3500_000_000
    assert kit.event(who, messages(1)) == first
    assert store.state() == before and kit.balance() == (91, 0)


def test_cc_039_an_event_after_the_end_of_a_session_is_an_event() -> None:
    kit, store = a_kit()
    who = kit.account(cents=100)
    kit.initial(who, want(), session="x")
    kit.terminate(1, session="x")
    assert kit.event(who, messages(1), session="x").result is Result.SUCCESS
    assert kit.balance() == (91, 0)
    audit(store)


def test_cc_147_a_check_considers_what_is_available() -> None:
    # CC-147: CHECK_BALANCE: no reservation, no debit; 0 ENOUGH / 1 NO_CREDIT. Considers A, not B.
    kit, store = a_kit()
    who = kit.account(cents=105)
    check = {"action": EventAction.CHECK_BALANCE}
    assert kit.event(who, messages(11), session="c1", **check).enough_credit is True
    kit.initial(who, want())
    before = store.state()
    assert kit.event(who, messages(1), session="c2", **check).enough_credit is False
    assert kit.event(who, messages(1), session="c2", **check).enough_credit is False
    assert store.state() == before


def test_cc_148_an_enquiry_looks_at_no_balance() -> None:
    # CC-148: PRICE_ENQUIRY: no balance check at all, even for an empty account; Cost-Information.
    kit, store = a_kit()
    who = kit.account(cents=0)
    before = store.state()
    outcome = kit.event(who, messages(3), action=EventAction.PRICE_ENQUIRY)
    assert (outcome.result, outcome.cost_micros, outcome.currency) == (Result.SUCCESS, 270_000, 978)
    assert store.state() == before


def ecur(kit: Kit, who: Identity, session: str = "m") -> Outcome:
    return kit.initial(who, messages(1), session=session, context=SMS)


def test_cc_150_an_event_session_debits_what_was_delivered() -> None:
    # CC-150: ECUR: CCR-I reserves for the event(s), CCR-T with USU n debits n, releases the rest; n=0 -> full release.
    kit, store = a_kit()
    who = kit.account(cents=20)
    assert only(ecur(kit, who)).granted == 1 and kit.balance() == (20, 9)
    kit.terminate(1, messages(None, used=1), session="m", context=SMS)
    assert kit.balance() == (11, 0)
    ecur(kit, who, "n")
    kit.terminate(1, messages(None, used=0), session="n", context=SMS)
    assert kit.balance() == (11, 0)
    audit(store)


@pytest.mark.parametrize(("setting", "left"), [("release", 20), ("debit", 11)])
def test_cc_151_an_event_session_without_report(setting: str, left: int) -> None:
    # CC-151: ECUR CCR-T without any USU: treat as not delivered, release all; setting ecur_no_usu = release or debit.
    kit, store = a_kit(ChargingSettings(ecur_no_usu=setting))
    ecur(kit, kit.account(cents=20))
    kit.terminate(1, session="m", context=SMS)
    assert kit.balance() == (left, 0)
    audit(store)


@pytest.mark.parametrize(("stated", "asked", "debited"), [(3, 1, 1), (3, None, 3), (None, 2, 2), (None, None, 1)])
def test_cc_193_number_of_messages(stated: int | None, asked: int | None, debited: int) -> None:
    # CC-193: SMS to n recipients: units = Number-Of-Messages-Sent if present, else RSU units, else number of
    # Recipient-Info, else 1. The edge states the first and the third as `messages` and drops RSU units that give way.
    kit, _ = a_kit()
    units = Units() if asked is None else Units(events=asked)
    outcome = kit.event(kit.account(cents=100), ServiceRequest(QuotaKey(), units), messages=stated)
    assert only(outcome).granted == debited and kit.balance() == (100 - 9 * debited, 0)


def test_cc_220_an_internal_error_records_nothing_and_the_retry_is_processed() -> None:
    # CC-220: internal error (database down) on CCR-U: answer 5012 without recording the duplicate key, so that the
    # client's retransmission is processed later. Fail store once, resend.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    before = store.state()
    faulty = FaultyStore(store)
    kit.use(faulty)
    faulty.fail_commits("refused", 1000)
    kit.now_us += 1_000_000
    later, kit.later = kit.later, _Clock(kit)
    with pytest.raises(StoreUnavailable):
        kit.update(1, want(used=3 * MIB))
    assert store.state() == before
    kit.use(store)
    kit.later = later
    assert only(kit.update(1, want(used=3 * MIB))).granted == 10 * MIB
    assert kit.balance() == (970, 100)
    audit(store)


class _Clock(list):  # type: ignore[type-arg]
    """Retries wait: each moves the clock, so that the deadline comes."""

    def __init__(self, kit: Kit) -> None:
        super().__init__()
        self.kit = kit

    def pop(self, place: SupportsIndex = -1) -> Any:
        self.kit.now_us += 200_000
        return super().pop(place)


def test_cc_220_a_commit_that_was_applied_unseen_is_found_by_the_retry() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    faulty = FaultyStore(store)
    kit.use(faulty)
    faulty.fail_commits("lost after")
    answer = kit.update(1, want(used=3 * MIB))
    assert kit.balance() == (970, 100)
    before = store.state()
    assert kit.update(1, want(used=3 * MIB)) == answer and store.state() == before
    audit(store)


def test_cc_221_a_debit_whose_grant_failed_is_recorded() -> None:
    # CC-221: A CCR whose usage was debited but whose new grant failed must still be recorded as processed (partial
    # success: debit yes, MSCC 4012).
    kit, store = a_kit()
    kit.initial(kit.account(cents=100), want())
    answer = kit.update(1, want(used=10 * MIB))
    assert only(answer).result is Result.CREDIT_LIMIT_REACHED and kit.balance() == (0, 0)
    kit.top_up("a", 500)
    before = store.state()
    assert kit.update(1, want(used=10 * MIB)) == answer
    assert store.state() == before and kit.balance() == (500, 0)
    assert only(kit.update(2, want())).granted == 10 * MIB


# Refunds


def test_a_refund_goes_back_where_it_came_from_and_once() -> None:
    kit, store = a_kit()
    who = kit.account(cents=20)
    kit.top_up("a", amount=1, kind=BucketKind.EVENTS)
    token = only(kit.event(who, messages(2))).refund_token
    assert kit.balance() == (11, 0)
    first = kit.event(who, session="r", action=EventAction.REFUND, refund_token=token)
    assert first.result is Result.SUCCESS and kit.balance() == (20, 0) and kit.buckets()[1]["posted"] == 1
    before = store.state()
    assert kit.event(who, session="r", action=EventAction.REFUND, refund_token=token) == first
    again = kit.event(who, session="r2", action=EventAction.REFUND, refund_token=token)
    assert again.result is Result.INVALID_VALUE and store.state() == before
    audit(store)


def test_a_refund_needs_our_own_token_of_this_account_in_time() -> None:
    kit, store = a_kit()
    who, other = kit.account("a", cents=20), kit.account("b", cents=20)
    token = only(kit.event(who, messages(1))).refund_token
    assert token is not None
    forged = token[:-1] + bytes([token[-1] ^ 1])
    refund = {"action": EventAction.REFUND}
    before = store.state()
    for number, (asker, given) in enumerate([(who, forged), (who, b""), (who, None), (other, token)]):
        outcome = kit.event(asker, session=f"r{number}", refund_token=given, **refund)
        assert outcome.result is Result.INVALID_VALUE
    assert store.state() == before
    kit.now_us = START_US + (7_776_000 + 1) * 1_000_000
    assert kit.event(who, session="late", refund_token=token, **refund).result is Result.INVALID_VALUE


def test_a_report_by_an_event_session_key_does_not_disturb_data() -> None:
    kit, _ = a_kit()
    who = kit.account(cents=200)
    kit.initial(who, want())
    ecur(kit, who)
    assert kit.balance() == (200, 109)
    kit.terminate(1, report(used=MIB))
    assert kit.balance() == (190, 9)
