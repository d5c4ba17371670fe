"""Gy and Ro: from the facts of a CCR to the engine's request, and from its outcome to a CCA.

Which identity comes first, what a quota key is, and at which level a code stands are settings of the peer, found by the
Origin-Host of the request: behind a relay that is the gateway, not the connection's peer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ocs.charging.identity_text import KINDS, normalise
from ocs.charging.requests import (
    ChargingRequest,
    EventAction,
    FinalUnit,
    Identity,
    Outcome,
    QuotaKey,
    Reason,
    RequestKind,
    Result,
    ServiceOutcome,
    ServiceRequest,
    UnitKind,
    Units,
)
from ocs.charging.results import DIAMETER, command_code, service_code
from protocols.diameter import dictionary
from protocols.diameter.answers import Local
from protocols.diameter.avp import Message, first
from protocols.diameter.credit_control import (
    CreditControlSettings,
    cut_out,
    in_groups,
    missing,
    parse_ccr,
)
from protocols.diameter.credit_control_answers import answer_extras, build_cca, build_refusal
from protocols.diameter.credit_control_messages import (
    Amount,
    CcRequestType,
    CreditControlAnswer,
    CreditControlRequest,
    FinalUnitAction,
    FinalUnitIndication,
    Form,
    MultipleServices,
    ServiceAnswer,
    ServiceUnits,
    SubscriptionIdType,
)
from protocols.diameter.errors import ResultCode

__all__ = [
    "GySettings",
    "PeerProfile",
    "answer_extras",
    "build_refusal",
    "from_outcome",
    "read_request",
    "to_charging",
]

KIND_OF = {
    SubscriptionIdType.END_USER_E164: "e164",
    SubscriptionIdType.END_USER_IMSI: "imsi",
    SubscriptionIdType.END_USER_SIP_URI: "sip",
    SubscriptionIdType.END_USER_NAI: "nai",
    SubscriptionIdType.END_USER_PRIVATE: "private",
}
"""The engine's kind of identity by Subscription-Id-Type."""

KNOWN_REASONS = {int(reason): reason for reason in Reason if reason not in (Reason.NONE, Reason.UNKNOWN)}

_DECISIVE = (Reason.FINAL, Reason.RATING_CONDITION_CHANGE)
"""Reasons that change what is done win over those that only explain (credit-control.md §7)."""

_PATHS = {
    "currency": (dictionary.REQUESTED_SERVICE_UNIT, dictionary.CC_MONEY, dictionary.CURRENCY_CODE),
    "refund_token": (dictionary.REFUND_INFORMATION,),
    "requested_money": (dictionary.REQUESTED_SERVICE_UNIT, dictionary.CC_MONEY),
    "requested_unit": (dictionary.REQUESTED_SERVICE_UNIT,),
    "service_context": (dictionary.SERVICE_CONTEXT_ID,),
    "used_units": (dictionary.USED_SERVICE_UNIT,),
}
"""Where the engine's names of what was wrong stand in a request; any other name is tried as that of an AVP."""

_NAMED = {name.lower().replace("-", "_"): one.key for name, one in dictionary.BY_NAME.items()}

_IDENTITY_AVPS = (dictionary.SUBSCRIPTION_ID, dictionary.SUBSCRIPTION_ID_EXTENSION, dictionary.USER_NAME)

_THRESHOLD_FIELD = {
    UnitKind.OCTETS: "volume_quota_threshold_octets",
    UnitKind.SECONDS: "time_quota_threshold_s",
    UnitKind.EVENTS: "unit_quota_threshold",
}


_FINAL_BESIDE = (ResultCode.CREDIT_LIMIT_REACHED, ResultCode.END_USER_SERVICE_DENIED)
"""Denials beside which a Final-Unit-Indication may stand, by setting (CC-117)."""


class PeerProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one gateway speaks; the defaults suit 3GPP gateways."""

    form: Literal["auto", "3gpp", "rfc"] = "auto"
    """Dialect; `auto`: found from each request (credit-control.md §0)."""
    quota_key: Literal["rg", "rg+si"] = "rg"
    """`rg`: quota by Rating-Group, by Service-Identifiers only where there is none; `rg+si`: by both (CC-061)."""
    identity_order: tuple[str, ...] = KINDS
    """Kinds of identity in the order in which they are tried (CC-014); kinds left out are not used."""
    reduce_uris: bool = False
    """Cut SIP and TEL URIs to their user part (CC-016)."""
    cmd_code_when_all_mscc_fail: Literal["2001", "first"] = "2001"
    """Command-level code when every key of a session request failed (CC-080)."""
    final_with_denial: bool = False
    """Send 4012 beside a Final-Unit-Indication that acts at once, where 2001 is the default (CC-113, CC-117)."""
    send_cost_information: bool = False
    """Cost-Information in answers to UPDATE, TERMINATION and EVENT; a price enquiry always gets it (CC-174)."""
    send_remaining_balance: bool = False
    """Remaining-Balance, to 3GPP clients only (CC-176)."""
    session_failover: bool | None = None
    """CC-Session-Failover in the first answer; `None`: absent (CC-172)."""
    failure_handling: int | None = None
    """Credit-Control-Failure-Handling in the first answer: 0 terminate, 1 continue, 2 retry and terminate (CC-170)."""
    direct_debiting_failure_handling: int | None = None
    """Direct-Debiting-Failure-Handling in answers to events: 0 terminate or buffer, 1 continue (CC-171)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; `ValueError` names the field."""
        unknown = sorted(set(self.identity_order) - set(KINDS))
        if unknown or not self.identity_order:
            raise ValueError(f"identity_order: {unknown}, expected one or more of {', '.join(KINDS)}")
        if self.failure_handling not in (None, 0, 1, 2):
            raise ValueError(f"failure_handling: {self.failure_handling}, expected 0, 1 or 2")
        if self.direct_debiting_failure_handling not in (None, 0, 1):
            raise ValueError(
                f"direct_debiting_failure_handling: {self.direct_debiting_failure_handling}, expected 0 or 1"
            )


class GySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the charging application of Diameter is set to."""

    service_contexts: frozenset[str]
    """Contexts of the catalogue, in lower case (CC-007)."""
    default: PeerProfile = PeerProfile()
    """For gateways that have no profile of their own."""
    peers: Mapping[str, PeerProfile] = {}
    """By Origin-Host in lower case (DB-063)."""
    service_parameter_types: frozenset[int] = frozenset()
    """Service-Parameter-Types that are understood (CC-022)."""

    def profile(self, origin_host: str) -> PeerProfile:
        """Profile of the gateway that sent a request."""
        return self.peers.get(origin_host.lower(), self.default) if self.peers else self.default


def read_request(message: Message, settings: GySettings) -> tuple[CreditControlRequest, PeerProfile]:
    """Check a CCR by its sender's profile; `InvalidRequestError` for one that `build_refusal` shall answer."""
    profile = settings.profile(first(message.avps, dictionary.ORIGIN_HOST) or "")
    checked = CreditControlSettings(
        service_contexts=settings.service_contexts,
        form=None if profile.form == "auto" else Form(profile.form),
        service_parameter_types=settings.service_parameter_types,
    )
    return parse_ccr(message, checked), profile


def to_charging(ccr: CreditControlRequest, profile: PeerProfile) -> ChargingRequest:
    """The engine's request for a CCR (CC-014, CC-016, CC-061, CC-193)."""
    action = None if ccr.requested_action is None else EventAction(int(ccr.requested_action))
    services = _service_requests(ccr, profile)
    messages = ccr.messages_sent or None
    if messages is not None:
        # Stated by the client, so it goes before the units that it asked for (CC-193); recipients come after them.
        services = tuple(_of_messages(service, messages) for service in services)
    elif not any(service.requested and service.requested.events for service in services):
        messages = ccr.recipients or None
    return ChargingRequest(
        session_id=ccr.session_id,
        kind=RequestKind(int(ccr.request_type)),
        number=ccr.request_number,
        origin_host=ccr.origin_host,
        origin_realm=ccr.origin_realm,
        service_context=ccr.service_context,
        services=services,
        identities=_identities(ccr, profile),
        action=action,
        event_time_us=None if ccr.event_timestamp_s is None else ccr.event_timestamp_s * 1_000_000,
        origin_state_id=ccr.origin_state_id,
        rating=ccr.rating_context,
        messages=messages,
        refund_token=_refund_token(ccr),
        digest=ccr.digest,
    )


def _refund_token(ccr: CreditControlRequest) -> bytes | None:
    tokens = [ccr.refund_information, *(service.refund_information for service in ccr.services)]
    return next((token for token in tokens if token is not None), None)


