"""RFC 6733 §4 and docs/requirements/diameter-base.md §3: the decoding of AVPs, on both twins of the codec."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.diameter import dictionary as d
from protocols.diameter.avp import same_identity
from protocols.diameter.errors import AvpError, reported
from tests.support.codecs import Codec, both_twins, message_of, octets

STRANGER = octets("0001869f 40000009 2a000000")


def only_error(codec: Codec, *avps: bytes) -> AvpError:
    """Decode AVPs that hold one error and return it."""
    errors: list[AvpError] = codec.decode_message(message_of(*avps)).errors
    assert len(errors) == 1, errors
    return errors[0]


@both_twins
def test_db_040_vendor_and_code_name_an_avp(codec: Codec) -> None:
    # DB-040: Key of an AVP is (vendor, code), never code alone: code 1 vendor 0 (User-Name), vendor 10415 (3GPP-IMSI).
    message = codec.decode_message(message_of(octets("00000001 40000009 61000000 00000001 c000000d 000028af 62000000")))
    assert message.avps == [(d.USER_NAME, 0x40, "a"), (d.TGPP_IMSI, 0xC0, "b")]
    assert d.USER_NAME != d.TGPP_IMSI


@both_twins
def test_db_041_padding_is_outside_the_length_and_its_value_is_ignored(codec: Codec) -> None:
    # DB-041: AVP Length excludes padding; pad octets are sent as zero and ignored when received.
    for size, sent in [(1, "78000000"), (2, "78780000"), (3, "78787800"), (4, "78787878")]:
        encoded = codec.encode_avp(d.USER_NAME, "x" * size)
        assert encoded == octets(f"00000001 400000{8 + size:02x} {sent}")
        soiled = encoded[: 8 + size] + b"\xff" * (4 - size)
        message = codec.decode_message(message_of(soiled, codec.encode_avp(d.RATING_GROUP, 1)))
        assert message.avps == [(d.USER_NAME, 0x40, "x" * size), (d.RATING_GROUP, 0x40, 1)]


@both_twins
def test_db_042_length_of_a_group_includes_the_padding_of_its_members(codec: Codec) -> None:
    # DB-042: Grouped AVP length *includes* the padding of its members: Redirect-Server with a 25-octet URL.
    group = octets(
        "000001b2 40000038 000001b1 4000000c 00000002 000001b3 40000021 68747470 3a2f2f74 6f707570 2e657861 6d706c65"
        "2e6e6574 2f000000"
    )
    members = [(d.REDIRECT_ADDRESS_TYPE, 2), (d.REDIRECT_SERVER_ADDRESS, "http://topup.example.net/")]
    assert codec.encode_avp(d.REDIRECT_SERVER, members) == group
    message = codec.decode_message(message_of(group))
    assert not message.errors
    assert message.avps == [(d.REDIRECT_SERVER, 0x40, [(key, 0x40, value) for key, value in members])]
    # The same group without the padding in its length: the URL's AVP does not fit into it.
    error = only_error(codec, group[:7] + b"\x35" + group[8:])
    assert (error.result_code, error.name) == (5014, "Redirect-Server-Address")


@both_twins
@pytest.mark.parametrize(
    ("sent", "failed"),
    [
        ("000001a0 40000007 00000001", "000001a0 40000008"),
        ("000001a0 40000000 00000001", "000001a0 40000008"),
        ("00000365 c000000b 000028af 00100000", "00000365 c000000c 00002800"),
        ("00000365 c0000007 000028af 00100000", "00000365 c000000c 00000000"),
        ("000001a0", "000001a0 00000008"),
        ("00000365 c0000010", "00000365 c000000c 00000000"),
    ],
)
def test_db_043_length_below_header_is_5014(codec: Codec, sent: str, failed: str) -> None:
    # DB-043: Length below the header size (8, or 12 with V) -> 5014; Failed-AVP = header padded with zeros to the
    # minimum.
    error = only_error(codec, octets(sent))
    assert (error.result_code, error.failed_avp.hex()) == (5014, octets(failed).hex())


@both_twins
@pytest.mark.parametrize(
    ("sent", "failed"),
    [
        ("0000019f 40ffffff 00000001", "0000019f 4000000c 00000000"),
        ("000001a5 40000010 00000000", "000001a5 40000010 0000000000000000"),
        ("000001c8 40ffffff 00000001", "000001c8 40000008"),
        ("00000107 40ffffff 61616161", "00000107 40000008"),
        ("0001869f 00ffffff 61616161", "0001869f 00000008"),
        ("00000365 c0ffffff 000028af 00100000", "00000365 c0000010 000028af 00000000"),
    ],
)
def test_db_044_length_past_the_end_is_5014(codec: Codec, sent: str, failed: str) -> None:
    # DB-044: Length runs past the end of the message -> 5014; Failed-AVP = header + zero-filled payload of the type's
    # minimum size (empty payload for Grouped).
    error = only_error(codec, octets(sent))
    assert (error.result_code, error.failed_avp.hex()) == (5014, octets(failed).hex())


@both_twins
def test_db_044_length_past_the_enclosing_group_is_5014_and_what_follows_is_read(codec: Codec) -> None:
    # DB-044: Length runs past the end of the enclosing group -> 5014.
    group = octets("000001af 40000014 000001a4 40000010 0000000a")
    message = codec.decode_message(message_of(group, codec.encode_avp(d.RATING_GROUP, 7)))
    assert [(e.result_code, e.name) for e in message.errors] == [(5014, "CC-Time")]
    assert message.errors[0].failed_avp == octets("000001af 40000014 000001a4 4000000c 00000000")
    assert message.avps == [(d.GRANTED_SERVICE_UNIT, 0x40, []), (d.RATING_GROUP, 0x40, 7)]


FIXED_SIZES = [
    (d.CC_REQUEST_NUMBER, 4),  # Unsigned32
    (d.EXPONENT, 4),  # Integer32
    (d.CC_REQUEST_TYPE, 4),  # Enumerated
    (d.EVENT_TIMESTAMP, 4),  # Time
    (d.CC_TOTAL_OCTETS, 8),  # Unsigned64
    (d.VALUE_DIGITS, 8),  # Integer64
]


@both_twins
@pytest.mark.parametrize(("key", "size"), FIXED_SIZES)
def test_db_045_fixed_size_types_have_exact_length(codec: Codec, key: int, size: int) -> None:
    # DB-045: Fixed-size types must have exact length -> otherwise 5014.
    head = f"{key:08x} 400000"
    for wrong in {0, 1, 3, 4, 5, 7, 8, 9, 12} - {size}:
        error = only_error(codec, octets(f"{head}{8 + wrong:02x}") + bytes((wrong + 3) & ~3))
        assert error.result_code == 5014
        assert error.failed_avp == octets(f"{head}{8 + size:02x}") + bytes(size)


@both_twins
def test_db_046_unknown_mandatory_avp_is_5001_with_the_whole_avp(codec: Codec) -> None:
    # DB-046: Unknown AVP, M=1 -> 5001, Failed-AVP contains the complete offending AVP (code, flags, vendor, data).
    error = only_error(codec, STRANGER)
    assert (error.result_code, error.failed_avp) == (5001, STRANGER)
    of_vendor = octets("00020006 c0000011 00000009 0102030405000000")
    error = only_error(codec, of_vendor)
    assert (error.result_code, error.failed_avp) == (5001, of_vendor)


@both_twins
def test_db_047_unknown_optional_avp_is_ignored(codec: Codec) -> None:
    # DB-047: Unknown AVP, M=0 -> ignored (not an error), also not echoed.
    message = codec.decode_message(message_of(octets("0001869f 00000009 2a000000"), STRANGER.replace(b"@", b"\0")))
    assert (message.avps, message.errors) == ([], [])


@both_twins
def test_db_048_unknown_mandatory_avp_in_a_known_group_is_5001(codec: Codec) -> None:
    # DB-048: Unknown AVP with M=1 inside a *known* group -> 5001: MSCC{99999 M=1}.
    group = codec.encode_avp(d.MULTIPLE_SERVICES_CREDIT_CONTROL, STRANGER)
    error = only_error(codec, group)
    assert (error.result_code, error.failed_avp) == (5001, group)


@both_twins
def test_db_048_unknown_group_without_m_is_ignored_however_deep(codec: Codec) -> None:
    # DB-048: Inside an *unknown* group that has M=0 -> whole group ignored, however deep.
    message = codec.decode_message(message_of(octets("0001869e 00000014") + STRANGER))
    assert (message.avps, message.errors) == ([], [])


@both_twins
def test_db_049_failed_avp_carries_the_chain_of_groups(codec: Codec) -> None:
    # DB-049: For a nested error Failed-AVP carries the chain of groups down to the offending AVP: bad CC-Time inside
    # MSCC/USU.
    bad_time = octets("000001a4 4000000a 00010000")
    used = codec.encode_avp(d.USED_SERVICE_UNIT, codec.encode_avp(d.CC_TOTAL_OCTETS, 5) + bad_time)
    services = codec.encode_avp(d.MULTIPLE_SERVICES_CREDIT_CONTROL, codec.encode_avp(d.RATING_GROUP, 100) + used)
    error = only_error(codec, services)
    assert (error.result_code, error.name) == (5014, "CC-Time")
    assert error.failed_avp == octets("000001c8 4000001c 000001be 40000014 000001a4 4000000c 00000000")


@both_twins
@pytest.mark.parametrize("flags", [0x80, 0xC0])
def test_db_050_known_avp_is_accepted_whatever_its_m_bit(codec: Codec, flags: int) -> None:
    # DB-050: a known AVP is accepted whatever its M bit is: 3GPP-RAT-Type with M=0 and M=1.
    message = codec.decode_message(message_of(octets(f"00000015 {flags:02x}00000d 000028af 06000000")))
    assert (message.avps, message.errors) == ([(d.TGPP_RAT_TYPE, flags, b"\x06")], [])


@both_twins
def test_db_051_unknown_mandatory_avps_of_tolerated_vendors_pass(codec: Codec) -> None:
    # DB-051: per-peer "tolerate unknown mandatory" list (vendor or code) and a counter: add (9, 131078) M=1.
    cisco = octets("00020006 c0000010 00000009 00000001")
    assert only_error(codec, cisco).result_code == 5001
    for tolerated in ({9}, {9 << 32 | 131078}):
        message = codec.decode_message(message_of(cisco, cisco), frozenset(tolerated))
        assert (message.avps, message.errors, message.tolerated) == ([], [], 2)
    message = codec.decode_message(message_of(cisco), frozenset({9 << 32 | 131077, 8164}))
    assert [error.result_code for error in message.errors] == [5001]


@both_twins
def test_db_052_missing_required_avp_is_5005_with_an_example(codec: Codec) -> None:
    # DB-052: Required AVP `{x}` absent -> 5005, Failed-AVP = example AVP with right code/vendor/flags and zero-filled
    # value of minimum length (OctetString family: zero length; U32: 4 zero octets).
    grammar: dict[int, tuple[int, int | None]] = {d.CC_REQUEST_TYPE: (1, 1), d.ORIGIN_HOST: (1, 1)}
    missing = codec.check_grammar([], grammar)
    assert [error.result_code for error in missing] == [5005, 5005]
    assert missing[0].failed_avp == octets("000001a0 4000000c 00000000")
    assert missing[1].failed_avp == octets("00000108 40000008")
    vendor = codec.check_grammar([], {d.VOLUME_QUOTA_THRESHOLD: (1, 1)})
    assert vendor[0].failed_avp == octets("00000365 c0000010 000028af 00000000")


@both_twins
def test_db_052_missing_member_of_a_group_is_5005_in_the_group(codec: Codec) -> None:
    # DB-052, DB-049: Subscription-Id without {Subscription-Id-Type}.
    error = only_error(codec, codec.encode_avp(d.SUBSCRIPTION_ID, [(d.SUBSCRIPTION_ID_DATA, "1")]))
    assert (error.result_code, error.name) == (5005, "Subscription-Id-Type")
    assert error.failed_avp == octets("000001bb 40000014 000001c2 4000000c 00000000")


@both_twins
def test_db_053_excess_instance_is_5009_with_the_first_too_many(codec: Codec) -> None:
    # DB-053: More instances than the grammar allows -> 5009, Failed-AVP = first instance beyond the maximum: two
    # CC-Request-Number.
    three = [(d.CC_REQUEST_NUMBER, 0x40, number) for number in (1, 2, 3)]
    errors = codec.check_grammar(three, {d.CC_REQUEST_NUMBER: (1, 1)})
    assert [(e.result_code, e.failed_avp) for e in errors] == [(5009, octets("0000019f 4000000c 00000002"))]
    assert codec.check_grammar(three, {d.CC_REQUEST_NUMBER: (1, None)}) == []
    error = only_error(codec, codec.encode_avp(d.USED_SERVICE_UNIT, [(d.CC_TIME, 1), (d.CC_TIME, 2), (d.CC_TIME, 3)]))
    assert error.result_code == 5009
    assert error.failed_avp == octets("000001be 40000014 000001a4 4000000c 00000002")


@both_twins
def test_db_053_members_without_known_multiplicity_are_not_counted(codec: Codec) -> None:
    # Members from a source without order and multiplicity ("WS, unordered") bind nothing.
    members = [(d.RATING_GROUP, 1), (d.RATING_GROUP, 2)]
    message = codec.decode_message(message_of(codec.encode_avp(d.SERVICE_DATA_CONTAINER, members)))
    assert message.errors == []


@both_twins
def test_db_054_avp_that_must_not_be_present_is_5008(codec: Codec) -> None:
    # DB-054: AVP that must not be present -> 5008 + copy: Result-Code in CCR.
    errors = codec.check_grammar([(d.RESULT_CODE, 0x40, 2001)], {d.RESULT_CODE: (0, 0)})
    assert [(e.result_code, e.failed_avp) for e in errors] == [(5008, octets("0000010c 4000000c 000007d1"))]


@both_twins
@pytest.mark.parametrize(("key", "value"), [(d.CC_REQUEST_TYPE, 9), (d.REQUESTED_ACTION, 7)])
def test_db_055_undefined_value_of_an_interpreted_enumeration_is_5004(codec: Codec, key: int, value: int) -> None:
    # DB-055: Value not defined for an Enumerated AVP the server interprets, with M=1 -> 5004 + Failed-AVP. With M=0 it
    # may be ignored: CC-Request-Type=9; Requested-Action=7.
    bad = codec.encode_avp(key, value)
    error = only_error(codec, bad)
    assert (error.result_code, error.failed_avp) == (5004, bad)
    assert codec.decode_message(message_of(bad)).faulty == [key]
    message = codec.decode_message(message_of(codec.encode_avp(key, value, 0)))
    assert (message.avps, message.errors, message.faulty) == ([], [], [])


@both_twins
def test_db_055_other_enumerations_pass_with_any_value(codec: Codec) -> None:
    # credit-control.md §7: unknown Reporting-Reason: do not reject usage because of an unknown reason; CC-130: unknown
    # trigger values are stored, not rejected.
    for key in (d.REPORTING_REASON, d.TRIGGER_TYPE, d.SUBSCRIPTION_ID_TYPE, d.TERMINATION_CAUSE):
        message = codec.decode_message(message_of(codec.encode_avp(key, 77)))
        assert [value for _, _, value in message.avps] == [77]
        assert message.errors == []


@both_twins
@pytest.mark.parametrize("text", ["fffe", "c328", "eda080", "f4908080", "61c0"])
def test_db_056_text_that_is_not_utf8_is_5004(codec: Codec, text: str) -> None:
    # DB-056: UTF8String must be valid UTF-8 -> else 5004; never crash, never log raw: Session-Id = FF FE.
    octets_sent = octets(text)
    bad = octets(f"00000107 400000{8 + len(octets_sent):02x}") + octets_sent + bytes(-len(octets_sent) % 4)
    error = only_error(codec, bad)
    assert (error.result_code, error.failed_avp) == (5004, bad)
    assert text not in error.detail


@both_twins
def test_db_056_identities_are_ascii(codec: Codec) -> None:
    # RFC 6733 §4.3.1: a DiameterIdentity is an FQDN or realm in ASCII.
    assert only_error(codec, octets("00000108 4000000a c3a90000")).result_code == 5004


ADDRESSES: list[tuple[str, Any]] = [
    ("0001 c0000201", (1, "192.0.2.1")),
    ("0002 20010db8000000000000000000000001", (2, "2001:db8::1")),
    ("0002 00000000000000000000ffffc0000201", (2, "::ffff:192.0.2.1")),
    ("0002 20010db8000000010001000100010001", (2, "2001:db8:0:1:1:1:1:1")),
    ("0008 343437373030", (8, "447700")),
    ("0003 0102", (3, b"\x01\x02")),
    ("c0000201", (1, "192.0.2.1")),  # bare IPv4, as some clients send it
]


@both_twins
@pytest.mark.parametrize(("sent", "value"), ADDRESSES)
def test_db_057_addresses_carry_their_family(codec: Codec, sent: str, value: Any) -> None:
    # DB-057: Address: first 2 octets = address family (1 IPv4 -> 6 octets total, 2 IPv6 -> 18, 8 E.164 text). 4-octet
    # "bare" IPv4: accept.
    body = octets(sent)
    avp = octets(f"00000101 400000{8 + len(body):02x}") + body + bytes(-len(body) % 4)
    message = codec.decode_message(message_of(avp))
    assert (message.avps, message.errors) == ([(d.HOST_IP_ADDRESS, 0x40, value)], [])


@both_twins
@pytest.mark.parametrize("sent", ["", "00", "0001", "0001c00002", "0001c000020100", "0002c0000201", "0000c0", "0008ff"])
def test_db_057_address_of_wrong_size_is_5004(codec: Codec, sent: str) -> None:
    # DB-057: Wrong size -> 5004 (length is legal for OctetString): family 1 with 5 octets.
    body = octets(sent)
    avp = octets(f"00000101 400000{8 + len(body):02x}") + body + bytes(-len(body) % 4)
    error = only_error(codec, avp)
    assert (error.result_code, error.failed_avp) == (5004, avp)


TIMES = [
    (0x0754FD00, 2_208_988_800),  # 2040-01-01T00:00:00Z, the row's example
    (0xED506AC0, 1_772_481_600),  # 2026-03-02T20:00:00Z, avps.md §6
    (0xFFFFFFFF, 2_085_978_495),  # the last second of era 0, 2036-02-07T06:28:15Z
    (0x00000000, 2_085_978_496),  # the first second of era 1, 2036-02-07T06:28:16Z
    (0x80000000, -61_505_152),  # 1968-01-20T03:14:08Z
    (0x7FFFFFFF, 4_233_462_143),  # 2104-02-26T09:42:23Z
]


@both_twins
@pytest.mark.parametrize(("sent", "seconds"), TIMES)
def test_db_058_time_knows_its_era(codec: Codec, sent: int, seconds: int) -> None:
    # DB-058: Time = NTP seconds. Values with the top bit clear are after 2036-02-07T06:28:16Z (era 1).
    avp = octets(f"00000037 4000000c {sent:08x}")
    assert codec.decode_message(message_of(avp)).avps == [(d.EVENT_TIMESTAMP, 0x40, seconds)]
    assert codec.encode_avp(d.EVENT_TIMESTAMP, seconds) == avp


@both_twins
def test_db_059_vendor_bit_with_vendor_zero_is_an_unknown_avp(codec: Codec) -> None:
    # DB-059: V=1 with Vendor-Id 0: treat as unknown (M=1 -> 5001) in strict mode, as IETF AVP in lenient mode.
    strange = octets("000001a0 c0000010 00000000 00000001")
    error = only_error(codec, strange)
    assert (error.result_code, error.failed_avp) == (5001, strange)
    lenient = codec.decode_message(message_of(strange), frozenset({0}))
    assert (lenient.avps, lenient.errors) == ([(d.CC_REQUEST_TYPE, 0xC0, 1)], [])
    assert codec.encode_avp(d.CC_REQUEST_TYPE, 1, 0xC0) == octets("000001a0 4000000c 00000001")


@both_twins
def test_db_060_protected_and_reserved_bits_are_ignored_and_sent_as_zero(codec: Codec) -> None:
    # DB-060: AVP flag P and reserved bits: ignore on receive, send 0: flags 0x60.
    for flags in (0x60, 0x7F):
        message = codec.decode_message(message_of(octets(f"000001b0 {flags:02x}00000c 00000064")))
        assert (message.avps, message.errors) == ([(d.RATING_GROUP, flags, 100)], [])
        assert codec.encode_avp(d.RATING_GROUP, 100, flags) == octets("000001b0 4000000c 00000064")


def nested(codec: Codec, levels: int) -> bytes:
    avp = codec.encode_avp(d.RATING_GROUP, 1)
    for _ in range(levels - 1):
        avp = codec.encode_avp(d.MULTIPLE_SERVICES_CREDIT_CONTROL, avp)
    return avp


@both_twins
def test_db_061_nesting_has_a_limit(codec: Codec) -> None:
    # DB-061: Group nesting depth limit (suggest 16); beyond -> 5012 or 5014, no recursion error: 200 nested groups.
    assert codec.decode_message(message_of(nested(codec, 16))).errors == []
    for levels in (17, 200, 50_000):
        assert only_error(codec, nested(codec, levels)).result_code == 5012


@both_twins
def test_db_061_avps_have_a_limit(codec: Codec) -> None:
    # DB-061: AVP count limit (suggest 4096); beyond -> 5012 or 5014.
    one = codec.encode_avp(d.ROUTE_RECORD, "a")
    message = codec.decode_message(message_of(one * 4096))
    assert (len(message.avps), message.errors) == (4096, [])
    message = codec.decode_message(message_of(one * 5000))
    assert [error.result_code for error in message.errors] == [5012]
    assert len(message.avps) == 4096


@both_twins
def test_db_061_errors_have_a_limit(codec: Codec) -> None:
    # DB-061 in its spirit: a message of nothing but errors costs no more than a bounded list.
    assert len(codec.decode_message(message_of(STRANGER * 4000)).errors) == 64


@both_twins
def test_db_062_order_of_avps_is_irrelevant(codec: Codec) -> None:
    # DB-062: AVP order is irrelevant. Session-Id should follow the header; accept it anywhere: Session-Id last.
    session, group = codec.encode_avp(d.SESSION_ID, "s;1"), codec.encode_avp(d.RATING_GROUP, 1)
    last, leading = codec.decode_message(message_of(group, session)), codec.decode_message(message_of(session, group))
    assert last.errors == leading.errors == []
    assert last.avps == leading.avps[::-1]
    data, kind = (d.SUBSCRIPTION_ID_DATA, "1"), (d.SUBSCRIPTION_ID_TYPE, 0)
    assert codec.decode_message(message_of(codec.encode_avp(d.SUBSCRIPTION_ID, [data, kind]))).errors == []


def test_db_063_identities_compare_without_case() -> None:
    # DB-063: DiameterIdentity compares case-insensitively (ASCII): Destination-Host "OCS1.EXAMPLE.COM".
    assert same_identity("OCS1.EXAMPLE.COM", "ocs1.example.com")
    assert not same_identity("ocs1.example.com", "ocs2.example.com")


@both_twins
def test_db_064_nothing_of_an_unknown_avp_is_kept(codec: Codec) -> None:
    # DB-064: Unknown-but-optional data is preserved nowhere (only Proxy-Info is echoed).
    stranger = octets("0001869f 00000010 5345435245540000")
    proxy = codec.encode_avp(d.PROXY_INFO, [(d.PROXY_HOST, "dra"), (d.PROXY_STATE, b"\x00\xff\x01")])
    message = codec.decode_message(message_of(stranger, proxy))
    assert [key for key, _, _ in message.avps] == [d.PROXY_INFO]
    assert message.proxy_infos == [proxy]
    again = codec.encode_message(272, 4, 0x40, 1, 2, [*message.avps, *message.proxy_infos])
    assert b"SECRET" not in again


@both_twins
def test_db_073_proxy_info_is_kept_octet_for_octet(codec: Codec) -> None:
    # DB-073: All Proxy-Info AVPs of the request are copied, byte-exact, same order: 3 Proxy-Info with binary state.
    sent = [
        octets(f"0000011c 60000020 00000118 4000000b 64726100 00000021 0000000a {state}0000")
        for state in ("00ff", "ff00", "c328")
    ]
    assert codec.decode_message(message_of(*sent)).proxy_infos == sent


def test_db_020_the_earliest_check_names_the_error() -> None:
    # DB-020: Suggested check order: AVP structure, grammar, values. Only the **first** error found is reported.
    value, grammar, structure = (AvpError(code, b"", "", "") for code in (5004, 5005, 5014))
    assert reported([value, grammar, structure]) is structure
    assert reported([value, grammar]) is grammar
    assert reported([value]) is value
    assert reported([]) is None
