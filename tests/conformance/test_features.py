"""Rows of features.md with their exact numbers. 1 MB = 10^6 octets there; money is shown with two decimals."""

from __future__ import annotations

from ocs.charging.pricing import Catalogues
from ocs.charging.requests import EventAction, QuotaKey, Result, ServiceRequest, UnitKind, Units
from tariffs.loader import load
from tests.support.charging_kit import Kit, messages, only, report, want

MB = 1_000_000
CATALOGUE = """
name = "features"
currency = "EUR"

[[tariff]]
name = "data"
unit = "octets"
price = "0.01"
per = "1 MB"
default_quota = "100 MB"
min_grant = "1 MB"
validity = "600 s"

[[tariff]]
name = "sms"
unit = "events"
price = "0.05"

[[plan]]
name = "d10"

[[plan.rule]]
service_context = "32251@3gpp.org"
tariff = "data"

[[plan.rule]]
service_context = "32274@3gpp.org"
tariff = "sms"
"""


def features_kit() -> Kit:
    kit = Kit()
    kit.engine.catalogues = Catalogues({1: load(CATALOGUE, "features.toml", 1)}, 1)
    return kit


def test_f24_session_with_reservation() -> None:
    kit = features_kit()
    # 10.00, 0.01/MB, slice 100 MB: I -> grant 100 MB, reserved 1.00
    assert only(kit.initial(kit.account(cents=1000), want())).granted == 100 * MB
    assert kit.balance() == (1000, 100)
    # U used 60 -> balance 9.40
    kit.update(1, want(used=60 * MB))
    assert kit.balance() == (940, 100)
    # T used 40 -> 9.00, reserved 0
    kit.terminate(2, report(used=40 * MB))
    assert kit.balance() == (900, 0)


def test_f25_event_debit_refund_check_and_price_enquiry() -> None:
    kit = features_kit()
    who = kit.account(cents=1000)
    # SMS 0.05 from 10.00 -> 9.95
    token = only(kit.event(who, messages(), session="debit")).refund_token
    assert kit.balance() == (995, 0)
    # refund -> 10.00
    service = ServiceRequest(QuotaKey(), Units())
    refund = kit.event(who, service, session="refund", action=EventAction.REFUND, refund_token=token)
    assert refund.result is Result.SUCCESS
    assert kit.balance() == (1000, 0)
    # check -> enough, no change
    check = kit.event(who, messages(), session="check", action=EventAction.CHECK_BALANCE)
    assert check.enough_credit is True
    assert kit.balance() == (1000, 0)
    # enquiry -> 0.05
    enquiry = kit.event(who, messages(), session="price", action=EventAction.PRICE_ENQUIRY)
    assert enquiry.cost_micros == 50_000
    assert kit.balance() == (1000, 0)


def test_f26_last_slice() -> None:
    kit = features_kit()
    # balance 0.30 at 0.01/MB -> 30 MB + Final-Unit
    answer = only(kit.initial(kit.account(cents=30), want()))
    assert answer.granted == 30 * MB
    assert answer.final is not None
    # next U -> 4012
    assert only(kit.update(1, want(used=30 * MB))).result is Result.CREDIT_LIMIT_REACHED
    assert kit.balance() == (0, 0)


def test_f29_buckets_by_priority_and_expiry() -> None:
    kit = features_kit()
    who = kit.account(cents=1000)
    octets, tonight = int(UnitKind.OCTETS), kit.now_us // 1_000_000 + 12 * 3600
    kit.top_up("a", amount=1000 * MB, kind=octets)
    kit.top_up("a", amount=500 * MB, kind=octets, valid_until_s=tonight)
    kit.initial(who, want())
    # 500 MB (ends today) + 1,000 MB; use 600 -> 0 and 900 left; money unchanged
    for number in range(1, 7):
        kit.update(number, want(used=100 * MB))
    kit.terminate(7)
    left = {bucket["valid_until_s"]: bucket["posted"] for bucket in kit.buckets() if bucket["kind"] == "octets"}
    assert left == {tonight: 0, None: 900 * MB}
    assert kit.balance() == (1000, 0)


def test_f29_a_lower_priority_number_is_spent_before_an_earlier_end() -> None:
    kit = features_kit()
    who = kit.account(cents=0)
    octets, tonight = int(UnitKind.OCTETS), kit.now_us // 1_000_000 + 12 * 3600
    kit.top_up("a", amount=500 * MB, kind=octets, valid_until_s=tonight, priority=2)
    kit.top_up("a", amount=1000 * MB, kind=octets, priority=1)
    kit.initial(who, want())
    kit.terminate(1, report(used=100 * MB))
    assert [bucket["posted"] for bucket in kit.buckets()[1:]] == [500 * MB, 900 * MB]


def test_f34_reservation_expiry() -> None:
    kit = features_kit()
    # Validity-Time 600 s, silence
    assert only(kit.initial(kit.account(cents=1000), want())).validity_s == 600
    kit.advance(1199)
    assert kit.balance() == (1000, 100)
    # after Tcc (2 x Validity-Time) the reserve is returned
    kit.advance(1)
    assert kit.balance() == (1000, 0)
    # CDR closed "supervision_timeout"
    assert kit.events()[-1]["close_cause"] == "supervision_timeout"
    assert kit.sessions() == []
