"""The short way of regular messages against the general one: the same request, the same octets of an answer, or none."""

from __future__ import annotations

import os
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cython_ext import _credit
from ocs.charging.requests import (
    FinalAction,
    FinalUnit,
    Outcome,
    QuotaKey,
    Result,
    ServiceOutcome,
    UnitKind,
)
from ocs.charging.results import DIAMETER
from ocs.servers.gy import GySettings, PeerProfile, from_outcome, read_request, to_charging
from ocs.servers.gy_regular import MAX_REMEMBERED, RegularGy
from protocols.diameter import dictionary as d
from protocols.diameter.answers import Local
from protocols.diameter.avp import decode_message
from protocols.diameter.errors import RemoteProtocolError
from tests.support.codecs import gy_update
from tests.support.gy_client import (
    E164,
    EVENT,
    IMSI,
    INITIAL,
    NAI,
    PRIVATE,
    SIP_URI,
    TERMINATION,
    UPDATE,
    Requests,
    mscc,
    proxy_info,
    subscription,
    units,
)
from tests.support.mutations import mutate

SHORT_WAY = os.environ.get("OCS_PURE") != "1"
"""False: everything goes the general way, and that is what is to be seen."""

LOCAL = Local("ocs1.example.com", "example.com", 7)
CONTEXTS = frozenset({"32251@3gpp.org", "32274@3gpp.org", "voice@rfc.example"})
PROFILES = {
    "gw1.example.net": PeerProfile(),
    "gw2.example.net": PeerProfile(quota_key="rg+si", reduce_uris=True, identity_order=("imsi", "username", "e164")),
    "gw3.example.net": PeerProfile(form="rfc", session_failover=True),
    "gw4.example.net": PeerProfile(send_remaining_balance=True, failure_handling=1),
    "gw6.example.net": PeerProfile(cmd_code_when_all_mscc_fail="first"),
    "gw5.example.net": PeerProfile(form="3gpp", final_with_denial=True, send_cost_information=True),
}
SETTINGS = GySettings(service_contexts=CONTEXTS, peers=PROFILES)
MUTATIONS = 10_000

SMALL = st.integers(0, 3)
AMOUNT = st.one_of(SMALL, st.integers(0, 2**64 - 1))
UNITS = st.builds(
    lambda stated, reasons, more: [*((d.REPORTING_REASON, one) for one in reasons), *units(**stated), *more],
    st.dictionaries(st.sampled_from(["total", "input", "output", "events"]), AMOUNT).flatmap(
        lambda stated: st.sampled_from([stated, {**stated, "time": 61}])
    ),
    st.lists(st.integers(0, 9), max_size=2),
    st.sampled_from([[], [], [], [(d.TARIFF_CHANGE_USAGE, 1)], units(money=(5, -2, 978)), [(d.CC_TOTAL_OCTETS, 5)]]),
)
SERVICES = st.lists(
    st.builds(
        lambda group, services, requested, used, reason, extra: mscc(
            group, services=services, requested=requested, used=used, reason=reason, extra=extra
        ),
        st.one_of(st.none(), SMALL),
        st.lists(SMALL, max_size=3),
        st.one_of(st.none(), st.just([]), UNITS),
        st.lists(UNITS, max_size=2),
        st.one_of(st.none(), st.integers(0, 9)),
        st.sampled_from([[], [], [], [(d.REFUND_INFORMATION, b"token")], [(d.RATING_GROUP, 5)]]),
    ),
    max_size=3,
)
SUBSCRIPTIONS = st.lists(
    st.builds(
        subscription,
        st.sampled_from([E164, IMSI, SIP_URI, NAI, PRIVATE, 5]),
        st.sampled_from(
            [
                "447700900001",
                "+44 7700 900001",
                "",
                " 234150999999999",
                "1" * 21,
                "²",
                "x",
                "sip:+44770@Example.ORG",
                "t",
            ]
        ),
    ),
    max_size=3,
)
EXTRAS = st.lists(
    st.sampled_from(
        [
            (d.USER_NAME, "someone"),
            (d.USER_NAME, ""),
            (d.ORIGIN_STATE_ID, 5),
            (d.SERVICE_IDENTIFIER, 9),
            (d.REQUESTED_SERVICE_UNIT, units(total=5)),
            (d.USED_SERVICE_UNIT, units(total=5)),
            (d.REFUND_INFORMATION, b"token"),
            (d.CALLED_STATION_ID, "internet"),
            (d.USER_EQUIPMENT_INFO, [(d.USER_EQUIPMENT_INFO_TYPE, 0), (d.USER_EQUIPMENT_INFO_VALUE, b"1")]),
            (d.SERVICE_INFORMATION, [(d.PS_INFORMATION, [(d.CALLED_STATION_ID, "ims")])]),
            (d.SERVICE_INFORMATION, [(d.SMS_INFORMATION, [(d.NUMBER_OF_MESSAGES_SENT, 2)])]),
            (d.VENDOR_SPECIFIC_APPLICATION_ID, [(d.VENDOR_ID, 10415), (d.AUTH_APPLICATION_ID, 4)]),
            (d.ACCT_APPLICATION_ID, 4),
            (d.CC_SUB_SESSION_ID, 1),
            (d.SERVICE_PARAMETER_INFO, [(d.SERVICE_PARAMETER_TYPE, 7), (d.SERVICE_PARAMETER_VALUE, b"")]),
            (d.SUBSCRIPTION_ID_EXTENSION, [(d.SUBSCRIPTION_ID_NAI, "someone@example.net")]),
            (d.REQUESTED_ACTION, 0),
            (d.CC_CORRELATION_ID, b"one"),
            proxy_info("dra1.example.net", b"\x00\xff\x01"),
            proxy_info("dra2.example.net", b"\x01\x02"),
        ]
    ),
    max_size=3,
)
WITHOUT = st.sampled_from(
    [(), (), (), (), (d.AUTH_APPLICATION_ID,), (d.SERVICE_CONTEXT_ID,), (d.CC_REQUEST_NUMBER,), (d.DESTINATION_REALM,)]
)
CONTEXT_IDS = st.sampled_from(
    ["32251@3gpp.org", "ext.070.999.13.32251@3GPP.org", "voice@rfc.example", "Voice@RFC.example", "other@rfc.example"]
)


