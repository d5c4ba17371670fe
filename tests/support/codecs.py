"""Both twins of the AVP codec over the whole dictionary, and messages to try them with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from cython_ext import _avp as compiled
from protocols.diameter import _avp_reference as reference
from protocols.diameter import dictionary as d
from protocols.diameter.errors import AvpError, LocalProtocolError

REFERENCE = reference.Codec(d.codec_rows(), AvpError, LocalProtocolError)
COMPILED = compiled.Codec(d.codec_rows(), AvpError, LocalProtocolError)

both_twins = pytest.mark.parametrize("codec", [REFERENCE, COMPILED], ids=["reference", "compiled"])

Codec = reference.Codec | compiled.Codec
Message = reference.Message | compiled.Message


def message_of(*avps: bytes) -> bytes:
    """Put ready AVPs behind the header of a CCR."""
    body = b"".join(avps)
    return bytes.fromhex(f"01{20 + len(body):06x} c0000110 00000004 11223344 55667788") + body


def octets(text: str) -> bytes:
    """Read hexadecimal digits, spaces allowed."""
    return bytes.fromhex(text)


def facts(message: Message) -> str:
    """Everything that decoding found out, in a form that also compares NaN and the types of values."""
    return repr(
        [
            (message.version, message.length, message.flags, message.command, message.application),
            (message.hop_by_hop, message.end_to_end, message.is_request, message.is_proxiable),
            (message.is_error, message.is_retransmit, message.tolerated, message.faulty, message.signature),
            message.avps,
            message.errors,
            message.proxy_infos,
        ]
    )


def gy_update() -> list[tuple[int, Any]]:
    """Return the AVPs of a CCR update as a packet gateway sends it: 45 AVPs in about 800 octets."""
    realm = "epc.mnc070.mcc999.3gppnetwork.org"
    used = [(d.CC_TIME, 10), (d.CC_TOTAL_OCTETS, 10**6), (d.CC_INPUT_OCTETS, 10**3), (d.CC_OUTPUT_OCTETS, 999_000)]
    services: list[tuple[int, Any]] = [
        (d.REQUESTED_SERVICE_UNIT, []),
        (d.USED_SERVICE_UNIT, used),
        (d.RATING_GROUP, 100),
        (d.REPORTING_REASON, 3),
    ]
    return [
        (d.SESSION_ID, "smf1.example.net;1700000000;42;gy"),
        (d.ORIGIN_HOST, f"smf1.{realm}"),
        (d.ORIGIN_REALM, realm),
        (d.DESTINATION_REALM, realm),
        (d.AUTH_APPLICATION_ID, 4),
        (d.SERVICE_CONTEXT_ID, "32251@3gpp.org"),
        (d.CC_REQUEST_TYPE, 2),
        (d.CC_REQUEST_NUMBER, 3),
        (d.DESTINATION_HOST, "ocs.example.com"),
        (d.EVENT_TIMESTAMP, 1_772_481_600),
        (d.SUBSCRIPTION_ID, [(d.SUBSCRIPTION_ID_TYPE, 1), (d.SUBSCRIPTION_ID_DATA, "999700000000001")]),
        (d.SUBSCRIPTION_ID, [(d.SUBSCRIPTION_ID_TYPE, 0), (d.SUBSCRIPTION_ID_DATA, "447700900123")]),
        (d.MULTIPLE_SERVICES_INDICATOR, 1),
        (d.MULTIPLE_SERVICES_CREDIT_CONTROL, services),
        (d.USER_EQUIPMENT_INFO, [(d.USER_EQUIPMENT_INFO_TYPE, 0), (d.USER_EQUIPMENT_INFO_VALUE, b"3520990012345601")]),
        (d.SERVICE_INFORMATION, [(d.PS_INFORMATION, ps_information())]),
        (d.PROXY_INFO, [(d.PROXY_HOST, "dra1.example.net"), (d.PROXY_STATE, b"\x00\xff\x01")]),
    ]


def ps_information() -> list[tuple[int, Any]]:
    """Return the members of PS-Information as an SMF sends them."""
    return [
        (d.TGPP_CHARGING_ID, 1),
        (d.TGPP_PDP_TYPE, 0),
        (d.PDP_ADDRESS, (1, "10.45.0.2")),
        (d.SGSN_ADDRESS, (1, "192.0.2.4")),
        (d.GGSN_ADDRESS, (2, "2001:db8::4")),
        (d.CALLED_STATION_ID, "internet"),
        (d.TGPP_SELECTION_MODE, "0"),
        (d.TGPP_SGSN_MCC_MNC, "99970"),
        (d.TGPP_NSAPI, b"5"),
        (d.TGPP_MS_TIMEZONE, b"\x80\x00"),
        (d.TGPP_USER_LOCATION_INFO, octets("82 99f907 0001 99f907 00000100")),
        (d.TGPP_RAT_TYPE, b"\x06"),
    ]


def encode(command_avps: Iterable[Any]) -> bytes:
    """Encode a CCR with the readable twin."""
    return REFERENCE.encode_message(272, 4, 0xC0, 0x11223344, 0x55667788, command_avps)
