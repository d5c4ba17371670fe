"""Capabilities exchange from the server's side (RFC 6733 §5.3; DB-080…DB-087, DB-141).

A CER is judged in this order: its AVPs and grammar, whether the peer may come in (3010), security (5017), and common
applications (5010). All but 3010 are answered in the grammar of the CEA, so that a peer learns what we serve.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from protocols.diameter import dictionary
from protocols.diameter.answers import Item, Local, base_avps, build_answer, build_error_answer, is_protocol_error
from protocols.diameter.avp import Message, check_grammar, encode_avp, every, first, same_identity
from protocols.diameter.dictionary import VENDOR_3GPP
from protocols.diameter.errors import AvpError, RemoteProtocolError, ResultCode, reported
from protocols.diameter.events import PeerInfo
from protocols.diameter.header import APPLICATION_RELAY
from protocols.diameter.settings import (
    LOOPBACK,
    IpAddress,
    NodeSettings,
    ProvisionedPeer,
    UnknownPeers,
    is_within,
    parse_source,
)

CER_GRAMMAR = {
    dictionary.ORIGIN_HOST: (1, 1),
    dictionary.ORIGIN_REALM: (1, 1),
    dictionary.HOST_IP_ADDRESS: (1, None),
    dictionary.VENDOR_ID: (1, 1),
    dictionary.PRODUCT_NAME: (1, 1),
    dictionary.ORIGIN_STATE_ID: (0, 1),
    dictionary.FIRMWARE_REVISION: (0, 1),
}

_APPLICATION_IDS = (dictionary.AUTH_APPLICATION_ID, dictionary.ACCT_APPLICATION_ID)
_NO_INBAND_SECURITY = 0

# A host name, with what the field adds to it; nothing that could mislead whoever reads a log or copies from it.
_IDENTITY = re.compile(r"[A-Za-z0-9._:;+~@-]{1,255}")

FAMILY_IPV4, FAMILY_IPV6 = 1, 2


class Refused(NamedTuple):
    """A CER that does not open the connection."""

    error: RemoteProtocolError
    origin_host: str
    """Empty: it could not be read."""
    errors: tuple[AvpError, ...] = ()


def is_plain_allowed(source: str, settings: NodeSettings) -> bool:
    """Whether a connection without TLS is taken from this address (DB-141)."""
    address = parse_source(source)
    if is_within(address, LOOPBACK) or is_within(address, settings.plain_networks):
        return True
    return any(is_within(address, peer.networks) for peer in settings.peers)


def provisioned(origin_host: str, settings: NodeSettings) -> ProvisionedPeer | None:
    """The peer's entry, by a comparison that ignores case (DB-063)."""
    for peer in settings.peers:
        if same_identity(peer.origin_host, origin_host):
            return peer
    return None


def examine_cer(message: Message, source: str, settings: NodeSettings) -> PeerInfo | Refused:
    """Who the peer is, or why it may not come in."""
    origin_host = readable_identity(message, dictionary.ORIGIN_HOST)
    errors = [
        *message.errors,
        *check_grammar(message.avps, CER_GRAMMAR, message.faulty),
        *_vendor_specific_errors(message),
        *_identity_errors(message),
    ]
    found = reported(errors)
    if found is not None:
        error = RemoteProtocolError(found.result_code, found.failed_avp or None, f"{found.name}: {found.detail}")
        return Refused(error, origin_host, tuple(errors))
    applications = advertised_applications(message)
    error_code = (
        _identity_error(origin_host, parse_source(source), settings)
        or _security_error(message)
        or _application_error(applications, settings)
    )
    if error_code is not None:
        return Refused(error_code, origin_host)
    return PeerInfo(
        origin_host,
        first(message.avps, dictionary.ORIGIN_REALM),
        source,
        applications,
        first(message.avps, dictionary.ORIGIN_STATE_ID) or 0,
        provisioned(origin_host, settings) is not None,
    )


def advertised_applications(message: Message) -> frozenset[int]:
    """Application ids of a CER wherever they stand; the vendor beside them is not compared (DB-081)."""
    found = {value for key in _APPLICATION_IDS for value in every(message.avps, key)}
    for members in every(message.avps, dictionary.VENDOR_SPECIFIC_APPLICATION_ID):
        found.update(value for key, _, value in members if key in _APPLICATION_IDS)
    return frozenset(found)


def readable_identity(message: Message, key: int) -> str:
    """A DiameterIdentity of a message, empty if it has none that can be a host's or a realm's name."""
    text = first(message.avps, key)
    return text if text is not None and _IDENTITY.fullmatch(text) else ""


def _identity_errors(message: Message) -> list[AvpError]:
    """Origin-Host and Origin-Realm must be names: everything about a peer is kept under them (RFC 6733 §4.3.1)."""
    errors = []
    for key, name in ((dictionary.ORIGIN_HOST, "Origin-Host"), (dictionary.ORIGIN_REALM, "Origin-Realm")):
        text = first(message.avps, key)
        if text is not None and not _IDENTITY.fullmatch(text):
            failed = encode_avp(key, text)
            errors.append(AvpError(ResultCode.INVALID_AVP_VALUE, failed, name, "not a name"))
    return errors


