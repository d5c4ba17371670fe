"""Reads a CCR strictly: every error is found, the first in the order of DB-020 is the one that is answered.

What is refused and what is tolerated:

- CC-Sub-Session-Id is refused with 5001: sub-sessions count their requests on their own, so ignoring the AVP would take
  the second sub-session's requests for repeats of the first.
- Requested-Action outside 0..3 is refused in every request (CC-005), else ignored in session requests (CC-006). The
  decoder refuses undefined values of the enumerations that decide something (`dictionary.CHECKED_ENUMERATIONS`).
- CC-Money in a Requested-Service-Unit of an event of a 3GPP client ends the request (CC-010, CC-142: an event has one
  service). In a session it is passed on, so that usage reported beside it is still debited; the engine refuses the key.
- Reporting reasons of unknown value are kept as numbers: usage is never refused for them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from protocols.diameter import dictionary
from protocols.diameter.avp import Message, check_grammar, encode_avp, every, first
from protocols.diameter.content_digest import digest_of
from protocols.diameter.credit_control_messages import (
    CcRequestType,
    CreditControlRequest,
    Form,
    MultipleServices,
    RequestedAction,
    ServiceUnits,
    Subscription,
    SubscriptionIdType,
    micros_of,
)
from protocols.diameter.errors import AvpError, RemoteProtocolError, ResultCode, reported
from protocols.diameter.header import APPLICATION_CREDIT_CONTROL
from protocols.diameter.service_information import RatingContext

Avp = tuple[int, int, Any]
"""A decoded AVP: key, flags, value."""

FLAG_MANDATORY = 0x40
TGPP_VENDOR = 10415

_ONE = (1, 1)
_OPTIONAL = (0, 1)

GRAMMAR = {
    dictionary.SESSION_ID: _ONE,
    dictionary.ORIGIN_HOST: _ONE,
    dictionary.ORIGIN_REALM: _ONE,
    dictionary.DESTINATION_REALM: _ONE,
    # Not required here: inside Vendor-Specific-Application-Id it counts as well (CC-001).
    dictionary.AUTH_APPLICATION_ID: _OPTIONAL,
    dictionary.SERVICE_CONTEXT_ID: _ONE,
    dictionary.CC_REQUEST_TYPE: _ONE,
    dictionary.CC_REQUEST_NUMBER: _ONE,
    dictionary.DESTINATION_HOST: _OPTIONAL,
    dictionary.USER_NAME: _OPTIONAL,
    dictionary.ACCT_MULTI_SESSION_ID: _OPTIONAL,
    dictionary.ORIGIN_STATE_ID: _OPTIONAL,
    dictionary.EVENT_TIMESTAMP: _OPTIONAL,
    dictionary.SERVICE_IDENTIFIER: _OPTIONAL,
    dictionary.TERMINATION_CAUSE: _OPTIONAL,
    dictionary.REQUESTED_SERVICE_UNIT: _OPTIONAL,
    dictionary.REQUESTED_ACTION: _OPTIONAL,
    dictionary.MULTIPLE_SERVICES_INDICATOR: _OPTIONAL,
    dictionary.CC_CORRELATION_ID: _OPTIONAL,
    dictionary.USER_EQUIPMENT_INFO: _OPTIONAL,
    dictionary.USER_EQUIPMENT_INFO_EXTENSION: _OPTIONAL,
    dictionary.AOC_REQUEST_TYPE: _OPTIONAL,
    dictionary.REFUND_INFORMATION: _OPTIONAL,
    dictionary.SERVICE_INFORMATION: _OPTIONAL,
}
"""CCR of RFC 8506 §3.1 and TS 32.299: what must be there and what may be there once."""

_CHARGED = frozenset(
    {
        dictionary.SERVICE_CONTEXT_ID,
        dictionary.SERVICE_IDENTIFIER,
        dictionary.REQUESTED_ACTION,
        dictionary.REQUESTED_SERVICE_UNIT,
        dictionary.USED_SERVICE_UNIT,
        dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL,
        dictionary.REFUND_INFORMATION,
        dictionary.SERVICE_INFORMATION,
    }
)

_EXTENSION_TYPES = {
    dictionary.SUBSCRIPTION_ID_E164: SubscriptionIdType.END_USER_E164,
    dictionary.SUBSCRIPTION_ID_IMSI: SubscriptionIdType.END_USER_IMSI,
    dictionary.SUBSCRIPTION_ID_SIP_URI: SubscriptionIdType.END_USER_SIP_URI,
    dictionary.SUBSCRIPTION_ID_NAI: SubscriptionIdType.END_USER_NAI,
    dictionary.SUBSCRIPTION_ID_PRIVATE: SubscriptionIdType.END_USER_PRIVATE,
}
_SUBSCRIPTION_TYPES = {int(one): one for one in SubscriptionIdType}
_TGPP_CONTEXT = re.compile(r"(?:^|\.)(\d{5}@3gpp\.org)$", re.ASCII | re.IGNORECASE)

_UNIT_FIELDS = {
    dictionary.CC_TIME: "time_s",
    dictionary.CC_TOTAL_OCTETS: "total_octets",
    dictionary.CC_INPUT_OCTETS: "input_octets",
    dictionary.CC_OUTPUT_OCTETS: "output_octets",
    dictionary.CC_SERVICE_SPECIFIC_UNITS: "service_specific_units",
    dictionary.TARIFF_CHANGE_USAGE: "tariff_change_usage",
}


class CreditControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a CCR is checked against."""

    service_contexts: frozenset[str]
    """Contexts that the catalogue prices: `NNNNN@3gpp.org` or a whole Service-Context-Id, in lower case."""
    form: Form | None = None
    """The client's dialect; `None`: found from each request (credit-control.md §0)."""
    service_parameter_types: frozenset[int] = frozenset()
    """Service-Parameter-Types that are understood; any other is 5031 (CC-022)."""


