"""Every row of the AVP table, decoded from octets that python-diameter made; and its octets of ours, seen by tshark.

How each of the 710 rows is witnessed:

- 679 rows: python-diameter's own dictionary names the same type; `Avp.new` makes the octets.
- 16 rows (`OTHER_TYPE`): its dictionary names another type, so it is given a value whose octets the row can hold; the
  reason for the row's type stands beside it.
- 15 rows (`UNKNOWN`): neither it nor Wireshark 4.0.17 has the row. Its class of the row's type makes the octets, so
  that header, padding and value are foreign, and only the choice of the type is the table's.
- All rows, besides: tshark, with a third dictionary, dissects our octets and finds none malformed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from diameter.message import avp as foreign
from diameter.message.avp.avp import get_avp_dictionary_entry

from protocols.diameter import dictionary as d
from tests.support.codecs import COMPILED, encode, message_of, octets
from tests.support.tshark import dissect

CLASSES: dict[str, Any] = {
    "Unsigned32": foreign.AvpUnsigned32,
    "Unsigned64": foreign.AvpUnsigned64,
    "Integer32": foreign.AvpInteger32,
    "Integer64": foreign.AvpInteger64,
    "Enumerated": foreign.AvpEnumerated,
    "UTF8String": foreign.AvpUtf8String,
    "OctetString": foreign.AvpOctetString,
    "DiameterIdentity": foreign.AvpOctetString,
    "DiameterURI": foreign.AvpOctetString,
    "IPFilterRule": foreign.AvpOctetString,
    "Address": foreign.AvpAddress,
    "Time": foreign.AvpTime,
    "Grouped": foreign.AvpGrouped,
}

# What python-diameter is given, and what we must read.
SAMPLES: dict[str, list[tuple[Any, Any]]] = {
    "Unsigned32": [(0, 0), (978, 978), (2**32 - 1, 2**32 - 1)],
    "Unsigned64": [(0, 0), (10_485_760, 10_485_760), (2**64 - 1, 2**64 - 1)],
    "Integer32": [(-(2**31), -(2**31)), (-2, -2), (2**31 - 1, 2**31 - 1)],
    "Integer64": [(-(2**63), -(2**63)), (1000, 1000), (2**63 - 1, 2**63 - 1)],
    "UTF8String": [("", ""), ("tel:+447700900123", "tel:+447700900123"), ("é" * 3000, "é" * 3000)],
    "OctetString": [(b"", b""), (b"\x82\x00\xff", b"\x82\x00\xff"), (bytes(5000), bytes(5000))],
    "DiameterIdentity": [(b"ocs1.example.com", "ocs1.example.com")],
    "DiameterURI": [(b"aaa://ocs1.example.com:3868", "aaa://ocs1.example.com:3868")],
    "IPFilterRule": [(b"permit in ip from any to any", "permit in ip from any to any")],
    "Address": [
        ("192.0.2.1", (1, "192.0.2.1")),
        ("2001:db8::1", (2, "2001:db8::1")),
        ("447700900123", (8, "447700900123")),
    ],
    "Time": [
        (datetime(2026, 3, 2, 20, tzinfo=UTC), 1_772_481_600),
        # python-diameter 0.9.0 begins era 1 an hour early: its constant is 2085974896, and 2^32 - 2208988800 is
        # 2085978496. DB-058's own example, 0x0754FD00 for 2040-01-01T00:00:00Z, decides (and tshark agrees).
        (datetime(2040, 1, 1, tzinfo=UTC), 2_208_988_800 + 3600),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
    ],
}

# Signed where the standard says Unsigned32 (RFC 6733 §4.5, TS 32.299 §7.2, TS 29.212 §5.3): the octets of values below
# 2^31 are the same, and our reading of the others is the unsigned one.
AS_SIGNED: list[tuple[Any, Any]] = [(0, 0), (2001, 2001), (-1, 2**32 - 1)]

OTHER_TYPE: dict[str, tuple[str, list[tuple[Any, Any]]]] = {
    "Authorization-Lifetime": ("Integer32 there, Unsigned32 in RFC 6733 §8.9", AS_SIGNED),
    "Inband-Security-Id": ("Enumerated there, Unsigned32 in RFC 6733 §6.10", AS_SIGNED),
    "Result-Code": ("Enumerated there, Unsigned32 in RFC 6733 §7.1", AS_SIGNED),
    "Session-Binding": ("Enumerated there, Unsigned32 (a bit mask) in RFC 6733 §8.17", AS_SIGNED),
    "Presence-Reporting-Area-Status": ("Enumerated there, Unsigned32 in TS 29.212", AS_SIGNED),
    "MMTel-SService-Type": ("Enumerated there, Unsigned32 in TS 32.299", AS_SIGNED),
    "Number-Of-Participants": ("Integer32 there, Unsigned32 in TS 32.299", AS_SIGNED),
    "Service-Mode": ("Enumerated there, Unsigned32 in TS 32.299", AS_SIGNED),
    "Redirect-Host": ("UTF8String there, DiameterURI in RFC 6733 §6.12", [("aaa://a.example", "aaa://a.example")]),
    "3GPP-Charging-Id": (
        "OctetString there; avps.md: any length, four octets are a number",
        [(b"\x00\x00\x00\x2a", 42), (b"\xff\xff\xff\xff", 2**32 - 1), (b"0000002a", b"0000002a"), (b"", b"")],
    ),
    "3GPP-Session-Stop-Indicator": ("UTF8String there, OctetString in TS 29.061", [("é", b"\xc3\xa9")]),
    "Access-Network-Information": ("UTF8String there, OctetString in TS 32.299", [("3GPP-UTRAN", b"3GPP-UTRAN")]),
    "3GPP2-BSID": ("UTF8String there, OctetString in 3GPP2 X.S0057", [("0123456789ab", b"0123456789ab")]),
    "MBMS-GW-SSM-IP-Address": (
        "Address there, OctetString in TS 32.299: its family is part of the octets",
        [("192.0.2.1", b"\x00\x01\xc0\x00\x02\x01")],
    ),
    "From-Address": (
        "Address there, UTF8String in TS 32.299: its family is part of the text",
        [("447700900123", "\0\x08447700900123")],
    ),
    "Application-Server-Id": (
        "Unsigned32 there, UTF8String in TS 32.299: four ASCII octets",
        [(0x61733031, "as01")],
    ),
}

UNKNOWN = {
    "Subscription-Id-Extension",
    "Subscription-Id-E164",
    "Subscription-Id-IMSI",
    "Subscription-Id-SIP-URI",
    "Subscription-Id-NAI",
    "Subscription-Id-Private",
    "3GPP-OC-Specific-Reduction",
    "3GPP-OC-Rating-Group",
    "3GPP-OC-Request-Type",
    "API-Network-Service-Node",
    "Exposure-Function-API-Information",
    "ProSe-Functionality",
    "Radio-Frequency",
    "SCEF-Address",
    "TLTRI",
}

# Wireshark also looks inside of these, so tshark is shown values of the inner format.
INNER_FORMAT: dict[str, Any] = {
    "Subscription-Id-Type": 0,
    "Subscription-Id-Data": "447700900123",
    "User-Equipment-Info-Type": 0,
    "User-Equipment-Info-Value": b"3520990012345601",
    "Framed-IP-Address": b"\xc0\x00\x02\x01",
    "Framed-IP-Netmask": b"\xff\xff\xff\x00",
    "3GPP-CG-Address": b"\xc0\x00\x02\x01",
    "3GPP-SGSN-Address": b"\xc0\x00\x02\x01",
    "3GPP-GGSN-Address": b"\xc0\x00\x02\x01",
    "3GPP-SGSN-Ipv6-Address": bytes(15) + b"\x01",
    "MBMS-GGSN-Ipv6-Address": bytes(15) + b"\x01",
    "MBMS-BMSC-SSM-IP-Address": b"\xe8\x00\x00\x01",
    "3GPP-GPRS-Negotiated-QoS-Profile": "05-080000",
    "3GPP-User-Location-Info": octets("8299f907000199f90700000100"),
    "TWAN-Identifier": b"\x00\x04wifi",
    "Presence-Reporting-Area-Elements-List": bytes(9),
    "TMGI": octets("00000199f907"),
    "MBMS-Service-Area": octets("000001"),
}

ROWS = list(d.DEFINITIONS.values())


def samples(definition: d.Definition) -> list[tuple[Any, Any]]:
    """Pairs of what the foreign stack is given and what we must read, for a row that is no group."""
    if definition.name in OTHER_TYPE:
        return OTHER_TYPE[definition.name][1]
    if definition.kind == "Enumerated":
        values = list(definition.enums)
        return [(v, v) for v in (values if definition.key in d.CHECKED_ENUMERATIONS else [*values, -1, 2**31 - 1])]
    return SAMPLES[definition.kind]


def make(definition: d.Definition, value: Any) -> Any:
    """Let python-diameter make an AVP: by its dictionary, or by its class of the row's type."""
    if definition.name not in UNKNOWN:
        return foreign.Avp.new(definition.code, definition.vendor, value=value)
    avp = CLASSES[definition.kind](definition.code, vendor_id=definition.vendor)
    avp.value = value
    return avp