def _identities(ccr: CreditControlRequest, profile: PeerProfile) -> tuple[Identity, ...]:
    """Usable identities, each once, in the profile's order; those of one kind in the order received."""
    found = [normalise(KIND_OF[one.type], one.data, profile.reduce_uris) for one in ccr.subscriptions]
    if ccr.user_name:
        found.append(normalise("username", ccr.user_name))
    order = profile.identity_order
    usable = {identity: None for identity in found if identity is not None and identity.kind in order}
    return tuple(sorted(usable, key=lambda identity: order.index(identity.kind)))


def quota_key(service: MultipleServices, profile: PeerProfile) -> QuotaKey:
    """What the quota of an MSCC is for (CC-061)."""
    identifiers = tuple(sorted(set(service.service_identifiers)))
    if profile.quota_key == "rg" and service.rating_group is not None:
        return QuotaKey(service.rating_group)
    return QuotaKey(service.rating_group, identifiers)


def _command_key(ccr: CreditControlRequest) -> QuotaKey:
    return QuotaKey() if ccr.service_identifier is None else QuotaKey(None, (ccr.service_identifier,))


def _service_requests(ccr: CreditControlRequest, profile: PeerProfile) -> tuple[ServiceRequest, ...]:
    event = ccr.request_type is CcRequestType.EVENT_REQUEST
    services = [_service_request(service, quota_key(service, profile), event) for service in ccr.services]
    # An event that names no units at all still is for something: the server knows its price (RFC 8506 §6.1, CC-148).
    if ccr.requested is not None or ccr.used or (event and not ccr.services):
        command = MultipleServices(requested=ccr.requested, used=ccr.used)
        services.append(_service_request(command, _command_key(ccr), event, in_group=False))
    return tuple(services)


def _service_request(service: MultipleServices, key: QuotaKey, event: bool, in_group: bool = True) -> ServiceRequest:
    requested = None if service.requested is None else _units(service.requested)
    if event and requested is None and not service.used:
        requested = Units()
    return ServiceRequest(key, requested, tuple(_units(one) for one in service.used), _reason(service), in_group)


def _of_messages(service: ServiceRequest, messages: int) -> ServiceRequest:
    if service.requested is None:
        return service
    return msgspec.structs.replace(service, requested=msgspec.structs.replace(service.requested, events=messages))


def _reason(service: MultipleServices) -> Reason:
    """Those in the group stand before those in its used units (credit-control.md §7)."""
    return reason_of([*service.reporting_reasons, *(one for used in service.used for one in used.reporting_reasons)])


def reason_of(numbers: Sequence[int]) -> Reason:
    """The reason that decides among the Reporting-Reasons of an MSCC, else the first (credit-control.md §7)."""
    if not numbers:
        return Reason.NONE
    if len(numbers) == 1:
        return KNOWN_REASONS.get(numbers[0], Reason.UNKNOWN)
    reasons = [KNOWN_REASONS.get(number, Reason.UNKNOWN) for number in numbers]
    return next((reason for reason in _DECISIVE if reason in reasons), reasons[0])


def _units(units: ServiceUnits) -> Units:
    return Units(
        octets=units.total_octets,
        input_octets=units.input_octets,
        output_octets=units.output_octets,
        seconds=units.time_s,
        events=units.service_specific_units,
        money_micros=units.money_micros,
        currency=units.currency,
    )


def from_outcome(
    message: Message, ccr: CreditControlRequest, outcome: Outcome, profile: PeerProfile, local: Local
) -> bytes:
    """The CCA for an outcome, in the shape of the request (credit-control.md §0, §14)."""
    return build_cca(message, ccr, to_answer(message, ccr, outcome, profile), local)


class _Matched(msgspec.Struct, frozen=True):
    """An outcome and the MSCCs of the request that it answers."""

    outcome: ServiceOutcome
    asked: tuple[MultipleServices, ...]


