"""Section `[diameter]` of the configuration: where the Diameter node listens, whom it lets in, and its limits."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ocs.servers.gy import PeerProfile
from protocols.diameter.answers import Local
from protocols.diameter.credit_control_answers import build_refusal
from protocols.diameter.header import APPLICATION_CREDIT_CONTROL, CREDIT_CONTROL
from protocols.diameter.settings import Application, Network, NodeSettings, ProvisionedPeer, UnknownPeers

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Unsigned32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Identity = Annotated[str, Meta(min_length=1, max_length=255)]
AvpName = Annotated[str, Meta(pattern=r"^[0-9]{1,10}:[0-9]{1,10}$")]


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[[diameter.peers]]`: a gateway or relay that the operator knows."""

    origin_host: Identity
    """Its Origin-Host; case does not matter."""
    networks: tuple[str, ...] = ()
    """Where its connections come from, such as `192.0.2.4` or `10.1.0.0/16`; empty: it stands behind a relay and does
    not connect itself."""
    tolerate_vendors: tuple[Unsigned32, ...] = ()
    """Vendors whose unknown AVPs pass with the M bit (DB-051)."""
    tolerate_avps: tuple[AvpName, ...] = ()
    """Unknown AVPs that pass with the M bit, as `vendor:code`."""
    gy: PeerProfile = PeerProfile()
    """How it speaks Gy or Ro."""

    def __post_init__(self) -> None:
        """Refuse what is no network; `ValueError` names the field."""
        parse_networks("networks", self.networks)


class DiameterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[diameter]`."""

    listen: str = "0.0.0.0"
    """Address to listen on; empty: none, Diameter is off."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 3868
    """TCP port without TLS; 0: any free one."""
    peers: tuple[PeerSettings, ...] = ()
    """Who may connect."""
    unknown_peers: Literal["accept_loopback", "accept", "reject"] = "accept_loopback"
    """What becomes of an Origin-Host that is not among them: welcome from this machine only, from anywhere in
    `plain_networks`, or from nowhere."""
    plain_networks: tuple[str, ...] = ()
    """Networks from which connections without TLS are taken, beside this machine and the networks of the peers."""
    realms: tuple[Identity, ...] = ()
    """Realms served beside the node's own."""
    host_ip_addresses: tuple[str, ...] = ()
    """Addresses told to peers; empty: the one that the peer connected to."""
    vendor_id: Unsigned32 = 0
    """Vendor-Id told to peers."""
    single_connection: bool = False
    """One connection for each Origin-Host; a second one is let in when the first no longer answers."""
    strict_header_bits: bool = False
    """Refuse reserved header bits, and the P bit on base commands."""
    max_message_octets: Annotated[int, Meta(ge=1024, le=0xFFFFFC)] = 1 << 20
    """Longest message; a longer one is answered 5015 and its connection closed."""
    max_connections: Annotated[int, Meta(ge=1)] = 1024
    """Connections at a time; more are closed at once."""
    max_unauthenticated: Annotated[int, Meta(ge=1)] = 64
    """Connections at a time that have not exchanged capabilities."""
    cer_timeout_s: Seconds = 10.0
    """How long a connection may take to send its CER."""
    output_buffer_octets: Annotated[int, Meta(ge=65536)] = 4 << 20
    """What may wait for a peer that does not read; beyond, the connection is reset."""
    in_flight: Annotated[int, Meta(ge=1)] = 1024
    """Requests of one connection that may wait for their answers; more are refused as too busy."""
    deadline_s: Seconds = 2.0
    """How long the answer to a request may take before 5012 is sent in its place."""
    answer_after_deadline: bool = True
    """False: send nothing after the deadline, so that clients fail over."""
    watchdog_s: Annotated[float, Meta(ge=6, le=3600)] = 30.0
    """Tw: silence after which a DWR is sent."""
    disconnect_timeout_s: Seconds = 5.0
    """How long to wait for a peer to answer or to follow a DPR."""
    probe_timeout_s: Seconds = 5.0
    """With `single_connection`: how long the old connection has to prove that it lives."""
    drain_s: Seconds = 5.0
    """At a shutdown: how long requests in flight are waited for."""

    def __post_init__(self) -> None:
        """Refuse what is no address, and peers that stand twice; `ValueError` names the field."""
        parse_networks("plain_networks", self.plain_networks)
        for text in (*self.host_ip_addresses, *([self.listen] if self.listen else [])):
            try:
                ipaddress.ip_address(text)
            except ValueError:
                raise ValueError(f"host_ip_addresses: {text!r}, expected an IP address") from None
        hosts = [peer.origin_host.lower() for peer in self.peers]
        for host in hosts:
            if hosts.count(host) > 1:
                raise ValueError(f"peers: {host} stands twice")


def parse_networks(field: str, texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses and networks from text; `ValueError` names the field."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            message = f"{field}: {text!r}, expected an address or a network such as 10.1.0.0/16"
            raise ValueError(message) from None
    return tuple(networks)


def credit_control() -> Application:
    """Gy and Ro as the node must know them: what is served, and how a CCR is refused."""
    return Application(
        APPLICATION_CREDIT_CONTROL,
        frozenset({CREDIT_CONTROL}),
        refuse=build_refusal,
        requires_destination_realm=True,
        judges_avps=True,
    )


def gy_profiles(settings: DiameterSettings) -> Mapping[str, PeerProfile]:
    """Profiles of the peers by Origin-Host in lower case, as `GySettings.peers` wants them."""
    return {peer.origin_host.lower(): peer.gy for peer in settings.peers}


def node_settings(
    settings: DiameterSettings,
    local: Local,
    product_name: str = "tollgate-ocs",
    applications: tuple[Application, ...] | None = None,
) -> NodeSettings:
    """The node's settings from the configuration; `applications` are credit control alone unless given."""
    return NodeSettings(
        local=local,
        applications=(credit_control(),) if applications is None else applications,
        product_name=product_name,
        vendor_id=settings.vendor_id,
        host_ip_addresses=settings.host_ip_addresses,
        realms=settings.realms,
        peers=tuple(_provisioned(peer) for peer in settings.peers if peer.networks),
        unknown_peers=UnknownPeers(settings.unknown_peers),
        plain_networks=parse_networks("plain_networks", settings.plain_networks),
        single_connection=settings.single_connection,
        strict_header_bits=settings.strict_header_bits,
        max_message_octets=settings.max_message_octets,
        cer_timeout_s=settings.cer_timeout_s,
        watchdog_s=settings.watchdog_s,
        disconnect_timeout_s=settings.disconnect_timeout_s,
        probe_timeout_s=settings.probe_timeout_s,
    )


def _provisioned(peer: PeerSettings) -> ProvisionedPeer:
    keys = [int(vendor) << 32 | int(code) for vendor, _, code in (name.partition(":") for name in peer.tolerate_avps)]
    tolerated = frozenset([*peer.tolerate_vendors, *keys])
    return ProvisionedPeer(peer.origin_host, parse_networks("networks", peer.networks), tolerated)
