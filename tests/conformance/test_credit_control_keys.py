"""Quota keys, grants and reports, row by row (docs/requirements/credit-control.md §3, §4), asked of the engine.

Amounts are cents. Plan `d10`: RG 100 costs 10 a MiB and is granted 10 MiB; RG 200 costs 20 a MiB, 5 MiB at a time;
300 is free, 400 barred, 500 denied for good.
"""

from __future__ import annotations

from typing import Any

import pytest

from balance.account import BucketKind
from balance.ledger import Cause, Verb
from ocs.charging.requests import (
    FinalAction,
    Identity,
    Outcome,
    QuotaKey,
    Reason,
    Result,
    ServiceOutcome,
    ServiceRequest,
    UnitKind,
    Units,
)
from ocs.charging.settings import ChargingSettings
from ocs.charging.steps import MAX_KEYS
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import MIB, START_US, VOICE, Kit, only, report, want

START_S = START_US // 1_000_000


def a_kit(settings: ChargingSettings | None = None, catalogue: str | None = None) -> tuple[Kit, AuditedStore]:
    store = AuditedStore(now_us=lambda: kit.now_us)
    kit = Kit(store, settings, catalogue)
    return kit, store


def opened(cents: int = 1000, **more: Any) -> tuple[Kit, AuditedStore]:
    """A session with a grant of 10 MiB on RG 100."""
    kit, store = a_kit()
    kit.initial(kit.account(cents=cents, **more), want())
    return kit, store


def by_group(outcome: Outcome) -> dict[int | None, ServiceOutcome]:
    return {one.key.rating_group: one for one in outcome.services}


def test_cc_061_service_identifiers_make_keys_of_their_own() -> None:
    # CC-061: Quota key: Service-Identifier(s) if present, else Rating-Group, else the session default.
    kit, _ = a_kit()
    who = kit.account(cents=1000)
    keys = [QuotaKey(100), QuotaKey(100, (1,)), QuotaKey(100, (2,))]
    kit.initial(who, *(ServiceRequest(key, Units()) for key in keys))
    assert kit.balance() == (1000, 300)
    kit.update(1, ServiceRequest(QuotaKey(100, (1,)), None, (Units(octets=MIB),), Reason.FINAL))
    assert kit.balance() == (990, 200)


def test_cc_062_each_key_is_answered_once_in_the_order_of_the_request() -> None:
    # CC-062: Answer MSCC repeats the same RG/SI; one answer MSCC per request MSCC that asked for quota.
    kit, _ = a_kit()
    outcome = kit.initial(kit.account(cents=1000), want(200), want(300), want(100))
    assert [one.key.rating_group for one in outcome.services] == [200, 300, 100]


def test_cc_063_no_quota_without_being_asked() -> None:
    # CC-063: RSU present (may be empty) = quota wanted. RSU absent = debit only, no GSU may be returned.
    kit, _ = opened()
    answer = only(kit.update(1, report(used=4 * MIB)))
    assert (answer.result, answer.granted, answer.unit) == (Result.SUCCESS, None, None)
    assert kit.balance() == (960, 0)
    assert only(kit.update(2, want())).granted == 10 * MIB


def test_cc_064_an_empty_request_gets_the_tariffs_unit_and_size() -> None:
    # CC-064: Empty RSU: OCS picks unit type and size from the tariff.
    kit, _ = a_kit()
    who = kit.account(cents=1000)
    assert (only(kit.initial(who, want())).unit, kit.balance()) == (UnitKind.OCTETS, (1000, 100))
    voice = only(kit.initial(who, ServiceRequest(QuotaKey(), Units()), session="v", context=VOICE))
    assert (voice.unit, voice.granted) == (UnitKind.SECONDS, 120)
    assert kit.balance() == (1000, 112)  # two minutes at 6


