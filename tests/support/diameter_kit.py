"""A Diameter node without sockets: connections that a test steps by hand, with the time in its hand too."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ocs.servers.diameter_requests import ApplicationPort, Reply, RequestDesk
from ocs.servers.diameter_settings import credit_control
from protocols.diameter import dictionary as d
from protocols.diameter.answers import Local, base_avps, build_answer
from protocols.diameter.avp import Message, decode_message, encode_avp, encode_message
from protocols.diameter.events import CloseTransport, Event, PeerInfo, RequestReceived
from protocols.diameter.node import Node
from protocols.diameter.peer import Peer
from protocols.diameter.peer_table import State
from protocols.diameter.settings import LOOPBACK, NodeSettings, ProvisionedPeer
from tests.support.gy_client import Answer, Requests

LOCAL = Local("ocs1.example.com", "example.com", 1)
START_UTC_S = 1_772_481_600
CREDIT_CONTROL = credit_control()._replace(judges_avps=False)
"""As if the application could not read broken AVPs: what the node then does by itself."""
REQUEST, PROXIABLE, ERROR, RETRANSMIT = 0x80, 0x40, 0x20, 0x10

E = TypeVar("E")


def succeed(message: Message, _peer: PeerInfo, reply: Reply) -> None:
    """An application that grants everything."""
    reply(build_answer(message, base_avps(2001, LOCAL)))


class Held:
    """An application that keeps its requests until the test answers them."""

    def __init__(self) -> None:
        self.requests: list[tuple[Message, Reply]] = []

    def __call__(self, message: Message, _peer: PeerInfo, reply: Reply) -> None:
        self.requests.append((message, reply))

    def answer(self, place: int = 0, code: int = 2001) -> None:
        """Answer one of the requests."""
        message, reply = self.requests[place]
        reply(build_answer(message, base_avps(code, LOCAL)))


class Line:
    """One connection to the node."""

    def __init__(self, kit: NodeKit, peer: Peer, requests: Requests) -> None:
        self.kit = kit
        self.peer = peer
        self.requests = requests
        self.events: list[Event] = []
        self.peer.owner = self

    def give(self, data: bytes) -> None:
        """Have the peer receive octets, and handle what follows."""
        self.handle(self.peer.receive_data(data, self.kit.now))
        self.kit.settle()

    def handle(self, events: Iterable[Event]) -> None:
        """Keep events, and hand requests on."""
        for event in events:
            self.events.append(event)
            if isinstance(event, RequestReceived):
                self.kit.desk.take(self.peer, event.message, self.kit.now)

    def sent(self) -> list[bytes]:
        """Everything that the node wants to write now."""
        return self.peer.data_to_send()

    def answers(self) -> list[Answer]:
        """Everything that the node wants to write now, decoded; only answers."""
        return [Answer(data) for data in self.sent()]

    def exchange(self, data: bytes) -> Answer:
        """Give one request and take its only answer."""
        self.give(data)
        (answer,) = self.answers()
        assert (answer.message.hop_by_hop, answer.message.end_to_end) == identifiers(data)
        return answer

    def open(self) -> Line:
        """Exchange capabilities."""
        assert self.exchange(self.requests.cer()).code == 2001
        assert self.peer.state is State.OPEN
        return self

    def event(self, kind: type[E]) -> E:
        """The only event of a kind."""
        (found,) = [event for event in self.events if isinstance(event, kind)]
        return found

    def heard(self, kind: type[Event]) -> bool:
        """Whether there was an event of a kind."""
        return any(isinstance(event, kind) for event in self.events)

    @property
    def closed(self) -> CloseTransport | None:
        """How the node wants the socket closed, if it does."""
        return next((event for event in self.events if isinstance(event, CloseTransport)), None)

    def requests_of_ours(self) -> list[Message]:
        """Requests that the node wants to write now."""
        messages = [decode_message(data) for data in self.sent()]
        return [message for message in messages if message.is_request]

    def reply_to(self, request: Message, code: int = 2001) -> bytes:
        """An answer to a DWR or DPR of the node's."""
        items = [
            (d.RESULT_CODE, code),
            (d.ORIGIN_HOST, self.requests.origin_host),
            (d.ORIGIN_REALM, self.requests.origin_realm),
        ]
        return bytes(encode_message(request.command, 0, 0, request.hop_by_hop, request.end_to_end, items))


