"""What a `Peer` tells its owner."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from protocols.diameter.avp import Message
from protocols.diameter.errors import AvpError


class PeerInfo(NamedTuple):
    """Who is at the other end of an open connection."""

    origin_host: str
    """As the peer spells it; compare with `same_identity`."""
    origin_realm: str
    source: str
    """IP address that the connection came from."""
    applications: frozenset[int]
    """Applications that the peer advertised; 0xFFFFFFFF is a relay's."""
    origin_state_id: int
    """0: none sent."""
    provisioned: bool
    """False: admitted by the policy for unknown peers (DB-085)."""


class PeerOpened(NamedTuple):
    """Capabilities were exchanged; requests may follow."""

    peer: PeerInfo


class PeerRefused(NamedTuple):
    """A CER was answered with an error or not at all; the connection ends."""

    source: str
    origin_host: str
    """Empty: the CER named none."""
    result_code: int
    """0: closed without an answer (DB-095)."""
    reason: str
    errors: tuple[AvpError, ...]


class RequestReceived(msgspec.Struct, frozen=True):
    """An application's request for this server; the owner answers it once with `Peer.send`.

    Its AVPs are right unless the application judges them itself: then `message.errors` may hold something.
    """

    message: Message


class RequestRefused(NamedTuple):
    """A request that the node has answered with an error by itself; for the log."""

    message: Message
    result_code: int
    reason: str
    errors: tuple[AvpError, ...]
    """All that is wrong with its AVPs, of which one was answered (DB-020)."""


class FramingBroken(NamedTuple):
    """Octets came that are no message; for the log."""

    source: str
    origin_host: str
    """Empty: before the capabilities exchange."""
    result_code: int
    answered: bool
    fatal: bool


class OriginStateSeen(NamedTuple):
    """The peer's Origin-State-Id in a CER or DWR is higher than the last that this node saw of it (DB-121)."""

    origin_host: str
    origin_state_id: int


class HealthChanged(NamedTuple):
    """The watchdog suspects the connection, or suspects it no more (DB-112, DB-113)."""

    peer: PeerInfo
    suspect: bool


class PeerClosed(NamedTuple):
    """An open peer is gone."""

    peer: PeerInfo
    cause: str


class CloseTransport(NamedTuple):
    """Close the socket, after writing what `data_to_send` still holds."""

    abort: bool
    """Reset it instead, without writing anything (DB-006, DB-009)."""
    cause: str


Event = (
    PeerOpened
    | PeerRefused
    | RequestReceived
    | RequestRefused
    | FramingBroken
    | OriginStateSeen
    | HealthChanged
    | PeerClosed
    | CloseTransport
)
