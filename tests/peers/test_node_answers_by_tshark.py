"""Every answer of the base protocol that the node builds, read by Wireshark."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ocs.servers.gy import build_refusal
from protocols.diameter import dictionary as d
from protocols.diameter.answers import Local
from protocols.diameter.header import (
    APPLICATION_CREDIT_CONTROL,
    CREDIT_CONTROL,
    FLAG_ERROR,
    FLAG_PROXIABLE,
    FLAG_REQUEST,
)
from protocols.diameter.node import Node
from protocols.diameter.settings import Application, NodeSettings
from tests.support.gy_client import INITIAL, Answer, Requests, mscc, proxy_info
from tests.support.tshark import dissect

LOCAL = Local("ocs1.example.com", "example.com", 7)
gateway = Requests(origin_state_id=1)
stranger = Requests("stranger.example.net")


def settings() -> NodeSettings:
    """A node with credit control."""
    application = Application(APPLICATION_CREDIT_CONTROL, frozenset({CREDIT_CONTROL}), refuse=build_refusal)
    return NodeSettings(local=LOCAL, applications=(application,), firmware_revision=1)


def exchange(*messages: bytes, source: str = "127.0.0.1") -> list[bytes]:
    """What the node writes to a connection that sends these messages."""
    peer = Node(settings(), random.Random(1), 1_772_450_000).accept(source, "127.0.0.1", 0.0)
    assert peer is not None
    for message in messages:
        peer.receive_data(message, 1.0)
    return peer.data_to_send()


def last(*messages: bytes) -> bytes:
    """The last answer on an open connection."""
    answers = exchange(gateway.cer(), *messages)
    assert len(answers) == 1 + len(messages)
    return answers[-1]


def _request(command: int, application: int, flags: int = FLAG_REQUEST) -> bytes:
    items = [(d.SESSION_ID, "s1"), (d.ORIGIN_HOST, "gw1.example.net"), (d.ORIGIN_REALM, "example.net")]
    return gateway.message(command, application, flags, [*items, proxy_info("p1.example.net", b"\x00\x01")])


ANSWERS = {
    "CEA": (exchange(gateway.cer())[0], 257, 2001),
    "CEA to a relay": (exchange(gateway.cer((0xFFFFFFFF,)))[0], 257, 2001),
    "CEA without common application": (exchange(gateway.cer((16777238,)))[0], 257, 5010),
    "CEA with a missing AVP": (exchange(gateway.message(257, 0, FLAG_REQUEST, [(d.ORIGIN_HOST, "gw1")]))[0], 257, 5005),
    "DWA": (last(gateway.dwr()), 280, 2001),
    "DPA": (last(gateway.dpr()), 282, 2001),
    "DPA to a wrong cause": (last(gateway.dpr(3)), 282, 5004),
    "unknown command": (last(_request(999, 4)), 999, 3001),
    "unknown application": (last(_request(272, 16777238)), 272, 3007),
    "E bit in a request": (last(_request(272, 4, FLAG_REQUEST | FLAG_ERROR)), 272, 3008),
    "other realm": (last(Requests(destination_realm="other.example").ccr(INITIAL, 0, "s1", mscc())), 272, 3003),
    "other host": (last(Requests(destination_host="ocs9.example.com").ccr(INITIAL, 0, "s1", mscc())), 272, 3002),
    "loop": (last(gateway.ccr(INITIAL, 0, "s1", extra=[(d.ROUTE_RECORD, "ocs1.example.com")])), 272, 3005),
}
"""Name: (answer, command code, Result-Code)."""


@pytest.fixture(scope="module")
def dissections() -> dict[str, Any]:
    """Every answer as tshark sees it."""
    return dict(zip(ANSWERS, dissect([answer for answer, _, _ in ANSWERS.values()]), strict=True))


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_tshark_finds_nothing_wrong(dissections: dict[str, Any], name: str) -> None:
    answer, command, code = ANSWERS[name]
    assert Answer(answer).code == code
    assert bool(Answer(answer).message.flags & FLAG_ERROR) is (3000 <= code < 4000)
    assert not Answer(answer).message.flags & FLAG_PROXIABLE or command == CREDIT_CONTROL
    seen = dissections[name]
    assert seen.commands == (command,)
    assert (seen.malformed, seen.complaints) == (False, ())
    # Wireshark does not know command 999 either; the example of a missing text AVP has no data (avps.md §6).
    allowed = ("Unknown command",) if name == "unknown command" else ("Data is empty",)
    assert [warning for warning in seen.warnings if not warning.startswith(allowed)] == []