def to_answer(
    message: Message, ccr: CreditControlRequest, outcome: Outcome, profile: PeerProfile
) -> CreditControlAnswer:
    """What the CCA states."""
    matched = _match(ccr, outcome, profile)
    grouped = [one for one in matched if one.outcome.in_group]
    command = next((one for one in matched if not one.outcome.in_group), None)
    services = tuple(_service_answer(one, outcome, profile) for one in grouped)
    command_answer = None if command is None else _service_answer(command, outcome, profile)
    code = _command_code(ccr, outcome, services, command_answer, profile)
    opening = ccr.request_type is CcRequestType.INITIAL_REQUEST
    event = ccr.request_type is CcRequestType.EVENT_REQUEST
    return CreditControlAnswer(
        result_code=code,
        services=services,
        command=command_answer,
        session_failover=None if profile.session_failover is None or not opening else int(profile.session_failover),
        cost=_cost(ccr, outcome, profile),
        remaining_balance=_balance(outcome, profile),
        check_balance_result=None if outcome.enough_credit is None else int(not outcome.enough_credit),
        failure_handling=profile.failure_handling if opening else None,
        direct_debiting_failure_handling=profile.direct_debiting_failure_handling if event else None,
        failed_avps=tuple(_failed_avps(message, outcome, matched)),
    )


def _match(ccr: CreditControlRequest, outcome: Outcome, profile: PeerProfile) -> list[_Matched]:
    """Each key's outcome with the MSCCs that asked for it, in the order of the answer (CC-062, CC-074)."""
    asked: dict[QuotaKey, list[MultipleServices]] = {}
    for service in ccr.services:
        asked.setdefault(quota_key(service, profile), []).append(service)
    matched = []
    for one in outcome.services:
        matched.append(_Matched(one, tuple(asked.get(one.key, ())) if one.in_group else (_command_units(ccr),)))
    if matched or outcome.result is Result.SUCCESS or ccr.request_type is not CcRequestType.EVENT_REQUEST:
        return matched
    if DIAMETER[outcome.result].service is None:
        return matched
    # An event has one service: clients find the code at either level (CC-142).
    return [
        _Matched(ServiceOutcome(key, outcome.result, detail=outcome.detail), tuple(services))
        for key, services in asked.items()
    ]


def _command_units(ccr: CreditControlRequest) -> MultipleServices:
    return MultipleServices(requested=ccr.requested, used=ccr.used)


def _service_answer(matched: _Matched, outcome: Outcome, profile: PeerProfile) -> ServiceAnswer:
    one = matched.outcome
    code = service_code(one.result) if one.in_group else command_code(one.result)
    wanted = any(service.requested is not None for service in matched.asked)
    final = one.final
    if code == ResultCode.SUCCESS:
        if final is not None and one.granted is None and wanted and profile.final_with_denial:
            code = ResultCode.CREDIT_LIMIT_REACHED
    elif code not in _FINAL_BESIDE or not profile.final_with_denial:
        final = None
    rating_group, identifiers = _echo(matched)
    return ServiceAnswer(
        result_code=code,
        rating_group=rating_group,
        service_identifiers=identifiers,
        granted=_granted(matched, outcome),
        money_exponent=outcome.exponent,
        validity_time_s=one.validity_s,
        final_unit=None if final is None else _final_unit(final),
        refund_information=one.refund_token,
        **_threshold(one),
    )


def _echo(matched: _Matched) -> tuple[int | None, tuple[int, ...]]:
    """Rating-Group and Service-Identifiers as the client wrote them, so that it finds its MSCC (CC-062).

    Where several MSCCs asked for one key, the one grant names the identifiers of all of them.
    """
    if not matched.asked:
        return matched.outcome.key.rating_group, matched.outcome.key.service_identifiers
    identifiers = dict.fromkeys(one for service in matched.asked for one in service.service_identifiers)
    return matched.asked[0].rating_group, tuple(identifiers)


def _granted(matched: _Matched, outcome: Outcome) -> ServiceUnits | None:
    one = matched.outcome
    if one.granted is None or one.unit is None:
        return None
    if one.unit is UnitKind.MONEY:
        return ServiceUnits(money_micros=one.granted, currency=outcome.currency)
    if one.unit is UnitKind.OCTETS:
        return _octets(one.granted, matched.asked)
    if one.unit is UnitKind.SECONDS:
        return ServiceUnits(time_s=one.granted)
    return ServiceUnits(service_specific_units=one.granted)


def _octets(granted: int, asked: Sequence[MultipleServices]) -> ServiceUnits:
    """CC-Total-Octets, unless the client asked for exactly one direction (CC-068)."""
    requested = [service.requested for service in asked if service.requested is not None]
    total = any(units.total_octets is not None for units in requested)
    uplink = any(units.input_octets is not None for units in requested)
    downlink = any(units.output_octets is not None for units in requested)
    if total or uplink == downlink:
        return ServiceUnits(total_octets=granted)
    return ServiceUnits(input_octets=granted) if uplink else ServiceUnits(output_octets=granted)


