"""diameter-base.md §0 and §4: what answers hold, and that every request gets one; on a node without sockets."""

from __future__ import annotations

from typing import Any

import pytest

from ocs.servers.diameter_requests import Reply
from protocols.diameter import dictionary as d
from protocols.diameter.answers import Local, build_error_answer, build_header_error_answer
from protocols.diameter.avp import Message, decode_message
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.events import PeerInfo, RequestRefused
from protocols.diameter.header import parse_header
from tests.support.diameter_kit import (
    ERROR,
    LOCAL,
    PROXIABLE,
    REQUEST,
    RETRANSMIT,
    Held,
    Line,
    NodeKit,
    avp,
    provisioned,
    raw_avp,
    with_header,
)
from tests.support.gy_client import INITIAL, Answer, proxy_info

PROXIES = [
    proxy_info("dra1.example.net", b"\x00\xff\x01"),
    proxy_info("dra2.example.net", b""),
    proxy_info("dra3.example.net", bytes(range(256))),
]


def ccr(line: Line, **options: Any) -> bytes:
    return line.requests.ccr(INITIAL, 0, "s1", **options)


def of_every_kind(line: Line) -> list[tuple[str, bytes, int]]:
    """Requests with the code that each is answered with; the application would say 2001."""
    requests = line.requests
    return [
        ("granted", ccr(line), 2001),
        ("dwr", requests.dwr(), 2001),
        ("command", requests.message(999, 4, 0xC0, [(d.SESSION_ID, "s1")]), 3001),
        ("host", ccr(line, extra=[(d.DESTINATION_HOST, "x.example")]), 3002),
        ("realm", ccr(line, without=[d.DESTINATION_REALM], extra=[(d.DESTINATION_REALM, "x.example")]), 3003),
        ("loop", ccr(line, extra=[(d.ROUTE_RECORD, LOCAL.origin_host)]), 3005),
        ("application", ccr(line, application=16777238), 3007),
        ("header bits", ccr(line, flags=REQUEST | ERROR), 3008),
        ("unknown", ccr(line, extra=[raw_avp(99999, b"abc")]), 5001),
        ("value", ccr(line, extra=[raw_avp(d.REQUESTED_ACTION, (7).to_bytes(4, "big"))]), 5004),
        ("member", ccr(line, extra=[(d.SUBSCRIPTION_ID, [(d.SUBSCRIPTION_ID_TYPE, 0)])]), 5005),
        ("length", ccr(line, extra=[raw_avp(d.CC_TIME, b"\0")]), 5014),
        ("version", with_header(ccr(line), version=3), 5011),
        ("depth", ccr(line, extra=[_nested(200)]), 5012),
    ]


def _nested(depth: int) -> bytes:
    data = avp(d.RATING_GROUP, 1)
    for _ in range(depth):
        data = raw_avp(d.MULTIPLE_SERVICES_CREDIT_CONTROL, data)
    return data


KINDS = [kind for kind, _, _ in of_every_kind(NodeKit().open())]


@pytest.mark.parametrize("kind", KINDS)
def test_db_070_header_of_an_answer(kind: str) -> None:
    # DB-070: "Answer header: R=0, T=0, P copied from request, E only as in table 0, same command code, same application
    # id, same Hop-by-Hop and End-to-End." Table 0: 3xxx only with E=1; 5xxx with E=1 only where the command's own
    # grammar cannot be filled in, as when only the header was read.
    for proxiable in (0, PROXIABLE):
        line = NodeKit().open()
        data, code = next((data, code) for one, data, code in of_every_kind(line) if one == kind)
        flags = data[4] & ~PROXIABLE | proxiable | RETRANSMIT
        request = with_header(data, flags=flags, version=data[0])
        line.give(request)
        (octets,) = line.sent()
        asked, given = parse_header(request), parse_header(octets)
        assert Answer(octets).code == code
        assert given.flags & (REQUEST | RETRANSMIT) == 0
        assert given.flags & PROXIABLE == proxiable
        assert bool(given.flags & ERROR) == (3000 <= code < 4000 or kind == "version")
        assert (given.version, given.length) == (1, len(octets))
        assert given[3:] == asked[3:]


