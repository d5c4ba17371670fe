"""Settings of a peer, found by the gateway's name; and the one table of codes."""

from __future__ import annotations

from typing import Any

import pytest

from ocs.charging.identity_text import normalise
from ocs.charging.requests import FinalAction, FinalUnit, QuotaKey, Result, ServiceOutcome, UnitKind
from ocs.charging.results import DIAMETER, overload_code, service_code
from ocs.servers.gy import GySettings, PeerProfile, answer_extras, read_request
from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message
from protocols.diameter.credit_control_messages import Form
from protocols.diameter.errors import LocalProtocolError
from tests.support.gy_client import EVENT, INITIAL, UPDATE, Requests, mscc, units
from tests.support.gy_edge import answered, charging, key, outcome, read

RFC = "voice@rfc.example"


def test_the_profile_is_that_of_the_ccrs_origin_host() -> None:
    special = PeerProfile(quota_key="rg+si")
    settings = GySettings(service_contexts=frozenset({"32251@3gpp.org"}), peers={"gw1.example.net": special})
    message = decode_message(Requests("GW1.example.net").ccr(INITIAL, 0, "s"))
    assert read_request(message, settings)[1] is special
    message = decode_message(Requests("gw2.example.net").ccr(INITIAL, 0, "s"))
    assert read_request(message, settings)[1] is settings.default


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"identity_order": ("e164", "msisdn")}, "identity_order"),
        ({"identity_order": ()}, "identity_order"),
        ({"failure_handling": 3}, "failure_handling"),
        ({"direct_debiting_failure_handling": 2}, "direct_debiting_failure_handling"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PeerProfile(**fields)


@pytest.mark.parametrize(
    ("context", "services", "form", "expected"),
    [
        ("32251@3gpp.org", (), "auto", Form.TGPP),
        (RFC, (), "auto", Form.RFC),
        (RFC, (mscc(1, requested=[]),), "auto", Form.RFC),
        (RFC, (mscc(1, reason=3),), "auto", Form.TGPP),
        (RFC, (), "3gpp", Form.TGPP),
        ("32251@3gpp.org", (), "rfc", Form.RFC),
    ],
)
def test_the_form_is_found_from_the_request_or_set(context: str, services: Any, form: str, expected: Form) -> None:
    # credit-control.md §0: "Service-Context-Id ending in @3gpp.org or any MSCC with a vendor-10415 AVP -> 3gpp."
    assert read(Requests().ccr(INITIAL, 0, "s", *services, context=context), form=form).form is expected


def test_failure_handling_and_failover_go_with_the_first_answer_only() -> None:
    profile: dict[str, Any] = {"failure_handling": 1, "session_failover": True, "direct_debiting_failure_handling": 1}
    first = answered(Requests().ccr(INITIAL, 0, "s"), outcome(), **profile)
    assert (first.get(d.CREDIT_CONTROL_FAILURE_HANDLING), first.get(d.CC_SESSION_FAILOVER)) == (1, 1)
    later = answered(Requests().ccr(UPDATE, 1, "s"), outcome(), **profile)
    assert d.CREDIT_CONTROL_FAILURE_HANDLING not in later.keys
    assert d.CC_SESSION_FAILOVER not in later.keys
    event = answered(Requests().ccr(EVENT, 0, "e", action=0), outcome(), **profile)
    assert event.get(d.DIRECT_DEBITING_FAILURE_HANDLING) == 1
    plain = answered(Requests().ccr(INITIAL, 0, "s"), outcome())
    assert d.CREDIT_CONTROL_FAILURE_HANDLING not in plain.keys


def test_every_result_has_its_codes() -> None:
    assert set(DIAMETER) == set(Result)


@pytest.mark.parametrize("result", [Result.USER_UNKNOWN, Result.UNKNOWN_SESSION, Result.IDENTITY_MISSING])
def test_a_result_of_the_whole_request_never_stands_in_a_group(result: Result) -> None:
    # credit-control.md §14: 5002, 5005, 5007 and 5030 have "no" in column MSCC.
    with pytest.raises(LocalProtocolError):
        service_code(result)


def test_overload_is_3004_only_to_who_named_us() -> None:
    # DB-127: "3004 E only when Destination-Host named us (§7.1.3); otherwise shed by 5012"
    assert [int(overload_code(named)) for named in (True, False)] == [3004, 5012]


def test_units_at_command_level_come_back_at_command_level() -> None:
    # credit-control.md §0: "command-level units in, command-level units out"
    data = Requests().ccr(
        INITIAL,
        0,
        "s",
        context=RFC,
        extra=[(d.SERVICE_IDENTIFIER, 5), (d.REQUESTED_SERVICE_UNIT, units(time=60))],
    )
    (service,) = charging(data).services
    assert (service.key, service.in_group) == (QuotaKey(None, (5,)), False)
    denied = ServiceOutcome(service.key, Result.CREDIT_LIMIT_REACHED, in_group=False)
    answer = answered(data, outcome(denied))
    assert (answer.code, answer.services, answer.command_units.granted) == (4012, [], None)


def test_money_is_granted_in_the_accounts_currency() -> None:
    data = Requests().ccr(
        EVENT, 0, "e", action=1, context=RFC, extra=[(d.REQUESTED_SERVICE_UNIT, units(money=(25, -2, 978)))]
    )
    refunded = ServiceOutcome(QuotaKey(), unit=UnitKind.MONEY, granted=250_000, in_group=False)
    assert answered(data, outcome(refunded)).command_units.granted == {"money": (25, -2, 978)}


def test_refund_information_comes_back_and_goes_out_in_the_group() -> None:
    back = mscc(None, requested=[], extra=[(d.REFUND_INFORMATION, b"token")])
    data = Requests().ccr(EVENT, 0, "e", back, action=1)
    assert charging(data).refund_token == b"token"
    debit = Requests().ccr(EVENT, 0, "e", mscc(None, requested=[]), action=0)
    done = ServiceOutcome(key(None), unit=UnitKind.EVENTS, granted=1, refund_token=b"token")
    assert answered(debit, outcome(done)).service.refund == b"token"


def test_a_refused_refund_shows_its_refund_information() -> None:
    # CC-145: "Unknown or already refunded: | 5004 Failed-AVP(Refund-Information)"
    back = mscc(None, requested=[], extra=[(d.REFUND_INFORMATION, b"token")])
    data = Requests().ccr(EVENT, 0, "e", back, action=1)
    answer = answered(data, outcome(result=Result.INVALID_VALUE, detail="refund_information"))
    assert (answer.code, answer.failed) == (5004, [(d.REFUND_INFORMATION, b"token")])


@pytest.mark.parametrize("detail", ["requested_unit", "used_units", "service_context", "plan", None])
def test_any_detail_gives_a_failed_avp(detail: str | None) -> None:
    data = Requests().ccr(UPDATE, 1, "s", mscc(7, requested=units(time=1), used=[units(total=1)]))
    for result in (Result.RATING_FAILED, Result.INVALID_VALUE):
        one = answered(data, outcome(ServiceOutcome(key(7), result, detail=detail)))
        assert len(one.failed) == 1
        assert len(answered(data, outcome(result=result, detail=detail)).failed) == 1


def test_a_redirect_without_its_server_is_our_error() -> None:
    last = ServiceOutcome(key(), unit=UnitKind.OCTETS, granted=1, final=FinalUnit(FinalAction.REDIRECT))
    with pytest.raises(LocalProtocolError, match="Redirect-Server"):
        answered(Requests().ccr(INITIAL, 0, "s", mscc(requested=[])), outcome(last))


def test_extras_of_error_answers_are_what_was_decoded() -> None:
    message = decode_message(Requests().ccr(UPDATE, 3, "s", without=[d.CC_REQUEST_TYPE]))
    assert answer_extras(message) == ((d.AUTH_APPLICATION_ID, 4), (d.CC_REQUEST_NUMBER, 3))
    assert answer_extras(decode_message(Requests().dwr())) == ()


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("e164", "+44 7700-900.123", "447700900123"),
        ("e164", "12a", None),
        ("e164", "tel:+44", None),
        ("e164", "٣٤", None),
        ("imsi", " 001010000000001 ", "001010000000001"),
        ("imsi", "+1", None),
        ("nai", "Alice@Example.COM", "Alice@example.com"),
        ("private", "", None),
        ("username", "u" * 300, None),
    ],
)
def test_identity_spelling(kind: str, text: str, expected: str | None) -> None:
    identity = normalise(kind, text)
    assert (identity.value if identity else None) == expected