def test_cc_065_the_request_caps_the_size() -> None:
    # CC-065: grant <= min(request, tariff max grant, affordable); server size, capped by request. 1 MiB of 10 -> 1 MiB.
    kit, _ = a_kit()
    who = kit.account(cents=1000)
    assert only(kit.initial(who, want(octets=MIB), session="s1")).granted == MIB
    assert only(kit.initial(who, want(octets=99 * MIB), session="s2")).granted == 10 * MIB
    assert only(kit.initial(who, want(octets=MIB + 1), session="s3")).granted == MIB + 1
    assert kit.balance() == (1000, 10 + 100 + 20)


def test_cc_066_a_unit_that_does_not_fit_is_5031() -> None:
    # CC-066: RSU carrying a unit type that does not fit the tariff: grant in the tariff's unit if the client asked
    # several or none; otherwise MSCC 5031.
    kit, _ = a_kit()
    who = kit.account(cents=1000)
    refused = only(kit.initial(who, want(seconds=60), session="s1"))
    assert (refused.result, refused.granted) == (Result.RATING_FAILED, None)
    several = only(kit.initial(who, want(seconds=60, octets=2 * MIB), session="s2"))
    assert (several.result, several.granted, several.unit) == (Result.SUCCESS, 2 * MIB, UnitKind.OCTETS)


def test_cc_010_requested_money_is_an_invalid_value() -> None:
    # CC-010: Unsupported unit type in RSU (e.g. CC-Money from a 3gpp peer) is an invalid AVP. MSCC 5004.
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=1000), want(money_micros=5)))
    assert (answer.result, answer.detail) == (Result.INVALID_VALUE, "requested_money")
    assert kit.balance() == (1000, 0)


def test_cc_067_the_unit_stays_the_same_during_the_session() -> None:
    # CC-067: At most one instance of each unit type per GSU; unit type stays the same during the session.
    kit, _ = opened()
    units = {only(kit.update(n, want(used=MIB, octets=MIB, seconds=5))).unit for n in range(1, 4)}
    assert units == {UnitKind.OCTETS}


def test_cc_069_all_reports_count_and_total_goes_before_directions() -> None:
    # CC-069: all instances of an MSCC are debited. Volume = CC-Total-Octets if present, else Input+Output.
    kit, _ = opened()
    both = Units(input_octets=3 * MIB, output_octets=7 * MIB)
    kit.update(1, ServiceRequest(QuotaKey(100), Units(), (both,)))
    assert kit.balance() == (900, 100)
    differ = Units(octets=2 * MIB, input_octets=9 * MIB, output_octets=9 * MIB)
    one_way = Units(output_octets=MIB)
    kit.update(2, ServiceRequest(QuotaKey(100), Units(), (differ, one_way)))
    assert kit.balance() == (870, 100)


def test_cc_069_other_units_are_recorded_not_debited() -> None:
    kit, store = opened()
    kit.update(1, ServiceRequest(QuotaKey(100), Units(), (Units(octets=MIB, seconds=1_700_000_000, events=4),)))
    assert kit.balance() == (990, 100)
    (line,) = store.events("a")[-1].usage
    assert line.unrated == ((BucketKind.SECONDS, 1_700_000_000), (BucketKind.EVENTS, 4))


def test_cc_070_over_use_is_debited_in_full_as_its_own_entry() -> None:
    # CC-070: USU larger than the grant is legal and debited in full; the money bucket may pass the credit limit by
    # exactly the over-use.
    kit, store = opened(cents=100)
    assert kit.update(1, report(used=13 * MIB)).result is Result.SUCCESS
    assert kit.balance() == (-30, 0)
    debits = [(e.cause, e.posted_change) for e in store.events("a")[-1].entries if e.verb is Verb.DEBIT]
    assert debits == [(Cause.USAGE, -1_000_000), (Cause.OVER_USE, -300_000)]
    audit(store)


