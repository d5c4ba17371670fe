"""What happens without a request: Tcc and the ends of buckets, by due items that are read before they are believed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balance.account import BucketKind
from balance.ledger import Verb
from balance.store import DueItem, StoreFailure
from ocs.charging.requests import EventAction, Result, ServiceRequest
from ocs.charging.sweeper import BUSY_ACCOUNTS, ITEMS_PER_TURN, PARTITIONS_AT_ONCE, PASSES_PUT_OFF
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import CENT, MIB, START_US, Kit, messages, only, report, want

START_S = START_US // 1_000_000


@pytest.fixture
def kit() -> Kit:
    made = Kit(AuditedStore(now_us=lambda: made.now_us))
    return made


def store_of(kit: Kit) -> AuditedStore:
    assert isinstance(kit.store, AuditedStore)
    return kit.store


def due_times(kit: Kit) -> list[int]:
    """Due times in seconds after the start."""
    return sorted((at - START_US) // 1_000_000 for data in store_of(kit)._data for at in data.due.values())


def test_a_bucket_ends_on_time(kit: Kit) -> None:
    kit.account(cents=10)
    kit.top_up("a", amount=500, kind=BucketKind.OCTETS, valid_until_s=START_S + 100)
    assert due_times(kit) == [100]
    kit.advance(99)
    assert len(kit.buckets()) == 2
    assert kit.advance(1) == 1
    assert len(kit.buckets()) == 1 and due_times(kit) == []
    last = store_of(kit).events("a")[-1]
    assert (last.kind, last.entries[0].verb, last.entries[0].posted_change) == ("sweep", Verb.EXPIRE, -500)
    audit(store_of(kit))


def test_a_later_top_up_does_not_hide_an_end_that_was_not_swept_yet(kit: Kit) -> None:
    kit.account()
    kit.top_up("a", amount=500, kind=BucketKind.OCTETS, valid_until_s=START_S + 100)
    kit.now_us += 101_000_000  # the sweeper is late
    kit.top_up("a", amount=700, kind=BucketKind.OCTETS, valid_until_s=START_S + 9000)
    kit.advance(1)
    assert [bucket["posted"] for bucket in kit.buckets()] == [0, 700]
    assert due_times(kit) == [9000]


def test_a_refund_into_an_emptied_bucket_expires_with_it(kit: Kit) -> None:
    who = kit.account()
    kit.top_up("a", amount=1, kind=BucketKind.EVENTS, valid_until_s=START_S + 100)
    kit.top_up("a", amount=50, kind=BucketKind.OCTETS, valid_until_s=START_S + 50)
    token = only(kit.event(who, messages(1))).refund_token
    kit.advance(50)  # the sweeper looks, and finds the bucket of events empty
    assert due_times(kit) == []
    back = kit.event(who, session="r", action=EventAction.REFUND, refund_token=token)
    assert back.result is Result.SUCCESS
    assert due_times(kit) == [100]
    kit.advance(50)
    assert len(kit.buckets()) == 1
    audit(store_of(kit))


def test_a_refund_into_an_ended_bucket_expires_at_once(kit: Kit) -> None:
    who = kit.account()
    kit.top_up("a", amount=2, kind=BucketKind.EVENTS, valid_until_s=START_S + 100)
    token = only(kit.event(who, messages(1))).refund_token
    kit.now_us += 100_000_000
    kit.event(who, session="r", action=EventAction.REFUND, refund_token=token)
    kit.advance(0)
    assert len(kit.buckets()) == 1
    audit(store_of(kit))


def test_what_is_reserved_expires_with_its_settlement(kit: Kit) -> None:
    who = kit.account()
    kit.top_up("a", amount=3 * MIB, kind=BucketKind.OCTETS, valid_until_s=START_S + 100)
    grant = only(kit.initial(who, want(octets=2 * MIB)))
    assert (grant.granted, grant.validity_s) == (2 * MIB, 100)
    kit.advance(100)
    (bucket,) = kit.buckets()[1:]
    assert (bucket["posted"], bucket["reserved"]) == (2 * MIB, 2 * MIB)
    kit.terminate(1, report(used=MIB))
    assert kit.buckets()[1]["posted"] == 0
    audit(store_of(kit))


def test_an_update_leaves_the_due_item_and_the_sweeper_arms_it_anew(kit: Kit) -> None:
    who = kit.account(cents=1000, plan="d10-300s")
    kit.initial(who, want())
    assert due_times(kit) == [600]
    kit.now_us += 400_000_000
    kit.update(1, want(used=MIB))
    assert due_times(kit) == [600]
    kit.advance(200)
    assert due_times(kit) == [1000] and kit.balance() == (990, 100)
    kit.advance(400)
    assert due_times(kit) == [] and kit.balance() == (990, 0)


def test_an_earlier_deadline_is_armed_at_once(kit: Kit) -> None:
    who = kit.account(cents=1000)
    kit.initial(who, want(), want(200))
    assert due_times(kit) == [7200]
    kit.account("b", cents=1000, plan="d10-300s")
    kit.top_up("a", amount=99 * MIB, kind=BucketKind.OCTETS, valid_until_s=START_S + 60)
    kit.update(1, want(used=0), want(200, used=0))
    # Both grants end with the bucket in 60 s, so Tcc ends in 120 s.
    assert 120 in due_times(kit)


def test_a_due_item_without_a_document_is_dropped(kit: Kit) -> None:
    data = store_of(kit)._data[5]
    data.due[b"{p005}:s:00"] = data.due[b"{p005}:a:nobody"] = START_US
    kit.advance(0)
    assert due_times(kit) == []


def test_many_due_items_take_several_turns(kit: Kit) -> None:
    who = kit.account(cents=20_000, plan="d10-300s")
    for number in range(150):
        kit.initial(who, want(), session=f"s{number}")
    assert kit.balance()[1] == 15_000
    assert kit.advance(600) == 150
    assert kit.balance() == (20_000, 0)
    audit(store_of(kit))


def test_overdue_usage_is_never_charged_and_the_session_is_marked(kit: Kit) -> None:
    who = kit.account(cents=1000, plan="d10-300s")
    kit.initial(who, want())
    kit.advance(600)
    closing = store_of(kit).events("a")[-1]
    assert (closing.kind, closing.close_cause) == ("sweep", "supervision_timeout")
    assert kit.balance() == (1000, 0)


def request_after_tcc(kit: Kit, *services: ServiceRequest) -> Result:
    return kit.update(1, *services).result


def test_a_request_after_tcc_and_before_the_sweeper_finds_the_session_closed(kit: Kit) -> None:
    who = kit.account(cents=1000, plan="d10-300s")
    kit.initial(who, want())
    kit.now_us += 600_000_000
    assert request_after_tcc(kit, want(used=MIB)) is Result.UNKNOWN_SESSION
    assert kit.balance() == (1000, 0) and CENT == 10_000
    assert kit.advance(0) == 0
    audit(store_of(kit))


class BusyConductor:
    """Says how many accounts have work."""

    waiting = 0


def sweep_mine(kit: Kit) -> int:
    handled: list[int] = []
    kit.sweeper.sweep_mine(handled.append)
    assert len(handled) == 1
    return handled[0]


def overdue(kit: Kit, sessions: int) -> None:
    who = kit.account(cents=20_000, plan="d10-300s")
    for number in range(sessions):
        kit.initial(who, want(), session=f"s{number}")
    kit.now_us += 601_000_000


def test_a_long_queue_puts_the_sweep_off_but_not_for_ever(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    overdue(kit, 1)
    busy = BusyConductor()
    monkeypatch.setattr(type(kit.conductor), "waiting", property(lambda conductor: busy.waiting))
    busy.waiting = BUSY_ACCOUNTS + 1
    assert [sweep_mine(kit) for _ in range(PASSES_PUT_OFF + 1)] == [0] * PASSES_PUT_OFF + [1]
    assert kit.sweeper.put_off == PASSES_PUT_OFF
    assert sweep_mine(kit) == 0 and kit.sweeper.put_off == PASSES_PUT_OFF + 1, "put off again"
    busy.waiting = BUSY_ACCOUNTS
    assert sweep_mine(kit) == 0 and kit.sweeper.put_off == PASSES_PUT_OFF + 1, "nothing is left"


def test_a_pass_that_was_cut_short_is_taken_up_where_it_ended(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = BusyConductor()
    monkeypatch.setattr(type(kit.conductor), "waiting", property(lambda conductor: busy.waiting))
    asked: list[int] = []
    due = store_of(kit).due

    def look(partition: int, now_us: int, limit: int, done: Callable[[list[DueItem]], None]) -> None:
        asked.append(partition)
        busy.waiting = 0 if len(asked) % 10 else BUSY_ACCOUNTS + 1
        due(partition, now_us, limit, done)  # type: ignore[arg-type]

    monkeypatch.setattr(kit.store, "due", look)
    for _ in range(8):
        busy.waiting = 0
        sweep_mine(kit)
    assert asked[:64] == list(range(64))


def test_only_the_partitions_of_this_process_are_swept(kit: Kit) -> None:
    overdue(kit, 3)
    kit.sweeper.is_mine = lambda partition: partition != 5
    assert sweep_mine(kit) == 0
    kit.sweeper.is_mine = lambda partition: partition == 5
    assert sweep_mine(kit) == 3


def test_a_turn_takes_a_limited_number_of_items_and_few_partitions_at_once(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    overdue(kit, ITEMS_PER_TURN + 10)
    assert sweep_mine(kit) == ITEMS_PER_TURN
    underway: list[Callable[[], None]] = []
    asked: list[int] = []

    def look(partition: int, _now_us: int, _limit: int, done: Callable[[list[DueItem]], None]) -> None:
        asked.append(partition)
        underway.append(lambda: done([]))

    monkeypatch.setattr(kit.store, "due", look)
    kit.sweeper.sweep_mine(lambda handled: asked.append(-1))
    assert len(asked) == PARTITIONS_AT_ONCE
    while underway:
        underway.pop(0)()
        assert len(underway) <= PARTITIONS_AT_ONCE
    assert asked == [*range(64), -1]


def test_a_store_that_fails_ends_the_pass_all_the_same(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_partition: int, _now_us: int, _limit: int, done: Callable[[StoreFailure], None]) -> None:
        done(StoreFailure("gone", False))

    monkeypatch.setattr(kit.store, "due", fail)
    assert sweep_mine(kit) == 0 and kit.sweeper.failures == 64


def test_damaged_documents_do_not_stand_in_the_way_of_others(kit: Kit) -> None:
    overdue(kit, ITEMS_PER_TURN + 3)
    data = store_of(kit)._data[5]
    for member in sorted(data.due)[:ITEMS_PER_TURN]:
        document, ends_us = data.documents[member]
        data.documents[member] = (document[:-1], ends_us)
    first = kit.sweeper.swept
    assert kit.advance(0) == ITEMS_PER_TURN + 3
    assert kit.sweeper.swept - first == 3 and kit.sweeper.failures == ITEMS_PER_TURN
    assert len(kit.raised) == ITEMS_PER_TURN, "each is an error in the log"
    assert len(data.due) == ITEMS_PER_TURN, "and is tried again"
    kit.now_us += 60_000_000
    assert sweep_mine(kit) == ITEMS_PER_TURN and len(kit.raised) == 2 * ITEMS_PER_TURN
