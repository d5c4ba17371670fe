"""Writes a CCA, and the error answer to a CCR that cannot be served.

Order: Session-Id first, then as in the grammars of RFC 8506 §3.2 and TS 32.299 §6.4.3; inside
Multiple-Services-Credit-Control as in TS 32.299 §7.2. Only what the answer states is written; a client of the RFC form
is never sent an AVP of a vendor (CC-180).
"""

from __future__ import annotations

from typing import Any

from protocols.diameter import dictionary
from protocols.diameter.answers import Item, Local, base_avps, build_answer
from protocols.diameter.avp import Message, first
from protocols.diameter.credit_control_messages import (
    MAX_UNSIGNED32,
    Amount,
    CreditControlAnswer,
    CreditControlRequest,
    FinalUnitAction,
    FinalUnitIndication,
    Form,
    ServiceAnswer,
    ServiceUnits,
    unit_value,
)
from protocols.diameter.errors import LocalProtocolError, RemoteProtocolError
from protocols.diameter.header import APPLICATION_CREDIT_CONTROL, CREDIT_CONTROL

Pair = tuple[int, Any]
"""Key and value of an AVP to write; a group's value is a list of pairs."""


def build_cca(message: Message, request: CreditControlRequest, answer: CreditControlAnswer, local: Local) -> bytes:
    """The CCA to a CCR (CC-053, DB-070…DB-073).

    Header, Session-Id and Proxy-Info are those of `message`, so that a repeat is answered where it came from (CC-044).
    """
    avps: list[Item] = base_avps(answer.result_code, local)
    avps += (
        (dictionary.AUTH_APPLICATION_ID, APPLICATION_CREDIT_CONTROL),
        (dictionary.CC_REQUEST_TYPE, int(request.request_type)),
        (dictionary.CC_REQUEST_NUMBER, request.request_number),
    )
    tgpp = request.form is Form.TGPP
    if answer.session_failover is not None:
        avps.append((dictionary.CC_SESSION_FAILOVER, answer.session_failover))
    command = answer.command
    if command is not None and command.granted is not None:
        avps.append((dictionary.GRANTED_SERVICE_UNIT, granted_service_unit(command.granted, command.money_exponent)))
    for service in answer.services:
        avps.append((dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL, multiple_services(service, tgpp)))
    if answer.cost is not None:
        avps.append((dictionary.COST_INFORMATION, _amount(answer.cost)))
    if command is not None and command.final_unit is not None:
        avps.append((dictionary.FINAL_UNIT_INDICATION, final_unit_indication(command.final_unit)))
    if answer.check_balance_result is not None:
        avps.append((dictionary.CHECK_BALANCE_RESULT, answer.check_balance_result))
    if tgpp:
        avps += _account(answer)
    if answer.failure_handling is not None:
        avps.append((dictionary.CREDIT_CONTROL_FAILURE_HANDLING, answer.failure_handling))
    if answer.direct_debiting_failure_handling is not None:
        avps.append((dictionary.DIRECT_DEBITING_FAILURE_HANDLING, answer.direct_debiting_failure_handling))
    if command is not None and command.validity_time_s is not None:
        avps.append((dictionary.VALIDITY_TIME, min(command.validity_time_s, MAX_UNSIGNED32)))
    if tgpp and command is not None and command.refund_information is not None:
        avps.append((dictionary.REFUND_INFORMATION, command.refund_information))
    avps += [(dictionary.FAILED_AVP, content) for content in answer.failed_avps]
    if answer.error_message is not None:
        avps.append((dictionary.ERROR_MESSAGE, answer.error_message))
    return build_answer(message, avps)


def build_refusal(message: Message, error: RemoteProtocolError, local: Local) -> bytes:
    """The answer to a CCR that cannot be served: one Result-Code, its Failed-AVP, and what could be decoded.

    The E bit is set with a 3xxx code, and where Session-Id, CC-Request-Type or CC-Request-Number cannot be given back:
    the answer could not follow the CCA's grammar, so that of RFC 6733 §7.2 holds (§7.1.5; diameter-base.md §0).
    """
    avps: list[Item] = base_avps(error.result_code, local)
    avps += answer_extras(message)
    if error.failed_avp:
        avps.append((dictionary.FAILED_AVP, error.failed_avp))
    return build_answer(message, avps, error=3000 <= error.result_code < 4000 or not _can_be_a_cca(message))


def answer_extras(message: Message) -> tuple[Pair, ...]:
    """What any error answer to a CCR carries beside the base AVPs, as far as it was decoded.

    Auth-Application-Id, CC-Request-Type and CC-Request-Number: clients match on them even when the node itself had to
    refuse the request (overload, deadline). Empty for other commands.
    """
    if message.command != CREDIT_CONTROL or message.application != APPLICATION_CREDIT_CONTROL:
        return ()
    extras: list[Pair] = [(dictionary.AUTH_APPLICATION_ID, APPLICATION_CREDIT_CONTROL)]
    for key in (dictionary.CC_REQUEST_TYPE, dictionary.CC_REQUEST_NUMBER):
        value = first(message.avps, key)
        if value is not None:
            extras.append((key, value))
    return tuple(extras)