class InvalidRequestError(RemoteProtocolError):
    """A CCR that is refused for its form; `errors` holds all that was found, the answered one first."""

    def __init__(self, errors: Sequence[AvpError]) -> None:
        """`errors` as they were found, at least one."""
        answered = reported(errors)
        assert answered is not None
        super().__init__(answered.result_code, answered.failed_avp or None, f"{answered.name}: {answered.detail}")
        self.errors = (answered, *(error for error in errors if error is not answered))


def parse_ccr(message: Message, settings: CreditControlSettings) -> CreditControlRequest:
    """Check a decoded CCR and name its facts (RFC 8506 §3.1, CC-001…CC-022).

    `InvalidRequestError` carries the code and the content of Failed-AVP of the first error in the order of DB-020, and
    all errors for the log.
    """
    avps: list[Avp] = message.avps
    # Values are checked even where the grammar is broken, so that the log shows everything at once; what is missing is
    # not reported twice.
    errors: list[AvpError] = [*message.errors, *check_grammar(avps, GRAMMAR, message.faulty)]
    errors += _application_errors(avps, message.faulty)
    errors += _command_errors(avps, settings)
    form = settings.form or detect_form(avps)
    units = _all_units(avps, errors)
    request_type = first(avps, dictionary.CC_REQUEST_TYPE)
    subscriptions, identity_errors = _identities(avps)
    if request_type in (CcRequestType.INITIAL_REQUEST, CcRequestType.EVENT_REQUEST):
        errors += identity_errors
    if request_type == CcRequestType.EVENT_REQUEST:
        errors += check_grammar(avps, {dictionary.REQUESTED_ACTION: (1, None)}, message.faulty)
        errors += _requested_money(avps) if form is Form.TGPP else []
    if errors:
        raise InvalidRequestError(errors)
    return _request(avps, settings, form, units, subscriptions)