def test_db_070_golden_error_answer() -> None:
    # DB-070: "golden bytes". avps.md: "Error answer to unknown command 999 on application 4, Session-Id "s1" (flags
    # 0x20)"
    request = decode_message(bytes.fromhex("01000020 800003e7 00000004 11223344 55667788 00000107 4000000a 73310000"))
    assert build_error_answer(request, RemoteProtocolError(3001), LOCAL) == bytes.fromhex(
        "01000058 200003e7 00000004 11223344 55667788 00000107 4000000a 73310000 00000108 40000018 6f637331 2e657861"
        "6d706c65 2e636f6d 00000128 40000013 6578616d 706c652e 636f6d00 0000010c 4000000c 00000bb9"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_db_071_body_of_an_answer(kind: str) -> None:
    # DB-071: "Answer body always has Result-Code ..., Origin-Host, Origin-Realm; Session-Id iff it was in the request,
    # placed first."
    line = NodeKit().open()
    data, code = next((data, code) for one, data, code in of_every_kind(line) if one == kind)
    answer = line.exchange(data)
    assert answer.all(d.RESULT_CODE) == [code]
    assert answer.all(d.ORIGIN_HOST) == ["ocs1.example.com"]
    assert answer.all(d.ORIGIN_REALM) == ["example.com"]
    # Of another version only the header is known, so its Session-Id is not.
    expected = [] if kind in ("dwr", "version") else ["s1"]
    assert answer.all(d.SESSION_ID) == expected
    assert not expected or answer.keys[0] == d.SESSION_ID


def test_db_071_session_id_is_first_wherever_it_stood() -> None:
    # DB-071: "Session-Id iff it was in the request, placed first"
    line = NodeKit().open()
    last = ccr(line, without=[d.SESSION_ID], extra=[(d.SESSION_ID, "late"), raw_avp(99999, b"")])
    answer = line.exchange(last)
    assert (answer.code, answer.keys[0], answer.get(d.SESSION_ID)) == (5001, d.SESSION_ID, "late")


@pytest.mark.parametrize("kind", KINDS)
def test_db_072_074_no_destination_and_no_route_in_answers(kind: str) -> None:
    # DB-072: "Destination-Host / Destination-Realm never appear in answers." DB-074: "Route-Record AVPs are not copied
    # into answers"
    line = NodeKit().open()
    data, _ = next((data, code) for one, data, code in of_every_kind(line) if one == kind)
    extra = avp(d.ROUTE_RECORD, "dra1.example.net") + avp(d.DESTINATION_HOST, LOCAL.origin_host)
    data = with_header(data + extra, version=data[0], length=len(data) + len(extra))
    assert not set(line.exchange(data).keys) & {d.DESTINATION_HOST, d.DESTINATION_REALM, d.ROUTE_RECORD}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("version", "length", "depth")])
def test_db_073_proxy_info_is_given_back_octet_by_octet(kind: str) -> None:
    # DB-073: "All Proxy-Info AVPs of the request are copied, byte-exact, same order. Proxy-State is opaque." Test: 3
    # Proxy-Info with binary state. (After a broken length or depth the AVPs that follow cannot be found.)
    line = NodeKit().open()
    data, _ = next((data, code) for one, data, code in of_every_kind(line) if one == kind)
    proxies = b"".join(PROXIES)
    line.give(with_header(data + proxies, length=len(data) + len(proxies)))
    (octets,) = line.sent()
    assert octets.endswith(proxies)
    assert decode_message(octets).proxy_infos == PROXIES


def test_db_075_error_answers_follow_the_error_grammar() -> None:
    # DB-075: "Session-Id if decodable, Origin-Host, Origin-Realm, Result-Code, optional Origin-State-Id, Error-Message,
    # Failed-AVP, Proxy-Info." Test: unknown command with Session-Id and Proxy-Info.
    line = NodeKit().open()
    answer = line.exchange(line.requests.message(999, 4, 0xC0, [(d.SESSION_ID, "s1"), *PROXIES]))
    first, rest = answer.keys[:4], answer.keys[4:]
    assert first == [d.SESSION_ID, d.ORIGIN_HOST, d.ORIGIN_REALM, d.RESULT_CODE]
    assert rest == [d.ERROR_MESSAGE, d.PROXY_INFO, d.PROXY_INFO, d.PROXY_INFO]
    without = line.exchange(line.requests.message(999, 4, 0xC0, [raw_avp(d.SESSION_ID, b"\xff\xfe")]))
    assert (without.code, without.get(d.SESSION_ID)) == (3001, None)


