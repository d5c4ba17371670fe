"""Whatever a gateway sends, the Gy edge accepts it or names what is wrong; nothing else is raised."""

from __future__ import annotations

import collections
import random

from ocs.charging.requests import Result
from ocs.servers.gy import build_refusal, from_outcome, read_request, to_charging
from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message, first
from protocols.diameter.credit_control import InvalidRequestError
from tests.support.gy_client import EVENT, INITIAL, UPDATE, Requests, mscc, proxy_info, sms_information, units
from tests.support.gy_edge import LOCAL, outcome, settings
from tests.support.mutations import header_passes, mutate

MUTANTS = 6000
MONEY = (d.REQUESTED_SERVICE_UNIT, units(money=(5, -2, 978)))
PROXY_INFO = bytes.fromhex("0000011c")
gateway = Requests()
SEEDS = [
    gateway.ccr(UPDATE, 1, "s", mscc(used=[units(total=1, reason=3)], requested=[]), event_time_s=1_772_481_600),
    gateway.ccr(INITIAL, 0, "s", mscc(1, services=[1], requested=units(total=5)), mscc(None, requested=[])),
    gateway.ccr(EVENT, 0, "e", action=0, context="voice@rfc.example", extra=[MONEY]),
    gateway.ccr(
        EVENT,
        0,
        "e",
        mscc(None, requested=units(events=1), extra=[(d.REFUND_INFORMATION, b"t")]),
        action=1,
        context="32274@3gpp.org",
        extra=[sms_information(2, ["447700900001"]), proxy_info("p", b"x")],
    ),
]


def _code(answer: bytes) -> int:
    """Result-Code of an answer that is well-formed; what is odd in it may only be the echoed Proxy-Info."""
    message = decode_message(answer)
    assert message.length == len(answer)
    for error in message.errors:
        # The quoted chain of groups may be one deeper than what we read ourselves.
        if error.result_code != 5012:
            assert error.failed_avp.startswith(PROXY_INFO)
            assert error.result_code != 5014
    code = first(message.avps, d.RESULT_CODE)
    assert isinstance(code, int)
    return code


def test_mutated_requests_are_answered() -> None:
    rng = random.Random(272)
    codes: collections.Counter[int] = collections.Counter()
    for number in range(MUTANTS):
        data = mutate(rng, SEEDS[number % len(SEEDS)])
        if len(data) < 20 or not header_passes(data):
            continue
        message = decode_message(data)
        try:
            ccr, profile = read_request(message, settings())
        except InvalidRequestError as error:
            codes[_code(build_refusal(message, error, LOCAL))] += 1
            continue
        request = to_charging(ccr, profile)
        assert request.session_id
        for result in (Result.SUCCESS, Result.INVALID_VALUE, Result.CONTRADICTING_IDENTITIES):
            _code(from_outcome(message, ccr, outcome(result=result), profile, LOCAL))
        codes[2001] += 1
    # Each kind of error of form is met, so the mutations reach what is tested here.
    assert {2001, 5001, 5004, 5005, 5009, 5014, 5031} <= set(codes), codes
