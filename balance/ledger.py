"""Entries and events: the immutable lines that explain every balance.

An event is committed with the balance that it explains (transactional outbox, LEDGER §9). Its id is (account, account
version, n). Each entry carries the change of posted and of reserved and both after it, so any balance can be
recomputed.
"""

from __future__ import annotations

import enum

import msgspec

EVENT_SCHEMA = 1


class Verb(enum.StrEnum):
    """The only verbs that move money or units; `UNCOLLECTED` moves nothing and states what was forgone."""

    RESERVE = "reserve"
    DEBIT = "debit"
    RELEASE = "release"
    EXPIRE = "expire"
    REFUND = "refund"
    TOP_UP = "top_up"
    ADJUST = "adjust"
    UNCOLLECTED = "uncollected"


class Cause(enum.StrEnum):
    """Why an entry was made."""

    USAGE = "usage"
    OVER_USE = "over_use"
    GRANT = "grant"
    EVENT = "event"
    SETTLED = "settled"
    CLOSED = "closed"
    VALIDITY = "validity"
    OPERATOR = "operator"


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One ledger line of one bucket."""

    bucket: int
    kind: int
    """A `balance.account.BucketKind`: the unit of the four amounts."""
    verb: Verb
    cause: Cause
    posted_change: int
    reserved_change: int
    posted_after: int
    reserved_after: int
    amount: int = 0
    """Only with `UNCOLLECTED`: what was used and not debited."""


class UsageLine(msgspec.Struct, array_like=True, omit_defaults=True):
    """How one key of one request was rated and answered; what `ocs explain` shows. Filled in during the request."""

    rating_group: int | None
    service_identifiers: tuple[int, ...]
    result: str
    why: str = ""
    """In words, for a refusal or a special case."""
    catalogue_version: int = 0
    tariff: str = ""
    unit: int = 0
    used: int = 0
    """Units reported."""
    billed: int = 0
    """Units after step rounding, cumulative difference."""
    from_buckets: tuple[tuple[int, int], ...] = ()
    """(bucket, units) taken from unit buckets."""
    money_units: int = 0
    """Billed units that money paid for in this request."""
    money_units_total: int = 0
    """The same over the whole session under this price row."""
    debited_micros: int = 0
    over_use_micros: int = 0
    over_use_units: int = 0
    granted: int = 0
    reserved_micros: int = 0
    final: bool = False
    unrated: tuple[tuple[int, int], ...] = ()
    """(kind, units) that were reported in a unit the tariff does not price: recorded only."""


class Event(msgspec.Struct, array_like=True, omit_defaults=True, kw_only=True):
    """Everything one commit did to one account for one cause."""

    schema: int = EVENT_SCHEMA
    account: str
    version: int = 0
    """Counter of the account's version after this commit; set when the transaction is built, as is `n`."""
    n: int = 0
    """Number of the event inside its commit."""
    at_us: int
    kind: str
    """`session`, `event`, `operation`, `sweep`, `orphan`."""
    entries: tuple[Entry, ...] = ()
    usage: tuple[UsageLine, ...] = ()
    session_id: str = ""
    request: str = ""
    """e.g. `update #2`."""
    subscriber: str = ""
    peer: str = ""
    service_context: str = ""
    event_time_us: int = 0
    result: str = ""
    operation: str = ""
    """e.g. `topup`."""
    key: str = ""
    who: str = ""
    reason: str = ""
    close_cause: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)


def encode_event(event: Event, version: int, n: int) -> bytes:
    """The bytes that stand in the outbox, of an event that is the `n`th of the commit which made `version`."""
    event.version, event.n = version, n
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """An event back from its bytes; `msgspec.DecodeError` if they are damaged."""
    return _decoder.decode(data)