def test_cc_070_the_floor_leaves_the_excess_uncollected() -> None:
    # CC-070: ... setting overuse_floor (default none) caps it and the excess becomes an uncollected entry.
    kit, store = a_kit(ChargingSettings(overuse_floor_micros=-100_000))
    kit.initial(kit.account(cents=100), want())
    kit.update(1, report(used=13 * MIB))
    assert kit.balance() == (-10, 0)
    last = store.events("a")[-1].entries[-1]
    assert (last.verb, last.amount, last.posted_change) == (Verb.UNCOLLECTED, 200_000, 0)
    assert ChargingSettings().overuse_floor_micros is None
    audit(store)


def test_cc_071_a_report_voids_the_whole_old_grant() -> None:
    # CC-071: the whole previous reservation of that key is released, the cost debited, then a new reservation made.
    kit, store = opened()
    kit.update(1, want(used=3 * MIB))
    assert kit.balance() == (970, 100)
    verbs = [(entry.verb, entry.posted_change, entry.reserved_change) for entry in store.events("a")[-1].entries]
    assert verbs == [
        (Verb.DEBIT, -300_000, -300_000),
        (Verb.RELEASE, 0, -700_000),
        (Verb.RESERVE, 0, 1_000_000),
    ]


def test_cc_071_cumulative_rounding_sizes_the_new_reservation() -> None:
    kit, _ = opened()
    kit.update(1, want(used=3 * MIB // 2))
    assert kit.balance() == (980, 100)  # cost(11.5) - cost(1.5) = 120 - 20


def test_cc_072_keys_that_are_not_mentioned_keep_their_reservation() -> None:
    # CC-072: Keys not mentioned in the CCR keep their reservation. R exact.
    kit, _ = a_kit()
    kit.initial(kit.account(cents=1000), want(), want(200))
    assert kit.balance() == (1000, 200)
    kit.update(1, report(used=2 * MIB))
    assert kit.balance() == (980, 100)
    kit.update(2, report(200, used=5 * MIB))
    assert kit.balance() == (880, 0)


def test_cc_073_a_report_of_zero_releases_and_debits_nothing() -> None:
    # CC-073: USU of zero units: no debit, reservation released (and re-made if RSU).
    kit, store = opened()
    assert only(kit.update(1, want(used=0))).granted == 10 * MIB
    assert kit.balance() == (1000, 100)
    kit.update(2, report(used=0))
    assert kit.balance() == (1000, 0)
    assert not [e for event in store.events("a") for e in event.entries if e.verb is Verb.DEBIT]


def test_cc_074_a_key_that_stands_twice_is_debited_twice_and_granted_once() -> None:
    # CC-074: Same key in two MSCCs of one CCR: debit both, grant once. 2001.
    kit, store = opened()
    outcome = kit.update(1, want(used=6 * MIB), want(used=3 * MIB))
    assert only(outcome).granted == 10 * MIB
    assert kit.balance() == (910, 100)
    causes = {entry.cause for entry in store.events("a")[-1].entries if entry.verb is Verb.DEBIT}
    assert causes == {Cause.USAGE}, "within the grant nothing is over-use"


def test_cc_074_the_request_and_the_report_of_a_key_may_stand_apart() -> None:
    kit, store = opened()
    outcome = kit.update(1, want(), report(used=10 * MIB, reason=Reason.QUOTA_EXHAUSTED))
    assert only(outcome).granted == 10 * MIB
    assert kit.balance() == (900, 100)
    assert {e.cause for e in store.events("a")[-1].entries if e.verb is Verb.DEBIT} == {Cause.USAGE}


def test_cc_074_two_reports_of_a_bucket_that_ended_are_both_paid_by_it() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.top_up("a", amount=10 * MIB, kind=BucketKind.OCTETS, valid_until_s=START_S + 100)
    kit.initial(who, want())
    kit.advance(101)
    kit.update(1, report(used=4 * MIB), report(used=4 * MIB))
    assert kit.balance() == (1000, 0), "money paid for what the bucket had held"
    audit(store)


def test_cc_075_an_unknown_rating_group_is_5031_and_alone() -> None:
    # CC-075: Unknown Rating-Group. MSCC 5031, cmd 2001.
    kit, _ = a_kit()
    outcome = kit.initial(kit.account(cents=1000), want(999), want())
    assert outcome.result is Result.SUCCESS
    answers = by_group(outcome)
    assert (answers[999].result, answers[999].detail) == (Result.RATING_FAILED, "rating_group")
    assert answers[100].granted == 10 * MIB and kit.balance() == (1000, 100)


def test_cc_076_a_barred_key_is_4010() -> None:
    # CC-076: Key barred for this user, temporarily. MSCC 4010.
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=1000), want(400)))
    assert (answer.result, answer.granted) == (Result.SERVICE_DENIED, None)