def group_members(definition: d.Definition, depth: int) -> tuple[list[Any], list[Any]]:
    """Foreign members of a group, and what we must read of them."""
    made: list[Any] = []
    expected: list[Any] = []
    for member in definition.members:
        row = d.DEFINITIONS[member.key]
        for _ in range(2 if member.most is None else 1):
            if row.kind == "Grouped":
                if not depth and not member.least:
                    continue
                inner, read = group_members(row, depth - 1) if depth > 0 else required_members(row)
                made.append(make(row, inner))
                expected.append((row.key, read))
            else:
                given, read_value = samples(row)[-1]
                made.append(make(row, given))
                expected.append((row.key, read_value))
    return made, expected


def required_members(definition: d.Definition) -> tuple[list[Any], list[Any]]:
    """Only what the group must have."""
    made: list[Any] = []
    expected: list[Any] = []
    for member in definition.members:
        row = d.DEFINITIONS[member.key]
        if member.least:
            given, read = required_members(row) if row.kind == "Grouped" else samples(row)[0]
            made.append(make(row, given))
            expected.append((row.key, read))
    return made, expected


def plain(value: Any) -> Any:
    return [(key, plain(inner)) for key, _, inner in value] if isinstance(value, list) else value


def test_the_lists_of_disagreements_are_exact() -> None:
    unknown, other_type = set(), set()
    for definition in ROWS:
        entry = get_avp_dictionary_entry(definition.code, definition.vendor)
        if entry is None:
            unknown.add(definition.name)
        elif entry["type"] is not CLASSES[definition.kind]:
            other_type.add(definition.name)
    assert unknown == UNKNOWN
    assert other_type == set(OTHER_TYPE)
    assert len(ROWS) - len(unknown) - len(other_type) == 679


