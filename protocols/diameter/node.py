"""What all connections of one Diameter node share: settings, counters, and who is connected (RFC 6733 §5.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from protocols.diameter.answers import build_error_answer, is_protocol_error
from protocols.diameter.avp import Message
from protocols.diameter.capabilities import is_plain_allowed
from protocols.diameter.counters import PeerCounters
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.identifiers import EndToEndIdentifiers
from protocols.diameter.peer import Admission, Peer
from protocols.diameter.settings import Application, NodeSettings, check_settings
from protocols.diameter.watchdog import Random

MAX_COUNTED_HOSTS = 1024
"""Origin-Hosts with counters of their own; those of all others are added up under an empty name."""


class Node:
    """Makes a `Peer` for each connection and decides what concerns more than one of them."""

    def __init__(self, settings: NodeSettings, rng: Random, utc_s: int) -> None:
        """`utc_s` is the time of the start, for End-to-End Identifiers (DB-030); `ValueError`: settings cannot work."""
        check_settings(settings)
        self.settings = settings
        self.applications: Mapping[int, Application] = {one.identifier: one for one in settings.applications}
        realms = (settings.local.origin_realm, *settings.realms)
        self.realms = frozenset(realm.lower() for realm in realms)
        self.right_headers: dict[int, int] = {}
        """Signatures of requests in whose headers nothing is wrong, as far as they have been seen: what to count."""
        self.rng = rng
        self.end_to_end = EndToEndIdentifiers(rng, utc_s)
        self.draining = False
        """True: the node is about to leave; new requests are answered with 3002."""
        self._open: dict[str, list[Peer]] = {}
        self._held: dict[str, Peer] = {}
        self._counters: dict[str, PeerCounters] = {"": PeerCounters()}
        self._origin_states: dict[str, int] = {}
        self.affected: list[Peer] = []
        """Connections that another one's event has changed, until `take_affected`."""

    def accept(self, source: str, local_address: str, now: float) -> Peer | None:
        """The protocol of a new connection, `None` if its address may not connect without TLS (DB-141)."""
        if not is_plain_allowed(source, self.settings):
            return None
        return Peer(self, source, local_address, now)

    def peers(self) -> Iterator[Peer]:
        """Every open connection."""
        for peers in self._open.values():
            yield from peers

    def all_counters(self) -> Mapping[str, PeerCounters]:
        """Counters by Origin-Host in lower case; what came before a CEA, and what is too much, by an empty name."""
        return self._counters

    def take_affected(self) -> list[Peer]:
        """Connections that another one's event has changed: they have events, output or another timer now."""
        affected, self.affected = self.affected, []
        return affected

    def refuse(self, message: Message, error: RemoteProtocolError) -> bytes:
        """The error answer to a request that its application is not shown, or cannot answer.

        3xxx codes are the node's own answer; all others have what the application's answers hold. Whatever fails on
        the way, there is an answer (DB-078).
        """
        application = self.applications.get(message.application)
        if application is not None and not is_protocol_error(error.result_code):
            try:
                return application.refuse(message, error, self.settings.local)
            except Exception:
                self.counters("").refused_answers += 1
        return build_error_answer(message, error, self.settings.local)

    # What a `Peer` asks.

    def counters(self, origin_host: str) -> PeerCounters:
        """Counters of an Origin-Host."""
        host = origin_host.lower()
        found = self._counters.get(host)
        if found is not None:
            return found
        if len(self._counters) > MAX_COUNTED_HOSTS:
            return self._counters[""]
        return self._counters.setdefault(host, PeerCounters())

    def admit(self, peer: Peer, origin_host: str, now: float) -> Admission:
        """DB-095, DB-096: with `single_connection` a second connection waits for a sign of life of the first."""
        host = origin_host.lower()
        existing = self._open.get(host)
        if not self.settings.single_connection or not existing:
            return Admission.ADMIT
        if host in self._held:
            return Admission.REFUSE
        self._held[host] = peer
        for one in existing:
            one.probe(now)
            self.affected.append(one)
        return Admission.HOLD

    def opened(self, peer: Peer) -> None:
        """Note who is connected."""
        host = _host(peer)
        self._open.setdefault(host, []).append(peer)
        if self._held.get(host) is peer:
            del self._held[host]

    def heard(self, peer: Peer, now: float) -> None:
        """The probed connection lives, so the new one is refused."""
        held = self._held.pop(_host(peer), None)
        if held is not None:
            held.decide(False, now)
            self.affected.append(held)

    def take_over(self, peer: Peer, now: float) -> None:
        """The probed connections were silent: they are given up for the new one."""
        host = next((host for host, held in self._held.items() if held is peer), "")
        self._held.pop(host, None)
        for old in list(self._open.get(host, ())):
            old.end("replaced by a new connection of its Origin-Host", now)
            self.affected.append(old)
        peer.decide(True, now)

    def closed(self, peer: Peer, now: float) -> None:
        """Forget a connection; one that was held for it may open now."""
        for host, held in list(self._held.items()):
            if held is peer:
                del self._held[host]
        if peer.info is None:
            return
        host = _host(peer)
        peers = self._open.get(host, [])
        if peer in peers:
            peers.remove(peer)
        if peers:
            return
        self._open.pop(host, None)
        waiting = self._held.pop(host, None)
        if waiting is not None:
            waiting.decide(True, now)
            self.affected.append(waiting)

    def origin_state_rose(self, origin_host: str, origin_state_id: int) -> bool:
        """Whether an Origin-State-Id is higher than the last seen; compared by Origin-Host (DB-121)."""
        host = origin_host.lower()
        if origin_state_id <= self._origin_states.get(host, 0):
            return False
        if len(self._origin_states) >= MAX_COUNTED_HOSTS and host not in self._origin_states:
            return True
        self._origin_states[host] = origin_state_id
        return True


def _host(peer: Peer) -> str:
    return peer.info.origin_host.lower() if peer.info is not None else ""
