"""What can be wrong with a request before its application sees it, in the order of DB-020."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.diameter import dictionary
from protocols.diameter.answers import Local
from protocols.diameter.avp import Message, every, firsts, same_identity
from protocols.diameter.errors import RemoteProtocolError, ResultCode
from protocols.diameter.header import (
    ABORT_SESSION,
    APPLICATION_COMMON,
    CAPABILITIES_EXCHANGE,
    CREDIT_CONTROL,
    DEVICE_WATCHDOG,
    DISCONNECT_PEER,
    FLAG_ERROR,
    FLAG_PROXIABLE,
    RE_AUTH,
    SESSION_TERMINATION,
    SPENDING_LIMIT,
    SPENDING_STATUS_NOTIFICATION,
)
from protocols.diameter.settings import Application

BASE_COMMANDS = frozenset({CAPABILITIES_EXCHANGE, DEVICE_WATCHDOG, DISCONNECT_PEER})
_OF_APPLICATIONS = frozenset(
    {CREDIT_CONTROL, RE_AUTH, ABORT_SESSION, SESSION_TERMINATION, SPENDING_LIMIT, SPENDING_STATUS_NOTIFICATION}
)
"""Commands that must carry their application's id, so that with 0 it is the id that is wrong (DB-022)."""

_RESERVED_BITS = 0x0F
_ROUTING = (dictionary.DESTINATION_HOST, dictionary.DESTINATION_REALM, dictionary.ROUTE_RECORD)


def header_error(message: Message, applications: Mapping[int, Application], strict: bool) -> RemoteProtocolError | None:
    """Judge Application-Id, Command-Code and flags of a request (DB-021…DB-025); `None`: nothing is wrong."""
    if message.command in BASE_COMMANDS:
        if message.application != APPLICATION_COMMON:
            return _unsupported_application()
        return _flags_error(message, strict, proxiable=False)
    application = applications.get(message.application)
    if application is None:
        # Application 0 is ours too: with it, what no application of ours knows is a command, not an application.
        if message.application != APPLICATION_COMMON or message.command in _OF_APPLICATIONS:
            return _unsupported_application()
        return _unsupported_command()
    if message.command not in application.commands:
        return _unsupported_command()
    return _flags_error(message, strict, proxiable=True)


def routing_error(
    message: Message, application: Application, local: Local, realms: frozenset[str]
) -> RemoteProtocolError | None:
    """Judge whether a request is for this server (DB-122…DB-125); `realms` in lower case, ours among them."""
    avps = message.avps
    host, realm, route = firsts(avps, _ROUTING)
    if route is not None:
        for passed in every(avps, dictionary.ROUTE_RECORD):
            if same_identity(passed, local.origin_host):
                return RemoteProtocolError(ResultCode.LOOP_DETECTED, None, "Route-Record names this host")
    if host is not None and not same_identity(host, local.origin_host):
        return RemoteProtocolError(ResultCode.UNABLE_TO_DELIVER, None, "Destination-Host is another host")
    if realm is not None:
        if realm.lower() not in realms:
            return RemoteProtocolError(ResultCode.REALM_NOT_SERVED, None, "Destination-Realm is not served")
        return None
    # Where AVPs could not be read, the realm may be among them: then that error is the one to answer.
    if host is not None and not message.errors and not application.requires_destination_realm:
        return RemoteProtocolError(ResultCode.UNABLE_TO_DELIVER, None, "Destination-Host without Destination-Realm")
    return None


def _flags_error(message: Message, strict: bool, proxiable: bool) -> RemoteProtocolError | None:
    flags = message.flags
    if flags & FLAG_ERROR:
        return RemoteProtocolError(ResultCode.INVALID_HDR_BITS, None, "E bit in a request")
    if strict and flags & FLAG_PROXIABLE and not proxiable:
        return RemoteProtocolError(ResultCode.INVALID_HDR_BITS, None, "P bit in a command that is not proxiable")
    if strict and flags & _RESERVED_BITS:
        return RemoteProtocolError(ResultCode.INVALID_BIT_IN_HEADER, None, "reserved bit in the header")
    return None


def _unsupported_application() -> RemoteProtocolError:
    return RemoteProtocolError(ResultCode.APPLICATION_UNSUPPORTED, None, "Application-Id is not supported")


def _unsupported_command() -> RemoteProtocolError:
    return RemoteProtocolError(ResultCode.COMMAND_UNSUPPORTED, None, "Command-Code is not supported")
