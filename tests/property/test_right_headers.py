"""What a node remembers of right headers changes nothing: a twin that forgets them says and counts the same."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protocols.diameter import dictionary as d
from protocols.diameter.events import RequestReceived
from protocols.diameter.peer import MAX_RIGHT_HEADERS
from protocols.diameter.peer_table import State
from tests.property.fuzz_node import corpus
from tests.support.diameter_kit import LOCAL, Line, NodeKit, provisioned
from tests.support.gy_client import UPDATE, Requests, mscc
from tests.support.mutations import mutate

MESSAGES = 4000


class Forgetful(dict[int, int]):
    """Remembers nothing."""

    def __setitem__(self, key: int, value: int) -> None:
        pass


class Twins:
    """The same connection to two nodes, of which one forgets."""

    def __init__(self, **settings: Any) -> None:
        self.remembering = NodeKit(**settings)
        self.forgetful = NodeKit(**settings)
        self.forgetful.node.right_headers = Forgetful()
        self.lines: tuple[Line, Line]
        self.open()

    def open(self) -> None:
        self.lines = (self.remembering.open(), self.forgetful.open())

    def give(self, data: bytes) -> None:
        for line in self.lines:
            line.events.clear()
            line.give(data)
        one, other = self.lines
        assert one.sent() == other.sent()
        assert [_facts(event) for event in one.events] == [_facts(event) for event in other.events]
        assert one.peer.state is other.peer.state
        assert one.peer.next_timer() == other.peer.next_timer()

    def pass_time(self, seconds: float) -> list[bytes]:
        for kit in (self.remembering, self.forgetful):
            kit.pass_time(seconds)
        one, other = (line.sent() for line in self.lines)
        assert one == other
        return one

    def compare_counters(self) -> None:
        one, other = (kit.node.all_counters() for kit in (self.remembering, self.forgetful))
        assert {host: _counts(found) for host, found in one.items()} == {
            host: _counts(found) for host, found in other.items()
        }

    @property
    def knows_requests(self) -> bool:
        return bool(self.remembering.node.right_headers)


def _counts(counters: Any) -> dict[str, Any]:
    return {name: getattr(counters, name) for name in counters.__slots__}


def _facts(event: Any) -> str:
    if isinstance(event, RequestReceived):
        return event.message.data.hex()
    return "".join(str(getattr(event, name, "")) for name in ("result_code", "reason", "cause", "suspect"))


@pytest.mark.parametrize("strict", [False, True])
def test_spoilt_messages_have_the_same_end(strict: bool) -> None:
    twins = Twins(strict_header_bits=strict, peers=(provisioned(tolerated=frozenset({9, 99999})),))
    originals = corpus()
    for number in range(MESSAGES):
        rng = random.Random(number)
        # Several in one read, as under load.
        chosen = [rng.choice(originals) for _ in range(rng.choice([1, 1, 2, 3]))]
        chosen[rng.randrange(len(chosen))] = mutate(rng, rng.choice(originals))
        twins.give(b"".join(chosen))
        buffered = twins.lines[0].peer._framer.buffered_octets
        if buffered or twins.lines[0].peer.state is not State.OPEN:
            for line in twins.lines:
                line.handle(line.peer.transport_lost("dropped", line.kit.now))
            twins.open()
    assert twins.knows_requests
    twins.compare_counters()


def ordinary(gateway: Requests, **fields: Any) -> bytes:
    return gateway.ccr(UPDATE, 1, "s1", mscc(100, requested=[]), **fields)


def test_after_a_right_request_others_are_judged_as_before() -> None:
    gateway = Requests()
    twins = Twins()
    twins.give(ordinary(gateway))
    assert twins.knows_requests
    twins.give(ordinary(gateway, extra=[(d.ROUTE_RECORD, LOCAL.origin_host)]))
    twins.give(ordinary(Requests(destination_realm="elsewhere.example")))
    twins.give(ordinary(Requests(destination_host="other.example.com")))
    twins.give(ordinary(gateway, extra=[(99999, 0x40, b"")]))
    twins.give(ordinary(gateway, flags=0xE0))
    twins.give(ordinary(gateway, application=5))
    twins.pass_time(20)
    twins.give(ordinary(gateway))
    assert twins.pass_time(15) == []  # any message puts the DWR off
    assert len(twins.pass_time(70)) == 1  # and then it is missed
    twins.give(ordinary(gateway) * 2)
    for kit in (twins.remembering, twins.forgetful):
        kit.node.draining = True
    twins.give(ordinary(gateway))
    twins.give(gateway.dpr())
    twins.give(ordinary(gateway))
    twins.compare_counters()


def test_headers_that_are_remembered_have_a_maximum() -> None:
    kit = NodeKit()
    kit.node.right_headers.update(dict.fromkeys(range(MAX_RIGHT_HEADERS), 0))
    line = kit.open()
    assert line.exchange(ordinary(Requests())).code == 2001
    assert len(kit.node.right_headers) == MAX_RIGHT_HEADERS