def _threshold(one: ServiceOutcome) -> dict[str, Any]:
    """A threshold stands beside a larger grant of its own unit only (CC-091, CC-092)."""
    if one.threshold is None or one.granted is None or one.unit is None or one.threshold >= one.granted:
        return {}
    field = _THRESHOLD_FIELD.get(one.unit)
    return {} if field is None else {field: one.threshold}


def _final_unit(final: FinalUnit) -> FinalUnitIndication:
    return FinalUnitIndication(
        FinalUnitAction(int(final.action)),
        final.redirect_type,
        final.redirect_address,
        final.filter_rules,
        final.filter_ids,
    )


def _command_code(
    ccr: CreditControlRequest,
    outcome: Outcome,
    services: Sequence[ServiceAnswer],
    command: ServiceAnswer | None,
    profile: PeerProfile,
) -> int:
    """Code of the command: CC-080 for sessions, CC-142 for events, the units' own for units at command level."""
    code = command_code(outcome.result)
    if code != ResultCode.SUCCESS:
        return code
    if command is not None and not services:
        return command.result_code
    # A free key did not fail: it needs no quota.
    served = (ResultCode.SUCCESS, ResultCode.CREDIT_CONTROL_NOT_APPLICABLE)
    failed = [one.result_code for one in services if one.result_code not in served]
    if ccr.request_type is CcRequestType.EVENT_REQUEST:
        return failed[0] if failed else code
    if profile.cmd_code_when_all_mscc_fail == "first" and services and len(failed) == len(services):
        return failed[0]
    return code


def _cost(ccr: CreditControlRequest, outcome: Outcome, profile: PeerProfile) -> Amount | None:
    if outcome.cost_micros is None or outcome.currency is None:
        return None
    enquiry = ccr.requested_action is not None and int(ccr.requested_action) == EventAction.PRICE_ENQUIRY
    later = ccr.request_type is not CcRequestType.INITIAL_REQUEST
    if not (enquiry or (later and profile.send_cost_information)):
        return None
    return Amount(outcome.cost_micros, outcome.currency, outcome.exponent)


def _balance(outcome: Outcome, profile: PeerProfile) -> Amount | None:
    if not profile.send_remaining_balance or outcome.balance_micros is None or outcome.currency is None:
        return None
    return Amount(outcome.balance_micros, outcome.currency, outcome.exponent)


def _failed_avps(message: Message, outcome: Outcome, matched: Iterable[_Matched]) -> list[bytes]:
    """Contents of the Failed-AVPs, cut from the request; a zero-filled example for what is not there (CC-075)."""
    if outcome.result is Result.CONTRADICTING_IDENTITIES:
        content = b"".join(cut for key in _IDENTITY_AVPS for cut in cut_out(message.avps, (key,)))
        return [content] if content else []
    if outcome.result is Result.IDENTITY_MISSING:
        return [missing(dictionary.SUBSCRIPTION_ID)]
    failing = [one for one in matched if DIAMETER[one.outcome.result].failed_avp]
    if DIAMETER[outcome.result].failed_avp and not failing:
        return [_culprit(message, outcome.detail)]
    return [_culprit_of_service(message, one) for one in failing]


def _path(detail: str | None, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    if detail is None:
        return otherwise
    if detail in _PATHS:
        return _PATHS[detail]
    key = _NAMED.get(detail)
    return otherwise if key is None else (key,)


def _culprit(message: Message, detail: str | None) -> bytes:
    path = _path(detail, (dictionary.SERVICE_CONTEXT_ID,))
    group = (dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL, *path)
    cuts = cut_out(message.avps, path) or cut_out(message.avps, group)
    return cuts[0] if cuts else in_groups(path[:-1], missing(path[-1]))


def _culprit_of_service(message: Message, matched: _Matched) -> bytes:
    path = _path(matched.outcome.detail, (dictionary.RATING_GROUP,))
    if not matched.outcome.in_group:
        return _culprit(message, matched.outcome.detail or "service_identifier")
    group = dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL
    alternatives = [path]
    if path == (dictionary.RATING_GROUP,):
        alternatives.append((dictionary.SERVICE_IDENTIFIER,))
    for alternative in alternatives:
        for service in matched.asked:
            cuts = cut_out([service.avp] if service.avp else [], (group, *alternative))
            if cuts:
                return cuts[0]
    return in_groups((group, *path[:-1]), missing(path[-1]))