def _request(
    avps: list[Avp],
    settings: CreditControlSettings,
    form: Form,
    units: _AllUnits,
    subscriptions: tuple[Subscription, ...],
) -> CreditControlRequest:
    # The first of each, where several are allowed.
    values = {key: value for key, _flags, value in reversed(avps)}
    request_type = CcRequestType(values[dictionary.CC_REQUEST_TYPE])
    action = values.get(dictionary.REQUESTED_ACTION)
    event = request_type is CcRequestType.EVENT_REQUEST
    context_id: str = values[dictionary.SERVICE_CONTEXT_ID]
    several = values.get(dictionary.MULTIPLE_SERVICES_INDICATOR) == 1
    messages_sent, recipients = _sms(avps)
    notes = _unit_notes(units)
    if action is not None and not event:
        notes.append("requested-action-ignored")
    if units.services and not several and request_type is CcRequestType.INITIAL_REQUEST:
        notes.append("mscc-without-msi")
    return CreditControlRequest(
        session_id=values[dictionary.SESSION_ID],
        origin_host=values[dictionary.ORIGIN_HOST],
        origin_realm=values[dictionary.ORIGIN_REALM],
        destination_realm=values[dictionary.DESTINATION_REALM],
        destination_host=values.get(dictionary.DESTINATION_HOST),
        service_context_id=context_id,
        service_context=match_context(context_id, settings.service_contexts) or context_id,
        form=form,
        request_type=request_type,
        request_number=values[dictionary.CC_REQUEST_NUMBER],
        requested_action=RequestedAction(values[dictionary.REQUESTED_ACTION]) if event else None,
        subscriptions=subscriptions,
        user_name=values.get(dictionary.USER_NAME),
        services=units.services,
        service_identifier=values.get(dictionary.SERVICE_IDENTIFIER),
        requested=units.requested,
        used=units.used,
        refund_information=values.get(dictionary.REFUND_INFORMATION),
        multiple_services=several,
        event_timestamp_s=values.get(dictionary.EVENT_TIMESTAMP),
        origin_state_id=values.get(dictionary.ORIGIN_STATE_ID, 0),
        termination_cause=values.get(dictionary.TERMINATION_CAUSE),
        messages_sent=messages_sent,
        recipients=recipients,
        rating_context=RatingContext(avps),
        digest=content_digest(avps),
        notes=tuple(notes),
    )


def match_context(service_context_id: str, contexts: frozenset[str]) -> str | None:
    """The supported context that a Service-Context-Id names, `None` if none (CC-007, CC-008).

    3GPP's form `[ext.][MNC.MCC.][release.]32251@3gpp.org` is compared on its tail, others as a whole, in lower case.
    """
    whole = service_context_id.lower()
    if whole in contexts:
        return whole
    tail = _TGPP_CONTEXT.search(whole)
    return tail[1] if tail is not None and tail[1] in contexts else None


def detect_form(avps: Iterable[Avp]) -> Form:
    """3GPP if the context ends in `@3gpp.org` or an MSCC holds an AVP of vendor 10415 (credit-control.md §0)."""
    for key, _flags, value in avps:
        if key == dictionary.SERVICE_CONTEXT_ID:
            if value.lower().endswith("@3gpp.org"):
                return Form.TGPP
        elif key == dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL and any(one[0] >> 32 == TGPP_VENDOR for one in value):
            return Form.TGPP
    return Form.RFC


def content_digest(avps: Iterable[Avp]) -> bytes:
    """Four octets over what decides the charge, to notice a repeat with another content (CC-043).

    It covers the context, the action, all units, keys and reasons, Refund-Information and Service-Information. It
    leaves out identifiers, routing, Proxy-Info and Origin-State-Id, which a repeat may carry anew, and Event-Timestamp,
    which clients that build the message again stamp again.
    """
    return digest_of([avp for avp in avps if avp[0] in _CHARGED])


def missing(key: int) -> bytes:
    """The example AVP of a Failed-AVP for something that is not there (DB-052)."""
    error: AvpError = check_grammar([], {key: _ONE})[0]
    return error.failed_avp


def in_groups(groups: Sequence[int], failed: bytes) -> bytes:
    """Wrap an offending AVP in the chain of its groups, outermost first (DB-049)."""
    for key in reversed(groups):
        failed = encode_avp(key, failed)
    return failed


def cut_out(avps: Iterable[Avp], path: Sequence[int]) -> list[bytes]:
    """The AVPs that stand at a path of keys, each copied with the chain of its groups and nothing else (DB-049)."""
    cuts: list[bytes] = []
    for avp in avps:
        if avp[0] == path[0]:
            if len(path) == 1:
                cuts.append(_copy(avp))
            elif isinstance(avp[2], list):
                cuts.extend(encode_avp(avp[0], inner, avp[1]) for inner in cut_out(avp[2], path[1:]))
    return cuts


def _copy(avp: Avp) -> bytes:
    """A received AVP as it came, without what is unknown in it and with clean reserved bits."""
    key, flags, value = avp
    return encode_avp(key, value, flags)


def _invalid(avp: Avp, detail: str, groups: Sequence[int] = ()) -> AvpError:
    """5004 with a copy of the AVP."""
    return _error(ResultCode.INVALID_AVP_VALUE, avp, detail, groups)


def _error(code: ResultCode, avp: Avp, detail: str, groups: Sequence[int] = ()) -> AvpError:
    return AvpError(code, in_groups(groups, _copy(avp)), dictionary.name_of(avp[0]), detail)