def test_cc_077_a_key_denied_for_good_is_5003() -> None:
    # CC-077: Key must not be asked for again (black-list). MSCC 5003.
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=1000), want(500)))
    assert (answer.result, answer.granted) == (Result.AUTHORIZATION_REJECTED, None)


def test_cc_078_no_money_for_a_key_is_4012_without_validity_or_final_unit() -> None:
    # CC-078: No money for this key. MSCC 4012. A denial (4012) carries no Validity-Time and no FUI (scenarios.md).
    kit, _ = a_kit()
    outcome = kit.initial(kit.account(cents=0), want())
    answer = only(outcome)
    assert outcome.result is Result.SUCCESS
    assert answer == ServiceOutcome(QuotaKey(100), Result.CREDIT_LIMIT_REACHED)


def test_cc_079_a_free_key_is_4011_without_grant() -> None:
    # CC-079: Key is free: no quota control. MSCC 4011, no GSU.
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=1000), want(300)))
    assert (answer.result, answer.granted) == (Result.NOT_APPLICABLE, None)
    kit.update(1, report(300, used=50 * MIB))
    assert kit.balance() == (1000, 0)


def test_cc_080_the_command_stays_2001_even_if_every_key_failed() -> None:
    # CC-080: Command level stays 2001 when at least the session is valid, even if every MSCC failed.
    kit, store = a_kit()
    outcome = kit.initial(kit.account(cents=0), want(), want(200))
    assert outcome.result is Result.SUCCESS
    assert [one.result for one in outcome.services] == [Result.CREDIT_LIMIT_REACHED] * 2
    assert store.accounts()["a"].open_sessions == 1
    kit.top_up("a", 1000)
    assert only(kit.update(1, want())).granted == 10 * MIB


def test_cc_081_a_plan_without_priced_keys_ends_credit_control() -> None:
    # CC-081: Cmd 4011 ends credit control for the session: no state kept, reservations released.
    kit, store = a_kit()
    outcome = kit.initial(kit.account(cents=1000, plan="all-free"), want(300))
    assert outcome == Outcome(Result.NOT_APPLICABLE)
    assert store.sessions() == [] and kit.balance() == (1000, 0)


def test_cc_082_a_session_may_open_without_keys() -> None:
    # CC-082: CCR-I without MSCC and without RSU: open session, no reservation. 2001, no GSU.
    kit, store = a_kit()
    outcome = kit.initial(kit.account(cents=1000))
    assert (outcome.result, outcome.services) == (Result.SUCCESS, ())
    assert kit.balance() == (1000, 0) and store.accounts()["a"].open_sessions == 1
    assert only(kit.update(1, want())).granted == 10 * MIB


def test_cc_083_termination_grants_nothing_even_if_asked() -> None:
    # CC-083: CCR-T: no GSU ever.
    kit, _ = opened()
    outcome = kit.terminate(1, want(used=MIB), want(200))
    assert (outcome.result, outcome.services) == (Result.SUCCESS, ())
    assert kit.balance() == (990, 0)


