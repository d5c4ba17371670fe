"""What the node and the engine promise together: octets over several connections in, balances and octets out."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ocs.servers.diameter_settings import credit_control
from ocs.servers.gy_application import GyApplication
from protocols.diameter import dictionary as d
from protocols.diameter.header import HEADER_OCTETS
from protocols.diameter.peer_table import State
from tests.support.charging_kit import Kit
from tests.support.diameter_kit import LOCAL, Line, NodeKit, identifiers, with_header
from tests.support.faulty_store import FaultyStore
from tests.support.gy_client import INITIAL, MIB, UPDATE, Answer, Requests, mscc, proxy_info, units
from tests.support.gy_edge import settings
from tests.support.mutations import header_passes, mutate

RETRANSMIT = 0x10
GATEWAY = Requests()


class World:
    """A node without sockets in front of an engine with one account of 10.00 EUR."""

    def __init__(self) -> None:
        self.charging = Kit()
        self.store = FaultyStore(self.charging.store)
        self.charging.use(self.store)
        self.charging.account("a", 1000, "d10", "447700900123")
        application = GyApplication(
            self.charging.engine,
            settings,
            LOCAL,
            self.charging.monotonic,
            2.0,
            lambda _message, _error: None,
        )
        self.kit = NodeKit(application.handle, applications=(credit_control(),))

    def open(self) -> Line:
        """A connection of the gateway."""
        return self.kit.open()


def initial(**options: Any) -> bytes:
    return GATEWAY.ccr(INITIAL, 0, "s1", mscc(100, requested=[]), **options)


def update(**options: Any) -> bytes:
    return GATEWAY.ccr(UPDATE, 1, "s1", mscc(100, requested=[], used=[units(total=10 * MIB)]), **options)


def body(answer: Answer) -> bytes:
    return answer.data[HEADER_OCTETS:]


@pytest.mark.parametrize(("first_flags", "second_flags"), [(0, 0), (0, RETRANSMIT), (RETRANSMIT, 0)])
def test_db_031_026_a_repeat_over_another_connection_has_the_same_answer(first_flags: int, second_flags: int) -> None:
    # DB-031: "A duplicate gets the same answer (new Hop-by-Hop id, current Proxy-Info) and must not change state." Test:
    # "send same CCR twice over two connections". For application 4 by the key of CC-040.
    # DB-026: "Duplicate detection must also work when T is absent and when the T-flagged copy arrives before the
    # original (App. C)."
    world = World()
    one, other = world.open(), world.open()
    one.exchange(initial())
    assert world.charging.balance() == (1000, 100)
    original = update(hop_by_hop=1, end_to_end=77)
    first = one.exchange(with_header(original, flags=original[4] | first_flags))
    assert first.code == 2001
    assert world.charging.balance() == (900, 100)
    repeat = update(hop_by_hop=2, end_to_end=77, extra=[proxy_info("dra2.example.net", b"\x07\xff")])
    second = other.exchange(with_header(repeat, flags=repeat[4] | second_flags))
    assert world.charging.balance() == (900, 100)
    assert identifiers(second.data) == (2, 77)
    assert body(second) == body(first) + proxy_info("dra2.example.net", b"\x07\xff")


def test_db_079_a_repeat_gets_the_answer_that_its_connection_did_not() -> None:
    # DB-079: "An answer must not be sent after the peer connection it came from is gone; it is kept in the duplicate
    # cache for the retransmission." Test: drop link after request.
    world = World()
    line = world.open()
    line.exchange(initial())
    world.store.hold()
    line.give(update(end_to_end=77))
    line.handle(line.peer.transport_lost("cut", world.kit.now))
    while world.store.held:
        world.store.release()
    assert line.sent() == []
    assert world.charging.balance() == (900, 100)
    again = world.open()
    assert again.exchange(update(end_to_end=77, retransmit=True)).service.granted == {"total": 10 * MIB}
    assert world.charging.balance() == (900, 100)


def test_db_078_a_store_that_fails_is_5012_and_the_repeat_is_charged() -> None:
    # DB-078: "5012 ... kill the store mid-request"; DB-031: "a 5012 of CC-220 is never kept"
    world = World()
    line = world.open()
    line.exchange(initial())
    world.store.fail_reads(1000)
    world.store.fail_commits("refused", 1000)
    line.give(update(end_to_end=77))
    sent = line.answers()
    while world.charging.later and not sent:
        world.charging.now_us += 100_000
        world.charging.later.pop(0)()
        sent = line.answers()
    (failed,) = sent
    assert (failed.code, failed.get(d.CC_REQUEST_TYPE), failed.get(d.CC_REQUEST_NUMBER)) == (5012, UPDATE, 1)
    world.charging.use(world.store.inner)
    assert world.charging.balance() == (1000, 100)
    assert line.exchange(update(end_to_end=77, retransmit=True)).code == 2001
    assert world.charging.balance() == (900, 100)


def test_db_144_mutated_requests_do_no_harm_to_the_engine() -> None:
    # DB-144: "no exception escapes, ... each decodable request has one answer", with the engine behind the node.
    world = World()
    rng = random.Random(1)
    seeds = [initial(), update(), GATEWAY.ccr(3, 2, "s1", mscc(100, used=[units(total=5)], reason=2))]
    line = world.open()
    reached = 0
    for number in range(3000):
        data = mutate(rng, seeds[number % 3])
        if not header_passes(data):
            continue
        if line.peer.state is not State.OPEN:
            line = world.open()
        line.give(data)
        answers = line.answers()
        assert len(answers) == (1 if data[4] & 0x80 else 0) or line.peer.state is not State.OPEN
        reached += any(answer.code == 2001 for answer in answers)
    assert reached > 100
    assert world.kit.failures == []
    assert world.charging.raised == []