def _can_be_a_cca(message: Message) -> bool:
    needed = (dictionary.SESSION_ID, dictionary.CC_REQUEST_TYPE, dictionary.CC_REQUEST_NUMBER)
    return all(first(message.avps, key) is not None for key in needed)


def multiple_services(service: ServiceAnswer, tgpp: bool) -> list[Pair]:
    """Members of one Multiple-Services-Credit-Control, in the order of TS 32.299."""
    members: list[Pair] = []
    if service.granted is not None:
        members.append((dictionary.GRANTED_SERVICE_UNIT, granted_service_unit(service.granted, service.money_exponent)))
    members += [(dictionary.SERVICE_IDENTIFIER, identifier) for identifier in service.service_identifiers]
    if service.rating_group is not None:
        members.append((dictionary.RATING_GROUP, service.rating_group))
    if service.validity_time_s is not None:
        members.append((dictionary.VALIDITY_TIME, min(service.validity_time_s, MAX_UNSIGNED32)))
    members.append((dictionary.RESULT_CODE, int(service.result_code)))
    if service.final_unit is not None:
        members.append((dictionary.FINAL_UNIT_INDICATION, final_unit_indication(service.final_unit)))
    if tgpp:
        members += _thresholds(service)
    return members


def _thresholds(service: ServiceAnswer) -> list[Pair]:
    """CC-091, CC-092: Unsigned32, though volumes are Unsigned64."""
    stated = (
        (dictionary.TIME_QUOTA_THRESHOLD, service.time_quota_threshold_s),
        (dictionary.VOLUME_QUOTA_THRESHOLD, service.volume_quota_threshold_octets),
        (dictionary.UNIT_QUOTA_THRESHOLD, service.unit_quota_threshold),
    )
    members: list[Pair] = [(key, min(value, MAX_UNSIGNED32)) for key, value in stated if value is not None]
    if service.refund_information is not None:
        members.append((dictionary.REFUND_INFORMATION, service.refund_information))
    return members


def granted_service_unit(units: ServiceUnits, money_exponent: int = 2) -> list[Pair]:
    """Members of a Granted-Service-Unit: one instance of each unit that is stated (CC-067)."""
    members: list[Pair] = []
    if units.time_s is not None:
        members.append((dictionary.CC_TIME, min(units.time_s, MAX_UNSIGNED32)))
    if units.money_micros is not None:
        members.append((dictionary.CC_MONEY, _money(units.money_micros, units.currency, money_exponent)))
    for key, value in (
        (dictionary.CC_TOTAL_OCTETS, units.total_octets),
        (dictionary.CC_INPUT_OCTETS, units.input_octets),
        (dictionary.CC_OUTPUT_OCTETS, units.output_octets),
        (dictionary.CC_SERVICE_SPECIFIC_UNITS, units.service_specific_units),
    ):
        if value is not None:
            members.append((key, value))
    return members


def final_unit_indication(final: FinalUnitIndication) -> list[Pair]:
    """Members of a Final-Unit-Indication (CC-106…CC-108); `LocalProtocolError`: REDIRECT without its server."""
    members: list[Pair] = [(dictionary.FINAL_UNIT_ACTION, int(final.action))]
    if final.action == FinalUnitAction.TERMINATE:
        return members
    members += [(dictionary.RESTRICTION_FILTER_RULE, rule) for rule in final.restriction_filter_rules]
    members += [(dictionary.FILTER_ID, name) for name in final.filter_ids]
    if final.action == FinalUnitAction.REDIRECT:
        if final.redirect_address_type is None or not final.redirect_server_address:
            raise LocalProtocolError("Final-Unit-Action REDIRECT needs a Redirect-Server")
        server = [
            (dictionary.REDIRECT_ADDRESS_TYPE, final.redirect_address_type),
            (dictionary.REDIRECT_SERVER_ADDRESS, final.redirect_server_address),
        ]
        members.append((dictionary.REDIRECT_SERVER, server))
    return members


def _account(answer: CreditControlAnswer) -> list[Pair]:
    members: list[Pair] = []
    if answer.low_balance is not None:
        members.append((dictionary.LOW_BALANCE_INDICATION, int(answer.low_balance)))
    if answer.remaining_balance is not None:
        members.append((dictionary.REMAINING_BALANCE, _amount(answer.remaining_balance)))
    return members


def _amount(amount: Amount) -> list[Pair]:
    return _money(amount.micros, amount.currency, amount.exponent)


def _money(micros: int, currency: int | None, minor_digits: int) -> list[Pair]:
    digits, exponent = unit_value(micros, minor_digits)
    value: list[Pair] = [(dictionary.VALUE_DIGITS, digits)]
    if exponent:
        value.append((dictionary.EXPONENT, exponent))
    members: list[Pair] = [(dictionary.UNIT_VALUE, value)]
    if currency is not None:
        members.append((dictionary.CURRENCY_CODE, currency))
    return members