def test_cc_084_the_reservation_is_the_price_of_the_grant() -> None:
    # CC-084: Reservation size = price of the grant.
    kit, _ = a_kit()
    kit.initial(kit.account(cents=1000), want(200, octets=5 * MIB // 2))
    assert kit.balance() == (1000, 60)  # three started MiB at 20


def test_cc_085_less_than_the_minimum_grant_is_no_money() -> None:
    # CC-085: if A buys less than the tariff's minimum useful grant, treat as no money (4012/FUI). A = 1 unit.
    for cents, granted in ((1, None), (9, None), (10, MIB)):
        kit, _ = a_kit()
        assert only(kit.initial(kit.account(cents=cents), want())).granted == granted


def test_cc_085_a_request_below_the_minimum_is_its_own_minimum() -> None:
    kit, _ = a_kit()
    assert only(kit.initial(kit.account(cents=10), want(octets=1000))).granted == 1000
    assert kit.balance() == (10, 10)


def test_cc_086_the_grant_shrinks_to_whole_steps_and_says_so() -> None:
    # CC-086: grant whatever A covers, rounded down to the tariff step. FUI when what is left cannot buy one more
    # minimum grant.
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=57), want()))
    assert answer.granted == 5 * MIB and answer.final is not None and answer.final.action is FinalAction.TERMINATE
    assert answer.threshold is None and answer.validity_s == 3600
    assert kit.balance() == (57, 50)


@pytest.mark.parametrize(("cents", "final"), [(100, True), (109, True), (110, False)])
def test_cc_086_final_when_no_minimum_grant_is_left(cents: int, final: bool) -> None:
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=cents), want()))
    assert answer.granted == 10 * MIB and (answer.final is not None) is final


def test_cc_086_the_credit_limit_counts() -> None:
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=100, limit=10), want()))
    assert answer.granted == 10 * MIB and answer.final is None
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=0, limit=50), want()))
    assert answer.granted == 5 * MIB and answer.final is not None
    assert kit.balance() == (0, 50)


def test_cc_086_unit_buckets_count_and_only_those_of_the_key() -> None:
    for group, final in ((100, False), (200, True), (-1, False)):
        kit, _ = a_kit()
        who = kit.account(cents=100)
        # 11 MiB in a bucket of lower rank than money has none: the bucket pays first, 10 MiB of it, 1 MiB is left.
        kit.top_up("a", amount=11 * MIB, kind=BucketKind.OCTETS, rating_group=group)
        answer = only(kit.initial(who, want()))
        assert (answer.final is not None) is final
        assert kit.balance() == ((100, 100) if final else (100, 0))


def test_cc_086_another_sessions_hold_shortens_the_validity_instead() -> None:
    # CC-086: If only the second condition fails: plain grant, no FUI, Validity-Time 300 (setting).
    kit, _ = a_kit()
    who = kit.account(cents=150)
    assert only(kit.initial(who, want(), session="x")).validity_s == 3600
    answer = only(kit.initial(who, want(), session="y"))
    assert (answer.granted, answer.final, answer.validity_s) == (5 * MIB, None, 300)


def test_cc_086_keys_of_the_same_session_do_not_count() -> None:
    kit, _ = a_kit()
    outcome = kit.initial(kit.account(cents=150), want(), want(200))
    first, second = outcome.services
    assert (first.granted, first.final) == (10 * MIB, None)
    assert second.granted == 2 * MIB and second.final is not None and second.validity_s == 3600


def test_cc_086_a_hold_on_a_bucket_that_the_key_may_not_draw_from_does_not_count() -> None:
    kit, _ = a_kit()
    who = kit.account(cents=50)
    kit.top_up("a", amount=5 * MIB, kind=BucketKind.OCTETS, rating_group=200)
    assert only(kit.initial(who, want(200), session="x")).granted == 5 * MIB
    answer = only(kit.initial(who, want(100), session="y"))
    assert answer.granted == 5 * MIB and answer.final is not None


