"""The Gy edge without a socket: octets of a CCR in, the engine's request or the octets of an answer out."""

from __future__ import annotations

from typing import Any

from ocs.charging.requests import ChargingRequest, Outcome, QuotaKey, Result, ServiceOutcome
from ocs.servers.gy import GySettings, PeerProfile, build_refusal, from_outcome, read_request, to_charging
from ocs.servers.gy_regular import RegularGy
from protocols.diameter.answers import Local
from protocols.diameter.avp import decode_message
from protocols.diameter.credit_control import InvalidRequestError
from protocols.diameter.credit_control_messages import CreditControlRequest
from tests.support.gy_client import Answer

LOCAL = Local("ocs1.example.com", "example.com")
CONTEXTS = frozenset({"32251@3gpp.org", "32260@3gpp.org", "32274@3gpp.org", "voice@rfc.example"})


def settings(**profile: Any) -> GySettings:
    """Settings with a default profile made from keyword arguments."""
    return GySettings(service_contexts=CONTEXTS, default=PeerProfile(**profile))


def read(data: bytes, **profile: Any) -> CreditControlRequest:
    """The facts of a CCR that must be accepted."""
    return read_request(decode_message(data), settings(**profile))[0]


def charging(data: bytes, **profile: Any) -> ChargingRequest:
    """The engine's request for a CCR, by the short way too if the CCR may take it."""
    message, known = decode_message(data), settings(**profile)
    ccr, used = read_request(message, known)
    request = to_charging(ccr, used)
    short = RegularGy(known, LOCAL).read(message)
    assert short is None or short[0] == request
    return request


def refused(data: bytes, **profile: Any) -> InvalidRequestError:
    """The error of a CCR that must be refused, and never takes the short way."""
    assert RegularGy(settings(**profile), LOCAL).read(decode_message(data)) is None
    try:
        read(data, **profile)
    except InvalidRequestError as error:
        return error
    raise AssertionError("the request was accepted")


def refusal(data: bytes, **profile: Any) -> Answer:
    """The answer to a CCR that must be refused."""
    return Answer(build_refusal(decode_message(data), refused(data, **profile), LOCAL))


def answered(data: bytes, outcome: Outcome, **profile: Any) -> Answer:
    """The CCA for an outcome, by the short way too if it may take it."""
    message, known = decode_message(data), settings(**profile)
    ccr, used = read_request(message, known)
    answer = from_outcome(message, ccr, outcome, used, LOCAL)
    regular = RegularGy(known, LOCAL)
    short = regular.read(message)
    assert short is None or regular.answer(message, short[1], outcome) in (None, answer)
    return Answer(answer)


def outcome(*services: ServiceOutcome, result: Result = Result.SUCCESS, **fields: Any) -> Outcome:
    """An outcome in EUR."""
    return Outcome(result, services, currency=978, **fields)


def key(rating_group: int | None = 100, *service_identifiers: int) -> QuotaKey:
    """A quota key."""
    return QuotaKey(rating_group, service_identifiers)
