"""While the outbox is nearly full nothing new is begun; what is open goes on, and repeats get their outcome."""

from __future__ import annotations

from typing import Any

from balance.store import StoreFailure
from ocs.charging.conductor import JobFailed, StoreUnavailable
from ocs.charging.requests import Result
from ocs.charging.saga import Calls, Offload, Saga
from tests.support.charging_kit import MIB, Kit, messages, only, report, want
from tests.support.faulty_store import FaultyStore


def test_new_sessions_and_events_are_refused_and_change_nothing() -> None:
    kit = Kit()
    who = kit.account(cents=1000)
    kit.engine.admitting = False
    before = kit.events()
    assert kit.initial(who, want()).result is Result.TOO_BUSY
    assert kit.event(who, messages()).result is Result.TOO_BUSY
    assert kit.events() == before
    assert kit.balance() == (1000, 0)
    assert kit.sessions() == []


def test_an_open_session_goes_on_to_its_end() -> None:
    kit = Kit()
    kit.initial(kit.account(cents=1000), want())
    kit.engine.admitting = False
    assert only(kit.update(1, want(used=MIB))).granted
    assert kit.terminate(2, report(used=MIB)).result is Result.SUCCESS
    assert kit.balance() == (980, 0)


def test_a_repeat_of_what_was_admitted_gets_its_outcome() -> None:
    kit = Kit()
    who = kit.account(cents=1000)
    opened, sent = kit.initial(who, want()), kit.event(who, messages())
    kit.engine.admitting = False
    assert kit.initial(who, want()) == opened
    assert kit.event(who, messages()) == sent
    assert kit.initial(who, want(), session="other").result is Result.TOO_BUSY


def test_admission_comes_back() -> None:
    kit = Kit()
    who = kit.account(cents=1000)
    kit.engine.admitting = False
    kit.initial(who, want())
    kit.engine.admitting = True
    assert kit.initial(who, want()).result is Result.SUCCESS


def _lengths(count: int) -> Saga[list[int]]:
    lengths: list[int] = yield Calls(tuple(lambda store, done: store.outbox_length(done) for _ in range(count)))
    return lengths


def test_calls_go_out_at_once_and_come_back_in_order() -> None:
    kit = Kit()
    kit.account(cents=1000)
    assert kit.run(_lengths(3)) == [3, 3, 3]
    assert kit.run(_lengths(0)) == []


def test_one_failed_call_fails_them_all_after_the_last() -> None:
    kit = Kit()
    told: list[Any] = []

    def failing(store: object, done: Any) -> None:
        told.append("failing")
        done(StoreFailure("gone", False))

    def working(store: object, done: Any) -> None:
        told.append("working")
        done(7)

    def saga() -> Saga[str]:
        try:
            yield Calls((failing, working))
        except StoreUnavailable as error:
            told.append("raised")
            return str(error)
        return ""

    assert kit.run(saga()) == "gone"
    assert told == ["failing", "working", "raised"]


def test_offloaded_work_gives_its_result_or_raises_inside_the_saga() -> None:
    kit = Kit()

    def saga(work: Any) -> Saga[object]:
        try:
            return (yield Offload(work))
        except OSError as error:
            return error.args

    def broken() -> None:
        raise OSError("no disk")

    assert kit.run(saga(lambda: 5)) == 5
    assert kit.run(saga(broken)) == ("no disk",)


def test_offloaded_work_with_a_bug_ends_its_saga_loudly() -> None:
    kit = Kit()

    def broken() -> None:
        raise IndexError

    def saga() -> Saga[None]:
        yield Offload(broken)

    results: list[Any] = []
    kit.engine.run(saga(), kit.monotonic() + 5, results.append)
    assert isinstance(results[0], JobFailed)
    assert isinstance(kit.raised[0], IndexError)


def test_the_length_passes_through_a_faulty_store() -> None:
    kit = Kit()
    kit.account(cents=1000)
    kit.use(FaultyStore(kit.store))
    assert kit.run(_lengths(1)) == [3]