@st.composite
def messages(draw: st.DrawFn, kinds: tuple[int, ...] = (INITIAL, UPDATE, TERMINATION, EVENT)) -> bytes:
    extra: list[Any] = [*draw(SUBSCRIPTIONS), *draw(EXTRAS)]
    requests = Requests(draw(st.sampled_from(["GW1.example.net", *PROFILES, "", "gw9.example.net"])))
    return requests.ccr(
        draw(st.sampled_from(kinds)),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=12)),
        *draw(SERVICES),
        msisdn=draw(st.sampled_from([None, "447700900123"])),
        context=draw(CONTEXT_IDS),
        event_time_s=draw(st.sampled_from([None, 1_772_481_600])),
        several=draw(st.sampled_from([None, 0, 1])),
        extra=extra,
        without=draw(WITHOUT),
        flags=draw(st.sampled_from([0x80, 0xC0, 0xD0])),
    )


IN_GROUPS = [result for result, codes in DIAMETER.items() if codes.service is not None]
AMOUNT_S = st.one_of(st.none(), st.integers(0, 2**33))


@st.composite
def outcomes(draw: st.DrawFn, keys: list[QuotaKey]) -> Outcome:
    finals = [FinalUnit(FinalAction.TERMINATE), FinalUnit(FinalAction.REDIRECT, 2, "http://top.up")]
    others = [QuotaKey(7), QuotaKey(7, (1, 2))]
    services = draw(
        st.lists(
            st.builds(
                ServiceOutcome,
                st.sampled_from([*keys, *keys, *keys, *others]),
                st.sampled_from([*[Result.SUCCESS] * 4, *IN_GROUPS]),
                st.one_of(st.none(), st.sampled_from(UnitKind)),
                st.one_of(st.none(), st.integers(0, 2**63)),
                AMOUNT_S,
                AMOUNT_S,
                st.sampled_from([None, None, *finals]),
                st.sampled_from([True, True, True, False]),
                st.just(None),
                st.sampled_from([None, None, None, b"token"]),
            ),
            max_size=3,
        )
    )
    return Outcome(
        draw(st.sampled_from([Result.SUCCESS] * 4 + [Result.USER_UNKNOWN, Result.UNKNOWN_SESSION])),
        tuple(services),
        draw(st.one_of(st.none(), st.integers(0, 10**9))),
        draw(st.one_of(st.none(), st.integers(-(10**9), 10**9))),
        978,
        2,
        draw(st.sampled_from([None, None, None, True])),
    )


def read_both(data: bytes, known: GySettings = SETTINGS) -> tuple[Any, Any, RegularGy]:
    """The short way's reading, and the general way's; `None` for a refusal."""
    message = decode_message(data)
    regular = RegularGy(known, LOCAL)
    short = regular.read(message)
    try:
        ccr, profile = read_request(message, known)
    except RemoteProtocolError:
        return short, None, regular
    return short, (message, ccr, profile, to_charging(ccr, profile)), regular


@settings(max_examples=500, deadline=None)
@given(messages())
def test_the_short_way_reads_the_same_request_or_none(data: bytes) -> None:
    short, general, _regular = read_both(data)
    if short is not None:
        assert general is not None, "refused by the general way"
        assert short[0] == general[3]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_the_short_way_writes_the_same_octets_or_none(drawn: st.DataObject) -> None:
    short, general, regular = read_both(drawn.draw(messages((INITIAL, UPDATE, TERMINATION))))
    if short is None:
        return
    message, ccr, profile, _request = general
    outcome = drawn.draw(outcomes(short[1].keys))
    answer = regular.answer(message, short[1], outcome)
    if answer is not None:
        assert answer == from_outcome(message, ccr, outcome, profile, LOCAL)


