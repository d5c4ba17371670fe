"""One of every kind of answer that credit control builds, for foreign decoders to judge."""

from __future__ import annotations

from ocs.charging.requests import FinalAction, FinalUnit, QuotaKey, Result, ServiceOutcome, UnitKind
from protocols.diameter import dictionary as d
from protocols.diameter.avp import encode_avp
from tests.support.gy_client import (
    CHECK_BALANCE,
    DIRECT_DEBITING,
    EVENT,
    INITIAL,
    MIB,
    PRICE_ENQUIRY,
    REFUND_ACCOUNT,
    TERMINATION,
    UPDATE,
    Requests,
    mscc,
    proxy_info,
    subscription,
    units,
)
from tests.support.gy_edge import answered, key, outcome, refusal

RULE = "permit out ip from 192.0.2.0/24 to any"
RFC = "voice@rfc.example"
gateway = Requests()


def grants() -> dict[str, bytes]:
    """Answers of success."""
    data = gateway.ccr(INITIAL, 0, "gw1;1;1", mscc(requested=[]))
    first = ServiceOutcome(key(), unit=UnitKind.OCTETS, granted=10 * MIB, validity_s=3600, threshold=MIB)
    redirect = FinalUnit(FinalAction.REDIRECT, 2, "http://topup.example.net/", (RULE,), ("dns",))
    restrict = FinalUnit(FinalAction.RESTRICT, filter_rules=(RULE, RULE), filter_ids=("a", "b"))
    several = gateway.ccr(
        UPDATE,
        1,
        "gw1;1;1",
        mscc(10, services=[1, 2], requested=[], used=[units(total=1)]),
        mscc(20, requested=[]),
        mscc(None, services=[7], requested=[]),
        extra=[proxy_info("p1.example.net", b"\x00\xff"), proxy_info("p2.example.net", b"abc")],
    )
    return {
        "octets": answered(data, outcome(first)).data,
        "largest": answered(
            data, outcome(ServiceOutcome(key(), unit=UnitKind.OCTETS, granted=2**64 - 1, threshold=2**40))
        ).data,
        "terminate": answered(data, outcome(_last(FinalUnit(FinalAction.TERMINATE)))).data,
        "redirect": answered(data, outcome(_last(redirect))).data,
        "restrict": answered(data, outcome(_last(restrict))).data,
        "several": answered(
            several,
            outcome(
                ServiceOutcome(key(10), unit=UnitKind.OCTETS, granted=MIB, validity_s=60),
                ServiceOutcome(key(20), unit=UnitKind.SECONDS, granted=30, validity_s=60, threshold=3),
                ServiceOutcome(key(None, 7), unit=UnitKind.EVENTS, granted=5, validity_s=60, threshold=1),
            ),
        ).data,
        "opening": answered(
            gateway.ccr(INITIAL, 0, "gw1;1;2"),
            outcome(),
            failure_handling=1,
            session_failover=True,
        ).data,
        "end": answered(
            gateway.ccr(TERMINATION, 3, "gw1;1;1"),
            outcome(cost_micros=1_300_000, balance_micros=8_700_000),
            send_cost_information=True,
            send_remaining_balance=True,
        ).data,
    }


def _last(final: FinalUnit) -> ServiceOutcome:
    return ServiceOutcome(key(), unit=UnitKind.OCTETS, granted=MIB, validity_s=3600, final=final)