def test_db_076_error_message_has_no_m_bit_and_no_subscriber_in_it() -> None:
    # DB-076: "Error-Message (M=0!) is optional human text without subscriber data. Error-Reporting-Host (M=0) only if
    # the reporter is not Origin-Host." Outcome: flags 0x00.
    line = NodeKit().open()
    answer = line.exchange(ccr(line, extra=[(d.DESTINATION_HOST, "gw447700900123.example")]))
    ((flags, text),) = [(flags, value) for key, flags, value in answer.message.avps if key == d.ERROR_MESSAGE]
    assert flags == 0
    assert "447700900123" not in text
    assert answer.get(d.ERROR_REPORTING_HOST) is None


@pytest.mark.parametrize("flags", [0, ERROR, PROXIABLE, ERROR | PROXIABLE, RETRANSMIT])
def test_db_077_nothing_is_answered_to_an_answer(flags: int) -> None:
    # DB-077: "No answer is ever sent to an answer, and never E=1 to an answer." Test: malformed RAA -> silence.
    line = NodeKit().open()
    for command, application in ((258, 4), (272, 4), (280, 0), (282, 0), (257, 0), (999, 77)):
        line.give(line.requests.message(command, application, flags, [raw_avp(d.SESSION_ID, b"\xff", length=99)]))
    assert line.sent() == []
    assert line.closed is None


def test_db_078_an_exception_is_5012() -> None:
    # DB-078: "Every decodable request gets exactly one answer, also on internal exception (5012)"
    def fails(_message: Message, _peer: PeerInfo, _reply: Reply) -> None:
        raise RuntimeError("planted")

    kit = NodeKit(fails)
    line = kit.open()
    answer = line.exchange(ccr(line))
    assert (answer.code, answer.message.is_error) == (5012, False)
    assert (answer.get(d.CC_REQUEST_TYPE), answer.get(d.CC_REQUEST_NUMBER)) == (1, 0)
    assert answer.get(d.AUTH_APPLICATION_ID) == 4
    assert [str(error) for error in kit.failures] == ["planted"]
    assert line.peer.in_flight == kit.desk.in_flight == 0


def test_db_078_an_exception_after_the_answer_sends_no_second_one() -> None:
    # DB-078: "exactly one answer"
    def fails(message: Message, _peer: PeerInfo, reply: Reply) -> None:
        reply(build_error_answer(message, RemoteProtocolError(2001), LOCAL))
        raise RuntimeError("planted")

    line = NodeKit(fails).open()
    assert line.exchange(ccr(line)).code == 2001


def test_db_078_the_deadline_is_5012_and_a_late_answer_is_dropped() -> None:
    # DB-078: "on store time-out (5012 within 2 s by default ...)". Test: kill the store mid-request.
    held = Held()
    kit = NodeKit(held)
    line = kit.open()
    line.give(ccr(line))
    kit.pass_time(1.9)
    assert line.sent() == []
    kit.pass_time(0.2)
    (answer,) = line.answers()
    assert answer.code == 5012
    assert answer.get(d.CC_REQUEST_NUMBER) == 0
    held.answer()
    assert line.sent() == []
    assert line.peer.counters.late_answers == 1
    assert kit.desk.expired == 1
    assert line.peer.in_flight == kit.desk.in_flight == 0


def test_db_078_no_answer_after_the_deadline_by_setting() -> None:
    # DB-078: "(... no answer by setting, so that clients fail over)"
    held = Held()
    kit = NodeKit(held, desk={"answer_after_deadline": False, "deadline_s": 1.0})
    line = kit.open()
    line.give(ccr(line))
    kit.pass_time(1.1)
    held.answer()
    assert line.sent() == []
    assert kit.desk.in_flight == 0


def test_db_078_an_answer_that_cannot_be_built_still_leaves() -> None:
    # DB-078: "exactly one answer, also on internal exception"
    def fails(_message: Message, _error: RemoteProtocolError, _local: Local) -> bytes:
        raise RuntimeError("planted")

    application = NodeKit().node.settings.applications[0]._replace(refuse=fails)
    kit = NodeKit(applications=(application,))
    line = kit.open()
    assert line.exchange(ccr(line, extra=[raw_avp(99999, b"")])).code == 5001
    assert kit.node.counters("").refused_answers == 1


