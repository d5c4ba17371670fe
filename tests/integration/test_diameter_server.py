"""The Diameter server over real TCP on 127.0.0.1: what a sans-IO test cannot show."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ocs.servers.diameter_requests import ApplicationPort, Reply
from protocols.diameter import dictionary as d
from protocols.diameter.answers import base_avps, build_answer
from protocols.diameter.avp import Message, decode_message
from protocols.diameter.errors import LocalProtocolError
from protocols.diameter.events import PeerClosed, PeerInfo
from tests.support.diameter_client import DiameterClient, RunningServer, running_server
from tests.support.diameter_kit import LOCAL, identifiers, raw_avp, succeed, with_header
from tests.support.gy_client import INITIAL

MIB = 1 << 20


@pytest.fixture
def running() -> Iterator[RunningServer]:
    with running_server(succeed) as server:
        yield server


def ccr(client: DiameterClient, **options: Any) -> bytes:
    return client.requests.ccr(INITIAL, 0, "s1", **options)


def later(seconds: float) -> ApplicationPort:
    """An application that answers after a time; each second request at once."""
    count = 0

    def handle(message: Message, _peer: PeerInfo, reply: Reply) -> None:
        nonlocal count
        count += 1
        answer = build_answer(message, base_avps(2001, LOCAL))
        if count % 2:
            asyncio.get_running_loop().call_later(seconds, reply, answer)
        else:
            reply(answer)

    return handle


def large_answers(message: Message, _peer: PeerInfo, reply: Reply) -> None:
    """An application whose answers fill every buffer."""
    reply(build_answer(message, [*base_avps(2001, LOCAL), raw_avp(99999, bytes(32 * 1024), flags=0)]))


def test_db_001_a_peer_connects_over_tcp_and_is_served(running: RunningServer) -> None:
    # DB-001: "Accept TCP on 3868" (the port is a setting; the default is checked in the unit tests)
    with running.client() as client:
        assert client.cer().code == 2001
        assert client.request(ccr(client)).code == 2001


def test_db_003_one_octet_per_write(running: RunningServer) -> None:
    # DB-003: "send a CER one octet per write with 5 ms gaps -> one CEA"
    with running.client() as client:
        for octet in client.requests.cer():
            client.send(bytes([octet]))
            time.sleep(0.005)
        assert client.receive().code == 2001
        assert client.is_quiet(0.05)


def test_db_004_fifty_requests_in_one_send(running: RunningServer) -> None:
    # DB-004: "write 50 DWRs in one send -> 50 DWAs, all Hop-by-Hop ids matched"
    with running.client() as client:
        client.cer()
        requests = [client.requests.dwr() for _ in range(50)]
        client.send(b"".join(requests))
        answers = [client.receive() for _ in requests]
        assert [(one.message.hop_by_hop, one.message.end_to_end) for one in answers] == [
            identifiers(one) for one in requests
        ]


def test_db_006_an_impossible_length_is_answered_then_closed(running: RunningServer) -> None:
    # DB-006: "answer 5015, then close"
    with running.client() as client:
        client.cer()
        client.send(with_header(ccr(client), length=22))
        assert client.receive().code == 5015
        client.ending()


def test_db_007_an_announced_giant_takes_no_memory(running: RunningServer) -> None:
    # DB-007: "Length=0xFFFFFC, send nothing more: RSS stays flat, connection is dropped on timeout" (here at once)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        with running.client() as client:
            client.cer()
            client.send(with_header(ccr(client)[:20], length=0xFFFFFC))
            assert client.receive().code == 5015
            client.ending()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_db_009_garbage_is_reset(running: RunningServer) -> None:
    # DB-009: "Garbage that cannot be parsed as Diameter closes the connection (RST preferred)." Test: "GET / HTTP/1.1"
    for opened in (False, True):
        with running.client() as client:
            if opened:
                client.cer()
            client.send(b"GET / HTTP/1.1\r\nHost: ocs\r\n\r\n")
            assert client.ending() == "reset"


def test_db_010_a_fast_answer_overtakes_a_slow_one() -> None:
    # DB-010: "slow request A then fast B -> answer B may precede A"
    with running_server(later(0.2)) as server, server.client() as client:
        client.cer()
        client.send(ccr(client, hop_by_hop=1) + ccr(client, hop_by_hop=2))
        assert [client.receive().message.hop_by_hop for _ in range(2)] == [2, 1]


def test_db_011_a_hundred_concurrent_answers_do_not_interleave() -> None:
    # DB-011: "Each outgoing message is written whole; concurrent tasks never interleave bytes." Test: 100 concurrent
    # answers, decode the capture.
    def several(message: Message, _peer: PeerInfo, reply: Reply) -> None:
        padding = raw_avp(99999, bytes(message.hop_by_hop * 37 % 5000), flags=0)
        answer = build_answer(message, [*base_avps(2001, LOCAL), padding])
        asyncio.get_running_loop().call_later(message.hop_by_hop * 7919 % 100 / 1000, reply, answer)

    with running_server(several) as server, server.client() as client:
        client.cer()
        client.send(b"".join(ccr(client, hop_by_hop=number) for number in range(1000, 1100)))
        answers = [client.receive() for _ in range(100)]
        assert sorted(one.message.hop_by_hop for one in answers) == list(range(1000, 1100))
        assert {one.code for one in answers} == {2001}


def test_db_012_a_peer_that_does_not_read_is_cut_off() -> None:
    # DB-012: "Slow reader: bounded send queue per peer; when exceeded close with cause logged." Test: peer stops
    # reading -> bounded memory.
    with running_server(large_answers, output_buffer_octets=MIB) as server:
        client = server.client().connect(receive_buffer_octets=4096)
        client.cer()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with contextlib.suppress(ConnectionError):
            for _ in range(2000):
                client.send(ccr(client))
        server.wait(lambda: not server.server.connections)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
        causes = [event.cause for event in server.events if isinstance(event, PeerClosed)]
        assert causes == ["the peer does not read its answers"]
        assert ("peer closed", {"origin_host": "gw1.example.net", "cause": causes[0]}) in server.log.lines
        client.close()


def test_db_014_strangers_are_closed_after_their_time_and_limited_in_number() -> None:
    # DB-014: "an accepted connection must deliver a CER within a configured time ... otherwise close without an answer"
    with running_server(succeed, cer_timeout_s=0.3, max_unauthenticated=3) as server:
        idle = [server.client().connect() for _ in range(3)]
        server.wait(lambda: len(server.server.strangers) == 3)
        assert server.client().turned_away() == "reset"
        assert [one.ending() for one in idle] == ["reset"] * 3
        server.wait(lambda: not server.server.connections)
        with server.client() as client:
            assert client.cer().code == 2001
        assert server.server.refused_connections == 1


def test_db_014_an_open_connection_is_no_stranger() -> None:
    # DB-014: the limit of time is for the CER alone
    with running_server(succeed, cer_timeout_s=0.2) as server, server.client() as client:
        client.cer()
        assert client.is_quiet(0.4)
        assert client.request(client.requests.dwr()).code == 2001


def test_connections_are_limited_in_number() -> None:
    with running_server(succeed, max_connections=2) as server:
        with server.client() as first, server.client() as second:
            assert (first.cer().code, second.cer().code) == (2001, 2001)
            assert server.client().turned_away() == "reset"
        server.wait(lambda: not server.server.connections)
        with server.client() as third:
            assert third.cer().code == 2001


def test_db_078_the_deadline_runs_on_the_real_clock() -> None:
    # DB-078: "on store time-out (5012 within 2 s by default ...)"
    with running_server(lambda _message, _peer, _reply: None, deadline_s=0.2) as server, server.client() as client:
        client.cer()
        start = time.monotonic()
        assert client.request(ccr(client)).code == 5012
        assert 0.15 < time.monotonic() - start < 1.5


def test_db_078_an_exception_is_answered_and_the_connection_lives() -> None:
    # DB-078: "also on internal exception (5012)"
    def fails(message: Message, peer: PeerInfo, reply: Reply) -> None:
        if message.hop_by_hop == 7:
            raise LocalProtocolError("planted")
        succeed(message, peer, reply)

    with running_server(fails) as server, server.client() as client:
        client.cer()
        assert client.request(ccr(client, hop_by_hop=7)).code == 5012
        assert client.request(ccr(client, hop_by_hop=8)).code == 2001


def test_db_079_a_killed_client_leaves_nothing_behind() -> None:
    # DB-079: "drop link after request"
    with running_server(later(0.2)) as server:
        client = server.client().connect()
        client.cer()
        client.send(ccr(client))
        server.wait(lambda: server.server.desk.in_flight == 1)
        client.kill()
        server.wait(lambda: not server.server.connections)
        server.wait(lambda: server.server.desk.in_flight == 0)
        assert server.server.node.counters("gw1.example.net").dropped_answers == 1
        with server.client() as again:
            assert again.cer().code == 2001


def test_db_096_a_dead_connection_is_replaced_over_tcp() -> None:
    # DB-096: "kill -9 client, reconnect -> new accepted"; the first client's host vanished, so its socket looks open
    with running_server(succeed, single_connection=True, probe_timeout_s=0.3) as server:
        first, second = server.client().connect(), server.client().connect()
        first.cer()
        assert second.cer().code == 2001
        assert decode_message(first.receive_octets()).command == 280
        assert first.ending() == "reset"
        assert second.request(ccr(second)).code == 2001


def test_a_client_that_is_gone_before_it_is_accepted_does_no_harm() -> None:
    # A socket that was reset at once no longer has a peer name.
    with running_server(succeed) as server:
        failures: list[object] = []
        server.call(lambda: server.server.loop.set_exception_handler(lambda _loop, context: failures.append(context)))
        for _ in range(100):
            server.client().connect().kill()
        with server.client() as client:
            assert client.cer().code == 2001
        server.wait(lambda: not server.server.connections)
        assert failures == []


def test_db_114_a_peer_that_departs_and_does_not_read_is_reset() -> None:
    # DB-114: "peer closes; if it does not within a timer, we close", also with answers that it does not take
    with running_server(large_answers, disconnect_timeout_s=0.3) as server:
        client = server.client().connect(receive_buffer_octets=4096)
        client.cer()
        client.send(b"".join(ccr(client, hop_by_hop=number) for number in range(100)) + client.requests.dpr())
        server.wait(lambda: not server.server.connections)
        client.close()


def test_db_116_a_shutdown_resets_who_does_not_read() -> None:
    # DB-116: "wait for DPA (timer), close", also with answers that the peer does not take
    with running_server(large_answers, disconnect_timeout_s=0.3) as server:
        client = server.client().connect(receive_buffer_octets=4096)
        client.cer()
        client.send(b"".join(ccr(client, hop_by_hop=number) for number in range(100)))
        server.wait(lambda: server.server.node.counters("gw1.example.net").answers.get(2001, 0) > 100)
        server.stop()
        assert not server.server.connections
        client.close()


def test_a_connection_that_fails_takes_no_other_along() -> None:
    # Two connections with output in one turn of the loop; the first cannot be written.
    with running_server(succeed) as server, server.client() as broken, server.client("gw2.example.net") as other:
        broken.cer()
        other.cer()

        def plant() -> None:
            for peer in sorted(server.server.node.peers(), key=lambda one: one.source):
                if peer.info is not None and peer.info.origin_host == "gw1.example.net":
                    peer.data_to_send = lambda: ["no octets"]  # type: ignore[method-assign,list-item]
                peer.owner.data_received(other.requests.dwr())

        server.call(plant)
        assert other.receive().code == 2001
        assert broken.ending() == "reset"
        assert other.request(ccr(other)).code == 2001


def test_db_114_dpr_then_the_peer_closes(running: RunningServer) -> None:
    # DB-114: "DPA then close"
    with running.client() as client:
        client.cer()
        assert client.request(client.requests.dpr(2)).code == 2001
        assert client.ending() == "closed"


def test_db_116_graceful_shutdown() -> None:
    # DB-116: "stop accepting, finish in-flight, DPR cause 0 to each peer, wait for DPA (timer), close."
    with running_server(later(0.3), drain_s=2.0, disconnect_timeout_s=2.0) as server:
        client = server.client().connect()
        client.cer()
        client.send(ccr(client))
        server.wait(lambda: server.server.desk.in_flight == 1)
        loop_stop = asyncio.run_coroutine_threadsafe(server.server.stop(), server.server.loop)
        server.wait(lambda: server.server.node.draining)
        with pytest.raises(ConnectionRefusedError):
            server.client().connect()
        assert client.request(ccr(client, hop_by_hop=99)).code == 3002
        assert client.receive().code == 2001
        dpr = decode_message(client.receive_octets())
        assert dpr.command == 282
        assert [value for key, _, value in dpr.avps if key == d.DISCONNECT_CAUSE] == [0]
        client.send(
            client.requests.message(
                282,
                0,
                0,
                [(d.RESULT_CODE, 2001), (d.ORIGIN_HOST, "gw1.example.net"), (d.ORIGIN_REALM, "example.net")],
                hop_by_hop=dpr.hop_by_hop,
                end_to_end=dpr.end_to_end,
            )
        )
        assert client.ending() == "closed"
        loop_stop.result(5)
        assert not server.server.connections


def test_db_116_a_shutdown_ends_though_nobody_answers() -> None:
    # DB-116: "wait for DPA (timer)"
    with running_server(lambda _message, _peer, _reply: None, drain_s=0.2, disconnect_timeout_s=0.3) as server:
        client = server.client().connect()
        client.cer()
        client.send(ccr(client))
        server.wait(lambda: server.server.desk.in_flight == 1)
        stranger = server.client().connect()
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 3
        assert not server.server.connections
        assert decode_message(client.receive_octets()).command == 282
        assert stranger.ending() == "reset"
