"""Requests between a peer and their application: each gets exactly one answer, in time (DB-078, DB-127).

Without a socket and a clock, as the peers themselves: the owner calls `handle_timer` and writes what peers have to send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from protocols.diameter import dictionary
from protocols.diameter.avp import Message, first, same_identity
from protocols.diameter.errors import LocalProtocolError, RemoteProtocolError, ResultCode
from protocols.diameter.events import PeerInfo
from protocols.diameter.node import Node
from protocols.diameter.peer import Peer

Reply = Callable[[bytes], None]
ApplicationPort = Callable[[Message, PeerInfo, Reply], None]
"""Processes one request and calls `reply` with the answer, now or later, on the loop that called it."""


class _Pending(msgspec.Struct, eq=False):
    """A request that its application has."""

    desk: RequestDesk
    peer: Peer
    message: Message | None
    """`None`: answered. Not kept longer, since what is answered waits in line until the deadline."""
    deadline: float

    def reply(self, answer: bytes) -> None:
        """Send the answer; what comes after the first is counted and dropped."""
        if self.message is None:
            self.peer.counters.late_answers += 1
            return
        self.message = None
        peer, desk = self.peer, self.desk
        peer.in_flight -= 1
        desk.in_flight -= 1
        if peer.send(answer):
            desk.wrote(peer)

    def finish(self) -> None:
        """Count the request as answered."""
        self.message = None
        self.peer.in_flight -= 1
        self.desk.in_flight -= 1


class RequestDesk:
    """All requests in flight of one server."""

    def __init__(
        self,
        node: Node,
        application: ApplicationPort,
        *,
        in_flight_per_peer: int = 1024,
        deadline_s: float = 2.0,
        answer_after_deadline: bool = True,
        wrote: Callable[[Peer], None] = lambda peer: None,
        failed: Callable[[Message, Exception], None] = lambda message, error: None,
    ) -> None:
        """`wrote` hears of every peer that has something to send, `failed` of every exception of the application."""
        self.in_flight = 0
        self.expired = 0
        """Requests that were not answered before the deadline."""
        self.wrote = wrote
        self._node = node
        self._application = application
        self._in_flight_per_peer = in_flight_per_peer
        self._deadline_s = deadline_s
        self._answer_after_deadline = answer_after_deadline
        self._failed = failed
        self._line: deque[_Pending] = deque()

    def take(self, peer: Peer, message: Message, now: float) -> None:
        """Give a request to the application."""
        info = peer.info
        if info is None:
            raise LocalProtocolError("a request from a peer that is not open")
        if peer.in_flight >= self._in_flight_per_peer:
            peer.counters.overloads += 1
            self._refuse(peer, message, self._busy_code(message), "too busy")
            return
        pending = _Pending(self, peer, message, now + self._deadline_s)
        peer.in_flight += 1
        self.in_flight += 1
        line = self._line
        while line and line[0].message is None:
            line.popleft()
        line.append(pending)
        try:
            self._application(message, info, pending.reply)
        except Exception as error:
            self._failed(message, error)
            if pending.message is not None:
                pending.finish()
                self._refuse(peer, message, ResultCode.UNABLE_TO_COMPLY, "internal error")

    def next_timer(self) -> float | None:
        """When the oldest request passes its deadline."""
        line = self._line
        while line and line[0].message is None:
            line.popleft()
        return line[0].deadline if line else None

    def handle_timer(self, now: float) -> None:
        """Answer for the application what is late."""
        while True:
            due = self.next_timer()
            if due is None or due > now:
                return
            pending = self._line.popleft()
            message = pending.message
            pending.finish()
            self.expired += 1
            if message is not None and self._answer_after_deadline:
                self._refuse(pending.peer, message, ResultCode.UNABLE_TO_COMPLY, "deadline")

    def _busy_code(self, message: Message) -> int:
        """3004 is only for a server that was named (RFC 6733 §7.1.3, DB-127)."""
        host = first(message.avps, dictionary.DESTINATION_HOST)
        named = host is not None and same_identity(host, self._node.settings.local.origin_host)
        return ResultCode.TOO_BUSY if named else ResultCode.UNABLE_TO_COMPLY

    def _refuse(self, peer: Peer, message: Message, result_code: int, detail: str) -> None:
        if peer.send(self._node.refuse(message, RemoteProtocolError(result_code, None, detail))):
            self.wrote(peer)
