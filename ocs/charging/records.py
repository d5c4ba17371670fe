"""Building the events that a session's steps leave in the outbox."""

from __future__ import annotations

from balance.ledger import Entry, Event, UsageLine
from ocs.charging.requests import ChargingRequest, RequestKind, ServiceRequest, UnitKind

MAX_STORED = 2**63 - 1
"""Widest amount in a document; a larger report is recorded as this."""


_KIND_NAMES = {kind: kind.name.lower() for kind in RequestKind}


def request_name(request: ChargingRequest) -> str:
    """E.g. `update #2`."""
    return f"{_KIND_NAMES[request.kind]} #{request.number}"


def session_event(
    request: ChargingRequest,
    *,
    account: str,
    subscriber: str,
    kind: str,
    at_us: int,
    entries: tuple[Entry, ...] = (),
    usage: tuple[UsageLine, ...] = (),
    result: str = "",
    close_cause: str = "",
    reason: str = "",
    key: str = "",
) -> Event:
    """The event of one request; version and number are set at the commit."""
    return Event(
        account=account,
        at_us=at_us,
        kind=kind,
        entries=entries,
        usage=usage,
        session_id=request.session_id,
        request=request_name(request),
        subscriber=subscriber,
        peer=request.origin_host,
        service_context=request.service_context,
        event_time_us=request.event_time_us or 0,
        result=result,
        close_cause=close_cause,
        reason=reason,
        key=key,
    )


def used_of(service: ServiceRequest, unit: UnitKind) -> int:
    """Units of one kind in all reports of a key (CC-069)."""
    total = 0
    for units in service.used:
        total += units.of(unit) or 0
    return total


def unrated_of(service: ServiceRequest, rated: UnitKind | None) -> tuple[tuple[int, int], ...]:
    """What was reported in other kinds than the tariff's: recorded, not debited."""
    amounts = []
    for kind in _KINDS:
        if kind is not rated:
            total = used_of(service, kind)
            if total:
                amounts.append((int(kind), max(-MAX_STORED, min(total, MAX_STORED))))
    return tuple(amounts)


_KINDS = tuple(UnitKind)


def orphan_usage(request: ChargingRequest, result: str) -> tuple[UsageLine, ...]:
    """Lines for usage that belongs to no open session: recorded, nothing debited (CC-038, CC-049)."""
    return tuple(
        UsageLine(
            service.key.rating_group,
            service.key.service_identifiers,
            result,
            why="reported for a session that is not open; recorded, not debited",
            unrated=unrated_of(service, None),
        )
        for service in request.services
        if service.used
    )
