"""The one table from the engine's results to the codes of each protocol (credit-control.md §14).

Diameter has two levels: the command's Result-Code and the one inside Multiple-Services-Credit-Control. A result that
has no code at the inner level can only end the whole request.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

from ocs.charging.requests import Result
from protocols.diameter.errors import LocalProtocolError, ResultCode


class DiameterCodes(NamedTuple):
    """Codes of one result."""

    command: ResultCode
    service: ResultCode | None
    """Inside MSCC; `None`: must not stand there."""
    failed_avp: bool
    """Whether RFC 8506 §9 and RFC 6733 §7.5 want the offending AVP with it."""


DIAMETER = MappingProxyType(
    {
        Result.SUCCESS: DiameterCodes(ResultCode.SUCCESS, ResultCode.SUCCESS, False),
        Result.SERVICE_DENIED: DiameterCodes(
            ResultCode.END_USER_SERVICE_DENIED, ResultCode.END_USER_SERVICE_DENIED, False
        ),
        Result.NOT_APPLICABLE: DiameterCodes(
            ResultCode.CREDIT_CONTROL_NOT_APPLICABLE, ResultCode.CREDIT_CONTROL_NOT_APPLICABLE, False
        ),
        Result.CREDIT_LIMIT_REACHED: DiameterCodes(
            ResultCode.CREDIT_LIMIT_REACHED, ResultCode.CREDIT_LIMIT_REACHED, False
        ),
        Result.UNKNOWN_SESSION: DiameterCodes(ResultCode.UNKNOWN_SESSION_ID, None, False),
        Result.AUTHORIZATION_REJECTED: DiameterCodes(
            ResultCode.AUTHORIZATION_REJECTED, ResultCode.AUTHORIZATION_REJECTED, False
        ),
        Result.INVALID_VALUE: DiameterCodes(ResultCode.INVALID_AVP_VALUE, ResultCode.INVALID_AVP_VALUE, True),
        Result.IDENTITY_MISSING: DiameterCodes(ResultCode.MISSING_AVP, None, True),
        Result.CONTRADICTING_IDENTITIES: DiameterCodes(ResultCode.CONTRADICTING_AVPS, None, True),
        Result.UNABLE_TO_COMPLY: DiameterCodes(ResultCode.UNABLE_TO_COMPLY, ResultCode.UNABLE_TO_COMPLY, False),
        # 3004 only when the request named this host (DB-127): `overload_code`.
        Result.TOO_BUSY: DiameterCodes(ResultCode.UNABLE_TO_COMPLY, ResultCode.UNABLE_TO_COMPLY, False),
        Result.USER_UNKNOWN: DiameterCodes(ResultCode.USER_UNKNOWN, None, False),
        Result.RATING_FAILED: DiameterCodes(ResultCode.RATING_FAILED, ResultCode.RATING_FAILED, True),
        Result.CONTEXT_UNSUPPORTED: DiameterCodes(ResultCode.RATING_FAILED, ResultCode.RATING_FAILED, True),
    }
)


def command_code(result: Result) -> ResultCode:
    """Result-Code of the command."""
    return DIAMETER[result].command


def service_code(result: Result) -> ResultCode:
    """Result-Code inside Multiple-Services-Credit-Control; `LocalProtocolError` for a result that has none there."""
    code = DIAMETER[result].service
    if code is None:
        raise LocalProtocolError(f"{result.value} has no code inside Multiple-Services-Credit-Control")
    return code


def overload_code(addressed_to_us: bool) -> ResultCode:
    """TOO_BUSY only where Destination-Host named this host, else UNABLE_TO_COMPLY (RFC 6733 §7.1.3, DB-127)."""
    return ResultCode.TOO_BUSY if addressed_to_us else ResultCode.UNABLE_TO_COMPLY