def _vendor_specific_errors(message: Message) -> list[AvpError]:
    """DB-084: exactly one application id in each Vendor-Specific-Application-Id."""
    errors = []
    for members in every(message.avps, dictionary.VENDOR_SPECIFIC_APPLICATION_ID):
        ids = [(key, value) for key, _, value in members if key in _APPLICATION_IDS]
        if not ids and not message.errors:
            example = [(key, 0) for key in _APPLICATION_IDS]
            errors.append(_vendor_specific_error(ResultCode.MISSING_AVP, example, "no application id"))
        elif len({key for key, _ in ids}) == 2:
            errors.append(_vendor_specific_error(ResultCode.AVP_OCCURS_TOO_MANY_TIMES, ids, "two application ids"))
    return errors


def _vendor_specific_error(result_code: int, members: Sequence[tuple[int, Any]], detail: str) -> AvpError:
    failed = encode_avp(dictionary.VENDOR_SPECIFIC_APPLICATION_ID, list(members))
    return AvpError(result_code, failed, "Vendor-Specific-Application-Id", detail)


def _identity_error(origin_host: str, source: IpAddress, settings: NodeSettings) -> RemoteProtocolError | None:
    """DB-085, DB-086."""
    if same_identity(origin_host, settings.local.origin_host):
        return _unknown_peer("Origin-Host is this server's own")
    entry = provisioned(origin_host, settings)
    if entry is not None:
        return None if is_within(source, entry.networks) else _unknown_peer("not an address of this Origin-Host")
    if settings.unknown_peers is UnknownPeers.ACCEPT:
        return None
    if settings.unknown_peers is UnknownPeers.ACCEPT_LOOPBACK and is_within(source, LOOPBACK):
        return None
    return _unknown_peer("Origin-Host is not provisioned")


def _unknown_peer(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(ResultCode.UNKNOWN_PEER, None, detail)


def _security_error(message: Message) -> RemoteProtocolError | None:
    """DB-087: only a peer that insists on TLS inside the connection is refused."""
    offered = every(message.avps, dictionary.INBAND_SECURITY_ID)
    if not offered or _NO_INBAND_SECURITY in offered:
        return None
    return RemoteProtocolError(ResultCode.NO_COMMON_SECURITY, None, "TLS inside the connection is not supported")


def _application_error(applications: frozenset[int], settings: NodeSettings) -> RemoteProtocolError | None:
    """DB-081, DB-082."""
    served = {application.identifier for application in settings.applications}
    if APPLICATION_RELAY in applications or applications & served:
        return None
    return RemoteProtocolError(ResultCode.NO_COMMON_APPLICATION, None, "no common application")


def build_cea(request: Message, result_code: int, local_address: str, settings: NodeSettings) -> bytes:
    """A CEA with everything that this server can do (DB-083)."""
    return build_answer(request, [*base_avps(result_code, settings.local), *_capabilities(local_address, settings)])


def build_cea_refusal(request: Message, refused: Refused, local_address: str, settings: NodeSettings) -> bytes:
    """The CEA for a CER that does not open the connection."""
    error = refused.error
    if is_protocol_error(error.result_code):
        return build_error_answer(request, error, settings.local)
    avps = [*base_avps(error.result_code, settings.local), *_capabilities(local_address, settings)]
    if error.failed_avp:
        avps.append((dictionary.FAILED_AVP, error.failed_avp))
    return build_answer(request, avps)


def origin_state(local: Local) -> list[Item]:
    """Origin-State-Id where it is sent at all (DB-120)."""
    return [] if local.origin_state_id is None else [(dictionary.ORIGIN_STATE_ID, local.origin_state_id)]


def _capabilities(local_address: str, settings: NodeSettings) -> list[Item]:
    addresses = [parse_source(text) for text in settings.host_ip_addresses or (local_address,)]
    avps: list[Item] = [
        (dictionary.HOST_IP_ADDRESS, (FAMILY_IPV4 if address.version == 4 else FAMILY_IPV6, str(address)))
        for address in addresses
    ]
    avps += [(dictionary.VENDOR_ID, settings.vendor_id), (dictionary.PRODUCT_NAME, settings.product_name)]
    avps += origin_state(settings.local)
    avps.append((dictionary.SUPPORTED_VENDOR_ID, VENDOR_3GPP))
    for application in settings.applications:
        identifier = (dictionary.AUTH_APPLICATION_ID, application.identifier)
        if application.vendor is None:
            avps.append(identifier)
        else:
            members = [(dictionary.VENDOR_ID, application.vendor), identifier]
            avps.append((dictionary.VENDOR_SPECIFIC_APPLICATION_ID, members))
    if settings.firmware_revision is not None:
        avps.append((dictionary.FIRMWARE_REVISION, settings.firmware_revision))
    return avps
