"""The tables of the peer and the watchdog, and what the requirement rows leave open."""

from __future__ import annotations

import itertools
import random

import pytest

from protocols.diameter.avp import result_code_of
from protocols.diameter.counters import COUNTED_COMMANDS, message_key
from protocols.diameter.errors import LocalProtocolError
from protocols.diameter.events import PeerClosed, PeerRefused
from protocols.diameter.node import MAX_COUNTED_HOSTS, Node
from protocols.diameter.peer import Peer
from protocols.diameter.peer_table import TABLE, Input, State
from protocols.diameter.settings import UnknownPeers, check_settings
from protocols.diameter.watchdog import TABLE as WATCHDOG
from protocols.diameter.watchdog import Action, Health, Signal, Watchdog
from tests.support.diameter_kit import LOCAL, Held, NodeKit, provisioned
from tests.support.gy_client import INITIAL, Requests

FROM_OUTSIDE = [
    Input.CER,
    Input.DWR,
    Input.DWA,
    Input.DPR,
    Input.DPA,
    Input.REQUEST,
    Input.ANSWER,
    Input.BROKEN,
    Input.TIMER,
    Input.STOP,
    Input.ABORT,
    Input.LOST,
]


@pytest.mark.parametrize(("state", "heard"), list(itertools.product(State, FROM_OUTSIDE)))
def test_the_table_has_a_row_for_all_that_can_come(state: State, heard: Input) -> None:
    assert (state, heard) in TABLE


def test_every_action_of_the_table_is_a_method() -> None:
    for step in TABLE.values():
        assert callable(getattr(Peer, "_" + step.action))


def test_every_state_can_be_left_and_only_the_end_is_final() -> None:
    for state in State:
        left = {step.state for (start, _), step in TABLE.items() if start is state}
        assert (State.CLOSED in left) and ((left == {State.CLOSED}) == (state is State.CLOSED))


def test_the_watchdog_has_a_row_for_all_signals() -> None:
    assert set(WATCHDOG) == set(itertools.product(Health, Signal))


def test_what_cannot_happen_is_our_bug() -> None:
    line = NodeKit().connect()
    with pytest.raises(LocalProtocolError):
        line.peer._fire(Input.GIVEN_UP if line.peer.state is State.CLOSED else Input.DPR_VALID, None, 0.0)


def test_a_late_timer_of_the_loop_does_not_hurt() -> None:
    watchdog = Watchdog(30.0, random.Random(1), 0.0)
    assert watchdog.expired(watchdog.deadline - 0.001) is Action.NONE
    assert watchdog.expired(1000.0) is Action.SEND_DWR
    assert 1028 <= watchdog.deadline <= 1032


def test_silence_before_a_dwr_stays_within_its_bounds_whenever_the_last_message_came() -> None:
    rng = random.Random(7)
    for _ in range(500):
        watchdog = Watchdog(30.0, rng, 0.0)
        heard = rng.uniform(0.0, 27.9)
        watchdog.received(False, heard)
        now = watchdog.deadline
        while watchdog.expired(now) is Action.NONE:
            now = watchdog.deadline
        assert 28 - 1e-6 <= now - heard <= 32 + 1e-6


def test_a_timer_before_its_time_does_nothing() -> None:
    kit = NodeKit()
    line = kit.open()
    assert line.peer.handle_timer(kit.now) == []
    assert line.sent() == []


def test_nothing_follows_the_end() -> None:
    kit = NodeKit()
    line = kit.open()
    line.handle(line.peer.abort("because", kit.now))
    assert line.event(PeerClosed).cause == "because"
    assert line.peer.next_timer() is None
    for events in (
        line.peer.receive_data(line.requests.dwr(), kit.now),
        line.peer.handle_timer(kit.now + 1000),
        line.peer.close(0, kit.now),
        line.peer.abort("again", kit.now),
        line.peer.transport_lost("closed", kit.now),
    ):
        assert events == []
    assert line.sent() == []


