"""DB-143 and CC-222: what a log or a trace may show of a message."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message
from protocols.diameter.describe import PLAIN, describe, mask
from tests.support.codecs import encode, gy_update, octets

SECRET = "447700900123"

SENSITIVE: list[tuple[int, Any]] = [
    (d.USER_NAME, SECRET),
    (d.SUBSCRIPTION_ID, [(d.SUBSCRIPTION_ID_TYPE, 0), (d.SUBSCRIPTION_ID_DATA, SECRET)]),
    (d.SUBSCRIPTION_ID_EXTENSION, [(d.SUBSCRIPTION_ID_E164, SECRET)]),
    (d.SUBSCRIPTION_ID_EXTENSION, [(d.SUBSCRIPTION_ID_IMSI, SECRET)]),
    (d.SUBSCRIPTION_ID_EXTENSION, [(d.SUBSCRIPTION_ID_SIP_URI, f"sip:{SECRET}@example.com")]),
    (d.SUBSCRIPTION_ID_EXTENSION, [(d.SUBSCRIPTION_ID_NAI, f"{SECRET}@example.com")]),
    (d.SUBSCRIPTION_ID_EXTENSION, [(d.SUBSCRIPTION_ID_PRIVATE, SECRET)]),
    (d.USER_EQUIPMENT_INFO, [(d.USER_EQUIPMENT_INFO_TYPE, 0), (d.USER_EQUIPMENT_INFO_VALUE, SECRET.encode())]),
    (d.USER_EQUIPMENT_INFO_EXTENSION, [(d.USER_EQUIPMENT_INFO_IMEI, SECRET.encode())]),
    (d.TGPP_IMSI, SECRET),
    (d.CALLING_PARTY_ADDRESS, f"tel:+{SECRET}"),
    (d.CALLED_PARTY_ADDRESS, f"tel:+{SECRET}"),
    (d.CALLED_ASSERTED_IDENTITY, f"sip:{SECRET}@example.com"),
    (d.RECIPIENT_ADDRESS, [(d.ADDRESS_TYPE, 1), (d.ADDRESS_DATA, SECRET)]),
    (d.SMSC_ADDRESS, (8, SECRET)),
    (d.PDP_ADDRESS, (1, "198.51.100.23")),
    (d.TGPP_USER_LOCATION_INFO, octets("8299f907000199f90700000100")),
    (d.TGPP_SGSN_MCC_MNC, "9997012"),
    (d.CC_CORRELATION_ID, SECRET.encode()),
    (d.SESSION_ID, f"gw.example.com;1;2;{SECRET}"),
]


@pytest.mark.parametrize("avp", SENSITIVE, ids=[d.name_of(key) for key, _ in SENSITIVE])
def test_db_143_privacy_sensitive_values_are_masked(avp: tuple[int, Any]) -> None:
    # DB-143: Messages with privacy-sensitive AVPs (RFC 8506 §15) are never logged in full by default; identifiers
    # masked: grep log for MSISDN.
    message = decode_message(encode([avp]))
    shown, whole = describe(message), describe(message, masked=False)
    for secret in (SECRET, SECRET.encode().hex(), "198.51.100.23", "8299f907000199f90700000100", "9997012"):
        assert secret not in shown
    assert "***" in shown
    assert "***" not in whole


def test_cc_222_texts_are_masked_unless_listed() -> None:
    # CC-222: privacy list 8506 §15.1 applies to logs. Every text, octet string and address is masked but for the list.
    kinds = {"UTF8String": "a-private-value", "OctetString": b"a-private-value", "Address": (8, "a-private-value")}
    hidden = 0
    for key, definition in d.DEFINITIONS.items():
        if key not in PLAIN and definition.kind in kinds:
            shown = describe(decode_message(encode([(key, kinds[definition.kind])])))
            assert "private" not in shown, definition.name
            assert b"private".hex() not in shown, definition.name
            hidden += 1
    assert hidden > 200


def test_cc_222_subscription_and_equipment_are_not_listed_as_plain() -> None:
    # CC-222: the AVPs that RFC 8506 defines for identities and equipment.
    plain = {d.name_of(key) for key in PLAIN}
    assert not [name for name in plain if name.startswith(("Subscription-Id", "User-", "3GPP-IMSI"))]


def test_a_message_is_rendered_for_people() -> None:
    text = describe(decode_message(encode(gy_update())))
    assert text.splitlines()[0] == (
        "command 272 request, application 4, hop-by-hop 0x11223344, end-to-end 0x55667788, 848 octets"
    )
    assert "  CC-Request-Type: 2 (UPDATE_REQUEST)" in text
    assert "  Event-Timestamp: 2026-03-02T20:00:00Z" in text
    assert "  Subscription-Id\n    Subscription-Id-Type: 0 (END_USER_E164)\n    Subscription-Id-Data: ***123" in text
    assert "      CC-Total-Octets: 1000000" in text


def test_control_characters_and_long_texts_do_no_harm() -> None:
    shown = describe(decode_message(encode([(d.ERROR_MESSAGE, "one\ntwo\x1b[31m" + "x" * 500)])))
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
    assert len(shown) < 400


def test_errors_are_shown_without_the_value() -> None:
    message = decode_message(encode([]) + octets("000001bc 4000000a fffe0000"))
    assert describe(message).splitlines()[-1] == "  error 5004 Subscription-Id-Data: not UTF-8"


def test_short_texts_are_hidden_whole() -> None:
    assert mask("447700900123") == "***123"
    assert mask("123456") == "***"
    assert mask("") == "***"
