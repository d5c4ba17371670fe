"""What happens without a request: Tcc and the ends of buckets, by due items that are read before they are believed."""

from __future__ import annotations

import pytest

from balance.account import BucketKind
from balance.ledger import Verb
from ocs.charging.requests import EventAction, Result, ServiceRequest
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
