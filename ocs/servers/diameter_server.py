"""The sockets of the Diameter node: TCP on an asyncio loop (uvloop in production), one `Peer` to each connection.

Octets go to the peer with the loop's time, its events are handled, what it has to send is written once in a turn of the
loop, and one timer is armed for each connection. All limits are in `DiameterSettings`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import structlog

from ocs.servers.diameter_requests import ApplicationPort, RequestDesk
from ocs.servers.diameter_settings import DiameterSettings, node_settings
from protocols.diameter.answers import Local
from protocols.diameter.avp import Message
from protocols.diameter.errors import ResultCode
from protocols.diameter.events import (
    CloseTransport,
    Event,
    FramingBroken,
    HealthChanged,
    OriginStateSeen,
    PeerClosed,
    PeerOpened,
    PeerRefused,
    RequestReceived,
    RequestRefused,
)
from protocols.diameter.node import Node
from protocols.diameter.peer import REBOOTING, Peer
from protocols.diameter.settings import Application

LOG_LINES_PER_S = 20
"""Lines about refused requests and connections; the counters tell of the rest."""

_RESET = struct.pack("ii", 1, 0)


class _Connection(asyncio.Protocol):
    """One socket and its peer."""

    def __init__(self, server: DiameterServer) -> None:
        self.peer: Peer | None = None
        self.transport: Any = None
        self.dirty = False
        self.closing: CloseTransport | None = None
        self._server = server
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._last_write: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it if there are too many."""
        self.transport = transport
        self.peer = self._server.admit(self)
        if self.peer is None:
            self.reset()
            return
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer.owner = self
        self.after([], self._server.loop.time())

    def data_received(self, data: bytes) -> None:
        """Hand octets to the peer."""
        peer = self.peer
        if peer is not None and self.closing is None:
            server = self._server
            now = server.loop.time()
            try:
                self.after(peer.receive_data(data, now), now)
            except Exception:
                server.failed(self)
            server.settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the peer that its socket is gone."""
        peer, self.peer = self.peer, None
        self._cancel_timer()
        if self._last_write is not None:
            self._last_write.cancel()
        self._server.forget(self)
        if peer is not None:
            cause = "closed by the peer" if exc is None else f"lost: {type(exc).__name__}"
            for event in peer.transport_lost(cause, self._server.loop.time()):
                self._server.note(event)
            self._server.handle_affected()

    def after(self, events: list[Event], now: float) -> None:
        """Handle what the peer said, and see to its output and timer."""
        peer = self.peer
        if peer is None:
            return
        server = self._server
        for event in events:
            if type(event) is RequestReceived:
                server.desk.take(peer, event.message, now)
            elif type(event) is CloseTransport:
                self.closing = event
            else:
                if type(event) is PeerOpened:
                    server.strangers.discard(self)
                server.note(event)
        server.mark(self)
        self._arm()

    def flush(self) -> None:
        """Write everything at once, so that messages never interleave (DB-011)."""
        self.dirty = False
        peer, transport = self.peer, self.transport
        if peer is None:
            return
        output = peer.data_to_send()
        if self.closing is not None and self.closing.abort:
            self.reset()
            return
        # uvloop raises on a write after close.
        if output and not transport.is_closing():
            data = b"".join(output)
            if transport.get_write_buffer_size() + len(data) > self._server.settings.output_buffer_octets:
                now = self._server.loop.time()
                self.after(peer.abort("the peer does not read its answers", now), now)
                self.reset()
                return
            transport.write(data)
        if self.closing is not None and not transport.is_closing():
            transport.close()
            # A peer that does not read would keep the socket and what it was sent.
            limit_s = self._server.settings.disconnect_timeout_s
            self._last_write = self._server.loop.call_later(limit_s, self.reset)

    def reset(self) -> None:
        """Close with a TCP reset and without writing what is left, also what `close` still had to write."""
        transport = self.transport
        if transport is not None:
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()

    def _arm(self) -> None:
        """Keep a timer that rings too early: the peer then gives the next one."""
        due = None if self.peer is None else self.peer.next_timer()
        if due is None:
            self._cancel_timer()
        elif self._timer is None or due < self._timer_due:
            self._cancel_timer()
            self._timer_due = due
            self._timer = self._server.loop.call_at(due, self._ring)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        peer = self.peer
        if peer is not None:
            server = self._server
            # A loop may ring a little before the time it was given.
            now = max(server.loop.time(), self._timer_due)
            try:
                self.after(peer.handle_timer(now), now)
            except Exception:
                server.failed(self)
            server.settle()


class DiameterServer:
    """Listens, and serves every request of its peers from one application.

    `application(request, peer, reply)` gets each request that is for this server and can be read; `reply` takes the
    octets of the answer, once. `heard` gets every event that is not a request, e.g. to release what a restarted peer
    left open (`OriginStateSeen`).
    """

    def __init__(
        self,
        settings: DiameterSettings,
        local: Local,
        application: ApplicationPort,
        *,
        product_name: str = "tollgate-ocs",
        applications: tuple[Application, ...] | None = None,
        heard: Callable[[Event], None] | None = None,
        rng: random.Random | None = None,
        log: Any = None,
    ) -> None:
        """`ValueError`: the settings cannot work."""
        self.settings = settings
        self.node = Node(
            node_settings(settings, local, product_name, applications),
            rng or random.SystemRandom(),
            int(time.time()),
        )
        self.desk = RequestDesk(
            self.node,
            application,
            in_flight_per_peer=settings.in_flight,
            deadline_s=settings.deadline_s,
            answer_after_deadline=settings.answer_after_deadline,
            wrote=self._wrote,
            failed=self._application_failed,
        )
        self.loop: asyncio.AbstractEventLoop
        self.connections: set[_Connection] = set()
        self.strangers: set[_Connection] = set()
        """Connections without a CEA."""
        self.refused_connections = 0
        """Connections closed at once: too many, or from where none is taken."""
        self._heard = heard
        self._log = log or structlog.get_logger("diameter")
        self._listener: asyncio.Server | None = None
        self._dirty: list[_Connection] = []
        self._desk_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        """Set when there is less to wait for at a shutdown."""
        self._log_second = 0
        self._log_lines = 0

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the server listens."""
        sockets = self._listener.sockets if self._listener is not None else ()
        return [one.getsockname()[:2] for one in sockets]

    async def start(self) -> None:
        """Listen; `OSError`: the address cannot be used."""
        self.loop = asyncio.get_running_loop()
        if self.settings.listen:
            self._listener = await self.loop.create_server(
                lambda: connection_of(self), self.settings.listen, self.settings.port
            )
            self._log.info("listening", addresses=[f"{host}:{port}" for host, port in self.addresses])

    async def stop(self) -> None:
        """Part from all peers in order (DB-116): finish what is in flight, DPR, DPA, close. Each wait has an end."""
        if self._listener is not None:
            self._listener.close()
        self.node.draining = True
        await self._until(lambda: not self.desk.in_flight, self.settings.drain_s)
        for connection in list(self.connections):
            peer = connection.peer
            if peer is not None:
                now = self.loop.time()
                connection.after(peer.close(REBOOTING, now), now)
        await self._until(lambda: not self.connections, self.settings.disconnect_timeout_s + 1)
        for connection in list(self.connections):
            connection.reset()
        await self._until(lambda: not self.connections, 1)
        if self._desk_timer is not None:
            self._desk_timer.cancel()

    async def _until(self, done: Callable[[], bool], limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()

    # What connections call.

    def admit(self, connection: _Connection) -> Peer | None:
        """A peer for a new connection, `None` if it is not taken."""
        remote = connection.transport.get_extra_info("peername")
        if remote is None:
            # Reset before it was accepted.
            return None
        source = str(remote[0])
        local_address = str(connection.transport.get_extra_info("sockname")[0])
        reason = ""
        peer = None
        if self.node.draining:
            reason = "the server is leaving"
        elif len(self.connections) >= self.settings.max_connections:
            reason = "too many connections"
        elif len(self.strangers) >= self.settings.max_unauthenticated:
            reason = "too many connections without a capabilities exchange"
        else:
            peer = self.node.accept(source, local_address, self.loop.time())
            if peer is None:
                reason = "plain TCP is not taken from this address: set diameter.plain_networks, or the peer's networks"
        if peer is None:
            self.refused_connections += 1
            self._line("warning", "connection refused", source=source, reason=reason)
            return None
        self.connections.add(connection)
        self.strangers.add(connection)
        return peer

    def forget(self, connection: _Connection) -> None:
        """A socket is gone."""
        self.connections.discard(connection)
        self.strangers.discard(connection)
        self._changed.set()

    def failed(self, connection: _Connection) -> None:
        """Give up a connection of which a step has just failed: that is our bug, and this connection alone pays."""
        self._log.exception("connection failed")
        connection.reset()

    def settle(self) -> None:
        """See to what a step did to others."""
        if self.node.affected:
            self.handle_affected()
        if self._desk_timer is None:
            self._arm_desk()

    def handle_affected(self) -> None:
        """Handle what a step did to other connections (DB-096)."""
        for peer in self.node.take_affected():
            peer.owner.after(peer.take_events(), self.loop.time())

    def mark(self, connection: _Connection) -> None:
        """Have a connection's output written at the end of this turn of the loop."""
        if not connection.dirty:
            connection.dirty = True
            if not self._dirty:
                self.loop.call_soon(self._flush)
            self._dirty.append(connection)

    def note(self, event: Event) -> None:
        """Log an event and pass it on."""
        _LOGGED[type(event)](self, event)
        if self._heard is not None:
            self._heard(event)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            try:
                connection.flush()
            except Exception:
                self.failed(connection)

    def _wrote(self, peer: Peer) -> None:
        connection = peer.owner
        if not connection.dirty:
            self.mark(connection)
        if self.node.draining:
            self._changed.set()

    def _arm_desk(self) -> None:
        if self._desk_timer is None:
            due = self.desk.next_timer()
            if due is not None:
                self._desk_timer = self.loop.call_at(due, self._ring_desk, due)

    def _ring_desk(self, due: float) -> None:
        self._desk_timer = None
        self.desk.handle_timer(max(self.loop.time(), due))
        self._changed.set()
        self._arm_desk()

    # The log.

    def _application_failed(self, message: Message, error: Exception) -> None:
        self._log.error("the application failed", command=message.command, exc_info=error)

    def _line(self, level: str, text: str, **facts: object) -> None:
        """Write a line that a stranger can cause, not more than so many in a second."""
        second = int(self.loop.time())
        if second != self._log_second:
            self._log_second, self._log_lines = second, 0
        self._log_lines += 1
        if self._log_lines <= LOG_LINES_PER_S:
            getattr(self._log, level)(text, **facts)

    def _log_opened(self, event: PeerOpened) -> None:
        peer = event.peer
        facts = {"applications": sorted(peer.applications), "provisioned": peer.provisioned}
        self._log.info("peer opened", origin_host=peer.origin_host, source=peer.source, **facts)

    def _log_refused_peer(self, event: PeerRefused) -> None:
        facts: dict[str, object] = {"result_code": event.result_code, "reason": event.reason}
        if event.result_code == ResultCode.UNKNOWN_PEER:
            facts["admit"] = admission_hint(event.origin_host, event.source)
        self._line("warning", "peer refused", origin_host=event.origin_host, source=event.source, **facts)

    def _log_refused_request(self, event: RequestRefused) -> None:
        errors = [f"{one.result_code} {one.name}: {one.detail}" for one in event.errors]
        facts = {"result_code": event.result_code, "reason": event.reason, "errors": errors}
        self._line("info", "request refused", command=event.message.command, **facts)

    def _log_framing(self, event: FramingBroken) -> None:
        facts = {"source": event.source, "result_code": event.result_code, "answered": event.answered}
        self._line("warning", "not a message", origin_host=event.origin_host, **facts)

    def _log_closed(self, event: PeerClosed) -> None:
        self._log.info("peer closed", origin_host=event.peer.origin_host, cause=event.cause)

    def _log_health(self, event: HealthChanged) -> None:
        text = "peer is silent" if event.suspect else "peer speaks again"
        self._log.warning(text, origin_host=event.peer.origin_host, source=event.peer.source)

    def _log_origin_state(self, event: OriginStateSeen) -> None:
        self._log.info("origin state", origin_host=event.origin_host, origin_state_id=event.origin_state_id)


def connection_of(server: DiameterServer) -> asyncio.Protocol:
    """The protocol of one new connection, as the server gives it to its loop."""
    return _Connection(server)


def admission_hint(origin_host: str, source: str) -> str:
    """The lines of the configuration that let a refused peer in (DB-085)."""
    return f"[[diameter.peers]] origin_host = {origin_host!r} networks = [{source!r}]".replace("'", '"')


_LOGGED: dict[type, Callable[[DiameterServer, Any], None]] = {
    PeerOpened: DiameterServer._log_opened,
    PeerRefused: DiameterServer._log_refused_peer,
    RequestRefused: DiameterServer._log_refused_request,
    FramingBroken: DiameterServer._log_framing,
    PeerClosed: DiameterServer._log_closed,
    HealthChanged: DiameterServer._log_health,
    OriginStateSeen: DiameterServer._log_origin_state,
}