def corpus() -> list[bytes]:
    gateway = Requests("gw1.example.net", origin_state_id=7)
    packet = Requests("smf1.example.net")
    used = units(reason=3, time=60, total=10, input=3, output=7)
    information = (
        d.SERVICE_INFORMATION,
        [(d.PS_INFORMATION, [(d.CALLED_STATION_ID, "internet"), (d.TGPP_RAT_TYPE, b"\x06")])],
    )
    items = [(key, value) for key, value in gy_update() if key != d.PROXY_INFO]
    return [
        gateway.ccr(INITIAL, 0, "s1", mscc(100, requested=[]), extra=[subscription(IMSI, "234150999999999"), information]),
        gateway.ccr(UPDATE, 1, "s1", mscc(100, requested=[], used=[used]), mscc(200, services=[5], used=[used], reason=2)),
        gateway.ccr(TERMINATION, 2, "s1", mscc(100, used=[units(input=5, output=7)], reason=2)),
        packet.message(272, 4, 0xC0, items),
    ]  # fmt: skip


def test_spoilt_messages_take_the_short_way_only_if_both_read_the_same() -> None:
    originals = corpus()
    assert all((RegularGy(SETTINGS, LOCAL).read(decode_message(one)) is not None) is SHORT_WAY for one in originals)
    taken = 0
    for number in range(MUTATIONS):
        rng = random.Random(number)
        data = mutate(rng, rng.choice(originals))
        short, general, _regular = read_both(data)
        if short is not None:
            taken += 1
            assert general is not None, f"mutation {number} is refused by the general way"
            assert short[0] == general[3], f"mutation {number}"
    assert (taken > MUTATIONS // 20) is SHORT_WAY, "too few spoilt messages still are regular: the test proves little"


def test_what_gateways_send_takes_the_short_way_both_ways() -> None:
    for data in corpus():
        short, general, regular = read_both(data)
        if not SHORT_WAY:
            assert short is None
            continue
        message, ccr, profile, request = general
        granted = tuple(
            ServiceOutcome(service.key, Result.SUCCESS, UnitKind.OCTETS, 2**40, 3600, 1000)
            for service in request.services
        )
        outcome = Outcome(Result.SUCCESS, granted, 5, 100, 978)
        answer = regular.answer(message, short[1], outcome)
        assert answer is not None
        assert answer == from_outcome(message, ccr, outcome, profile, LOCAL)


def test_denials_take_the_short_way_unless_they_decide_the_commands_code() -> None:
    for host, taken in (("gw1.example.net", True), ("gw6.example.net", False)):
        data = Requests(host).ccr(UPDATE, 1, "s1", mscc(1, requested=[]), mscc(2, requested=[]), mscc(3, requested=[]))
        short, (message, ccr, profile, request), regular = read_both(data)
        if not SHORT_WAY:
            assert short is None
            continue
        results = (Result.CREDIT_LIMIT_REACHED, Result.NOT_APPLICABLE, Result.SERVICE_DENIED)
        denied = [ServiceOutcome(one.key, result) for one, result in zip(request.services, results, strict=True)]
        outcome = Outcome(Result.SUCCESS, tuple(denied), currency=978)
        answer = regular.answer(message, short[1], outcome)
        assert (answer is not None) is taken
        assert answer in (None, from_outcome(message, ccr, outcome, profile, LOCAL))


def test_an_answer_that_is_too_long_is_left_to_the_general_way() -> None:
    infos = [proxy_info(f"dra{number}.example.net", bytes(200)) for number in range(20)]
    data = Requests("gw1.example.net").ccr(UPDATE, 1, "s1", mscc(100, requested=[]), extra=infos)
    short, general, regular = read_both(data)
    if not SHORT_WAY:
        assert short is None
        return
    assert short[0] == general[3]
    outcome = Outcome(Result.SUCCESS, (ServiceOutcome(QuotaKey(100), unit=UnitKind.OCTETS, granted=1),))
    assert regular.answer(general[0], short[1], outcome) is None


def test_what_is_remembered_of_origin_hosts_and_contexts_has_a_maximum() -> None:
    regular = RegularGy(SETTINGS, LOCAL)
    for number in range(MAX_REMEMBERED + 5):
        data = Requests(f"gw{number}.example.net").ccr(UPDATE, 1, "s1", context=f"{number}.32251@3gpp.org")
        assert (regular.read(decode_message(data)) is not None) is SHORT_WAY
    assert len(regular.speakers) == len(regular.contexts) == (MAX_REMEMBERED if SHORT_WAY else 0)


def test_the_leaf_numbers_avps_as_the_dictionary_does() -> None:
    assert {name: d.BY_NAME[name].code for name in _credit.CODES} == _credit.CODES
