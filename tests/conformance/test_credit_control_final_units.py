"""Final units, row by row (docs/requirements/credit-control.md §5), asked of the engine. Amounts are cents."""

from __future__ import annotations

import pytest

from ocs.charging.requests import FinalAction, FinalUnit, QuotaKey, Reason, Result, ServiceOutcome
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import CATALOGUE_PATH, MIB, Kit, only, report, want

REDIRECT = FinalUnit(FinalAction.REDIRECT, 2, "http://topup.example.net/")
RESTRICT = FinalUnit(FinalAction.RESTRICT, filter_ids=("topup-only",))
TERMINATE = FinalUnit(FinalAction.TERMINATE)


def a_kit(catalogue: str | None = None) -> tuple[Kit, AuditedStore]:
    store = AuditedStore(now_us=lambda: kit.now_us)
    kit = Kit(store, None, catalogue)
    return kit, store


@pytest.mark.parametrize(
    ("plan", "final"), [("d10", TERMINATE), ("d10-redirect", REDIRECT), ("d10-restrict", RESTRICT)]
)
def test_cc_105_the_last_affordable_grant_says_so(plan: str, final: FinalUnit) -> None:
    # CC-105: When the grant is the last affordable, include Final-Unit-Indication in the same MSCC. 2001 + FUI.
    kit, _ = a_kit()
    answer = only(kit.initial(kit.account(cents=30, plan=plan), want()))
    assert (answer.result, answer.granted, answer.final) == (Result.SUCCESS, 3 * MIB, final)
    assert kit.balance() == (30, 30)


def restricted(plan: str = "d10-redirect") -> tuple[Kit, AuditedStore]:
    """The final units are used up and the client has started its action."""
    kit, store = a_kit()
    kit.initial(kit.account(cents=30, plan=plan), want())
    started = only(kit.update(1, report(used=3 * MIB)))
    assert started.validity_s == 300
    return kit, store


@pytest.mark.parametrize("plan", ["d10-redirect", "d10-restrict"])
def test_cc_110_a_client_that_starts_its_action_learns_how_long(plan: str) -> None:
    # CC-110: After final units are used (REDIRECT/RESTRICT): CCR-U with USU and no RSU. OCS debits, must not reserve,
    # returns no GSU, and must include Validity-Time. 2001 + Validity-Time.
    kit, store = a_kit()
    kit.initial(kit.account(cents=30, plan=plan), want())
    answer = only(kit.update(1, report(used=3 * MIB)))
    assert answer == ServiceOutcome(QuotaKey(100), validity_s=300)
    assert kit.balance() == (0, 0)
    audit(store)


def test_cc_110_an_action_of_terminate_has_no_restricted_state() -> None:
    kit, _ = a_kit()
    kit.initial(kit.account(cents=30), want())
    assert only(kit.update(1, report(used=3 * MIB))).validity_s is None


def test_cc_110_money_that_came_meanwhile_is_not_reserved_unasked() -> None:
    kit, _ = a_kit()
    kit.initial(kit.account(cents=30, plan="d10-redirect"), want())
    kit.top_up("a", 500)
    answer = only(kit.update(1, report(used=3 * MIB)))
    assert (answer.granted, answer.validity_s) == (None, 300) and kit.balance() == (500, 0)


@pytest.mark.parametrize("asks", [True, False])
def test_cc_111_when_the_restriction_ends_a_reservation_is_tried(asks: bool) -> None:
    # CC-111: Validity-Time of the restricted state expires: CCR-U without USU (RSU may be present or absent). OCS must
    # try a reservation. Money -> GSU. No money -> policy: 4012, or FUI again with a new Validity-Time.
    service = want(reason=Reason.VALIDITY_TIME) if asks else report(reason=Reason.VALIDITY_TIME)
    kit, _ = restricted()
    kit.top_up("a", 500)
    answer = only(kit.update(2, service))
    assert (answer.granted, answer.final) == (10 * MIB, None) and kit.balance() == (500, 100)
    kit, _ = restricted()
    kit.advance(300)
    answer = only(kit.update(2, service))
    assert answer == ServiceOutcome(QuotaKey(100), Result.CREDIT_LIMIT_REACHED)


