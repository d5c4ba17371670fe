"""The codec's own edges: what may not be encoded, kinds that no row of the table has, and the small helpers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cython_ext import _avp as compiled
from protocols.diameter import _avp_reference as reference
from protocols.diameter import dictionary as d
from protocols.diameter.errors import AvpError, LocalProtocolError, RemoteProtocolError
from tests.support.codecs import Codec, both_twins, message_of, octets

TWINS = pytest.mark.parametrize("twin", [reference, compiled], ids=["reference", "compiled"])

CANNOT_BE_ENCODED: list[tuple[int, Any]] = [
    (d.CC_TIME, -1),
    (d.CC_TIME, 2**32),
    (d.CC_TIME, "1"),
    (d.CC_TIME, 1.0),
    (d.CC_TIME, None),
    (d.CC_TOTAL_OCTETS, 2**64),
    (d.EXPONENT, 2**31),
    (d.VALUE_DIGITS, 2**63),
    (d.SESSION_ID, b"bytes"),
    (d.SESSION_ID, "\ud800"),
    (d.ORIGIN_HOST, "é"),
    (d.CLASS, "text"),
    (d.CLASS, 7),
    (d.CLASS, bytes(2**24)),
    (d.HOST_IP_ADDRESS, "192.0.2.1"),
    (d.HOST_IP_ADDRESS, (1, "192.0.2")),
    (d.HOST_IP_ADDRESS, (1, "192.0.2.1\0")),
    (d.HOST_IP_ADDRESS, (2, "192.0.2.1")),
    (d.HOST_IP_ADDRESS, (0, b"x")),
    (d.HOST_IP_ADDRESS, (65_536, b"x")),
    (d.EVENT_TIMESTAMP, -61_505_153),
    (d.EVENT_TIMESTAMP, 4_233_462_144),
    (d.SUBSCRIPTION_ID, [(d.SUBSCRIPTION_ID_TYPE, 2**31)]),
    (d.SUBSCRIPTION_ID, [(d.SUBSCRIPTION_ID_TYPE,)]),
    (d.SUBSCRIPTION_ID, 7),
    (99_999, b"no flags given"),
    (2**64, 1),
    (-1, 1),
]


@both_twins
@pytest.mark.parametrize(("key", "value"), CANNOT_BE_ENCODED)
def test_what_cannot_be_encoded_is_our_error(codec: Codec, key: int, value: Any) -> None:
    with pytest.raises(LocalProtocolError):
        codec.encode_avp(key, value)
    with pytest.raises(LocalProtocolError):
        codec.encode_message(272, 4, 0x40, 1, 2, [(key, value)])


@both_twins
def test_headers_out_of_range_are_our_error(codec: Codec) -> None:
    for wrong in [(2**24, 4, 0, 1, 2), (272, 2**32, 0, 1, 2), (272, 4, 256, 1, 2), (272, 4, 0, -1, 2)]:
        with pytest.raises(LocalProtocolError):
            codec.encode_message(*wrong, [])


@both_twins
def test_a_message_has_a_greatest_length(codec: Codec) -> None:
    most = bytes(0xFFFFFC - 20)
    assert len(codec.encode_message(272, 4, 0, 1, 2, [most])) == 0xFFFFFC
    with pytest.raises(LocalProtocolError):
        codec.encode_message(272, 4, 0, 1, 2, [most, bytes(4)])


@both_twins
def test_fewer_octets_than_a_header_are_no_message(codec: Codec) -> None:
    with pytest.raises(LocalProtocolError):
        codec.decode_message(bytes(19))
    assert codec.decode_message(bytes(20)).avps == []


@both_twins
def test_groups_of_ours_nest_no_deeper_than_we_read(codec: Codec) -> None:
    value: Any = [(d.RATING_GROUP, 1)]
    for _ in range(14):
        value = [(d.MULTIPLE_SERVICES_CREDIT_CONTROL, value)]
    encoded = codec.encode_avp(d.MULTIPLE_SERVICES_CREDIT_CONTROL, value)
    assert codec.decode_message(message_of(encoded)).errors == []
    for _ in range(2):
        value = [(d.MULTIPLE_SERVICES_CREDIT_CONTROL, value)]
    with pytest.raises(LocalProtocolError):
        codec.encode_avp(d.MULTIPLE_SERVICES_CREDIT_CONTROL, value)


@both_twins
def test_keys_without_a_row_carry_octets_and_need_flags(codec: Codec) -> None:
    assert codec.encode_avp(9 << 32 | 131_078, b"\x01", 0x40) == octets("00020006 c000000d 00000009 01000000")


@both_twins
def test_groups_take_pairs_decoded_avps_and_ready_octets(codec: Codec) -> None:
    members: list[Any] = [
        (d.SUBSCRIPTION_ID_TYPE, 0),
        (d.SUBSCRIPTION_ID_DATA, 0x00, "1"),
        octets("0001869f 00000008"),
    ]
    expected = octets("000001bb 40000028 000001c2 4000000c 00000000 000001bc 00000009 31000000 0001869f 00000008")
    assert codec.encode_avp(d.SUBSCRIPTION_ID, members) == expected
    assert codec.encode_avp(d.SUBSCRIPTION_ID, expected[8:]) == expected


@both_twins
def test_failed_avp_is_never_itself_in_error(codec: Codec) -> None:
    quoted = codec.encode_avp(d.CC_REQUEST_TYPE, 9) + octets(
        "0000019f 40000010 0000000000000001 0001869f 4000000a aaaa"
    )
    message = codec.decode_message(message_of(codec.encode_avp(d.FAILED_AVP, quoted)))
    assert message.errors == []
    assert message.avps == [(d.FAILED_AVP, 0x40, [(d.CC_REQUEST_TYPE, 0x40, 9)])]


@both_twins
def test_sccp_addresses_fall_back_to_raw(codec: Codec) -> None:
    # avps.md, Conflicts: SMSC-Address, Originator-SCCP-Address, Recipient-SCCP-Address: Address, fall back to raw.
    for key in (d.SMSC_ADDRESS, d.ORIGINATOR_SCCP_ADDRESS, d.RECIPIENT_SCCP_ADDRESS):
        for value in [
            (8, "447700900000"),
            (1, "192.0.2.1"),
            (0, octets("9144770900")),
            (0, b""),
            (0, octets("0001ff")),
        ]:
            message = codec.decode_message(message_of(codec.encode_avp(key, value)))
            assert (message.errors, [found for _, _, found in message.avps]) == ([], [value])


@TWINS
def test_kinds_that_no_row_has(twin: Any) -> None:
    rows = [
        d.CodecRow(1, "Float-32", d.FLOAT32, True, (), None),
        d.CodecRow(2, "Float-64", d.FLOAT64, True, (), None),
    ]
    codec = twin.Codec(rows, AvpError, LocalProtocolError)
    encoded = codec.encode_avp(1, 1.5), codec.encode_avp(2, -0.1)
    assert encoded == (octets("00000001 4000000c 3fc00000"), octets("00000002 40000010 bfb999999999999a"))
    nan = octets("00000001 4000000c 7fc00000")
    message = codec.decode_message(message_of(*encoded, nan))
    assert [value for _, _, value in message.avps[:2]] == [1.5, -0.1]
    assert math.isnan(message.avps[2][2])
    with pytest.raises(LocalProtocolError):
        codec.encode_avp(1, 1e300)
    with pytest.raises(LocalProtocolError):
        codec.encode_avp(1, "1.5")


@TWINS
def test_first_and_every(twin: Any) -> None:
    avps = [(d.RATING_GROUP, 0, 1), (d.CC_TIME, 0, 0), (d.RATING_GROUP, 0, 2)]
    assert twin.first(avps, d.RATING_GROUP) == 1
    assert twin.first(avps, d.CC_TIME) == 0
    assert twin.first(avps, d.CC_MONEY) is None
    assert twin.every(avps, d.RATING_GROUP) == [1, 2]
    assert twin.every(avps, d.CC_MONEY) == []


@both_twins
def test_check_grammar_forgives_what_was_there_but_bad(codec: Codec) -> None:
    message = codec.decode_message(message_of(codec.encode_avp(d.CC_REQUEST_TYPE, 9)))
    grammar: dict[int, tuple[int, int | None]] = {d.CC_REQUEST_TYPE: (1, 1)}
    assert [error.result_code for error in codec.check_grammar(message.avps, grammar)] == [5005]
    assert codec.check_grammar(message.avps, grammar, message.faulty) == []


def test_errors_carry_what_to_answer() -> None:
    error = RemoteProtocolError(5004, b"avp", "bad value")
    assert (error.result_code, error.failed_avp, error.detail, str(error)) == (
        5004,
        b"avp",
        "bad value",
        "5004 bad value",
    )
