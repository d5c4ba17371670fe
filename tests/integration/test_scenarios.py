"""docs/requirements/scenarios.md through the servers' processes, over TCP: one on SQLite, and two on Redis that take
turns, request by request, gateways' and operators' alike.

A step's comment is the row of its table; B and R are cents, and `server.balance()` asserts that they are exact.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from protocols.diameter import dictionary as d
from tests.support.gy_client import (
    DIRECT_DEBITING,
    EVENT,
    FINAL,
    FORCED,
    INITIAL,
    MIB,
    QUOTA_EXHAUSTED,
    TERMINATION,
    UPDATE,
    Answer,
    FinalUnit,
    mscc,
    proxy_info,
    sms_information,
    units,
)
from tests.support.server_process import Gateway, Server, Workers

System = Server | Workers
SMS = "32274@3gpp.org"
TERMINATE = FinalUnit(0, None, None, (), ())
REDIRECT = FinalUnit(1, 2, "http://topup.example.net/", (), ())
RESTRICT = FinalUnit(2, None, None, (), ("topup-only",))


class Talk:
    """The requests of one gateway, by what the tables say."""

    def __init__(self, client: Gateway) -> None:
        self.client = client

    def ask(self, kind: int, number: int, session: str, *services: tuple[int, Any], **more: Any) -> Answer:
        return self.client.exchange(self.client.requests.ccr(kind, number, session, *services, **more))

    def initial(self, session: str = "s1", *groups: int, **more: Any) -> Answer:
        services = [mscc(group, requested=[]) for group in groups or (100,)]
        return self.ask(INITIAL, 0, session, *services, **more)

    def update(self, number: int, used: int | None, session: str = "s1", group: int = 100, **more: Any) -> Answer:
        reports = [] if used is None else [units(total=used)]
        requested: list[tuple[int, Any]] | None = [] if more.pop("wanted", True) else None
        service = mscc(group, requested=requested, used=reports, reason=more.pop("reason", None))
        return self.ask(UPDATE, number, session, service, msisdn=None, **more)

    def terminate(self, number: int, used: int | None, session: str = "s1", **more: Any) -> Answer:
        services = [] if used is None else [mscc(100, used=[units(total=used)], reason=FINAL)]
        return self.ask(TERMINATION, number, session, *services, msisdn=None, **more)


@pytest.fixture
def server(system: System) -> System:
    return system


@pytest.fixture
def talk(alternating: Gateway) -> Talk:
    return Talk(alternating)


def granted(answer: Answer) -> int | None:
    """Octets granted in the only MSCC; the command succeeded."""
    assert answer.code == 2001
    service = answer.service
    return None if service.granted is None else service.granted["total"]


def denied(answer: Answer) -> bool:
    """Command 2001, MSCC 4012, and neither grant, validity nor final unit."""
    service = answer.service
    assert (answer.code, service.result_code) == (2001, 4012)
    return (service.granted, service.validity_s, service.final) == (None, None, None)


def test_s01_start_update_stop(server: System, talk: Talk) -> None:
    server.subscriber(1000)
    first = talk.initial()  # 2001 / 2001, GSU 10,485,760, Validity 3600, VQT 1,048,576; B 1000, R 100
    assert granted(first) == 10_485_760
    assert (first.service.result_code, first.service.validity_s, first.service.volume_threshold) == (
        2001,
        3600,
        1_048_576,
    )
    assert first.service.final is None
    assert server.balance() == (1000, 100)
    second = talk.update(1, 10_485_760, reason=QUOTA_EXHAUSTED)  # GSU 10,485,760; B 900, R 100
    assert granted(second) == 10_485_760
    assert server.balance() == (900, 100)
    last = talk.terminate(2, 3_145_728)  # 2001, no GSU; B 870, R 0
    assert last.code == 2001
    assert all(service.granted is None for service in last.services)
    assert server.balance() == (870, 0)
    assert server.debits() == [100, 30]  # Ledger: debits 100 + 30


def test_s02_rounding_is_cumulative(server: System, talk: Talk) -> None:
    server.subscriber(1000)
    assert granted(talk.initial()) == 10 * MIB
    assert server.balance() == (1000, 100)
    assert granted(talk.update(1, 1_572_864)) == 10 * MIB  # 1.5 MiB; reserve cost(11.5) - cost(1.5) = 100
    assert server.balance() == (980, 100)
    assert talk.terminate(2, 524_288).code == 2001  # total 2.0 MiB
    assert server.balance() == (980, 0)


def test_s03_exhaustion_with_final_unit_terminate(server: System, talk: Talk) -> None:
    server.subscriber(150)
    first = talk.initial()
    assert (granted(first), first.service.final) == (10 * MIB, None)
    assert server.balance() == (150, 100)
    second = talk.update(1, 10 * MIB)  # GSU 5,242,880 + FUI{TERMINATE}, no VQT
    assert (granted(second), second.service.final, second.service.volume_threshold) == (5_242_880, TERMINATE, None)
    assert server.balance() == (50, 50)
    assert talk.terminate(2, 5_242_880).code == 2001
    assert server.balance() == (0, 0)


def test_s03_variant_the_very_first_answer_carries_the_indication(server: System, talk: Talk) -> None:
    server.subscriber(100)
    first = talk.initial()
    assert (granted(first), first.service.final) == (10 * MIB, TERMINATE)


def test_s04_over_use_of_the_last_grant(server: System, talk: Talk) -> None:
    server.subscriber(150)
    talk.initial()
    talk.update(1, 10 * MIB)
    assert talk.terminate(2, 6_291_456).code == 2001  # 6 MiB: debit 60
    assert server.balance() == (-10, 0)
    assert denied(talk.initial("s2"))
    assert server.balance() == (-10, 0)
    server.top_up(20)
    last = talk.initial("s3")  # grants 1 MiB with FUI, R = 10
    assert (granted(last), last.service.final) == (MIB, TERMINATE)
    assert server.balance() == (10, 10)
    assert server.debits() == [100, 50, 10]  # the over-use is an entry of its own


def test_s05_empty_balance_at_start_terminate(server: System, talk: Talk) -> None:
    server.subscriber(0)
    assert denied(talk.initial())  # (a) session open without quota
    assert server.balance() == (0, 0)
    assert len(server.get("/v1/sessions")["items"]) == 1


@pytest.mark.parametrize(("plan", "final"), [("d10-redirect", REDIRECT), ("d10-restrict", RESTRICT)])
def test_s05_empty_balance_at_start_redirect_and_restrict(
    server: System, talk: Talk, plan: str, final: FinalUnit
) -> None:
    server.subscriber(0, plan)
    first = talk.initial()  # (b), (c): MSCC 2001, no GSU, FUI, Validity-Time 300
    assert granted(first) is None
    assert (first.service.result_code, first.service.final, first.service.validity_s) == (2001, final, 300)
    assert server.balance() == (0, 0)


def test_s06_redirect_and_top_up(server: System, talk: Talk) -> None:
    server.subscriber(30, "d10-redirect")
    first = talk.initial()
    assert (granted(first), first.service.final) == (3_145_728, REDIRECT)
    assert server.balance() == (30, 30)
    second = talk.update(1, 3_145_728, wanted=False)  # 2001 / 2001, no GSU, Validity-Time 300
    assert granted(second) is None
    assert (second.service.result_code, second.service.validity_s) == (2001, 300)
    assert server.balance() == (0, 0)
    server.top_up(500)
    assert server.balance() == (500, 0)
    fourth = talk.update(2, None, reason=FORCED)
    assert (granted(fourth), fourth.service.final) == (10 * MIB, None)
    assert server.balance() == (500, 100)
    assert talk.terminate(3, 2 * MIB).code == 2001
    assert server.balance() == (480, 0)


def test_s06_variant_without_top_up(server: System, talk: Talk) -> None:
    server.subscriber(30, "d10-redirect")
    talk.initial()
    talk.update(1, 3_145_728, wanted=False)
    server.advance(300)
    assert denied(talk.update(2, None))  # CCR-U at 300 s, no USU, RSU{} -> MSCC 4012
    assert server.balance() == (0, 0)


def test_s08_three_parallel_sessions_on_one_balance(server: System, talk: Talk) -> None:
    server.subscriber(1000, "d10-50")
    assert granted(talk.initial("x")) == 50 * MIB
    assert server.balance() == (1000, 500)
    second = talk.initial("y")  # GSU 50 MiB, no FUI, Validity 300
    assert (granted(second), second.service.final, second.service.validity_s) == (50 * MIB, None, 300)
    assert server.balance() == (1000, 1000)
    assert denied(talk.initial("z"))
    assert server.balance() == (1000, 1000)
    assert talk.terminate(1, 20 * MIB, "x").code == 2001
    assert server.balance() == (800, 500)
    fifth = talk.initial("z2")  # GSU 31,457,280, no FUI, Validity 300
    assert (granted(fifth), fifth.service.final, fifth.service.validity_s) == (31_457_280, None, 300)
    assert server.balance() == (800, 800)
    assert denied(talk.update(1, 50 * MIB, "y"))
    assert server.balance() == (300, 300)
    assert denied(talk.update(1, 30 * MIB, "z2"))
    assert server.balance() == (0, 0)


def test_s08_variant_a_hundred_sessions_at_the_same_instant(server: System) -> None:
    """Exactly 10 get a grant, 90 get 4012, R = 1000."""
    server.subscriber(1000)
    barrier = threading.Barrier(10)

    def ten(number: int) -> list[Answer]:
        with server.gateway(f"gw{number}.example.net") as client:
            requests = [
                client.requests.ccr(INITIAL, 0, f"gw{number};{one}", mscc(100, requested=[])) for one in range(10)
            ]
            barrier.wait()
            client.send(b"".join(requests))
            return [client.receive() for _ in requests]

    with ThreadPoolExecutor(10) as pool:
        answers = [answer for group in pool.map(ten, range(10)) for answer in group]
    codes = [answer.service.result_code for answer in answers]
    assert (codes.count(2001), codes.count(4012)) == (10, 90)
    assert server.balance() == (1000, 1000)


def _s11_first_steps(server: System, talk: Talk) -> bytes:
    server.subscriber(1000)
    talk.initial()
    original = talk.client.requests.ccr(
        UPDATE, 1, "s1", mscc(100, requested=[], used=[units(total=10 * MIB)]), msisdn=None
    )
    talk.client.exchange(original)
    assert server.balance() == (900, 100)
    return original


def _content(answer: Answer) -> list[object]:
    """All of an answer but header and Proxy-Info."""
    return [avp for avp in answer.message.avps if avp[0] != d.PROXY_INFO]


def test_s11_a_retransmission_over_another_connection(server: System, talk: Talk) -> None:
    server.subscriber(1000)
    talk.initial()
    service = mscc(100, requested=[], used=[units(total=10 * MIB)])
    original = talk.ask(UPDATE, 1, "s1", service, msisdn=None, extra=[proxy_info("p1", b"one")])
    assert server.balance() == (900, 100)
    with server.gateway() as other:
        again = proxy_info("p2", b"\x00two")
        repeat = other.exchange(
            other.requests.ccr(UPDATE, 1, "s1", service, msisdn=None, retransmit=True, hop_by_hop=77_777, extra=[again])
        )
    assert _content(repeat) == _content(original)
    assert repeat.message.proxy_infos == [again]  # echo of the new Proxy-Info
    assert server.balance() == (900, 100)


def test_s11_b_the_flagged_copy_arrives_first(server: System, talk: Talk) -> None:
    server.subscriber(1000)
    talk.initial()
    service = mscc(100, requested=[], used=[units(total=10 * MIB)])
    copy = talk.ask(UPDATE, 1, "s1", service, msisdn=None, retransmit=True)
    original = talk.ask(UPDATE, 1, "s1", service, msisdn=None)
    assert _content(copy) == _content(original)
    assert server.balance() == (900, 100)


def test_s11_e_same_key_other_content(server: System, talk: Talk) -> None:
    _s11_first_steps(server, talk)
    before = server.numbers()["altered_repeats"]
    changed = talk.update(1, 20 * MIB)
    assert granted(changed) == 10 * MIB
    assert server.balance() == (900, 100)
    assert server.numbers()["altered_repeats"] == before + 1


@pytest.mark.parametrize("altered", [False, True], ids=["a", "e"])
def test_s11_after_a_restart_between_request_and_repeat(server: System, talk: Talk, altered: bool) -> None:
    service = mscc(100, requested=[], used=[units(total=10 * MIB)])
    server.subscriber(1000)
    talk.initial()
    original = talk.ask(UPDATE, 1, "s1", service, msisdn=None)
    talk.client.close()
    server.stop()
    server.start()
    used = 20 * MIB if altered else 10 * MIB
    with server.gateway() as client:
        repeat = Talk(client).ask(
            UPDATE, 1, "s1", mscc(100, requested=[], used=[units(total=used)]), msisdn=None, retransmit=not altered
        )
        assert _content(repeat) == _content(original)
        assert server.balance() == (900, 100)
        assert Talk(client).terminate(2, 3 * MIB).code == 2001
    assert server.balance() == (870, 0)


def test_s11_b_after_a_restart(server: System, talk: Talk) -> None:
    service = mscc(100, requested=[], used=[units(total=10 * MIB)])
    server.subscriber(1000)
    talk.initial()
    copy = talk.ask(UPDATE, 1, "s1", service, msisdn=None, retransmit=True)
    talk.client.close()
    server.stop()
    server.start()
    with server.gateway() as client:
        original = Talk(client).ask(UPDATE, 1, "s1", service, msisdn=None)
    assert _content(copy) == _content(original)
    assert server.balance() == (900, 100)


def test_s12_out_of_order_updates_repeated_termination_late_update(server: System, talk: Talk) -> None:
    server.subscriber(1000, "two")
    first = talk.initial("s1", 100, 200)
    assert [service.granted for service in first.services] == [{"total": 5 * MIB}, {"total": 5 * MIB}]
    assert server.balance() == (1000, 150)
    assert granted(talk.update(2, 5 * MIB, group=200)) == 5 * MIB
    assert server.balance() == (900, 150)
    assert granted(talk.update(1, 5 * MIB, group=100)) == 5 * MIB
    assert server.balance() == (850, 150)
    reports = [mscc(100, used=[units(total=MIB)]), mscc(200, used=[units(total=2 * MIB)])]
    last = talk.ask(TERMINATION, 3, "s1", *reports, msisdn=None)
    assert last.code == 2001
    assert server.balance() == (800, 0)
    assert _content(talk.ask(TERMINATION, 3, "s1", *reports, msisdn=None)) == _content(last)
    assert server.balance() == (800, 0)
    assert talk.update(4, MIB).code == 5002
    assert server.balance() == (800, 0)


def _sms(talk: Talk, session: str, *, sent: int | None = None, **more: Any) -> Answer:
    extra = [] if sent is None else [sms_information(sent)]
    service = mscc(None, requested=units(events=1))
    return talk.ask(EVENT, 0, session, service, context=SMS, action=DIRECT_DEBITING, extra=extra, **more)


def test_s13_sms_immediate_event_charging(server: System, talk: Talk) -> None:
    server.subscriber(100)
    first = _sms(talk, "e1")
    assert (first.code, first.service.result_code, first.service.granted) == (2001, 2001, {"events": 1})
    assert server.balance() == (91, 0)
    three = _sms(talk, "e2", sent=3)
    assert (three.code, three.service.granted) == (2001, {"events": 3})
    assert server.balance() == (64, 0)
    repeat = _sms(talk, "e1", retransmit=True)
    assert _content(repeat) == _content(first)
    assert server.balance() == (64, 0)


@pytest.mark.parametrize(("cents", "sent"), [(5, None), (10, 3)])
def test_s13_not_covered(server: System, talk: Talk, cents: int, sent: int | None) -> None:
    server.subscriber(cents)
    refused = _sms(talk, "e1", sent=sent)
    assert (refused.code, refused.service.result_code, refused.service.granted) == (4012, 4012, None)
    assert server.balance() == (cents, 0)


def test_s14_sms_with_unit_reservation(server: System, talk: Talk) -> None:
    server.subscriber(20)

    def reserve(session: str) -> Answer:
        return talk.ask(INITIAL, 0, session, mscc(None, requested=units(events=1)), context=SMS)

    def end(session: str, delivered: int) -> Answer:
        service = mscc(None, used=[units(events=delivered)])
        return talk.ask(TERMINATION, 1, session, service, context=SMS, msisdn=None)

    assert reserve("m1").service.granted == {"events": 1}
    assert server.balance() == (20, 9)
    assert end("m1", 1).code == 2001
    assert server.balance() == (11, 0)
    third = reserve("m2")
    assert (third.service.granted, third.service.final) == ({"events": 1}, None)
    assert server.balance() == (11, 9)
    assert denied(reserve("m3"))
    assert server.balance() == (11, 9)
    assert end("m2", 0).code == 2001  # delivery failed
    assert server.balance() == (11, 0)


def test_s24_supervision_timer(server: System, talk: Talk) -> None:
    server.subscriber(1000, "d10-300s")
    first = talk.initial()
    assert first.service.validity_s == 300
    assert server.balance() == (1000, 100)
    server.advance(599)
    assert server.balance() == (1000, 100)
    server.advance(1)  # nothing for 600 s -> R = 0, session closed
    assert server.balance() == (1000, 0)
    assert server.get("/v1/sessions")["items"] == []
    explained = server.get("/v1/session/explain?session=s1")
    assert explained["summary"]["close_cause"] == "supervision_timeout"
    server.advance(50)
    assert talk.update(1, 10 * MIB).code == 5002
    assert server.balance() == (1000, 0)
    orphans = [event for event in server.get("/v1/accounts/acc/ledger")["items"] if event["kind"] == "orphan"]
    assert [event["usage"][0]["unrated"] for event in orphans] == [[[1, 10 * MIB]]]


def test_s30_bundle_before_money(server: System, talk: Talk) -> None:
    server.subscriber(100)
    server.post("/v1/accounts/acc/topup", amount=15 * MIB, kind="octets", valid_for_s=3600)

    def stock() -> tuple[int, int]:
        bucket = server.bucket(1)
        return bucket["posted"] // MIB, bucket["reserved"] // MIB

    first = talk.initial()
    assert granted(first) == 10 * MIB
    assert first.service.validity_s is not None
    assert first.service.validity_s <= 3600
    assert (server.balance(), stock()) == ((100, 0), (15, 10))
    assert granted(talk.update(1, 10 * MIB)) == 10 * MIB  # 5 bucket + 5 money
    assert (server.balance(), stock()) == ((100, 50), (5, 5))
    third = talk.update(2, 10 * MIB)  # GSU 5 MiB + FUI
    assert (granted(third), third.service.final) == (5 * MIB, TERMINATE)
    assert (server.balance(), stock()) == ((50, 50), (0, 0))
    assert talk.terminate(3, 5 * MIB).code == 2001
    assert (server.balance(), stock()) == ((0, 0), (0, 0))