@pytest.mark.parametrize("definition", ROWS, ids=[definition.name for definition in ROWS])
def test_row_is_decoded_from_foreign_octets(definition: d.Definition) -> None:
    if definition.kind == "Grouped":
        pairs: list[tuple[Any, Any]] = [required_members(definition), group_members(definition, 2)]
    else:
        pairs = samples(definition)
    for given, expected in pairs:
        message = COMPILED.decode_message(message_of(make(definition, given).as_bytes()))
        assert message.errors == []
        assert [(key, plain(value)) for key, _, value in message.avps] == [(definition.key, expected)]


def typical(definition: d.Definition, depth: int) -> Any:
    """A short typical value of a row, a group with its members and theirs."""
    if definition.kind == "Grouped":
        members = [d.DEFINITIONS[m.key] for m in definition.members if depth or m.least]
        return [(m.key, typical(m, max(depth - 1, 0))) for m in members]
    values = samples(definition)
    return INNER_FORMAT.get(definition.name, values[min(1, len(values) - 1)][1])


def test_tshark_finds_nothing_wrong_with_a_row() -> None:
    messages = [encode([(d.SESSION_ID, "s;1"), (row.key, typical(row, depth=2))]) for row in ROWS]
    wrong = {
        row.name: seen.complaints
        for row, seen in zip(ROWS, dissect(messages), strict=True)
        if seen.malformed or seen.complaints or seen.commands != (272,)
    }
    assert wrong == {}