def _application_errors(avps: list[Avp], faulty: Collection[int]) -> list[AvpError]:
    """CC-001, CC-002 and DB-028: an Auth-Application-Id is somewhere, and every application id is credit control's."""
    errors = []
    found = False
    for avp in avps:
        key, _flags, value = avp
        ids: list[tuple[Avp, tuple[int, ...]]] = []
        if key in (dictionary.AUTH_APPLICATION_ID, dictionary.ACCT_APPLICATION_ID):
            ids.append((avp, ()))
        elif key == dictionary.VENDOR_SPECIFIC_APPLICATION_ID:
            ids.extend(
                (member, (key,))
                for member in value
                if member[0] in (dictionary.AUTH_APPLICATION_ID, dictionary.ACCT_APPLICATION_ID)
            )
        for one, groups in ids:
            found = found or one[0] == dictionary.AUTH_APPLICATION_ID
            if one[2] != APPLICATION_CREDIT_CONTROL:
                errors.append(_invalid(one, f"application {one[2]}, expected {APPLICATION_CREDIT_CONTROL}", groups))
    if not found and dictionary.AUTH_APPLICATION_ID not in faulty:
        errors.append(_missing(dictionary.AUTH_APPLICATION_ID, "required"))
    return errors


def _missing(key: int, detail: str) -> AvpError:
    return AvpError(ResultCode.MISSING_AVP, missing(key), dictionary.name_of(key), detail)


def _command_errors(avps: list[Avp], settings: CreditControlSettings) -> list[AvpError]:
    """Values that stand directly in the command and that no dictionary can judge."""
    errors = []
    for avp in avps:
        key, _flags, value = avp
        if key == dictionary.SERVICE_CONTEXT_ID:
            if match_context(value, settings.service_contexts) is None:
                errors.append(_error(ResultCode.RATING_FAILED, avp, "service context not supported"))
        elif key == dictionary.SERVICE_PARAMETER_INFO:
            if first(value, dictionary.SERVICE_PARAMETER_TYPE) not in settings.service_parameter_types:
                errors.append(_error(ResultCode.RATING_FAILED, avp, "Service-Parameter-Type not understood"))
        elif key == dictionary.CC_SUB_SESSION_ID:
            errors.append(_error(ResultCode.AVP_UNSUPPORTED, avp, "sub-sessions are not supported"))
        elif key in (dictionary.SESSION_ID, dictionary.ORIGIN_HOST, dictionary.ORIGIN_REALM) and not value:
            errors.append(_invalid(avp, "empty"))
    return errors


def _identities(avps: list[Avp]) -> tuple[tuple[Subscription, ...], list[AvpError]]:
    """Subscriptions of known type, and what is wrong if there is no usable identity at all (CC-012, CC-015, CC-210)."""
    found: list[Subscription] = []
    errors: list[AvpError] = []
    unknown: list[AvpError] = []
    named = False
    for avp in avps:
        key, flags, value = avp
        if key == dictionary.SUBSCRIPTION_ID:
            number = first(value, dictionary.SUBSCRIPTION_ID_TYPE)
            data = first(value, dictionary.SUBSCRIPTION_ID_DATA)
            if number is not None and number not in _SUBSCRIPTION_TYPES:
                unknown.append(_invalid(avp, f"Subscription-Id-Type {number}"))
            elif number is not None and data:
                found.append(Subscription(_SUBSCRIPTION_TYPES[number], data))
        elif key == dictionary.SUBSCRIPTION_ID_EXTENSION:
            members = [(kind, data) for kind, _flags, data in value if kind in _EXTENSION_TYPES]
            if len(members) == 1 and members[0][1]:
                found.append(Subscription(_EXTENSION_TYPES[members[0][0]], members[0][1]))
            elif len(members) != 1 and flags & FLAG_MANDATORY:
                errors.append(_invalid(avp, f"{len(members)} identities, expected exactly one"))
        elif key == dictionary.USER_NAME:
            named = bool(value)
    if not found and not named:
        errors += unknown or [_missing(dictionary.SUBSCRIPTION_ID, "no usable identity")]
    return tuple(found), errors


class _AllUnits(NamedTuple):
    """The units of a request at both levels."""

    services: tuple[MultipleServices, ...]
    requested: ServiceUnits | None
    used: tuple[ServiceUnits, ...]


