"""The scenarios of docs/requirements/scenarios.md with the exact numbers of every step, asked of the engine itself.

`step` states what a row of a table states: B and R in cents after the request. The same scenarios run through the
server over TCP in tests/integration.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balance.account import BucketKind
from balance.ledger import Verb
from ocs.charging.requests import (
    ChargingRequest,
    FinalAction,
    FinalUnit,
    Identity,
    Outcome,
    Reason,
    RequestKind,
    Result,
    ServiceOutcome,
    UnitKind,
)
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import DATA, MIB, SMS, START_US, Kit, messages, only, report, want

TERMINATE = FinalUnit(FinalAction.TERMINATE)


@pytest.fixture
def kit() -> Kit:
    def now_us() -> int:
        return made.now_us

    made = Kit(AuditedStore(now_us=now_us))
    return made


def step(kit: Kit, posted: int, reserved: int, name: str = "a") -> None:
    """B and R after a step, and books that balance."""
    assert kit.balance(name) == (posted, reserved)
    assert isinstance(kit.store, AuditedStore)
    audit(kit.store)


def granted(outcome: Outcome) -> tuple[int | None, FinalUnit | None, int | None, int | None]:
    """(units, final unit, validity, threshold) of the one key, which must be a success."""
    answer = only(outcome)
    assert (outcome.result, answer.result) == (Result.SUCCESS, Result.SUCCESS)
    return answer.granted, answer.final, answer.validity_s, answer.threshold


def denied(outcome: Outcome) -> bool:
    """cmd 2001, MSCC 4012, nothing else."""
    answer = only(outcome)
    assert outcome.result is Result.SUCCESS
    return answer == ServiceOutcome(answer.key, Result.CREDIT_LIMIT_REACHED)


def test_s01_start_update_stop(kit: Kit) -> None:
    who = kit.account(cents=1000)
    assert granted(kit.initial(who, want())) == (10_485_760, None, 3600, 1_048_576)
    step(kit, 1000, 100)
    assert granted(kit.update(1, want(used=10_485_760, reason=Reason.QUOTA_EXHAUSTED)))[0] == 10_485_760
    step(kit, 900, 100)
    last = kit.terminate(2, report(used=3_145_728, reason=Reason.FINAL))
    assert (last.result, last.services, last.cost_micros) == (Result.SUCCESS, (), 1_300_000)
    assert last.balance_micros == 8_700_000
    step(kit, 870, 0)
    debits = [e for e in kit.entries() if e["verb"] == Verb.DEBIT]
    assert [-entry["posted_change"] for entry in debits] == [1_000_000, 300_000]


def test_s02_rounding_is_cumulative(kit: Kit) -> None:
    assert granted(kit.initial(kit.account(cents=1000), want()))[0] == 10 * MIB
    step(kit, 1000, 100)
    assert granted(kit.update(1, want(used=1_572_864)))[0] == 10 * MIB
    step(kit, 980, 100)
    kit.terminate(2, report(used=524_288))
    step(kit, 980, 0)


def exhausted(kit: Kit) -> Identity:
    """S03 up to its last step; the identity."""
    who = kit.account(cents=150)
    assert granted(kit.initial(who, want()))[:2] == (10 * MIB, None)
    step(kit, 150, 100)
    assert granted(kit.update(1, want(used=10 * MIB))) == (5_242_880, TERMINATE, 3600, None)
    step(kit, 50, 50)
    return who


def test_s03_exhaustion_with_final_unit(kit: Kit) -> None:
    exhausted(kit)
    assert kit.terminate(2, report(used=5_242_880, reason=Reason.FINAL)).result is Result.SUCCESS
    step(kit, 0, 0)


def test_s03_variant_the_very_first_answer(kit: Kit) -> None:
    assert granted(kit.initial(kit.account(cents=100), want()))[:2] == (10 * MIB, TERMINATE)
    step(kit, 100, 100)


def test_s04_over_use_of_the_last_grant(kit: Kit) -> None:
    who = exhausted(kit)
    assert kit.terminate(2, report(used=6_291_456)).result is Result.SUCCESS
    step(kit, -10, 0)
    assert denied(kit.initial(who, want(), session="s2"))
    step(kit, -10, 0)
    kit.top_up("a", 20)
    step(kit, 10, 0)
    assert granted(kit.initial(who, want(), session="s3"))[:2] == (MIB, TERMINATE)
    step(kit, 10, 10)


def test_s05_empty_balance_at_start(kit: Kit) -> None:
    assert denied(kit.initial(kit.account("t", plan="d10"), want(), session="t"))
    redirect = FinalUnit(FinalAction.REDIRECT, 2, "http://topup.example.net/")
    restrict = FinalUnit(FinalAction.RESTRICT, filter_ids=("topup-only",))
    for name, plan, final in (("r", "d10-redirect", redirect), ("x", "d10-restrict", restrict)):
        assert granted(kit.initial(kit.account(name, plan=plan), want(), session=name)) == (None, final, 300, None)
    for name in ("t", "r", "x"):
        step(kit, 0, 0, name)
    assert {one["session"] for one in kit.sessions()} == {"t", "r", "x"}


def redirected(kit: Kit) -> None:
    units, final, _, _ = granted(kit.initial(kit.account(cents=30, plan="d10-redirect"), want()))
    assert units == 3_145_728 and final is not None
    assert (final.action, final.redirect_address) == (FinalAction.REDIRECT, "http://topup.example.net/")
    step(kit, 30, 30)
    assert granted(kit.update(1, report(used=3_145_728))) == (None, None, 300, None)
    step(kit, 0, 0)


def test_s06_redirect_and_top_up(kit: Kit) -> None:
    redirected(kit)
    kit.top_up("a", 500)
    step(kit, 500, 0)
    assert granted(kit.update(2, want(reason=Reason.FORCED_REAUTHORISATION)))[:2] == (10 * MIB, None)
    step(kit, 500, 100)
    kit.terminate(3, report(used=2 * MIB))
    step(kit, 480, 0)


def test_s06_variant_without_top_up(kit: Kit) -> None:
    redirected(kit)
    kit.advance(300)
    assert denied(kit.update(2, want(reason=Reason.VALIDITY_TIME)))
    step(kit, 0, 0)


def test_s08_three_parallel_sessions(kit: Kit) -> None:
    who = kit.account(cents=1000, plan="d10-50")
    assert granted(kit.initial(who, want(), session="x"))[0] == 50 * MIB
    step(kit, 1000, 500)
    assert granted(kit.initial(who, want(), session="y"))[:3] == (50 * MIB, None, 300)
    step(kit, 1000, 1000)
    assert denied(kit.initial(who, want(), session="z"))
    step(kit, 1000, 1000)
    kit.terminate(1, report(used=20 * MIB), session="x")
    step(kit, 800, 500)
    assert granted(kit.initial(who, want(), session="z2"))[:3] == (31_457_280, None, 300)
    step(kit, 800, 800)
    assert denied(kit.update(1, want(used=50 * MIB), session="y"))
    step(kit, 300, 300)
    assert denied(kit.update(1, want(used=30 * MIB), session="z2"))
    step(kit, 0, 0)


def test_s08_variant_a_hundred_sessions_at_once() -> None:
    pending: list[Callable[[], None]] = []
    store = AuditedStore(now_us=lambda: START_US)
    kit = Kit(store)
    who = kit.account(cents=1000)
    store._deliver = pending.append
    answers: list[object] = []
    for number in range(100):
        request = ChargingRequest(
            f"s{number}", RequestKind.INITIAL, 0, "gw1", "net", DATA, (want(),), identities=(who,)
        )
        kit.engine.charge(request, kit.monotonic() + 5, answers.append)
    while pending:
        pending.pop(0)()
    outcomes = [one for one in answers if isinstance(one, Outcome)]
    grants = [only(one).granted for one in outcomes]
    assert (grants.count(10 * MIB), grants.count(None), len(grants)) == (10, 90, 100)
    assert {only(one).result for one in outcomes if only(one).granted is None} == {Result.CREDIT_LIMIT_REACHED}
    store._deliver = lambda call: call()
    step(kit, 1000, 1000)


def update_of(used: int, digest: bytes, peer: str = "gw1.example.net") -> ChargingRequest:
    services = (want(used=used),)
    return ChargingRequest("s", RequestKind.UPDATE, 1, peer, "example.net", DATA, services, digest=digest)


def test_s11_repeats(kit: Kit) -> None:
    kit.initial(kit.account(cents=1000), want())
    first = kit.charge(update_of(10 * MIB, b"same"))
    step(kit, 900, 100)
    # (a), (b): the copy comes over another connection; whichever is first is processed.
    assert kit.charge(update_of(10 * MIB, b"same", "gw2.example.net")) == first
    step(kit, 900, 100)
    # (e): same key, USU changed to 20 MiB -> stored CCA, alarm counter +1.
    assert kit.engine.counters.altered_repeats == 0
    assert kit.charge(update_of(20 * MIB, b"else")) == first
    assert kit.engine.counters.altered_repeats == 1
    step(kit, 900, 100)


def test_s12_out_of_order_updates(kit: Kit) -> None:
    who = kit.account(cents=1000, plan="two")
    first = kit.initial(who, want(100), want(200))
    assert [one.granted for one in first.services] == [5 * MIB, 5 * MIB]
    step(kit, 1000, 150)
    assert granted(kit.update(2, want(200, used=5 * MIB)))[0] == 5 * MIB
    step(kit, 900, 150)
    assert granted(kit.update(1, want(100, used=5 * MIB)))[0] == 5 * MIB
    step(kit, 850, 150)
    last = kit.terminate(3, report(100, used=MIB), report(200, used=2 * MIB))
    assert last.result is Result.SUCCESS
    step(kit, 800, 0)
    assert kit.terminate(3, report(100, used=MIB), report(200, used=2 * MIB)) == last
    step(kit, 800, 0)
    assert kit.update(4, report(100, used=MIB)).result is Result.UNKNOWN_SESSION
    step(kit, 800, 0)


def test_s13_messages(kit: Kit) -> None:
    who = kit.account(cents=100)
    first = kit.event(who, messages(1), session="e1")
    assert (first.result, only(first).unit, only(first).granted) == (Result.SUCCESS, UnitKind.EVENTS, 1)
    step(kit, 91, 0)
    assert only(kit.event(who, messages(3), session="e2", messages=3)).granted == 3
    step(kit, 64, 0)
    assert kit.event(who, messages(1), session="e1") == first
    step(kit, 64, 0)


@pytest.mark.parametrize(("cents", "sent"), [(5, 1), (10, 3)])
def test_s13_not_covered(kit: Kit, cents: int, sent: int) -> None:
    outcome = kit.event(kit.account(cents=cents), messages(sent))
    assert (outcome.result, only(outcome).result) == (Result.CREDIT_LIMIT_REACHED,) * 2
    step(kit, cents, 0)


def test_s14_messages_with_reservation(kit: Kit) -> None:
    who = kit.account(cents=20)
    sms = {"context": SMS}
    assert granted(kit.initial(who, messages(1), session="m1", **sms))[:2] == (1, None)
    step(kit, 20, 9)
    kit.terminate(1, messages(None, used=1), session="m1", **sms)
    step(kit, 11, 0)
    assert granted(kit.initial(who, messages(1), session="m2", **sms))[0] == 1
    step(kit, 11, 9)
    assert denied(kit.initial(who, messages(1), session="m3", **sms))
    step(kit, 11, 9)
    kit.terminate(1, messages(None, used=0), session="m2", **sms)
    step(kit, 11, 0)


def test_s24_supervision(kit: Kit) -> None:
    kit.initial(kit.account(cents=1000, plan="d10-300s"), want())
    step(kit, 1000, 100)
    kit.advance(599)
    step(kit, 1000, 100)
    kit.advance(1)
    step(kit, 1000, 0)
    assert kit.events()[-1]["close_cause"] == "supervision_timeout"
    kit.advance(50)
    assert kit.update(1, want(used=10 * MIB)).result is Result.UNKNOWN_SESSION
    orphan = kit.events()[-1]
    assert orphan["kind"] == "orphan" and orphan["entries"] == []
    assert isinstance(kit.store, AuditedStore)
    assert kit.store.events("a")[-1].usage[0].unrated == ((BucketKind.OCTETS, 10 * MIB),)
    step(kit, 1000, 0)


def test_s27_threshold_holding_time_validity(kit: Kit) -> None:
    who = kit.account("t", cents=1000)
    kit.initial(who, want(), session="t")
    assert granted(kit.update(1, want(used=9_437_184, reason=Reason.THRESHOLD), session="t"))[0] == 10 * MIB
    step(kit, 910, 100, "t")
    kit.terminate(2, report(used=3_670_016), session="t")
    step(kit, 870, 0, "t")
    who = kit.account("h", cents=1000)
    kit.initial(who, want(), session="h")
    kit.update(1, report(used=2 * MIB, reason=Reason.QUOTA_HOLDING_TIME), session="h")
    step(kit, 980, 0, "h")
    assert granted(kit.update(2, want(), session="h"))[0] == 10 * MIB
    step(kit, 980, 100, "h")
    who = kit.account("v", cents=1000)
    kit.initial(who, want(), session="v")
    assert granted(kit.update(1, want(used=0, reason=Reason.VALIDITY_TIME), session="v"))[0] == 10 * MIB
    step(kit, 1000, 100, "v")


def bundle(kit: Kit) -> tuple[int, int]:
    """MiB left and reserved in the bundle; (0, 0) once it is gone."""
    found = [one for one in kit.buckets() if one["kind"] == "octets"]
    return (found[0]["posted"] // MIB, found[0]["reserved"] // MIB) if found else (0, 0)


def test_s30_bundle_before_money(kit: Kit) -> None:
    who = kit.account(cents=100)
    ends_s = START_US // 1_000_000 + 3600
    kit.top_up("a", amount=15 * MIB, kind=BucketKind.OCTETS, valid_until_s=ends_s)
    kit.now_us += 10_000_000
    assert granted(kit.initial(who, want()))[:3] == (10 * MIB, None, 3590)
    step(kit, 100, 0)
    assert bundle(kit) == (15, 10)
    assert granted(kit.update(1, want(used=10 * MIB)))[:2] == (10 * MIB, None)
    step(kit, 100, 50)
    assert bundle(kit) == (5, 5)
    assert granted(kit.update(2, want(used=10 * MIB)))[:2] == (5 * MIB, TERMINATE)
    step(kit, 50, 50)
    assert bundle(kit) == (0, 0)
    kit.terminate(3, report(used=5 * MIB))
    step(kit, 0, 0)