def test_cc_086_the_switch_sends_it_all_the_same() -> None:
    kit, _ = a_kit(ChargingSettings(fui_only_if_no_other_reservations=False))
    who = kit.account(cents=150)
    kit.initial(who, want(), session="x")
    answer = only(kit.initial(who, want(), session="y"))
    assert answer.final is not None and answer.validity_s == 3600


def test_cc_086_grants_of_events_are_never_final() -> None:
    kit, _ = a_kit()
    who = kit.account(cents=9)
    service = ServiceRequest(QuotaKey(), Units(events=1))
    answer = only(kit.initial(who, service, context="32274@3gpp.org"))
    assert (answer.granted, answer.final) == (1, None)


def test_cc_087_grants_are_whole_numbers_whatever_the_price() -> None:
    # CC-087: Granted octets for monetary accounts are computed in integers: floor(A x unit / price); never float.
    # 0.000007 for 3 octets, step 1 octet, 1.000000 in the account: floor(10^6 x 3 / 7) = 428,571.
    text = """
name = "odd"
currency = "EUR"
[[tariff]]
name = "odd"
unit = "octets"
price = "0.000007"
per = "3 B"
step = "1 B"
default_quota = "1000000 B"
min_grant = "1 B"
[[plan]]
name = "d10"
[[plan.rule]]
service_context = "32251@3gpp.org"
action = "charge"
tariff = "odd"
"""
    kit, store = a_kit(catalogue=text)
    answer = only(kit.initial(kit.account(cents=100), want()))
    assert answer.granted == 428_571
    assert store.accounts()["a"].reserved_micros == 999_999  # ceil(428,571 x 7 / 3)


def test_cc_090_every_grant_has_a_validity_and_it_ends_with_the_bucket() -> None:
    # CC-090: Send on every grant (default e.g. 3600). Shorten so that the grant ends at bucket expiry.
    kit, _ = a_kit()
    who = kit.account(cents=1000)
    assert only(kit.initial(who, want(), session="s1")).validity_s == 3600
    kit.top_up("a", amount=MIB, kind=BucketKind.OCTETS, valid_until_s=START_S + 100)
    assert only(kit.initial(who, want(), session="s2")).validity_s == 100
    # The bucket is held in full by then, so the next grant does not depend on it.
    assert only(kit.initial(who, want(), session="s3")).validity_s == 3600


def test_cc_091_a_threshold_only_below_the_grant_and_not_on_the_last_one() -> None:
    # CC-091: Volume-Quota-Threshold: must be < grant; omit on final grant (with FUI).
    kit, _ = a_kit()
    who = kit.account(cents=300)
    assert only(kit.initial(who, want(octets=10 * MIB), session="s1")).threshold == MIB
    assert only(kit.initial(who, want(octets=MIB), session="s2")).threshold is None
    kit2, _ = a_kit()
    assert only(kit2.initial(kit2.account(cents=100), want())).threshold is None


def test_cc_092_time_has_its_threshold_too() -> None:
    # CC-092: Time-Quota-Threshold (868, s): same for time.
    kit, _ = a_kit()
    service = ServiceRequest(QuotaKey(), Units())
    assert only(kit.initial(kit.account(cents=1000), service, context=VOICE)).threshold == 10


# Reasons (§7) and hostile amounts


def test_final_in_an_update_never_gets_a_grant() -> None:
    kit, _ = opened()
    answer = only(kit.update(1, want(used=MIB, reason=Reason.FINAL)))
    assert (answer.result, answer.granted) == (Result.SUCCESS, None) and kit.balance() == (990, 0)
    assert only(kit.update(2, want())).granted == 10 * MIB


@pytest.mark.parametrize("reason", [one for one in Reason if one is not Reason.FINAL])
def test_every_other_reason_debits_releases_and_grants_if_asked(reason: Reason) -> None:
    kit, _ = opened()
    assert only(kit.update(1, want(used=MIB, reason=reason))).granted == 10 * MIB
    assert kit.balance() == (990, 100)
    assert only(kit.update(2, report(used=MIB, reason=reason))).granted is None
    assert kit.balance() == (980, 0)