class NodeKit:
    """A node, its request desk, and a clock that stands still."""

    def __init__(
        self,
        application: ApplicationPort = succeed,
        *,
        seed: int = 1,
        desk: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        values: dict[str, Any] = {"local": LOCAL, "applications": (CREDIT_CONTROL,), **settings}
        self.now = 1000.0
        self.node = Node(NodeSettings(**values), random.Random(seed), START_UTC_S)
        self.failures: list[Exception] = []
        self.desk = RequestDesk(
            self.node, application, failed=lambda _message, error: self.failures.append(error), **(desk or {})
        )
        self.lines: list[Line] = []

    def connect(
        self, origin_host: str = "gw1.example.net", source: str = "127.0.0.1", requests: Requests | None = None
    ) -> Line:
        """A new connection from an address that may connect."""
        peer = self.node.accept(source, "127.0.0.1", self.now)
        assert peer is not None
        line = Line(self, peer, requests or Requests(origin_host))
        self.lines.append(line)
        return line

    def open(self, origin_host: str = "gw1.example.net", source: str = "127.0.0.1") -> Line:
        """A new connection after its capabilities exchange."""
        return self.connect(origin_host, source).open()

    def settle(self) -> None:
        """Handle what one connection did to others."""
        for peer in self.node.take_affected():
            peer.owner.handle(peer.take_events())

    def pass_time(self, seconds: float, hook: Callable[[], None] = lambda: None) -> None:
        """Let time pass, each timer at its own moment; `hook` is called after each."""
        end = self.now + seconds
        for _ in range(10_000):
            timers = [due for due in [*(line.peer.next_timer() for line in self.lines), self.desk.next_timer()] if due]
            due = min(timers, default=end + 1)
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            self.desk.handle_timer(self.now)
            for line in self.lines:
                line.handle(line.peer.handle_timer(self.now))
            self.settle()
            hook()
        raise AssertionError("a timer rings and rings")


def identifiers(data: bytes) -> tuple[int, int]:
    """Hop-by-Hop and End-to-End Identifier."""
    return int.from_bytes(data[12:16], "big"), int.from_bytes(data[16:20], "big")


def provisioned(origin_host: str = "gw1.example.net", **fields: Any) -> ProvisionedPeer:
    """A peer that may come from this machine."""
    return ProvisionedPeer(origin_host, fields.pop("networks", LOOPBACK), **fields)


def with_header(
    data: bytes,
    *,
    version: int = 1,
    length: int | None = None,
    flags: int | None = None,
    application: int | None = None,
) -> bytes:
    """A message with another header."""
    head = bytearray(data)
    head[0] = version
    if length is not None:
        head[1:4] = length.to_bytes(3, "big")
    if flags is not None:
        head[4] = flags
    if application is not None:
        head[8:12] = application.to_bytes(4, "big")
    return bytes(head)


def raw_avp(
    code: int, value: bytes, *, flags: int = 0x40, vendor: int | None = None, length: int | None = None
) -> bytes:
    """An AVP octet by octet."""
    head = b"" if vendor is None else vendor.to_bytes(4, "big")
    stated = 8 + len(head) + len(value) if length is None else length
    flags |= 0 if vendor is None else 0x80
    return code.to_bytes(4, "big") + bytes([flags]) + stated.to_bytes(3, "big") + head + value + bytes(-len(value) % 4)


def avp(key: int, value: Any) -> bytes:
    """An AVP as the product encodes it."""
    return bytes(encode_avp(key, value))