def events() -> dict[str, bytes]:
    """Answers to one-time events, in both forms."""
    sms = gateway.ccr(EVENT, 0, "e1", mscc(None, requested=units(events=1)), action=DIRECT_DEBITING)
    debited = ServiceOutcome(key(None), unit=UnitKind.EVENTS, granted=1, refund_token=b"\x00token")
    rfc = [(d.REQUESTED_SERVICE_UNIT, units(money=(25, -2, 978)))]
    refund = gateway.ccr(EVENT, 0, "e2", action=REFUND_ACCOUNT, context=RFC, extra=rfc)
    refunded = ServiceOutcome(QuotaKey(), unit=UnitKind.MONEY, granted=250_000, in_group=False)
    check = gateway.ccr(EVENT, 0, "e3", mscc(None, requested=[]), action=CHECK_BALANCE)
    enquiry = gateway.ccr(EVENT, 0, "e4", mscc(None, requested=[]), action=PRICE_ENQUIRY)
    command = gateway.ccr(INITIAL, 0, "r1", context=RFC, extra=[(d.REQUESTED_SERVICE_UNIT, [])])
    last = ServiceOutcome(
        QuotaKey(),
        unit=UnitKind.SECONDS,
        granted=30,
        validity_s=60,
        final=FinalUnit(FinalAction.TERMINATE),
        in_group=False,
    )
    return {
        "debit": answered(sms, outcome(debited), direct_debiting_failure_handling=1).data,
        "refund": answered(refund, outcome(refunded)).data,
        "check": answered(check, outcome(ServiceOutcome(key(None)), enough_credit=False)).data,
        "enquiry": answered(enquiry, outcome(ServiceOutcome(key(None)), cost_micros=26_000)).data,
        "command level": answered(command, outcome(last)).data,
    }


def denials() -> dict[str, bytes]:
    """Every result, at the levels where it may stand."""
    data = gateway.ccr(UPDATE, 1, "gw1;1;1", mscc(requested=[]), extra=[subscription(1, "001010000000001")])
    found = {}
    for result in Result:
        if result is not Result.SUCCESS:
            found[f"command {result.value}"] = answered(data, outcome(result=result)).data
    for result in (
        Result.SERVICE_DENIED,
        Result.NOT_APPLICABLE,
        Result.CREDIT_LIMIT_REACHED,
        Result.AUTHORIZATION_REJECTED,
        Result.INVALID_VALUE,
        Result.RATING_FAILED,
        Result.UNABLE_TO_COMPLY,
    ):
        found[f"group {result.value}"] = answered(data, outcome(ServiceOutcome(key(), result))).data
    return found


def refusals() -> dict[str, bytes]:
    """Answers to requests of wrong form."""
    required = (
        d.SESSION_ID,
        d.ORIGIN_HOST,
        d.ORIGIN_REALM,
        d.DESTINATION_REALM,
        d.AUTH_APPLICATION_ID,
        d.SERVICE_CONTEXT_ID,
        d.CC_REQUEST_TYPE,
        d.CC_REQUEST_NUMBER,
    )
    found = {f"missing {key}": refusal(gateway.ccr(INITIAL, 0, "s1", without=[key])).data for key in required}
    sub_units = [(d.USED_SERVICE_UNIT, [(d.CC_TIME, 1), (d.CC_TIME, 2)])]
    wrong = {
        "context": {"context": "99999@3gpp.org"},
        "identity": {"msisdn": None},
        "identity type": {"msisdn": None, "extra": [subscription(9, "x")]},
        "second number": {"extra": [(d.CC_REQUEST_NUMBER, 2)]},
        "unknown": {"extra": [encode_avp(99999, b"\x00\x00\x00\x07", 0x40)]},
        "length": {"without": [d.CC_REQUEST_NUMBER], "extra": [bytes.fromhex("0000019f400000100000000000000000")]},
        "nested": {"extra": [(d.MULTIPLE_SERVICES_CREDIT_CONTROL, sub_units)]},
        "sub-session": {"extra": [(d.CC_SUB_SESSION_ID, 1)]},
        "application": {"without": [d.AUTH_APPLICATION_ID], "extra": [(d.AUTH_APPLICATION_ID, 3)]},
        "proxied": {"without": [d.SERVICE_CONTEXT_ID], "extra": [proxy_info("p1.example.net", b"\x01\x02\x03")]},
    }
    for name, options in wrong.items():
        found[name] = refusal(gateway.ccr(INITIAL, 0, "s1", **options)).data  # type: ignore[arg-type]
    return found
