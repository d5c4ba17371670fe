"""diameter-base.md §1, §2 and §6–§9, row by row, on a node without sockets."""

from __future__ import annotations

import ipaddress
import random
from typing import Any

import pytest

from ocs.servers.diameter_settings import credit_control
from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message
from protocols.diameter.events import (
    HealthChanged,
    OriginStateSeen,
    PeerClosed,
    PeerOpened,
    PeerRefused,
    RequestReceived,
    RequestRefused,
)
from protocols.diameter.node import Node
from protocols.diameter.peer_table import State
from protocols.diameter.settings import LOOPBACK, Application, NodeSettings, check_settings
from tests.property.fuzz_node import gy_edge
from tests.support.diameter_kit import (
    ERROR,
    LOCAL,
    PROXIABLE,
    REQUEST,
    RETRANSMIT,
    START_UTC_S,
    Held,
    Line,
    NodeKit,
    avp,
    provisioned,
    raw_avp,
    with_header,
)
from tests.support.gy_client import INITIAL, UPDATE, Requests

LAN = (ipaddress.ip_network("10.1.0.0/16"),)


def ccr(line: Line, number: int = 0, **options: Any) -> bytes:
    return line.requests.ccr(INITIAL if number == 0 else UPDATE, number, "s1", **options)


# §1 Transport and framing


def test_db_003_a_message_is_put_together_octet_by_octet() -> None:
    # DB-003: "TCP is a byte stream. Reassemble by the 24-bit Message Length; never assume one read = one message."
    line = NodeKit().connect()
    for octet in line.requests.cer():
        assert line.answers() == []
        line.give(bytes([octet]))
    (cea,) = line.answers()
    assert cea.code == 2001


def test_db_004_fifty_messages_in_one_segment() -> None:
    # DB-004: "write 50 DWRs in one send -> 50 DWAs, all Hop-by-Hop ids matched"
    line = NodeKit().open()
    requests = [line.requests.dwr() for _ in range(50)]
    line.give(b"".join(requests))
    answers = line.answers()
    assert [one.message.hop_by_hop for one in answers] == [int.from_bytes(one[12:16], "big") for one in requests]
    assert {one.code for one in answers} == {2001}


@pytest.mark.parametrize("length", [19, 22, 0])
def test_db_006_impossible_length_is_5015_and_the_end(length: int) -> None:
    # DB-006: "Length < 20, or not a multiple of 4: if the 20 header octets were read and R=1, answer 5015, then close"
    line = NodeKit().open()
    answer = line.exchange(with_header(ccr(line), length=length))
    assert answer.code == 5015
    assert line.closed is not None
    assert not line.closed.abort
    line.give(line.requests.dwr())
    assert line.answers() == []


def test_db_006_impossible_length_of_an_answer_is_reset() -> None:
    # DB-006: "(stream cannot be resynchronised; §2.1 asks for a TCP RST)"
    line = NodeKit().open()
    line.give(with_header(line.requests.dwr(), length=19, flags=0))
    assert line.answers() == []
    assert line.closed is not None
    assert line.closed.abort


def test_db_007_a_message_above_the_limit_is_5015_and_never_buffered() -> None:
    # DB-007: "Configurable maximum message size ... Larger: answer 5015, then close ... Never buffer the announced
    # length up front." Test: Length=0xFFFFFC, send nothing more.
    line = NodeKit(max_message_octets=4096).open()
    answer = line.exchange(with_header(ccr(line)[:20], length=0xFFFFFC))
    assert answer.code == 5015
    assert line.closed is not None


def test_db_007_the_limit_is_the_longest_message_that_passes() -> None:
    # DB-007: "Configurable maximum message size"
    kit = NodeKit(max_message_octets=4096)
    line = kit.open()
    base = len(ccr(line))
    filler = raw_avp(99999, bytes(4096 - base - 8), flags=0)
    assert line.exchange(ccr(line, extra=[filler])).code == 2001
    longer = raw_avp(99999, bytes(4096 - base - 4), flags=0)
    line.give(ccr(line, extra=[longer]))
    (answer,) = line.answers()
    assert answer.code == 5015


