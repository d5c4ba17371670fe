"""Result codes and errors of the Diameter protocols.

    DiameterError
    ├── LocalProtocolError    we asked for something that the protocol forbids: our bug
    └── RemoteProtocolError   the peer sent something wrong; carries what to answer

`AvpError` is a value, not an exception: a decoder collects all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple


class ResultCode(IntEnum):
    """Values of Result-Code that this server sends or understands (RFC 6733 §7.1, RFC 8506 §9)."""

    SUCCESS = 2001
    LIMITED_SUCCESS = 2002
    COMMAND_UNSUPPORTED = 3001
    UNABLE_TO_DELIVER = 3002
    REALM_NOT_SERVED = 3003
    TOO_BUSY = 3004
    LOOP_DETECTED = 3005
    REDIRECT_INDICATION = 3006
    APPLICATION_UNSUPPORTED = 3007
    INVALID_HDR_BITS = 3008
    INVALID_AVP_BITS = 3009
    UNKNOWN_PEER = 3010
    AUTHENTICATION_REJECTED = 4001
    ELECTION_LOST = 4003
    END_USER_SERVICE_DENIED = 4010
    CREDIT_CONTROL_NOT_APPLICABLE = 4011
    CREDIT_LIMIT_REACHED = 4012
    AVP_UNSUPPORTED = 5001
    UNKNOWN_SESSION_ID = 5002
    AUTHORIZATION_REJECTED = 5003
    INVALID_AVP_VALUE = 5004
    MISSING_AVP = 5005
    RESOURCES_EXCEEDED = 5006
    CONTRADICTING_AVPS = 5007
    AVP_NOT_ALLOWED = 5008
    AVP_OCCURS_TOO_MANY_TIMES = 5009
    NO_COMMON_APPLICATION = 5010
    UNSUPPORTED_VERSION = 5011
    UNABLE_TO_COMPLY = 5012
    INVALID_BIT_IN_HEADER = 5013
    INVALID_AVP_LENGTH = 5014
    INVALID_MESSAGE_LENGTH = 5015
    INVALID_AVP_BIT_COMBO = 5016
    NO_COMMON_SECURITY = 5017
    USER_UNKNOWN = 5030
    RATING_FAILED = 5031


class AvpError(NamedTuple):
    """One thing wrong with the AVPs of a received message."""

    result_code: int
    """Value of Result-Code to answer."""

    failed_avp: bytes
    """Padded octets to stand inside Failed-AVP, in their chain of groups (DB-049); empty if none go with the code."""

    name: str
    """Name of the AVP at fault; `vendor:code` if the dictionary does not know it."""

    detail: str
    """What is wrong, without any value of the subscriber's."""


class DiameterError(Exception):
    """Root of the errors of the Diameter protocols."""


class LocalProtocolError(DiameterError):
    """The caller asked for something that the protocol forbids: a bug of ours."""


class RemoteProtocolError(DiameterError):
    """The peer broke the protocol; `result_code` and `failed_avp` say what to answer."""

    def __init__(self, result_code: int, failed_avp: bytes | None = None, detail: str = "") -> None:
        super().__init__(f"{result_code} {detail}".rstrip())
        self.result_code = result_code
        self.failed_avp = failed_avp
        self.detail = detail


# DB-020: structure before grammar before values. 5012 stands for a limit of ours that stopped the decoder.
_ORDER = {
    ResultCode.INVALID_AVP_LENGTH: 0,
    ResultCode.UNABLE_TO_COMPLY: 0,
    ResultCode.AVP_UNSUPPORTED: 0,
    ResultCode.MISSING_AVP: 1,
    ResultCode.AVP_OCCURS_TOO_MANY_TIMES: 1,
    ResultCode.AVP_NOT_ALLOWED: 1,
}


def reported(errors: Iterable[AvpError]) -> AvpError | None:
    """Return the one error to answer: the first of the earliest check; `None` without errors (RFC 6733 §7, DB-020)."""
    return min(errors, key=lambda error: _ORDER.get(ResultCode(error.result_code), 2), default=None)
