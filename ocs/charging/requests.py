"""What a gateway asks of the engine and what it is told, in no protocol's words.

Diameter Gy/Ro, RADIUS and HTTP/2 charging are translated to and from these types at the edge (`ocs.servers`); nothing
in here names an AVP, an attribute or a JSON field. Octets, seconds and events are `int`; money is `int` micro-units;
times are UTC microseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec


class RequestKind(enum.IntEnum):
    """The four interrogations of credit control (RFC 8506 §4)."""

    INITIAL = 1
    UPDATE = 2
    TERMINATION = 3
    EVENT = 4


class EventAction(enum.IntEnum):
    """What a one-time event asks for (RFC 8506 §6)."""

    DIRECT_DEBIT = 0
    REFUND = 1
    CHECK_BALANCE = 2
    PRICE_ENQUIRY = 3


class UnitKind(enum.IntEnum):
    """What is counted. The same numbers stand in documents (`balance.account.BucketKind`) and in tariffs."""

    MONEY = 0
    OCTETS = 1
    SECONDS = 2
    EVENTS = 3


class Reason(enum.IntEnum):
    """Why usage is reported (TS 32.299 §7.2.175). `UNKNOWN`: a value we do not know; usage is not refused for it."""

    NONE = -1
    THRESHOLD = 0
    QUOTA_HOLDING_TIME = 1
    FINAL = 2
    QUOTA_EXHAUSTED = 3
    VALIDITY_TIME = 4
    OTHER_QUOTA_TYPE = 5
    RATING_CONDITION_CHANGE = 6
    FORCED_REAUTHORISATION = 7
    POOL_EXHAUSTED = 8
    UNKNOWN = 99


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Who is charged: `kind` is `e164`, `imsi`, `nai`, `sip`, `private` or `username`; `value` already normalised."""

    kind: str
    value: str


class QuotaKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """What quota is for inside one session (RFC 8506 §8.16). Both empty: the session's default key."""

    rating_group: int | None = None
    service_identifiers: tuple[int, ...] = ()


class Units(msgspec.Struct, frozen=True):
    """Amounts by kind; `None`: not stated. An instance with nothing stated means "you choose"."""

    octets: int | None = None
    input_octets: int | None = None
    output_octets: int | None = None
    seconds: int | None = None
    events: int | None = None
    money_micros: int | None = None
    currency: int | None = None

    def total_octets(self) -> int | None:
        """Total if stated, else input + output, else `None` (CC-069)."""
        if self.octets is not None:
            return self.octets
        if self.input_octets is None and self.output_octets is None:
            return None
        return (self.input_octets or 0) + (self.output_octets or 0)

    def of(self, kind: UnitKind) -> int | None:
        """The amount of one kind, `None` if not stated."""
        if kind is UnitKind.OCTETS:
            return self.total_octets()
        if kind is UnitKind.SECONDS:
            return self.seconds
        if kind is UnitKind.EVENTS:
            return self.events
        return self.money_micros

    def kinds(self) -> frozenset[UnitKind]:
        """The kinds that are stated."""
        if self == NOTHING_STATED:
            return _NO_KINDS
        return frozenset(kind for kind in UnitKind if self.of(kind) is not None)


_NO_KINDS: frozenset[UnitKind] = frozenset()

NOTHING_STATED = Units()


class ServiceRequest(msgspec.Struct, frozen=True):
    """One key of a request: usage to debit and, if `requested` is not `None`, quota wanted."""

    key: QuotaKey
    requested: Units | None = None
    used: tuple[Units, ...] = ()
    reason: Reason = Reason.NONE
    in_group: bool = True
    """False: the units stood at command level, and so must the answer (credit-control.md §0)."""


class ChargingRequest(msgspec.Struct, frozen=True):
    """One interrogation, validated for form by the edge."""

    session_id: str
    kind: RequestKind
    number: int
    origin_host: str
    origin_realm: str
    service_context: str
    """The context's tail, e.g. `32251@3gpp.org`."""
    services: tuple[ServiceRequest, ...] = ()
    identities: tuple[Identity, ...] = ()
    """In the operator's order of preference; may be empty on UPDATE and TERMINATION."""
    action: EventAction | None = None
    event_time_us: int | None = None
    """When it happened at the client; `None`: when it was received."""
    origin_state_id: int = 0
    rating: Mapping[str, object] = {}
    """Flat rating context (CC-190): `called_station_id`, `sgsn_mcc_mnc`, `rat_type`, `called_party`, ..."""
    messages: int | None = None
    """Number of messages of an SMS event if the client states it, or the number of recipients (CC-193)."""
    refund_token: bytes | None = None
    digest: bytes = b""
    """Four octets over what is charged, to notice a repeat with another content (CC-043)."""


class Result(enum.StrEnum):
    """Every way a request or one of its keys can end. `ocs.charging.results` maps them to codes of each protocol."""

    SUCCESS = "success"
    USER_UNKNOWN = "user_unknown"
    CONTRADICTING_IDENTITIES = "contradicting_identities"
    IDENTITY_MISSING = "identity_missing"
    SERVICE_DENIED = "service_denied"
    NOT_APPLICABLE = "not_applicable"
    CREDIT_LIMIT_REACHED = "credit_limit_reached"
    UNKNOWN_SESSION = "unknown_session"
    AUTHORIZATION_REJECTED = "authorization_rejected"
    INVALID_VALUE = "invalid_value"
    RATING_FAILED = "rating_failed"
    CONTEXT_UNSUPPORTED = "context_unsupported"
    UNABLE_TO_COMPLY = "unable_to_comply"
    TOO_BUSY = "too_busy"


class FinalAction(enum.IntEnum):
    """What the client does when the final units are used (RFC 8506 §8.35)."""

    TERMINATE = 0
    REDIRECT = 1
    RESTRICT = 2


class FinalUnit(msgspec.Struct, frozen=True, array_like=True):
    """Final-unit indication of a grant."""

    action: FinalAction
    redirect_type: int | None = None
    """0 IPv4, 1 IPv6, 2 URL, 3 SIP URI; only with REDIRECT."""
    redirect_address: str | None = None
    filter_rules: tuple[str, ...] = ()
    filter_ids: tuple[str, ...] = ()


class ServiceOutcome(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The answer for one key. Array-like: it is stored with the session, so that a repeat is answered from it."""

    key: QuotaKey
    result: Result = Result.SUCCESS
    unit: UnitKind | None = None
    """Kind of `granted`; `None`: no grant."""
    granted: int | None = None
    validity_s: int | None = None
    threshold: int | None = None
    final: FinalUnit | None = None
    in_group: bool = True
    detail: str | None = None
    """Name of what was wrong (`requested_money`, `rating_group` ...), for the failed-value answer and for the log."""
    refund_token: bytes | None = None


class Outcome(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The answer to a request."""

    result: Result
    services: tuple[ServiceOutcome, ...] = ()
    cost_micros: int | None = None
    """Accumulated cost of the session, total cost of an event, or the estimate of a price enquiry."""
    balance_micros: int | None = None
    """Posted balance after this request."""
    currency: int | None = None
    """ISO 4217 numeric."""
    exponent: int = 2
    """Decimal digits of the currency's minor unit."""
    enough_credit: bool | None = None
    """Answer to a balance check."""
    detail: str | None = None
