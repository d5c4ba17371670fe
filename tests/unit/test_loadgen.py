"""The load generator's message path: its requests as our codec and a foreign one read them, and its eye for answers."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest
from diameter.message import Message as ForeignMessage
from diameter.message.commands import CreditControlRequest
from hypothesis import given
from hypothesis import strategies as st

from bench.gy.plan import PRICES, Plan, Price, catalogue_text
from bench.gy.traffic import percentile_ns
from cython_ext._loadgen import PROBLEM_NAMES, Load
from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message, encode_message, every, first
from protocols.diameter.credit_control import CreditControlSettings, parse_ccr
from protocols.diameter.credit_control_messages import CreditControlRequest as OurRequest
from tariffs.loader import load as load_catalogue

RUN = 1_772_450_000_123
START_NS = 5_000_000_000
SETTINGS = CreditControlSettings(service_contexts=frozenset({"32251@3gpp.org"}))


def split(octets: bytes) -> list[bytes]:
    messages = []
    while octets:
        length = int.from_bytes(octets[1:4], "big")
        messages.append(octets[:length])
        octets = octets[length:]
    return messages


def parsed(octets: bytes) -> OurRequest:
    message = decode_message(octets)
    assert message.errors == []
    return parse_ccr(message, SETTINGS)


def answer_to(request: bytes, prices: Iterable[Price], code: int = 2001, **changes: Any) -> bytes:
    """The CCA that a right server gives; `changes` make it a wrong one."""
    message = decode_message(request)
    kind = first(message.avps, d.CC_REQUEST_TYPE)
    items: list[Any] = [
        (d.SESSION_ID, changes.get("session", first(message.avps, d.SESSION_ID))),
        (d.RESULT_CODE, code),
        (d.ORIGIN_HOST, "ocs.example.net"),
        (d.ORIGIN_REALM, "example.net"),
        (d.AUTH_APPLICATION_ID, 4),
        (d.CC_REQUEST_TYPE, changes.get("kind", kind)),
        (d.CC_REQUEST_NUMBER, changes.get("number", first(message.avps, d.CC_REQUEST_NUMBER))),
    ]
    for price in prices if code == 2001 else ():
        members: list[Any] = [(d.RATING_GROUP, changes.get("rating_group", price.rating_group))]
        if kind != 3:
            granted = [(d.CC_TOTAL_OCTETS, changes.get("granted", price.quota))]
            members.append((d.GRANTED_SERVICE_UNIT, granted))
        members.append((d.RESULT_CODE, changes.get("service_code", 2001)))
        items.append((d.MULTIPLE_SERVICES_CREDIT_CONTROL, members))
    return bytes(
        encode_message(
            272,
            4,
            0x40,
            changes.get("hop_by_hop", message.hop_by_hop),
            changes.get("end_to_end", message.end_to_end),
            items,
        )
    )


def small(**fields: Any) -> tuple[Plan, Load]:
    plan = Plan(**{"connections": 1, "window": 1, "sessions": 1, "accounts": 1, "updates": 2, **fields})
    load = plan.load(RUN)
    load.set_event_time(3_900_000_000)
    load.measure(0, 1 << 62)
    return plan, load


def problems_of(load: Load) -> dict[str, int]:
    return load.problems()[0]


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_requests_say_what_is_meant(groups: int) -> None:
    plan, load = small(prices=PRICES[:groups], updates=0, accounts=3, sessions=1)
    initial = split(load.fill(0, 1))[0]
    load.receive(0, answer_to(initial, plan.prices), 2)
    termination = split(load.fill(0, 3))[0]
    assert 500 <= len(initial) <= 1100
    for octets, kind, number in ((initial, 1, 0), (termination, 3, 1)):
        ccr = parsed(octets)
        assert ccr.session_id == f"pgw01.bench.example.net;{RUN};0000000000"
        assert (ccr.request_type, ccr.request_number) == (kind, number)
        assert [one.data for one in ccr.subscriptions] == [plan.msisdn(0), plan.imsi(0)]
        assert ccr.user_name == f"{plan.imsi(0)}@nai.epc.mnc015.mcc234.3gppnetwork.org"
        assert ccr.event_timestamp_s == 3_900_000_000 - 2_208_988_800
        assert ccr.origin_state_id == RUN // 1000
        assert [one.rating_group for one in ccr.services] == [price.rating_group for price in plan.prices]
        assert [one.requested is not None for one in ccr.services] == [kind == 1] * groups
        assert [len(one.used) for one in ccr.services] == [int(kind == 3)] * groups
    for service, price in zip(parsed(termination).services, plan.prices, strict=True):
        (used,) = service.used
        assert used.total_octets is not None
        assert 1 <= used.total_octets <= price.quota
        assert (used.input_octets or 0) + (used.output_octets or 0) == used.total_octets
        assert service.reporting_reasons == (2,)
    information = every(decode_message(initial).avps, d.SERVICE_INFORMATION)[0][0][2]
    assert first(information, d.TGPP_RAT_TYPE) == b"\x06"
    assert first(information, d.PDP_ADDRESS) == (1, "10.0.0.0")
    assert first(information, d.CALLED_STATION_ID) == "internet"


@pytest.mark.parametrize("groups", [1, 3])
def test_a_foreign_decoder_reads_the_same(groups: int) -> None:
    plan, load = small(prices=PRICES[:groups])
    initial = split(load.fill(0, 1))[0]
    load.receive(0, answer_to(initial, plan.prices), 2)
    load.receive(0, answer_to(split(load.fill(0, 3))[0], plan.prices), 4)
    update = split(load.fill(0, 5))[0]
    for octets in (initial, update):
        foreign, ours = ForeignMessage.from_bytes(octets), parsed(octets)
        assert isinstance(foreign, CreditControlRequest)
        assert foreign.session_id == ours.session_id
        assert (foreign.cc_request_type, foreign.cc_request_number) == (ours.request_type, ours.request_number)
        assert [one.subscription_id_data for one in foreign.subscription_id] == [one.data for one in ours.subscriptions]
        services = foreign.multiple_services_credit_control
        assert [one.rating_group for one in services] == [one.rating_group for one in ours.services]
        for theirs, mine in zip(services, ours.services, strict=True):
            used = [(one.cc_total_octets, one.cc_time) for one in theirs.used_service_unit]
            assert used == [(one.total_octets, one.time_s) for one in mine.used]
        information = foreign.service_information.ps_information
        assert information.tgpp_sgsn_mcc_mnc == "23415"
        assert information.called_station_id == "internet"


def test_a_session_is_an_initial_its_updates_and_a_termination_then_comes_another_account() -> None:
    plan, load = small(accounts=2, updates=2)
    seen = []
    for instant in range(1, 9):
        (request,) = split(load.fill(0, instant))
        ccr = parsed(request)
        seen.append((ccr.session_id[-1], int(ccr.request_type), ccr.request_number, ccr.subscriptions[0].data[-1]))
        load.receive(0, answer_to(request, plan.prices), instant)
    # The first session of a connection is cut short, so that not all end at once.
    assert seen == [
        ("0", 1, 0, "0"),
        ("0", 3, 1, "0"),
        ("1", 1, 0, "1"),
        ("1", 2, 1, "1"),
        ("1", 2, 2, "1"),
        ("1", 3, 3, "1"),
        ("2", 1, 0, "0"),
        ("2", 2, 1, "0"),
    ]
    assert problems_of(load) == {}
    assert load.counts()["sessions"] == 2


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 40), st.integers(1, 1 << 30), st.integers(1, 1 << 32), st.data())
def test_what_must_be_debited_is_the_cumulative_price(price: int, per: int, step: int, quota: int, data: Any) -> None:
    most = 1 << 60
    if Fraction(8 * (quota + step) * price, per) > most:
        price = 1
    one = Price(7, quota, price, per, step)
    plan, load = small(prices=(one,), updates=3, seed=data.draw(st.integers(1, 1 << 31)))
    used, spent = 0, 0
    for instant in range(1, 8):
        (request,) = split(load.fill(0, instant))
        ccr = parsed(request)
        if ccr.request_number == 0:
            spent += math.ceil(Fraction(math.ceil(Fraction(used, step)) * step * price, per))
            used = 0
        used += sum(unit.total_octets or 0 for unit in ccr.services[0].used)
        load.receive(0, answer_to(request, plan.prices), instant)
    spent += math.ceil(Fraction(math.ceil(Fraction(used, step)) * step * price, per))
    assert problems_of(load) == {}
    assert load.spent_micros() == [spent]
    # A session without updates, then one with three: seven requests, two ends.
    assert [number for _, number, _, _ in load.last_sessions()] == [0, 1]
    assert sum(micros for _, _, _, micros in load.last_sessions()) == spent


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        ("wrong Session-Id", {"session": "pgw01.bench.example.net;1772450000123;0000000001"}),
        ("wrong Session-Id", {"session": "short"}),
        ("wrong CC-Request-Type or -Number", {"kind": 2}),
        ("wrong CC-Request-Type or -Number", {"number": 1}),
        ("wrong grant", {"granted": 9_999_999}),
        ("service missing or unknown", {"rating_group": 101}),
        ("refused request", {"service_code": 4012}),
        ("answer that fits no request", {"hop_by_hop": 77}),
        ("answer that fits no request", {"end_to_end": 77}),
    ],
)
def test_every_wrong_answer_is_a_problem(problem: str, changes: dict[str, Any]) -> None:
    plan, load = small()
    (request,) = split(load.fill(0, 1))
    load.receive(0, answer_to(request, plan.prices, **changes), 2)
    assert problem in PROBLEM_NAMES
    assert problem in problems_of(load)


def test_a_missing_service_is_a_problem() -> None:
    plan, load = small(prices=PRICES)
    (request,) = split(load.fill(0, 1))
    load.receive(0, answer_to(request, plan.prices[:2]), 2)
    assert problems_of(load) == {"service missing or unknown": 1}


def test_a_second_answer_to_one_request_is_a_problem() -> None:
    plan, load = small()
    (request,) = split(load.fill(0, 1))
    load.receive(0, 2 * answer_to(request, plan.prices), 2)
    assert problems_of(load) == {"answer that fits no request": 1}


def test_a_refused_request_is_counted_by_its_code_and_its_session_given_up() -> None:
    plan, load = small(accounts=2)
    (request,) = split(load.fill(0, 1))
    load.receive(0, answer_to(request, plan.prices, 5030), 2)
    assert load.codes() == {5030: 1}
    assert problems_of(load) == {"refused request": 1}
    assert parsed(load.fill(0, 3)).session_id.endswith("0000000001")


def test_a_busy_server_is_asked_the_same_again() -> None:
    plan, load = small()
    (request,) = split(load.fill(0, 1))
    load.receive(0, answer_to(request, plan.prices, 3004), 2)
    (again,) = split(load.fill(0, 3))
    assert again[4] == request[4] | 0x10
    assert again[12:16] != request[12:16]
    assert again[16:] == request[16:]
    load.receive(0, answer_to(again, plan.prices), 4)
    assert problems_of(load) == {}
    assert load.codes() == {2001: 1, 3004: 1}
    assert load.counts()["answers"] == 1


def test_a_repeat_has_the_flag_and_the_same_identifiers() -> None:
    _, load = small(sessions=4, accounts=4, window=3)
    requests = split(load.fill(0, 1))
    repeats = split(load.resend(0))
    assert len(repeats) == 3
    for request, repeat in zip(requests, repeats, strict=True):
        assert repeat[:4] + repeat[5:] == request[:4] + request[5:]
        assert repeat[4] == request[4] | 0x10


def test_the_window_holds() -> None:
    plan, load = small(sessions=100, accounts=100, window=8)
    requests = split(load.fill(0, 1))
    assert len(requests) == load.in_flight == 8
    assert load.fill(0, 2) == b""
    load.receive(0, answer_to(requests[3], plan.prices) + answer_to(requests[0], plan.prices), 3)
    assert len(split(load.fill(0, 4))) == 2


def test_accounts_stay_with_their_connection_unless_shared() -> None:
    for shared in (False, True):
        plan = Plan(connections=2, window=6, sessions=12, accounts=6, shared_accounts=shared)
        load = plan.load(RUN)
        used = [{parsed(one).subscriptions[0].data[-1] for one in split(load.fill(number, 1))} for number in (0, 1)]
        assert used == ([set("012345"), set("012345")] if shared else [set("024"), set("135")])


def test_open_loop_sends_when_due_and_counts_latency_from_then() -> None:
    plan, load = small(sessions=2, accounts=2)
    load.open_loop(START_NS, 1000)
    assert load.next_due() == START_NS
    assert load.fill_due(0, START_NS - 1) == b""
    first_ones = split(load.fill_due(0, START_NS + 1_000_000))
    assert len(first_ones) == 2
    assert load.next_due() == START_NS + 2_000_000
    # The third is due at 2 ms, but both sessions wait for answers: it is late, and that is in its latency.
    assert load.fill_due(0, START_NS + 5_000_000) == b""
    assert load.overdue(START_NS + 5_000_000) == 4
    load.receive(0, b"".join(answer_to(one, plan.prices) for one in first_ones), START_NS + 6_000_000)
    (third, fourth) = split(load.fill_due(0, START_NS + 6_000_000))
    load.receive(0, answer_to(third, plan.prices) + answer_to(fourth, plan.prices), START_NS + 10_000_000)
    latencies, longest_ns = load.latencies()
    assert longest_ns == 8_000_000
    assert [count for _, count in latencies] == [1, 1, 1, 1]
    for (top_ns, _), true_ns in zip(latencies, (5_000_000, 6_000_000, 7_000_000, 8_000_000), strict=True):
        assert true_ns <= top_ns <= true_ns * 1.016
    lags = load.lags()
    assert lags[0] == (0, 1)
    assert 4_000_000 <= percentile_ns(lags, 100) <= 4_000_000 * 1.016


def test_only_the_measured_time_counts() -> None:
    plan, load = small()
    load.measure(100, 200)
    for instant, answered in ((50, 120), (150, 160), (170, 230)):
        (request,) = split(load.fill(0, instant))
        load.receive(0, answer_to(request, plan.prices), answered)
    # Two answers came between 100 and 200; two requests were due then, one of them answered later.
    assert load.counts()["answers"] == 2
    assert load.latencies() == ([(10, 1), (60, 1)], 60)


def test_after_stop_sessions_end_and_none_begin() -> None:
    plan, load = small(sessions=6, accounts=6, window=4, updates=50)
    waiting = split(load.fill(0, 1))
    load.stop()
    for instant in range(2, 100):
        if not waiting:
            break
        load.receive(0, b"".join(answer_to(one, plan.prices) for one in waiting), instant)
        waiting = split(load.fill(0, instant))
        assert all(parsed(one).request_type == 3 for one in waiting)
    assert (load.open_sessions, load.in_flight) == (0, 0)
    assert load.counts()["sessions"] == 4
    assert problems_of(load) == {}


def test_octets_in_any_pieces_are_the_same_messages() -> None:
    dice = random.Random(5)
    watchdog = bytes(encode_message(280, 0, 0x80, 9, 9, [(d.ORIGIN_HOST, "ocs.example.net")]))
    totals = []
    for most in (1, 7, 300, 100_000):
        plan, load = small(sessions=50, accounts=50, window=50)
        stream = b"".join(answer_to(one, plan.prices) for one in split(load.fill(0, 1))) + watchdog
        others: list[bytes] = []
        while stream:
            size = dice.randint(1, most)
            others += load.receive(0, stream[:size], 2)
            stream = stream[size:]
        assert others == [watchdog]
        totals.append((load.codes(), load.in_flight, problems_of(load)))
    assert totals == [({2001: 50}, 0, {})] * 4


def test_octets_that_are_no_diameter_are_refused() -> None:
    for octets in (
        bytes(20),
        b"\x01\x00\x00\x13" + bytes(16),
        b"\x01\x00\x00\x15" + bytes(17),
        b"\x01\xff\xff\xfc" + bytes(16),
    ):
        with pytest.raises(ValueError, match="no Diameter message"):
            small()[1].receive(0, octets, 1)


def test_broken_answers_are_problems_and_never_more() -> None:
    dice = random.Random(7)
    for _ in range(3000):
        plan, load = small(prices=PRICES)
        (request,) = split(load.fill(0, 1))
        octets = bytearray(answer_to(request, plan.prices))
        for _ in range(dice.randint(1, 4)):
            octets[dice.randrange(20, len(octets))] = dice.choice((0, 1, 7, 8, 0xFF, dice.randrange(256)))
        load.receive(0, bytes(octets), 2)
        assert sum(load.codes().values()) == 1


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=300), st.sampled_from([50, 90, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_sorted_latencies(values: list[int], percent: float) -> None:
    plan, load = small(sessions=1, window=1)
    for value in values:
        (request,) = split(load.fill(0, 1))
        load.receive(0, answer_to(request, plan.prices), 1 + value)
    buckets, longest_ns = load.latencies()
    true = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
    assert true <= percentile_ns(buckets, percent) <= true + true / 63
    assert longest_ns == max(values)


@pytest.mark.parametrize(
    ("field", "value"),
    [("connections", 0), ("window", 0), ("sessions", 0), ("accounts", 0), ("updates", -1), ("prices", ())],
)
def test_what_cannot_be_run_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        Plan()._replace(**{field: value}).load(RUN)


def test_a_patch_outside_its_message_is_refused() -> None:
    _, load = small()
    for patch in ((196, 1, 0, 0), (30, 99, 0, 0), (-1, 1, 0, 0), (30, 7, 3, 0), (100, 0, 0, 10)):
        with pytest.raises(ValueError, match="patch"):
            load.set_template(0, 1, bytes(200), 28, 40, [patch])


def test_the_catalogue_sells_at_the_plan_s_prices() -> None:
    catalogue = load_catalogue(catalogue_text(PRICES, "bench"), "bench.toml", 1)
    assert not catalogue.warnings
    found = [
        (one.default_quota, one.price_micros, one.per, one.step)
        for _, one in sorted((tariff.name, tariff) for tariff in catalogue.tariffs)
    ]
    assert found == [tuple(price[1:]) for price in PRICES]


def test_a_header_is_twenty_octets() -> None:
    _, load = small()
    (request,) = split(load.fill(0, 1))
    first_word, second, application = struct.unpack_from(">III", request)
    assert first_word == 1 << 24 | len(request)
    assert (second, application) == (0xC0 << 24 | 272, 4)