def test_db_007_a_stranger_may_say_less_than_a_peer() -> None:
    # DB-007: "Configurable maximum message size ... suggested default 1 MiB"; before the CEA it is 64 KiB.
    large = raw_avp(99999, bytes(100_000), flags=0)
    stranger = NodeKit().connect()
    assert stranger.exchange(stranger.requests.cer(extra=[large])).code == 5015
    line = NodeKit().open()
    assert line.exchange(ccr(line, extra=[large])).code == 2001
    most = raw_avp(99999, bytes((1 << 20) - 8), flags=0)
    line.give(ccr(line, extra=[most]))
    assert [one.code for one in line.answers()] == [5015]


def test_db_008_another_version_is_5011_and_the_stream_goes_on() -> None:
    # DB-008: "Version octet must be 1, otherwise 5011. Answer carries version 1."
    line = NodeKit().open()
    answer = line.exchange(with_header(ccr(line), version=2))
    assert answer.code == 5011
    assert answer.message.version == 1
    assert answer.message.is_error
    assert line.exchange(ccr(line)).code == 2001


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\0"])
def test_db_009_garbage_is_reset(garbage: bytes) -> None:
    # DB-009: "Garbage that cannot be parsed as Diameter closes the connection (RST preferred)."
    line = NodeKit().connect()
    line.give(garbage)
    assert line.answers() == []
    assert line.closed is not None
    assert line.closed.abort


