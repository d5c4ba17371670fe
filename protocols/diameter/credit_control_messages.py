"""The facts of a CCR and of a CCA, named as in RFC 8506 and TS 32.299; and money as both write it.

Times are UTC seconds, volumes octets, money `int` micro-units until it is written as a Unit-Value. Nothing in here
knows a tariff, an account or a balance.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

MAX_UNSIGNED32 = 2**32 - 1
MICRO_DIGITS = 6
"""Decimal digits of a micro-unit."""

MAX_MONEY_MICROS = 2**62
"""Widest amount that is read from a CC-Money, so that sums of two fit 64-bit integers."""

MAX_EXPONENT = 18
"""Widest Exponent that is read: ten to any larger power is no amount of money, and computing it would be an attack."""


class CcRequestType(enum.IntEnum):
    """CC-Request-Type (RFC 8506 §8.3)."""

    INITIAL_REQUEST = 1
    UPDATE_REQUEST = 2
    TERMINATION_REQUEST = 3
    EVENT_REQUEST = 4


class RequestedAction(enum.IntEnum):
    """Requested-Action (RFC 8506 §8.41)."""

    DIRECT_DEBITING = 0
    REFUND_ACCOUNT = 1
    CHECK_BALANCE = 2
    PRICE_ENQUIRY = 3


class SubscriptionIdType(enum.IntEnum):
    """Subscription-Id-Type (RFC 8506 §8.47)."""

    END_USER_E164 = 0
    END_USER_IMSI = 1
    END_USER_SIP_URI = 2
    END_USER_NAI = 3
    END_USER_PRIVATE = 4


class FinalUnitAction(enum.IntEnum):
    """Final-Unit-Action (RFC 8506 §8.35)."""

    TERMINATE = 0
    REDIRECT = 1
    RESTRICT_ACCESS = 2


class Form(enum.StrEnum):
    """The client's dialect (credit-control.md §0)."""

    TGPP = "3gpp"
    RFC = "rfc"


class Subscription(msgspec.Struct, frozen=True):
    """One Subscription-Id, or the one member of a Subscription-Id-Extension."""

    type: SubscriptionIdType
    data: str


class ServiceUnits(msgspec.Struct, frozen=True):
    """A Requested-, Used- or Granted-Service-Unit; `None`: the AVP was or shall be absent."""

    time_s: int | None = None
    total_octets: int | None = None
    input_octets: int | None = None
    output_octets: int | None = None
    service_specific_units: int | None = None
    money_micros: int | None = None
    currency: int | None = None
    """Currency-Code of the CC-Money, ISO 4217 numeric."""
    reporting_reasons: tuple[int, ...] = ()
    """Only in a Used-Service-Unit of TS 32.299."""
    tariff_change_usage: int | None = None


class MultipleServices(msgspec.Struct, frozen=True):
    """One Multiple-Services-Credit-Control of a request."""

    rating_group: int | None = None
    service_identifiers: tuple[int, ...] = ()
    """In order of appearance, so that the answer can repeat them."""
    requested: ServiceUnits | None = None
    used: tuple[ServiceUnits, ...] = ()
    reporting_reasons: tuple[int, ...] = ()
    """Those that stood directly in the group."""
    refund_information: bytes | None = None
    avp: tuple[int, int, object] | None = None
    """The decoded group: what a Failed-AVP is cut from."""


class CreditControlRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A CCR whose form is right (RFC 8506 §3.1)."""

    session_id: str
    origin_host: str
    """Of the client, also when a relay delivered the message."""
    origin_realm: str
    destination_realm: str
    destination_host: str | None = None
    service_context_id: str
    """As received, with operator and release."""
    service_context: str
    """The part that was matched, e.g. `32251@3gpp.org` (CC-008)."""
    form: Form
    request_type: CcRequestType
    request_number: int
    requested_action: RequestedAction | None = None
    """`None` in session requests, whatever was received (CC-006)."""
    subscriptions: tuple[Subscription, ...] = ()
    user_name: str | None = None
    services: tuple[MultipleServices, ...] = ()
    service_identifier: int | None = None
    """At command level: the key of the units at command level."""
    requested: ServiceUnits | None = None
    """Requested-Service-Unit at command level."""
    used: tuple[ServiceUnits, ...] = ()
    """Used-Service-Units at command level."""
    refund_information: bytes | None = None
    multiple_services: bool = False
    """Multiple-Services-Indicator was 1."""
    event_timestamp_s: int | None = None
    origin_state_id: int = 0
    termination_cause: int | None = None
    messages_sent: int | None = None
    """Number-Of-Messages-Sent of the SMS-Information."""
    recipients: int = 0
    """Recipient-Infos of the SMS-Information."""
    rating_context: Mapping[str, object] = {}
    digest: bytes = b""
    """Four octets over what is charged; see `credit_control.content_digest`."""
    notes: tuple[str, ...] = ()
    """Peculiarities that were tolerated, for the log: `requested-action-ignored`, `mscc-without-msi` ..."""


class FinalUnitIndication(msgspec.Struct, frozen=True):
    """Final-Unit-Indication (RFC 8506 §8.34); redirect members only with REDIRECT, filters never with TERMINATE."""

    action: FinalUnitAction
    redirect_address_type: int | None = None
    redirect_server_address: str | None = None
    restriction_filter_rules: tuple[str, ...] = ()
    filter_ids: tuple[str, ...] = ()


class ServiceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One Multiple-Services-Credit-Control of an answer."""

    result_code: int
    rating_group: int | None = None
    service_identifiers: tuple[int, ...] = ()
    granted: ServiceUnits | None = None
    money_exponent: int = 2
    validity_time_s: int | None = None
    final_unit: FinalUnitIndication | None = None
    time_quota_threshold_s: int | None = None
    volume_quota_threshold_octets: int | None = None
    unit_quota_threshold: int | None = None
    refund_information: bytes | None = None


class Amount(msgspec.Struct, frozen=True):
    """An amount of one currency as an answer shows it."""

    micros: int
    currency: int
    exponent: int = 2
    """Decimal digits of the currency's minor unit."""


class CreditControlAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A CCA (RFC 8506 §3.2, TS 32.299 §6.4.3), without what is copied from the request."""

    result_code: int
    services: tuple[ServiceAnswer, ...] = ()
    command: ServiceAnswer | None = None
    """Units that stand at command level because the request's did; its result code is not written."""
    session_failover: int | None = None
    cost: Amount | None = None
    remaining_balance: Amount | None = None
    low_balance: bool | None = None
    check_balance_result: int | None = None
    failure_handling: int | None = None
    direct_debiting_failure_handling: int | None = None
    failed_avps: tuple[bytes, ...] = ()
    """Each the content of one Failed-AVP."""
    error_message: str | None = None


def micros_of(value_digits: int, exponent: int) -> int | None:
    """Value-Digits and Exponent in micro-units, exact.

    `None`: not a whole number of micro-units, or wider than `MAX_MONEY_MICROS` (RFC 8506 §8.8).
    """
    if not -MAX_EXPONENT <= exponent <= MAX_EXPONENT:
        return 0 if value_digits == 0 else None
    shift = exponent + MICRO_DIGITS
    if shift >= 0:
        micros = value_digits * 10**shift
    else:
        micros, rest = divmod(value_digits, 10**-shift)
        if rest:
            return None
    return micros if abs(micros) <= MAX_MONEY_MICROS else None


def unit_value(micros: int, minor_digits: int) -> tuple[int, int]:
    """(Value-Digits, Exponent): the currency's own exponent, or the nearest smaller one that is exact.

    8.70 with two minor digits is (870, -2); 0.026 is (26, -3). Never rounds (scenarios.md, conventions).
    """
    for digits in range(max(0, min(minor_digits, MICRO_DIGITS)), MICRO_DIGITS):
        # Exact by the test of the remainder, so the division rounds nothing.
        value, rest = divmod(micros, 10 ** (MICRO_DIGITS - digits))
        if rest == 0:
            return value, -digits
    return micros, -MICRO_DIGITS
