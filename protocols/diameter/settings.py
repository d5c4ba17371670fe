"""What a Diameter node is set to: who it is, which applications it serves, and whom it lets in."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from protocols.diameter.answers import Local, build_error_answer
from protocols.diameter.avp import Message
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.watchdog import TW_LEAST_S

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

Refuse = Callable[[Message, RemoteProtocolError, Local], bytes]
"""Builds the answer of an application that the node has to give in its place."""


class UnknownPeers(Enum):
    """What becomes of a CER whose Origin-Host is not provisioned (DB-085)."""

    ACCEPT_LOOPBACK = "accept_loopback"
    ACCEPT = "accept"
    REJECT = "reject"


class Application(NamedTuple):
    """An application that this server serves."""

    identifier: int
    commands: frozenset[int]
    """Codes of its commands that are served; others are 3001."""
    vendor: int | None = None
    """Vendor-Id of the Vendor-Specific-Application-Id that advertises it; `None`: a plain Auth-Application-Id."""
    refuse: Refuse = build_error_answer
    """For broken AVPs, overload, deadline and failure: an answer with what the application's own answers hold."""
    requires_destination_realm: bool = False
    """A missing Destination-Realm is the application's 5005, not the node's 3002 (DB-123)."""
    judges_avps: bool = False
    """Requests with broken AVPs are handed on: the application reports their errors in one order with its own
    (DB-020). False: the node answers them."""


class ProvisionedPeer(NamedTuple):
    """A peer that the operator knows."""

    origin_host: str
    networks: tuple[Network, ...]
    """Where its connections may come from (DB-086)."""
    tolerated: frozenset[int] = frozenset()
    """Vendors or keys of unknown AVPs that pass with the M bit (DB-051)."""


class NodeSettings(NamedTuple):
    """Everything that does not change while the node runs. Times in seconds."""

    local: Local
    applications: tuple[Application, ...]
    product_name: str = "tollgate-ocs"
    vendor_id: int = 0
    """0: none assigned (RFC 6733 §5.3.3)."""
    firmware_revision: int | None = None
    host_ip_addresses: tuple[str, ...] = ()
    """Told in each CEA; empty: the address that the peer connected to."""
    realms: tuple[str, ...] = ()
    """Realms served beside the node's own (DB-124)."""
    peers: tuple[ProvisionedPeer, ...] = ()
    unknown_peers: UnknownPeers = UnknownPeers.ACCEPT_LOOPBACK
    plain_networks: tuple[Network, ...] = ()
    """Where connections without TLS are taken from, beside loopback and the networks of the peers (DB-141)."""
    single_connection: bool = False
    """One connection per Origin-Host (DB-095)."""
    strict_header_bits: bool = False
    """Refuse reserved bits and a P bit on base commands (DB-024, DB-025)."""
    max_message_octets: int = 1 << 20
    max_cer_octets: int = 1 << 16
    """Longest message before the peer is known."""
    cer_timeout_s: float = 10.0
    """DB-014."""
    watchdog_s: float = 30.0
    """Tw; at least 6 (DB-111)."""
    disconnect_timeout_s: float = 5.0
    """How long to wait for a DPA, or for the peer to close after a DPR (DB-114, DB-116)."""
    probe_timeout_s: float = 5.0
    """How long an older connection has to answer before a new one takes its place (DB-096)."""


def check_settings(settings: NodeSettings) -> None:
    """Refuse what cannot work; `ValueError` names the field."""
    if settings.watchdog_s < TW_LEAST_S:
        raise ValueError(f"watchdog_s: {settings.watchdog_s}, expected at least {TW_LEAST_S:g}")
    for name in ("max_message_octets", "max_cer_octets"):
        octets = getattr(settings, name)
        if not 1024 <= octets <= 0xFFFFFC:
            raise ValueError(f"{name}: {octets}, expected 1024 to {0xFFFFFC}")
    for name in ("cer_timeout_s", "disconnect_timeout_s", "probe_timeout_s"):
        if getattr(settings, name) <= 0:
            raise ValueError(f"{name}: {getattr(settings, name)}, expected more than 0")
    if not settings.applications:
        raise ValueError("applications: none, expected at least one")
    hosts = [peer.origin_host.lower() for peer in settings.peers]
    for host in hosts:
        if hosts.count(host) > 1:
            raise ValueError(f"peers: {host} stands twice")


def parse_source(text: str) -> IpAddress:
    """An IP address as a socket names it: without a zone, an IPv4 address mapped to IPv6 as IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def is_within(address: IpAddress, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in any of the networks."""
    return any(address.version == network.version and address in network for network in networks)