def test_a_held_connection_that_is_lost_frees_its_place() -> None:
    kit = NodeKit(single_connection=True)
    kit.open()
    second = kit.connect()
    second.give(second.requests.cer())
    second.handle(second.peer.transport_lost("closed", kit.now))
    third = kit.connect()
    third.give(third.requests.cer())
    assert not third.heard(PeerRefused)
    kit.pass_time(5.1)
    assert third.answers()[0].code == 2001


def test_a_held_connection_is_not_heard() -> None:
    kit = NodeKit(single_connection=True)
    kit.open()
    second = kit.connect()
    second.give(second.requests.cer() + second.requests.dwr())
    assert second.closed is not None
    assert second.sent() == []


def test_a_shutdown_does_not_wait_for_strangers() -> None:
    kit = NodeKit()
    line = kit.connect()
    line.handle(line.peer.close(0, kit.now))
    assert line.closed is not None
    assert line.closed.abort


def test_both_sides_may_part_at_once() -> None:
    kit = NodeKit()
    line = kit.open()
    line.handle(line.peer.close(0, kit.now))
    (dpr,) = line.requests_of_ours()
    assert line.exchange(line.requests.dpr()).code == 2001
    line.give(line.reply_to(dpr))
    assert line.closed is not None


def test_a_draining_node_sends_new_requests_elsewhere_and_finishes_old_ones() -> None:
    held = Held()
    kit = NodeKit(held)
    line = kit.open()
    line.give(line.requests.ccr(INITIAL, 0, "s1"))
    kit.node.draining = True
    assert line.exchange(line.requests.ccr(INITIAL, 0, "s2")).code == 3002
    held.answer()
    assert line.answers()[0].code == 2001


def test_counters_are_of_the_origin_host_not_of_the_connection() -> None:
    kit = NodeKit()
    for name in ("gw1.example.net", "GW1.example.net"):
        line = kit.open(name)
        line.exchange(line.requests.ccr(INITIAL, 0, "s1"))
        line.exchange(line.requests.message(999, 4, 0x80, []))
    counters = kit.node.all_counters()["gw1.example.net"]
    assert counters.connections == 2
    assert counters.answers == {2001: 4, 3001: 2}
    assert counters.error_bit_answers == 2
    assert counters.received[message_key(272, 1)] == 2
    assert counters.sent[message_key(272, 0)] == 2
    assert counters.received[message_key(999, 1)] == 2


def test_a_peer_cannot_make_counters_without_end() -> None:
    assert len({message_key(command, 1) for command in range(100_000)}) <= len(COUNTED_COMMANDS) + 1
    node = NodeKit(unknown_peers=UnknownPeers.ACCEPT).node
    for number in range(3 * MAX_COUNTED_HOSTS):
        node.counters(f"gw{number}.example.net")
        node.origin_state_rose(f"gw{number}.example.net", 1)
    assert len(node.all_counters()) <= MAX_COUNTED_HOSTS + 1
    assert node.counters("another.example.net") is node.counters("")


def test_result_code_of_any_octets_ends() -> None:
    assert result_code_of(bytes(100)) == 0
    assert result_code_of(b"") == 0
    assert result_code_of(bytes(20) + bytes.fromhex("00000107 4000000a 73310000 0000010c 4000000c 000007d1")) == 2001


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("watchdog_s", 5.0),
        ("max_message_octets", 100),
        ("max_cer_octets", 1 << 24),
        ("cer_timeout_s", 0),
        ("applications", ()),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(field: str, value: object) -> None:
    settings = NodeKit().node.settings._replace(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=field):
        check_settings(settings)


def test_a_peer_may_stand_only_once_in_the_settings() -> None:
    settings = NodeKit().node.settings._replace(peers=(provisioned("a.example"), provisioned("A.example")))
    with pytest.raises(ValueError, match=r"a\.example stands twice"):
        Node(settings, random.Random(1), 0)


def test_the_kit_and_the_client_name_the_same_server() -> None:
    assert Requests().destination_realm == LOCAL.origin_realm