def test_cc_111_repeat_final_action_gives_the_action_again() -> None:
    text = CATALOGUE_PATH.read_text().replace('name = "to-topup"\n', 'name = "to-topup"\nrepeat = true\n')
    kit, _ = a_kit(text)
    kit.initial(kit.account(cents=30, plan="d10-redirect"), want())
    kit.update(1, report(used=3 * MIB))
    for number in (2, 3):
        answer = only(kit.update(number, report(reason=Reason.VALIDITY_TIME)))
        assert answer == ServiceOutcome(QuotaKey(100), validity_s=300, final=REDIRECT)


def test_cc_111_the_restricted_state_keeps_the_session_for_twice_its_validity() -> None:
    kit, store = restricted()
    kit.advance(599)
    assert store.accounts()["a"].open_sessions == 1
    kit.advance(1)
    assert store.accounts()["a"].open_sessions == 0


def test_cc_112_a_key_that_ends_with_terminate_reports_final() -> None:
    # CC-112: FUI TERMINATE in an MSCC -> client ends that service and reports with CCR-U/T, reason FINAL(2).
    kit, store = a_kit()
    kit.initial(kit.account(cents=30), want())
    answer = only(kit.update(1, report(used=3 * MIB, reason=Reason.FINAL)))
    assert answer == ServiceOutcome(QuotaKey(100))
    assert kit.balance() == (0, 0) and store.accounts()["a"].open_sessions == 1
    assert kit.terminate(2).result is Result.SUCCESS


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("d10", ServiceOutcome(QuotaKey(100), Result.CREDIT_LIMIT_REACHED)),
        ("d10-redirect", ServiceOutcome(QuotaKey(100), validity_s=300, final=REDIRECT)),
        ("d10-restrict", ServiceOutcome(QuotaKey(100), validity_s=300, final=RESTRICT)),
    ],
)
def test_cc_113_no_money_at_the_first_try(plan: str, expected: ServiceOutcome) -> None:
    # CC-113: Zero balance on the first grant of a key: policy terminate -> MSCC 4012; policy redirect or restrict ->
    # MSCC with FUI + Validity-Time and no GSU. (a later try without money is 4012, unless repeat_final_action)
    kit, store = a_kit()
    assert only(kit.initial(kit.account(cents=0, plan=plan), want())) == expected
    assert kit.balance() == (0, 0)
    assert only(kit.update(1, want())) == ServiceOutcome(QuotaKey(100), Result.CREDIT_LIMIT_REACHED)
    audit(store)


def test_cc_113_another_key_has_a_first_try_of_its_own() -> None:
    text = CATALOGUE_PATH.read_text() + _PLAN_OF_TWO
    kit, _ = a_kit(text)
    kit.initial(kit.account(cents=0, plan="both"), want(1))
    answer = only(kit.update(1, want(2)))
    assert answer == ServiceOutcome(QuotaKey(2), validity_s=300, final=REDIRECT)


_PLAN_OF_TWO = """
[[plan]]
name = "both"
[[plan.rule]]
service_context = "32251@3gpp.org"
rating_group = [1, 2]
action = "charge"
tariff = "D10-redirect"
"""


def test_cc_116_one_final_key_leaves_the_others_alone() -> None:
    # CC-116: Graceful termination must work per key: one RG final does not affect others.
    kit, store = a_kit()
    kit.initial(kit.account(cents=150), want(), want(200))
    assert kit.balance() == (150, 140)  # 10 MiB at 10, then 2 MiB at 20 with a final unit
    ended = only(kit.update(1, report(200, used=2 * MIB, reason=Reason.FINAL)))
    assert ended.granted is None and kit.balance() == (110, 100)
    going_on = only(kit.update(2, want(100, used=5 * MIB)))
    assert going_on.granted == 6 * MIB and going_on.final == TERMINATE
    assert kit.balance() == (60, 60)
    audit(store)


def test_cc_117_no_final_unit_with_a_refusal() -> None:
    # CC-117: FUI must not be sent with 4010/4012 unless peer setting says so; never with 4011.
    kit, _ = a_kit()
    who = kit.account(cents=0, plan="d10-redirect")
    kit.initial(who, want())
    for answer in kit.update(1, want(100), want(300), want(400), want(500), want(999)).services:
        assert answer.result is not Result.SUCCESS
        assert (answer.final, answer.validity_s, answer.granted) == (None, None, None)