def _all_units(avps: list[Avp], errors: list[AvpError]) -> _AllUnits:
    services: list[MultipleServices] = []
    requested: ServiceUnits | None = None
    used: list[ServiceUnits] = []
    for avp in avps:
        key = avp[0]
        if key == dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL:
            services.append(_multiple_services(avp, errors))
        elif key == dictionary.REQUESTED_SERVICE_UNIT:
            requested = _units(avp, (), errors)
        elif key == dictionary.USED_SERVICE_UNIT:
            used.append(_units(avp, (), errors))
    return _AllUnits(tuple(services), requested, tuple(used))


def _multiple_services(avp: Avp, errors: list[AvpError]) -> MultipleServices:
    rating_group: int | None = None
    refund: bytes | None = None
    requested: ServiceUnits | None = None
    used: list[ServiceUnits] = []
    identifiers: list[int] = []
    reasons: list[int] = []
    for member in avp[2]:
        key, _flags, value = member
        if key == dictionary.USED_SERVICE_UNIT:
            used.append(_units(member, (avp[0],), errors))
        elif key == dictionary.REQUESTED_SERVICE_UNIT:
            requested = _units(member, (avp[0],), errors)
        elif key == dictionary.RATING_GROUP:
            rating_group = value
        elif key == dictionary.SERVICE_IDENTIFIER:
            identifiers.append(value)
        elif key == dictionary.REPORTING_REASON:
            reasons.append(value)
        elif key == dictionary.REFUND_INFORMATION:
            refund = value
    return MultipleServices(rating_group, tuple(identifiers), requested, tuple(used), tuple(reasons), refund, avp)


def _units(avp: Avp, groups: tuple[int, ...], errors: list[AvpError]) -> ServiceUnits:
    """One Requested- or Used-Service-Unit; a CC-Money that is no amount is added to `errors`."""
    fields: dict[str, Any] = {}
    reasons: list[int] = []
    for member in avp[2]:
        key, _flags, value = member
        name = _UNIT_FIELDS.get(key)
        if name is not None:
            fields[name] = value
        elif key == dictionary.REPORTING_REASON:
            reasons.append(value)
        elif key == dictionary.CC_MONEY:
            micros = _money(value)
            if micros is None or micros < 0:
                errors.append(_invalid(member, "expected a whole number of micro-units", (*groups, avp[0])))
            fields["money_micros"] = micros
            fields["currency"] = first(value, dictionary.CURRENCY_CODE)
    if reasons:
        fields["reporting_reasons"] = tuple(reasons)
    return ServiceUnits(**fields)


def _money(members: list[Avp]) -> int | None:
    value = first(members, dictionary.UNIT_VALUE)
    if value is None:
        return 0  # the decoder has reported it as missing
    digits = first(value, dictionary.VALUE_DIGITS)
    return 0 if digits is None else micros_of(digits, first(value, dictionary.EXPONENT) or 0)


def _requested_money(avps: list[Avp]) -> list[AvpError]:
    """CC-010 in an event of a 3GPP client."""
    holders: list[tuple[Avp, tuple[int, ...]]] = []
    for avp in avps:
        if avp[0] == dictionary.REQUESTED_SERVICE_UNIT:
            holders.append((avp, ()))
        elif avp[0] == dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL:
            holders.extend((one, (avp[0],)) for one in avp[2] if one[0] == dictionary.REQUESTED_SERVICE_UNIT)
    return [
        _invalid(member, "money is no unit of a 3GPP client", (*groups, holder[0]))
        for holder, groups in holders
        for member in holder[2]
        if member[0] == dictionary.CC_MONEY
    ]


def _sms(avps: list[Avp]) -> tuple[int | None, int]:
    """(Number-Of-Messages-Sent, number of Recipient-Infos) of the SMS-Information (CC-193)."""
    service_information = first(avps, dictionary.SERVICE_INFORMATION)
    sms = first(service_information, dictionary.SMS_INFORMATION) if service_information else None
    if not sms:
        return None, 0
    return first(sms, dictionary.NUMBER_OF_MESSAGES_SENT), len(every(sms, dictionary.RECIPIENT_INFO))


def _unit_notes(all_units: _AllUnits) -> list[str]:
    """CC-069: total and directions are both stated and differ."""
    for units in (*all_units.used, *(one for service in all_units.services for one in service.used)):
        directions = (units.input_octets or 0) + (units.output_octets or 0)
        if units.total_octets is not None and directions and directions != units.total_octets:
            return ["total-octets-differ"]
    return []
