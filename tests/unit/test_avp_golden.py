"""The golden octets of docs/requirements/avps.md §6, encoded and decoded by both twins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from protocols.diameter import dictionary as d
from protocols.diameter import header
from tests.support.codecs import Codec, both_twins, message_of, octets

AVPS_MD = Path(__file__).resolve().parents[2] / "docs" / "requirements" / "avps.md"

UNIT_VALUE_10 = [(d.VALUE_DIGITS, 1000), (d.EXPONENT, -2)]
REDIRECT = [(d.REDIRECT_ADDRESS_TYPE, 2), (d.REDIRECT_SERVER_ADDRESS, "http://topup.example.net/")]
USED = [(d.REPORTING_REASON, 3), (d.CC_TOTAL_OCTETS, 10_485_760)]
BALANCE = [(d.UNIT_VALUE, [(d.VALUE_DIGITS, 870), (d.EXPONENT, -2)]), (d.CURRENCY_CODE, 978)]
SUBSCRIPTION = [(d.SUBSCRIPTION_ID_TYPE, 0), (d.SUBSCRIPTION_ID_DATA, "447700900123")]

AVPS: dict[str, tuple[int, Any]] = {
    "Result-Code 2001": (d.RESULT_CODE, 2001),
    'Service-Context-Id "32251@3gpp.org"': (d.SERVICE_CONTEXT_ID, "32251@3gpp.org"),
    "CC-Request-Type INITIAL_REQUEST(1)": (d.CC_REQUEST_TYPE, 1),
    "CC-Request-Number 0": (d.CC_REQUEST_NUMBER, 0),
    "Granted-Service-Unit{CC-Total-Octets 10485760}": (d.GRANTED_SERVICE_UNIT, [(d.CC_TOTAL_OCTETS, 10_485_760)]),
    "Used-Service-Unit{CC-Total-Octets 10485760, 3GPP Reporting-Reason QUOTA_EXHAUSTED(3)}": (
        d.USED_SERVICE_UNIT,
        USED,
    ),
    "Reporting-Reason QUOTA_EXHAUSTED(3), vendor 10415": (d.REPORTING_REASON, 3),
    "Volume-Quota-Threshold 1048576, vendor 10415": (d.VOLUME_QUOTA_THRESHOLD, 1_048_576),
    "Unit-Value 10.00 (Value-Digits 1000, Exponent -2)": (d.UNIT_VALUE, UNIT_VALUE_10),
    "Remaining-Balance 8.70 EUR (vendor 10415; Value-Digits 870, Exponent -2, Currency-Code 978)": (
        d.REMAINING_BALANCE,
        BALANCE,
    ),
    "Final-Unit-Indication{TERMINATE(0)}": (d.FINAL_UNIT_INDICATION, [(d.FINAL_UNIT_ACTION, 0)]),
    'Final-Unit-Indication{REDIRECT(1), Redirect-Server{URL(2), "http://topup.example.net/"}}': (
        d.FINAL_UNIT_INDICATION,
        [(d.FINAL_UNIT_ACTION, 1), (d.REDIRECT_SERVER, REDIRECT)],
    ),
    "Host-IP-Address 192.0.2.1": (d.HOST_IP_ADDRESS, (1, "192.0.2.1")),
    "Host-IP-Address 2001:db8::1": (d.HOST_IP_ADDRESS, (2, "2001:db8::1")),
    "Tariff-Time-Change 2026-03-02T20:00:00Z": (d.TARIFF_TIME_CHANGE, 1_772_481_600),
    "Event-Timestamp 2040-01-01T00:00:00Z (NTP era 1)": (d.EVENT_TIMESTAMP, 2_208_988_800),
    'Subscription-Id{END_USER_E164(0), "447700900123"}': (d.SUBSCRIPTION_ID, SUBSCRIPTION),
    "Rating-Group 100": (d.RATING_GROUP, 100),
    "Low-Balance-Indication YES(1), vendor 10415": (d.LOW_BALANCE_INDICATION, 1),
    "Trigger{} (empty, disables all triggers), vendor 10415": (d.TRIGGER, []),
    "SL-Request-Type INITIAL_REQUEST(0), vendor 10415": (d.SL_REQUEST_TYPE, 0),
}

ORIGIN = [(d.ORIGIN_HOST, "ocs1.example.com"), (d.ORIGIN_REALM, "example.com")]
GATEWAY = [(d.ORIGIN_HOST, "gw1.example.net"), (d.ORIGIN_REALM, "example.net")]
MESSAGES: dict[str, tuple[header.Header, list[tuple[int, Any]]]] = {
    "DWR from gw1.example.net (hop-by-hop 0x11223344, end-to-end 0x55667788)": (
        header.Header(1, 64, header.FLAG_REQUEST, header.DEVICE_WATCHDOG, 0, 0x11223344, 0x55667788),
        GATEWAY,
    ),
    "DWA 2001 from ocs1.example.com, Origin-State-Id 1": (
        header.Header(1, 88, 0, header.DEVICE_WATCHDOG, 0, 0x11223344, 0x55667788),
        [(d.RESULT_CODE, 2001), *ORIGIN, (d.ORIGIN_STATE_ID, 1)],
    ),
    'Error answer to unknown command 999 on application 4, Session-Id "s1" (flags 0x20)': (
        header.Header(1, 88, header.FLAG_ERROR, 999, 4, 0x11223344, 0x55667788),
        [(d.SESSION_ID, "s1"), *ORIGIN, (d.RESULT_CODE, 3001)],
    ),
}

# Answers to a CCR without these: the examples that stand in Failed-AVP.
MISSING = {
    "Failed-AVP{missing CC-Request-Type}": d.CC_REQUEST_TYPE,
    "Failed-AVP{missing Origin-Host}  (DiameterIdentity min length 0 -> header only)": d.ORIGIN_HOST,
}


def golden() -> dict[str, bytes]:
    """Read the vectors: a title, and on the next line, indented, groups of hexadecimal digits."""
    section = AVPS_MD.read_text(encoding="utf-8").split("## 6.")[1]
    return {title: octets(digits) for title, digits in re.findall(r"^(\S.*)\n    ([0-9a-f ]+)$", section, re.MULTILINE)}


def plain(value: Any) -> Any:
    return [(key, plain(inner)) for key, _, inner in value] if isinstance(value, list) else value


def test_every_golden_vector_is_here() -> None:
    assert set(golden()) == {*AVPS, *MESSAGES, *MISSING}


@both_twins
@pytest.mark.parametrize("title", AVPS)
def test_golden_avp(codec: Codec, title: str) -> None:
    key, value = AVPS[title]
    assert codec.encode_avp(key, value).hex() == golden()[title].hex()
    message = codec.decode_message(message_of(golden()[title]))
    assert message.errors == []
    assert [(found, plain(decoded)) for found, _, decoded in message.avps] == [(key, value)]


@both_twins
@pytest.mark.parametrize("title", MISSING)
def test_golden_failed_avp(codec: Codec, title: str) -> None:
    [error] = codec.check_grammar([], {MISSING[title]: (1, 1)})
    assert codec.encode_avp(d.FAILED_AVP, error.failed_avp).hex() == golden()[title].hex()


@both_twins
@pytest.mark.parametrize("title", MESSAGES)
def test_golden_message(codec: Codec, title: str) -> None:
    head, avps = MESSAGES[title]
    sent = golden()[title]
    assert (
        codec.encode_message(head.command, head.application, head.flags, head.hop_by_hop, head.end_to_end, avps) == sent
    )
    assert header.parse_header(sent) == head
    assert header.build_header(head) == sent[:20]
    message = codec.decode_message(sent)
    assert message.errors == []
    assert [(key, value) for key, _, value in message.avps] == avps
    assert (message.version, message.length, message.flags, message.command) == head[:4]
    assert (message.application, message.hop_by_hop, message.end_to_end) == head[4:]
    assert (message.is_request, message.is_error) == (head.flags == 0x80, head.flags == 0x20)