def test_db_079_nothing_is_answered_over_a_connection_that_is_gone() -> None:
    # DB-079: "An answer must not be sent after the peer connection it came from is gone". Test: drop link after
    # request. (For application 4 the answer is kept with the session, CC-040.)
    held = Held()
    kit = NodeKit(held)
    line = kit.open()
    other = kit.open()
    line.give(ccr(line))
    line.handle(line.peer.transport_lost("reset", kit.now))
    held.answer()
    assert line.sent() == other.sent() == []
    assert line.peer.counters.dropped_answers == 1
    assert kit.desk.in_flight == 0


@pytest.mark.parametrize("named", [True, False])
def test_db_127_too_many_in_flight(named: bool) -> None:
    # DB-127: "Overload: 3004 E only when Destination-Host named us (§7.1.3); otherwise shed by 5012"
    held = Held()
    kit = NodeKit(held, desk={"in_flight_per_peer": 3})
    line = kit.open()
    extra = [(d.DESTINATION_HOST, "OCS1.example.com")] if named else []
    for _ in range(3):
        line.give(ccr(line, extra=extra))
    answer = line.exchange(ccr(line, extra=extra))
    assert (answer.code, answer.message.is_error) == ((3004, True) if named else (5012, False))
    assert line.peer.counters.overloads == 1
    other = kit.open()
    other.give(ccr(other))
    assert other.sent() == []
    held.answer(0)
    line.sent()
    line.give(ccr(line))
    assert line.sent() == []


# Errors in AVPs, answered by the node in the application's form


@pytest.mark.parametrize(
    ("kind", "failed"),
    [
        ("unknown", raw_avp(99999, b"abc")),
        ("value", raw_avp(d.REQUESTED_ACTION, (7).to_bytes(4, "big"))),
        ("member", raw_avp(443, raw_avp(444, b""))),
        ("length", raw_avp(d.CC_TIME, bytes(4))),
    ],
)
def test_db_020_broken_avps_are_answered_by_the_node(kind: str, failed: bytes) -> None:
    # DB-020: "AVP structure, grammar, values"; table 0: 5001, 5004, 5005, 5014 with Failed-AVP and E=0
    line = NodeKit().open()
    data, code = next((data, code) for one, data, code in of_every_kind(line) if one == kind)
    answer = line.exchange(data)
    assert (answer.code, answer.message.is_error) == (code, False)
    assert raw_avp(d.FAILED_AVP, failed) in answer.data
    assert (answer.get(d.CC_REQUEST_TYPE), answer.get(d.CC_REQUEST_NUMBER)) == (1, 0)
    assert line.event(RequestRefused).result_code == code


def test_db_051_tolerated_avps_are_counted() -> None:
    # DB-051: "Provide a per-peer "tolerate unknown mandatory" list (vendor or code) with default off for unknown vendors
    # and a counter." Test: add (9, 131078) M=1 -> 5001 / 2001.
    cisco = raw_avp(131078, b"x", vendor=9)
    other = NodeKit().open()
    assert other.exchange(ccr(other, extra=[cisco])).code == 5001
    for tolerated in (frozenset({9}), frozenset({9 << 32 | 131078})):
        line = NodeKit(peers=(provisioned("GW1.example.net", tolerated=tolerated),)).open()
        assert line.exchange(ccr(line, extra=[cisco])).code == 2001
        assert line.peer.counters.tolerated_avps == 1


def test_db_006_an_answer_to_a_header_alone() -> None:
    # DB-006: "answer 5015"; RFC 6733 §7.1.5: E=1, since the command's own grammar cannot be filled in
    header = parse_header(bytes.fromhex("01000013 c0000110 00000004 11223344 55667788"))
    answer = Answer(build_header_error_answer(header, 5015, LOCAL))
    assert answer.message.flags == ERROR | PROXIABLE
    assert answer.keys == [d.ORIGIN_HOST, d.ORIGIN_REALM, d.RESULT_CODE]
    assert answer.code == 5015