def test_holding_time_without_usage_gives_the_grant_back() -> None:
    kit, _ = opened()
    kit.update(1, report(reason=Reason.QUOTA_HOLDING_TIME))
    assert kit.balance() == (1000, 0)


def test_a_hundred_keys_are_answered_and_sixty_four_are_served() -> None:
    kit, store = a_kit()
    who = kit.account(cents=100_000)
    services = [ServiceRequest(QuotaKey(100, (number,)), Units()) for number in range(100)]
    outcome = kit.initial(who, *services)
    results = [one.result for one in outcome.services]
    assert results == [Result.SUCCESS] * MAX_KEYS + [Result.RATING_FAILED] * (100 - MAX_KEYS)
    assert kit.balance() == (100_000, MAX_KEYS * 100)
    kit.terminate(1, *(ServiceRequest(one.key, None, (Units(octets=MIB),)) for one in services[:MAX_KEYS]))
    assert kit.balance() == (100_000 - MAX_KEYS * 10, 0)
    audit(store)


@pytest.mark.parametrize("used", [2**64 - 1, 2**63])
def test_a_report_that_no_price_can_hold_is_an_invalid_value(used: int) -> None:
    kit, store = opened()
    answer = only(kit.update(1, want(used=used)))
    assert (answer.result, answer.granted) == (Result.INVALID_VALUE, None)
    assert kit.balance() == (1000, 0)
    assert only(kit.update(2, want(used=MIB))).granted == 10 * MIB and kit.balance() == (990, 100)
    assert kit.terminate(3, report(used=used)).result is Result.SUCCESS
    assert kit.balance() == (990, 0)
    audit(store)


def test_the_widest_report_that_can_be_priced_is_debited_in_full() -> None:
    kit, store = opened()
    used = (2**63 - 1) // MIB * MIB
    assert only(kit.update(1, report(used=used))).result is Result.SUCCESS
    assert kit.balance()[0] == 1000 - used // MIB * 10
    audit(store)


def test_reports_that_would_pass_64_bits_in_sum_never_break_the_account() -> None:
    kit, store = opened()
    used = (2**63 - 1) // MIB * MIB
    keys = [ServiceRequest(QuotaKey(200, (number,)), Units(), (Units(octets=used),)) for number in range(12)]
    results = [one.result for one in kit.update(1, *keys).services]
    # 2^43 - 1 MiB at 0.20 are 1.76 x 10^18 micro-units, and an account keeps 2^62 = 4.6 x 10^18.
    assert results == [Result.CREDIT_LIMIT_REACHED] * 2 + [Result.INVALID_VALUE] * 10
    kit.top_up("a", 10)
    assert kit.update(2, report(used=MIB)).result is Result.SUCCESS
    audit(store)


def test_four_billion_seconds_are_debited() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, ServiceRequest(QuotaKey(), Units()), context=VOICE)
    kit.terminate(1, ServiceRequest(QuotaKey(), None, (Units(seconds=2**32 - 1),)), context=VOICE)
    assert kit.balance()[0] == 1000 - -(-(2**32 - 1) // 60) * 6
    audit(store)


def test_a_whole_session_of_ten_thousand_updates_costs_what_its_total_costs() -> None:
    kit, store = a_kit()
    who = kit.account(cents=500_000)
    kit.initial(who, want())
    for number in range(1, 10_001):
        kit.now_us += 20_000_000
        kit.update(number, want(used=1_500_000))
    assert kit.balance()[0] == 500_000 - -(-10_000 * 1_500_000 // MIB) * 10
    session = store.sessions()[0]
    assert session.seen == [(1, 0, 0), (2, 1, 10_000)]
    audit(store)


def test_identities_are_not_needed_after_the_start() -> None:
    kit, _ = opened()
    answer = kit.update(1, want(used=MIB), who=Identity("e164", "0000"))
    assert answer.result is Result.SUCCESS and kit.balance() == (990, 100)
