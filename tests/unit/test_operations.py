"""Operators' changes: keyed, refused whole, repeated harmlessly, whatever the store does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balance.account import AccountStatus, BucketKind
from balance.money import MAX_MICROS
from ocs.charging import account_operations, subscriber_operations
from ocs.charging.account_operations import TopUp
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.operations import OperationRefused
from ocs.charging.requests import Identity, Result
from ocs.charging.saga import Saga
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import CENT, MIB, START_US, Kit, only, report, want
from tests.support.faulty_store import Fault, FaultyStore

START_S = START_US // 1_000_000


@pytest.fixture
def kit() -> Kit:
    def now_us() -> int:
        return made.now_us

    made = Kit(AuditedStore(now_us=now_us))
    made.account(cents=100)
    return made


def store_of(kit: Kit) -> AuditedStore:
    assert isinstance(kit.store, AuditedStore)
    return kit.store


Make = Callable[[Kit, str], Saga[dict[str, Any]]]
"""(kit, key) -> the change."""

CHANGES: dict[str, Make] = {
    "create": lambda k, key: account_operations.create_account(k.engine, k.order(key), "fresh", 978, 2, 0, 7),
    "top up": lambda k, key: account_operations.top_up(k.engine, k.order(key), "a", TopUp(5)),
    "units": lambda k, key: account_operations.top_up(k.engine, k.order(key), "a", TopUp(5, BucketKind.OCTETS)),
    "adjust": lambda k, key: account_operations.adjust(k.engine, k.order(key), "a", 0, -7),
    "suspend": lambda k, key: account_operations.set_status(k.engine, k.order(key), "a", AccountStatus.SUSPENDED),
    "add": lambda k, key: subscriber_operations.add_subscriber(
        k.engine, k.order(key), "u2", "a", "d10", [Identity("e164", "1555")]
    ),
    "plan": lambda k, key: subscriber_operations.change_subscriber(k.engine, k.order(key), "sub-a", plan="two"),
    "identity": lambda k, key: subscriber_operations.add_identity(
        k.engine, k.order(key), "sub-a", Identity("imsi", "23415")
    ),
    "remove": lambda k, key: subscriber_operations.remove_subscriber(k.engine, k.order(key), "sub-a"),
}
FAULTS: tuple[Fault, ...] = ("refused", "lost before", "lost after")


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "remove"])
def test_a_change_is_done_once_under_its_key(kit: Kit, name: str) -> None:
    first = kit.run(CHANGES[name](kit, "once"))
    before = store_of(kit).state()
    again = kit.run(CHANGES[name](kit, "once"))
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert store_of(kit).state() == before
    audit(store_of(kit))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("after", range(3))
def test_a_change_whose_commit_is_lost_is_done_once(kit: Kit, name: str, fault: Fault, after: int) -> None:
    """Each commit of the change is lost in turn; whoever gets an error repeats under the same key."""
    store = store_of(kit)
    faulty = FaultyStore(store)
    kit.use(faulty)
    inner, left = faulty.commit, [after]

    def commit(partition: int, transactions: Any, done: Any) -> None:
        if left[0] == 0:
            faulty.fail_commits(fault)
        left[0] -= 1
        inner(partition, transactions, done)

    faulty.commit = commit  # type: ignore[method-assign]
    events = len(store.events())
    try:
        kit.run(CHANGES[name](kit, "once"))
    except StoreUnavailable:
        try:
            kit.run(CHANGES[name](kit, "once"))
        except OperationRefused as refused:
            # The last commit of a removal takes the very name by which it could be repeated.
            assert (name, fault, after, refused.kind) == ("remove", "lost after", 2, "not_found")
    assert len(store.events()) == events + 1, "the change was not made exactly once"
    assert not kit.raised
    audit(store)


def test_a_key_serves_one_change_only(kit: Kit) -> None:
    kit.run(CHANGES["top up"](kit, "once"))
    before = store_of(kit).state()
    with pytest.raises(OperationRefused) as refused:
        kit.run(CHANGES["adjust"](kit, "once"))
    assert (refused.value.kind, refused.value.field) == ("conflict", "key")
    assert store_of(kit).state() == before


def test_a_key_of_another_account_is_another_key(kit: Kit) -> None:
    kit.account("b", cents=100)
    for account in ("a", "b"):
        kit.run(account_operations.top_up(kit.engine, kit.order("once"), account, TopUp(CENT)))
    assert (kit.balance("a")[0], kit.balance("b")[0]) == (101, 101)


REFUSED: dict[str, tuple[str, Make]] = {
    "no amount": ("invalid", lambda k, key: account_operations.top_up(k.engine, k.order(key), "a", TopUp(0))),
    "negative": ("invalid", lambda k, key: account_operations.top_up(k.engine, k.order(key), "a", TopUp(-1))),
    "too wide": (
        "conflict",
        lambda k, key: account_operations.top_up(k.engine, k.order(key), "a", TopUp(MAX_MICROS)),
    ),
    "ended": (
        "invalid",
        lambda k, key: account_operations.top_up(k.engine, k.order(key), "a", TopUp(1, valid_until_s=START_S)),
    ),
    "no account": ("not_found", lambda k, key: account_operations.top_up(k.engine, k.order(key), "x", TopUp(1))),
    "no bucket": ("not_found", lambda k, key: account_operations.adjust(k.engine, k.order(key), "a", 9, 1)),
    "nothing": ("invalid", lambda k, key: account_operations.adjust(k.engine, k.order(key), "a", 0, 0)),
    "below zero": (
        "conflict",
        lambda k, key: account_operations.adjust(k.engine, k.order(key), "a", 0, -100 * CENT - 1),
    ),
    "not empty": (
        "conflict",
        lambda k, key: account_operations.set_status(k.engine, k.order(key), "a", AccountStatus.CLOSED),
    ),
    "no plan": (
        "invalid",
        lambda k, key: subscriber_operations.change_subscriber(k.engine, k.order(key), "sub-a", plan="none"),
    ),
    "no identity": (
        "not_found",
        lambda k, key: subscriber_operations.remove_identity(
            k.engine, k.order(key), "sub-a", Identity("imsi", "nowhere")
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_that_cannot_be_made_changes_nothing_and_keeps_no_key(kit: Kit, name: str) -> None:
    kind, make = REFUSED[name]
    before = store_of(kit).state()
    with pytest.raises(OperationRefused) as refused:
        kit.run(make(kit, "key"))
    assert refused.value.kind == kind
    assert store_of(kit).state() == before
    kit.run(CHANGES["top up"](kit, "key"))


def test_what_is_reserved_cannot_be_adjusted_away(kit: Kit) -> None:
    kit.initial(Identity("e164", _number(kit)), want(octets=5 * MIB))
    assert kit.balance() == (100, 50)
    with pytest.raises(OperationRefused):
        kit.run(account_operations.adjust(kit.engine, kit.order(), "a", 0, -50 * CENT - 1))
    kit.run(account_operations.adjust(kit.engine, kit.order(), "a", 0, -50 * CENT))
    assert kit.balance() == (50, 50)
    kit.terminate(1, report(used=5 * MIB))
    assert kit.balance() == (0, 0)
    audit(store_of(kit))


def _number(kit: Kit) -> str:
    (key,) = [key for _, key, _ in store_of(kit).documents(b"i") if b"e164=" in key]
    return key.split(b"=")[1].decode()


def test_an_adjustment_may_use_the_credit_limit() -> None:
    kit = Kit(AuditedStore(now_us=lambda: START_US))
    kit.account(cents=10, limit=20)
    kit.run(account_operations.adjust(kit.engine, kit.order(), "a", 0, -30 * CENT))
    assert kit.balance() == (-20, 0)
    with pytest.raises(OperationRefused):
        kit.run(account_operations.adjust(kit.engine, kit.order(), "a", 0, -1))


def test_an_account_with_a_session_does_not_close(kit: Kit) -> None:
    kit.run(account_operations.adjust(kit.engine, kit.order(), "a", 0, -100 * CENT))
    kit.initial(Identity("e164", _number(kit)), want())
    close = account_operations.set_status
    with pytest.raises(OperationRefused, match="open sessions"):
        kit.run(close(kit.engine, kit.order(), "a", AccountStatus.CLOSED))
    kit.terminate(1)
    kit.run(close(kit.engine, kit.order(), "a", AccountStatus.CLOSED))
    with pytest.raises(OperationRefused, match="closed"):
        kit.top_up("a", 1)
    assert kit.initial(Identity("e164", _number(kit)), want(), session="t").result is Result.SERVICE_DENIED


def test_an_identity_belongs_to_one_subscriber(kit: Kit) -> None:
    kit.account("b", cents=100)
    taken = Identity("e164", _number_of(kit, "b"))
    with pytest.raises(OperationRefused) as refused:
        kit.run(subscriber_operations.add_identity(kit.engine, kit.order(), "sub-a", taken))
    assert refused.value.kind == "exists"
    kit.run(subscriber_operations.remove_identity(kit.engine, kit.order(), "sub-b", taken))
    kit.run(subscriber_operations.add_identity(kit.engine, kit.order(), "sub-a", taken))
    assert only(kit.initial(taken, want(octets=MIB))).granted == MIB
    assert kit.balance("a") == (100, 10) and kit.balance("b") == (100, 0)


def _number_of(kit: Kit, name: str) -> str:
    from ocs.charging import queries

    identity: str = kit.run(queries.show_subscriber(kit.engine, f"sub-{name}"))["identities"][0]["value"]
    return identity


def test_an_account_holds_sixteen_buckets_and_says_so(kit: Kit) -> None:
    for _ in range(15):
        kit.top_up("a", amount=5, kind=BucketKind.OCTETS)
    before = store_of(kit).state()
    with pytest.raises(OperationRefused, match="16 buckets"):
        kit.top_up("a", amount=5, kind=BucketKind.OCTETS)
    assert store_of(kit).state() == before
    audit(store_of(kit))