def test_db_009_garbage_on_an_open_connection_is_reset() -> None:
    # DB-009: as above
    line = NodeKit().open()
    line.give(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert line.answers() == []
    assert line.closed is not None
    assert line.closed.abort
    assert line.heard(PeerClosed)


def test_db_010_a_fast_answer_overtakes_a_slow_one() -> None:
    # DB-010: "answers may leave in a different order. Matching is only by Hop-by-Hop Identifier." Test: slow request A
    # then fast B -> answer B may precede A.
    held = Held()
    line = NodeKit(held).open()
    line.give(ccr(line, hop_by_hop=11) + ccr(line, hop_by_hop=22))
    held.answer(1)
    held.answer(0)
    assert [one.message.hop_by_hop for one in line.answers()] == [22, 11]


def test_db_013_a_silent_peer_loses_its_place() -> None:
    # DB-013: "Half-open connection after peer crash is found by the watchdog (DB-110) and its slot is freed."
    kit = NodeKit()
    line = kit.open()
    kit.pass_time(3 * 32)
    assert line.peer.state is State.CLOSED
    assert list(kit.node.peers()) == []


def test_db_014_a_silent_stranger_is_closed_after_ten_seconds() -> None:
    # DB-014: "an accepted connection must deliver a CER within a configured time (suggest 10 s) ... otherwise close
    # without an answer"
    kit = NodeKit()
    line = kit.connect()
    kit.pass_time(9.9)
    assert line.closed is None
    kit.pass_time(0.2)
    assert line.closed is not None
    assert line.answers() == []


def test_db_014_the_first_message_must_be_a_cer() -> None:
    # DB-014: "the first message must be a CER; otherwise close without an answer (§5.6.1)"
    line = NodeKit().connect()
    line.give(line.requests.dwr())
    assert line.answers() == []
    assert line.closed is not None


def test_db_014_a_stranger_without_a_cer_is_not_even_told_of_a_wrong_length() -> None:
    # DB-014: "the first message must be a CER; otherwise close without an answer"; DB-006 answers a CER.
    line = NodeKit().connect()
    line.give(with_header(ccr(line), length=22))
    assert line.answers() == []
    assert line.closed is not None
    assert line.closed.abort
    other = NodeKit().connect()
    assert other.exchange(with_header(other.requests.cer(), length=22)).code == 5015


# §2 Header


@pytest.mark.parametrize(
    ("defects", "code"),
    [
        ({"version": 2, "length": 22}, 5011),
        ({"length": 22, "application": 77}, 5015),
        ({"application": 16777238, "flags": REQUEST | ERROR}, 3007),
        ({"flags": REQUEST | ERROR}, 3008),
    ],
)
def test_db_020_the_first_of_two_defects_is_answered(defects: dict[str, int], code: int) -> None:
    # DB-020: "Suggested check order: version, length, (peer open?), Application-Id, Command-Code, flags, AVP structure,
    # grammar, values. Only the first error found is reported (§7)." The AVPs are broken in each case as well.
    line = NodeKit().open()
    data = ccr(line, extra=[raw_avp(d.CC_TIME, b"\0")])
    line.give(with_header(data, **defects))
    if code == 5011:  # a wrong version with a wrong length too: nothing can be trusted
        assert line.closed is not None
    answers = line.answers()
    assert [one.code for one in answers] == [code]
    assert len(answers[0].all(d.RESULT_CODE)) == 1


def test_db_020_command_before_flags_and_routing_before_avps() -> None:
    # DB-020: as above
    line = NodeKit().open()
    unknown = line.requests.message(999, 4, REQUEST | ERROR, [(d.SESSION_ID, "s1")])
    assert line.exchange(unknown).code == 3001
    broken = raw_avp(99999, b"")
    assert line.exchange(ccr(line, extra=[broken])).code == 5001
    assert line.exchange(ccr(line, extra=[broken, (d.DESTINATION_HOST, "ocs2.example.com")])).code == 3002


def test_db_020_structure_before_grammar_before_values_and_all_in_the_log() -> None:
    # DB-020: "AVP structure, grammar, values" and "Only the first error found is reported"
    line = NodeKit().open()
    value = raw_avp(d.CC_REQUEST_TYPE, (9).to_bytes(4, "big"))
    structure = raw_avp(99999, b"")
    answer = line.exchange(ccr(line, extra=[value, structure]))
    assert answer.code == 5001
    assert len(answer.all(d.FAILED_AVP)) == 1
    refused = line.event(RequestRefused)
    assert sorted(one.result_code for one in refused.errors) == [5001, 5004]


def test_db_020_a_missing_avp_of_the_ccr_before_a_wrong_value() -> None:
    # DB-020: "grammar, values": the value is found by the decoder, what is missing by the application, which therefore
    # judges both (5005 before 5004)
    kit = NodeKit(gy_edge, applications=(credit_control(),))
    line = kit.open()
    wrong_value = raw_avp(d.REQUESTED_ACTION, (7).to_bytes(4, "big"))
    assert line.exchange(ccr(line, extra=[wrong_value])).code == 5004
    items = [(key, flags, value) for key, flags, value in decode_message(ccr(line)).avps if key != d.CC_REQUEST_NUMBER]
    answer = line.exchange(line.requests.message(272, 4, REQUEST | PROXIABLE, [*items, wrong_value]))
    assert answer.code == 5005
    assert raw_avp(d.FAILED_AVP, raw_avp(d.CC_REQUEST_NUMBER, bytes(4))) in answer.data
    assert line.peer.counters.decode_errors == {5004: 2}


def test_db_021_an_unknown_command_is_3001() -> None:
    # DB-021: "Command code unknown for this node -> 3001, E=1; the answer repeats the command code and application id
    # of the request, R cleared."
    line = NodeKit().open()
    answer = line.exchange(line.requests.message(999, 4, REQUEST, [(d.SESSION_ID, "s1")]))
    assert answer.code == 3001
    message = answer.message
    assert (message.is_error, message.is_request, message.command, message.application) == (True, False, 999, 4)


def test_db_021_an_unknown_command_of_the_base_is_3001() -> None:
    # DB-021: as above
    line = NodeKit().open()
    assert line.exchange(line.requests.message(999, 0, REQUEST, [])).code == 3001


@pytest.mark.parametrize(
    ("command", "application"), [(272, 16777238), (258, 0), (274, 0), (275, 0), (272, 0), (280, 4), (282, 4), (257, 4)]
)
def test_db_022_an_application_that_is_not_served_is_3007(command: int, application: int) -> None:
    # DB-022: "Header Application-Id not advertised by us -> 3007, E=1. Base commands 257/280/282 must carry
    # Application-Id 0; 258/274/275 carry the application's id."
    line = NodeKit().open()
    answer = line.exchange(line.requests.message(command, application, REQUEST, [(d.SESSION_ID, "s1")]))
    assert answer.code == 3007
    assert answer.message.is_error
    assert (answer.message.command, answer.message.application) == (command, application)


@pytest.mark.parametrize("command", [272, 280, 282, 257])
def test_db_023_a_request_with_the_e_bit_is_3008(command: int) -> None:
    # DB-023: "R=1 and E=1 together is invalid -> 3008, E=1." Test: flags 0xA0.
    line = NodeKit().open()
    data = line.requests.message(command, 4 if command == 272 else 0, 0xA0, [(d.SESSION_ID, "s1")])
    answer = line.exchange(data)
    assert answer.code == 3008
    assert answer.message.is_error


def test_db_024_p_bit_of_a_base_command() -> None:
    # DB-024: "P bit contrary to the grammar (CER/DWR/DPR with P=1): 3008 in strict mode; lenient default = process.
    # CCR with P=0 is common in the field: process it."
    for strict, code in ((False, 2001), (True, 3008)):
        line = NodeKit(strict_header_bits=strict).connect()
        assert line.exchange(with_header(line.requests.cer(), flags=0xC0)).code == code
    line = NodeKit(strict_header_bits=True).open()
    assert line.exchange(ccr(line, flags=REQUEST)).code == 2001


def test_db_025_reserved_bits_of_the_header() -> None:
    # DB-025: "Default = ignore; strict mode = 5013." Test: DWR flags 0x81.
    for strict, code in ((False, 2001), (True, 5013)):
        line = NodeKit(strict_header_bits=strict).open()
        assert line.exchange(with_header(line.requests.dwr(), flags=0x81)).code == code


def test_db_026_the_t_bit_is_no_reason_to_refuse() -> None:
    # DB-026: "T bit on a request marks a possible duplicate; it is a hint, never a reason to reject."
    line = NodeKit().open()
    assert line.exchange(ccr(line, retransmit=True)).code == 2001
    assert line.exchange(ccr(line)).code == 2001
    assert len([event for event in line.events if isinstance(event, RequestReceived)]) == 2


def test_db_027_flags_of_an_answer_are_ignored() -> None:
    # DB-027: "T=1 or R=0/E inconsistency in an answer received by us: ignore the bit, process by Hop-by-Hop id."
    kit = NodeKit()
    line = kit.open()
    kit.pass_time(32)
    (dwr,) = line.requests_of_ours()
    line.give(with_header(line.reply_to(dwr), flags=ERROR | RETRANSMIT))
    assert line.peer.counters.unmatched_answers == 0
    kit.pass_time(32)
    assert not line.heard(HealthChanged)


def test_db_029_hop_by_hop_is_copied_and_ours_count_up() -> None:
    # DB-029: "copied into the answer unchanged. Our own requests use an id unique per connection, random start,
    # monotonically increasing."
    kit = NodeKit()
    line = kit.open()
    assert line.exchange(ccr(line, hop_by_hop=0xFFFFFFFF)).message.hop_by_hop == 0xFFFFFFFF
    taken = []
    for _ in range(3):
        kit.pass_time(32)
        for dwr in line.requests_of_ours():
            taken.append(dwr.hop_by_hop)
            line.give(line.reply_to(dwr))
    assert len(taken) >= 2
    assert [(one + 1) & 0xFFFFFFFF for one in taken[:-1]] == taken[1:]
    other = NodeKit(seed=2)
    second = other.open()
    other.pass_time(32)
    assert second.requests_of_ours()[0].hop_by_hop != taken[0]


def test_db_030_end_to_end_is_copied_and_ours_survive_a_restart() -> None:
    # DB-030: "Our requests: unique for at least 4 minutes even across restart (e.g. top 12 bits = low 12 bits of time,
    # low 20 random start)."
    line = NodeKit().open()
    assert line.exchange(ccr(line, end_to_end=0xABCDEF01)).message.end_to_end == 0xABCDEF01
    settings = NodeSettings(LOCAL, (Application(4, frozenset({272})),))
    first = Node(settings, random.Random(1), START_UTC_S).end_to_end
    again = Node(settings, random.Random(1), START_UTC_S + 30).end_to_end
    ids = {first.take() for _ in range(1000)} | {again.take() for _ in range(1000)}
    assert len(ids) == 2000
    assert {one >> 20 for one in ids} == {START_UTC_S & 0xFFF, (START_UTC_S + 30) & 0xFFF}


def test_db_032_an_answer_to_nothing_is_discarded_and_counted() -> None:
    # DB-032: "Answer received with an unknown Hop-by-Hop id is discarded and counted." Test: send an unsolicited RAA.
    line = NodeKit().open()
    line.give(line.requests.message(258, 4, PROXIABLE, [(d.SESSION_ID, "s1"), (d.RESULT_CODE, 2001)]))
    assert line.answers() == []
    assert line.closed is None
    assert line.peer.counters.unmatched_answers == 1


def test_db_033_an_answer_of_another_command_is_discarded() -> None:
    # DB-033: "Answer whose command code differs from the pending request: discard, keep the request pending"
    kit = NodeKit()
    line = kit.open()
    kit.pass_time(32)
    (dwr,) = line.requests_of_ours()
    line.give(line.requests.message(282, 0, 0, [(d.RESULT_CODE, 2001)], hop_by_hop=dwr.hop_by_hop))
    assert line.peer.counters.unmatched_answers == 1
    line.give(line.reply_to(dwr))
    assert line.peer.counters.unmatched_answers == 1


# §6 Duplicate connections


def test_db_095_several_connections_unless_set_otherwise() -> None:
    # DB-095: "by setting single_connection (default off: several connections of one Origin-Host are served ...)"
    kit = NodeKit()
    first, second = kit.open(), kit.open()
    assert first.exchange(ccr(first)).code == second.exchange(ccr(second)).code == 2001


def test_db_095_a_second_connection_of_a_living_peer_is_closed() -> None:
    # DB-095: "A new connection + CER from a peer already Open is rejected (connection closed)". Test: two CERs same
    # Origin-Host -> close new.
    kit = NodeKit(single_connection=True)
    first = kit.open()
    second = kit.connect("GW1.example.net")
    second.give(second.requests.cer())
    (dwr,) = first.requests_of_ours()
    first.give(first.reply_to(dwr))
    assert second.answers() == []
    assert second.closed is not None
    assert second.event(PeerRefused).result_code == 0
    assert first.exchange(ccr(first)).code == 2001


def test_db_096_a_dead_connection_is_replaced() -> None:
    # DB-096: "On DB-095 immediately send DWR on the old connection; if no DWA within a short time (suggest 5 s) replace
    # it." Test: kill -9 client, reconnect -> new accepted.
    kit = NodeKit(single_connection=True)
    first = kit.open()
    second = kit.connect()
    second.give(second.requests.cer())
    assert len(first.requests_of_ours()) == 1
    kit.pass_time(4.9)
    assert second.answers() == []
    kit.pass_time(0.2)
    (cea,) = second.answers()
    assert cea.code == 2001
    assert first.closed is not None
    assert first.heard(PeerClosed)
    assert list(kit.node.peers()) == [second.peer]


def test_db_096_the_new_connection_opens_when_the_old_one_closes() -> None:
    # DB-096: "new accepted"
    kit = NodeKit(single_connection=True)
    first = kit.open()
    second = kit.connect()
    second.give(second.requests.cer())
    first.handle(first.peer.transport_lost("reset", kit.now))
    kit.settle()
    assert second.answers()[0].code == 2001


def test_db_096_only_one_connection_waits() -> None:
    # DB-096: one new connection may replace the old one; further ones are rejected as DB-095 says
    kit = NodeKit(single_connection=True)
    kit.open()
    second, third = kit.connect(), kit.connect()
    second.give(second.requests.cer())
    third.give(third.requests.cer())
    assert third.closed is not None
    assert second.closed is None


# §7 Watchdog and disconnect


def test_db_110_dwr_is_answered_with_our_identity() -> None:
    # DB-110: "DWR -> DWA 2001 with Origin-Host/Realm, Origin-State-Id." Vector in avps.md.
    line = NodeKit().open()
    line.give(
        bytes.fromhex(
            "01000040 80000118 00000000 11223344 55667788 00000108 40000017 6777312e 6578616d 706c652e 6e657400"
            "00000128 40000013 6578616d 706c652e 6e657400"
        )
    )
    assert line.sent() == [
        bytes.fromhex(
            "01000058 00000118 00000000 11223344 55667788 0000010c 4000000c 000007d1 00000108 40000018 6f637331"
            "2e657861 6d706c65 2e636f6d 00000128 40000013 6578616d 706c652e 636f6d00 00000116 4000000c 00000001"
        )
    ]


def test_db_110_dwr_is_answered_in_overload() -> None:
    # DB-110: "Answered even when overloaded."
    line = NodeKit(Held(), desk={"in_flight_per_peer": 1}).open()
    line.give(ccr(line) + ccr(line))
    assert [one.code for one in line.answers()] == [5012]
    assert line.exchange(line.requests.dwr()).code == 2001


def test_db_111_a_dwr_is_sent_after_tw_of_silence() -> None:
    # DB-111: "Tw = Twinit (default 30 s, configurable, minimum 6 s) + random(-2..+2 s), recomputed each time."
    silences = []
    for seed in range(40):
        kit = NodeKit(seed=seed)
        line = kit.open()
        start = kit.now
        due = line.peer.next_timer()
        assert due is not None
        kit.pass_time(due - start - 0.001)
        assert line.sent() == []
        kit.pass_time(0.002)
        assert [one.command for one in line.requests_of_ours()] == [280]
        silences.append(due - start)
    assert 28 <= min(silences) < 29
    assert 31 < max(silences) <= 32


def test_db_111_any_message_resets_tw() -> None:
    # DB-111: "Any received message resets Tw."
    kit = NodeKit()
    line = kit.open()
    for _ in range(8):
        kit.pass_time(20)
        line.exchange(ccr(line))
    kit.pass_time(27.9)
    assert line.requests_of_ours() == []
    kit.pass_time(4.2)
    assert [one.command for one in line.requests_of_ours()] == [280]


def test_db_111_tw_is_at_least_six_seconds() -> None:
    # DB-111: "minimum 6 s"
    settings = NodeSettings(LOCAL, (Application(4, frozenset({272})),))
    check_settings(settings._replace(watchdog_s=6.0))
    with pytest.raises(ValueError, match="watchdog_s"):
        check_settings(settings._replace(watchdog_s=5.9))


def test_db_112_a_silent_peer_is_suspected_then_closed() -> None:
    # DB-112: "Tw expires with no DWR pending -> send one DWR (never retransmitted). Expires again with DWR pending ->
    # SUSPECT, fail over pending requests. Expires in SUSPECT -> close, DOWN." Outcome: close after <= 3 Tw.
    kit = NodeKit()
    line = kit.open()
    kit.pass_time(32)
    assert len(line.requests_of_ours()) == 1
    kit.pass_time(32)
    assert line.event(HealthChanged) == HealthChanged(line.event(PeerOpened).peer, suspect=True)
    assert line.sent() == []
    assert line.closed is None
    kit.pass_time(32)
    assert line.closed is not None
    assert line.closed.abort
    assert line.peer.counters.watchdogs_missed == 1


def test_db_113_any_message_ends_the_suspicion() -> None:
    # DB-113: "Any message in SUSPECT returns to OKAY. ... A first-time connection is usable at once."
    for reply in ("dwa", "other"):
        kit = NodeKit()
        line = kit.open()
        kit.pass_time(32)
        (dwr,) = line.requests_of_ours()
        kit.pass_time(32)
        line.give(line.reply_to(dwr) if reply == "dwa" else line.requests.dwr())
        changes = [event.suspect for event in line.events if isinstance(event, HealthChanged)]
        assert changes == [True, False]
        kit.pass_time(27)
        assert line.closed is None


@pytest.mark.parametrize("cause", [0, 1, 2])
def test_db_114_dpr_is_answered_and_the_connection_closed(cause: int) -> None:
    # DB-114: "DPR -> DPA 2001; requests already received are still answered where possible; ... peer closes; if it does
    # not within a timer, we close."
    held = Held()
    kit = NodeKit(held)
    line = kit.open()
    line.give(ccr(line))
    dpa = line.exchange(line.requests.dpr(cause))
    assert (dpa.code, dpa.message.command) == (2001, 282)
    held.answer()
    assert [one.message.command for one in line.answers()] == [272]
    assert line.closed is None
    kit.pass_time(5.1)
    assert line.closed is not None
    assert not line.closed.abort


def test_db_114_no_watchdog_after_a_dpr() -> None:
    # DB-114: "no new server-initiated requests"
    kit = NodeKit(disconnect_timeout_s=100.0)
    line = kit.open()
    line.exchange(line.requests.dpr())
    kit.pass_time(99)
    assert line.sent() == []


def test_db_115_disconnect_cause_is_required_and_known() -> None:
    # DB-115: "Missing -> 5005; other value -> 5004."
    line = NodeKit().open()
    without = line.requests.message(
        282, 0, REQUEST, [(d.ORIGIN_HOST, "gw1.example.net"), (d.ORIGIN_REALM, "example.net")]
    )
    missing = line.exchange(without)
    assert (missing.code, missing.failed) == (5005, [(d.DISCONNECT_CAUSE, 0)])
    assert line.exchange(line.requests.dpr(3)).code == 5004
    assert line.peer.state is State.OPEN
    assert line.exchange(line.requests.dpr(2)).code == 2001


def test_db_116_we_part_with_a_dpr() -> None:
    # DB-116: "DPR cause 0 to each peer, wait for DPA (timer), close"
    kit = NodeKit()
    line, silent = kit.open(), kit.open("gw2.example.net")
    for one in (line, silent):
        one.handle(one.peer.close(0, kit.now))
    (dpr,) = line.requests_of_ours()
    assert dpr.command == 282
    assert [value for key, _, value in dpr.avps if key == d.DISCONNECT_CAUSE] == [0]
    assert line.closed is None
    line.give(line.reply_to(dpr))
    assert line.closed is not None
    kit.pass_time(5.1)
    assert silent.closed is not None


def test_db_116_a_request_that_crosses_our_dpr_is_sent_elsewhere() -> None:
    # DB-116: "clean": exactly one answer to it too (DB-078)
    kit = NodeKit()
    line = kit.open()
    line.handle(line.peer.close(0, kit.now))
    line.sent()
    answer = line.exchange(ccr(line))
    assert answer.code == 3002
    assert answer.message.is_error


def test_db_117_the_receiver_of_a_dpa_closes() -> None:
    # DB-117: "Receiver of DPA closes the transport."
    kit = NodeKit()
    line = kit.open()
    line.handle(line.peer.close(0, kit.now))
    (dpr,) = line.requests_of_ours()
    line.give(line.reply_to(dpr))
    assert line.closed is not None
    assert not line.closed.abort
    assert line.event(PeerClosed).cause == "disconnected"


# §8 Origin-State-Id, sessions, routing


def test_db_121_a_higher_origin_state_id_is_told() -> None:
    # DB-121: "Received Origin-State-Id greater than the stored value for that Origin-Host (CER, DWR, any request): ...
    # 0 or absent means no inference. Compare per Origin-Host, not per connection."
    kit = NodeKit()
    line = kit.connect(requests=Requests(origin_state_id=7)).open()
    line.exchange(line.requests.dwr())
    again = kit.connect(requests=Requests("GW1.example.net", origin_state_id=8)).open()
    kit.connect(requests=Requests(origin_state_id=0)).open()
    kit.connect(requests=Requests(origin_state_id=7)).open()
    told = [
        (event.origin_host, event.origin_state_id)
        for one in kit.lines
        for event in one.events
        if isinstance(event, OriginStateSeen)
    ]
    assert told == [("gw1.example.net", 7), ("GW1.example.net", 8)]
    again.requests.origin_state_id = 9
    again.exchange(again.requests.dwr())
    assert again.events[-1] == OriginStateSeen("GW1.example.net", 9)


@pytest.mark.parametrize(
    ("host", "realm"),
    [("OCS1.Example.Com", "example.com"), (None, "EXAMPLE.com"), (None, "mvno.example"), (None, None)],
)
def test_db_122_what_is_for_us_is_processed(host: str | None, realm: str | None) -> None:
    # DB-122: "Destination-Host equals us; or absent and Destination-Realm is ours and the application supported; or
    # both absent."
    line = NodeKit(realms=("mvno.example",)).open()
    items = [(d.DESTINATION_HOST, host), (d.DESTINATION_REALM, realm)]
    extra = [item for item in items if item[1] is not None]
    assert line.exchange(ccr(line, without=[d.DESTINATION_REALM], extra=extra)).code == 2001
    assert line.heard(RequestReceived)


def test_db_123_another_host_is_3002() -> None:
    # DB-123: "Destination-Host is another host and relaying is off -> 3002 E."
    line = NodeKit().open()
    answer = line.exchange(ccr(line, extra=[(d.DESTINATION_HOST, "ocs2.example.com")]))
    assert answer.code == 3002
    assert answer.message.is_error
    assert not line.heard(RequestReceived)


def test_db_123_a_host_without_a_realm() -> None:
    # DB-123: "Destination-Host without Destination-Realm -> 3002 E (for CCR the missing Destination-Realm is equally a
    # 5005: pick 5005 for CCR, since the grammar requires it)". The CCR is the application's to refuse.
    other = Application(16777302, frozenset({8388635}), vendor=10415)
    line = NodeKit(applications=(NodeKit().node.settings.applications[0], other)).open()
    host = avp(d.DESTINATION_HOST, LOCAL.origin_host)
    assert line.exchange(line.requests.message(8388635, 16777302, 0xC0, [host])).code == 3002
    line.give(ccr(line, without=[d.DESTINATION_REALM], extra=[host]))
    assert line.event(RequestReceived).message.command == 272


def test_db_124_another_realm_is_3003() -> None:
    # DB-124: "Destination-Realm not served -> 3003 E." Test: realm "other.example".
    line = NodeKit().open()
    answer = line.exchange(ccr(line, without=[d.DESTINATION_REALM], extra=[(d.DESTINATION_REALM, "other.example")]))
    assert answer.code == 3003
    assert answer.message.is_error


def test_db_125_a_loop_is_3005() -> None:
    # DB-125: "Own identity in Route-Record -> 3005 E". Test: Route-Record = us.
    line = NodeKit().open()
    fine = [(d.ROUTE_RECORD, "dra1.example.net"), (d.ROUTE_RECORD, "dra2.example.net")]
    assert line.exchange(ccr(line, extra=fine)).code == 2001
    answer = line.exchange(ccr(line, extra=[*fine, (d.ROUTE_RECORD, "OCS1.example.com")]))
    assert answer.code == 3005
    assert answer.message.is_error


# §9 Security


def test_db_141_plain_tcp_only_from_configured_networks() -> None:
    # DB-141: "Plain TCP only for configured source networks." Outcome: refuse. Test: other source.
    kit = NodeKit(peers=(provisioned(networks=(ipaddress.ip_network("192.0.2.4/32"),)),), plain_networks=LAN)
    for source in ("127.0.0.1", "::1", "192.0.2.4", "10.1.255.1", "::ffff:10.1.0.1"):
        assert kit.node.accept(source, "127.0.0.1", kit.now) is not None
    for source in ("192.0.2.5", "10.2.0.1", "2001:db8::1"):
        assert kit.node.accept(source, "127.0.0.1", kit.now) is None
    assert NodeKit().node.accept("10.1.0.1", "10.1.0.2", 0.0) is None
    assert LOOPBACK


def test_db_142_the_identity_of_a_connection_does_not_change() -> None:
    # DB-142: "a peer's identity may not change inside a connection." Test: second CER other Origin-Host -> close.
    line = NodeKit().open()
    line.give(Requests("gw2.example.net").cer())
    assert line.answers() == []
    assert line.closed is not None
