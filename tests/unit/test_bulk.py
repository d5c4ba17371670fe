"""Rows of an import: exactly what the single operations do, each once, whatever the store does meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from balance.account import AccountStatus, BucketKind
from balance.documents import home_partition
from ocs.charging import account_operations, subscriber_operations
from ocs.charging.account_operations import Adjustment, TopUp
from ocs.charging.bulk import BalanceRow, Frame, Opening, SubscriberRow, Tally, import_balances, import_subscribers
from ocs.charging.bulk_names import begin_import
from ocs.charging.bulk_rehearsal import rehearsal_of
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.identities import CLAIM_S
from ocs.charging.operations import OperationRefused, Order
from ocs.charging.requests import Identity, Result
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import CENT, MIB, Kit
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.import_kit import content

ACTIVE, SUSPENDED = AccountStatus.ACTIVE, AccountStatus.SUSPENDED
EUR = Opening(978, 2)
FAULTS: tuple[Fault, ...] = ("refused", "lost before", "lost after")


def frame(bundle: int = 4, *, stop: bool = False) -> Frame:
    return Frame("tester", "a test", bundle, stop_on_error=stop)


@pytest.fixture
def kit() -> Kit:
    return fresh()


def fresh() -> Kit:
    def now_us() -> int:
        return made.now_us

    made = Kit(AuditedStore(now_us=now_us))
    return made


def store_of(kit: Kit) -> AuditedStore:
    assert isinstance(kit.store, AuditedStore)
    return kit.store


def subscriber(number: int, **what: Any) -> SubscriberRow:
    """A row of its own account with 5.00; fields given replace its own."""
    usual = {
        "line": number + 2,
        "key": f"file/{number}",
        "subscriber": f"s{number}",
        "account": f"a{number}",
        "plan": "d10",
        "identities": (Identity("e164", f"4477{number:08d}"), Identity("imsi", f"23415{number:010d}")),
        "status": ACTIVE,
        "opening": EUR._replace(balance_micros=500 * CENT, credit_limit_micros=200 * CENT),
    }
    return SubscriberRow(**{**usual, **what})


def balance(number: int, account: str, change: TopUp | Adjustment, **what: Any) -> BalanceRow:
    return BalanceRow(
        **{"line": number + 2, "key": f"b/{number}", "account": account, "change": change, "reason": "", **what}
    )


def add(kit: Kit, *rows: SubscriberRow, bundle: int = 4, stop: bool = False) -> Tally:
    done: Tally = kit.run(import_subscribers(kit.engine, frame(bundle, stop=stop), rows))
    return done


def change(kit: Kit, *rows: BalanceRow, bundle: int = 4) -> Tally:
    done: Tally = kit.run(import_balances(kit.engine, frame(bundle), rows))
    return done


def counts(tally: Tally) -> tuple[int, int, int]:
    return tally.applied, tally.repeated, len(tally.refused)


def refusals(tally: Tally) -> list[tuple[int, str, str]]:
    return [(one.line, one.kind, one.field) for one in tally.refused]


# As the single operations


def test_a_subscriber_s_row_is_what_the_single_operations_are(kit: Kit) -> None:
    row = subscriber(7, status=SUSPENDED)
    assert counts(add(kit, row)) == (1, 0, 0)
    single, engine = (other := fresh()), other.engine

    def order(key: str) -> Order:
        return Order(key, "tester", "a test")

    home = home_partition("account", "a7", engine.store.partitions)
    created = account_operations.create_account(engine, order("file/account"), "a7", 978, 2, 200 * CENT, home)
    single.run(created)
    single.run(account_operations.top_up(engine, order("file/balance"), "a7", TopUp(500 * CENT)))
    single.run(subscriber_operations.add_subscriber(engine, order("file/7"), "s7", "a7", "d10", row.identities))
    single.run(subscriber_operations.change_subscriber(engine, order("file/7/status"), "s7", status=SUSPENDED))
    assert content(store_of(kit)) == content(store_of(single))
    audit(store_of(kit))


def test_a_balance_s_row_is_what_the_single_operation_is(kit: Kit) -> None:
    single = fresh()
    what = TopUp(5 * MIB, BucketKind.OCTETS, valid_for_s=3600, priority=3, rating_group=100)
    for one in (kit, single):
        one.account("a", cents=1000)
    assert counts(change(kit, balance(1, "a", what), balance(2, "a", Adjustment(-CENT)))) == (2, 0, 0)
    single.run(account_operations.top_up(single.engine, Order("b/1", "tester", "a test"), "a", what))
    single.run(account_operations.adjust(single.engine, Order("b/2", "tester", "a test"), "a", 0, -CENT))
    assert content(store_of(kit)) == content(store_of(single))
    assert kit.balance("a") == (999, 0)
    audit(store_of(kit))


def test_what_was_imported_is_charged(kit: Kit) -> None:
    add(kit, subscriber(1))
    outcome = kit.initial(Identity("e164", "447700000001"))
    assert outcome.result is Result.SUCCESS


def test_subscribers_share_an_account_that_the_first_of_them_opens(kit: Kit) -> None:
    rows = [subscriber(n, account="family") for n in range(9)]
    assert counts(add(kit, *rows)) == (9, 0, 0)
    assert kit.balance("family") == (500, 0)
    assert [event["operation"] for event in kit.events("family")] == ["create", "topup", *["subscriber add"] * 9]
    audit(store_of(kit))


def test_the_account_is_opened_by_another_row_if_the_first_is_refused(kit: Kit) -> None:
    tally = add(kit, subscriber(1, account="f", plan="none"), subscriber(2, account="f"))
    assert (counts(tally), refusals(tally)) == ((1, 0, 1), [(3, "invalid", "plan")])
    assert kit.balance("f") == (500, 0)


def test_rows_of_one_account_are_applied_in_their_order(kit: Kit) -> None:
    kit.account("a")
    rows = [balance(n, "a", TopUp(CENT) if n % 2 == 0 else Adjustment(-CENT)) for n in range(100)]
    assert counts(change(kit, *rows, bundle=16)) == (100, 0, 0), "a row came before the one that it needs"
    assert kit.balance("a") == (0, 0)
    audit(store_of(kit))


# Refusals

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "plan": ({"plan": "none"}, "invalid", "plan"),
    "name": ({"subscriber": "a b"}, "invalid", "subscriber"),
    "account's name": ({"account": "a:b"}, "invalid", "account"),
    "no account": ({"opening": None}, "not_found", "account"),
    "currency of the plan": ({"opening": Opening(840, 2)}, "invalid", "plan"),
    "currency of the account": ({"account": "old", "opening": Opening(840, 2)}, "conflict", "currency"),
    "another limit": (
        {"account": "old", "opening": EUR._replace(credit_limit_micros=1)},
        "conflict",
        "credit_limit_micros",
    ),
    "balance of one that is there": ({"account": "old"}, "conflict", "credit_limit_micros"),
    "balance of one": ({"account": "old", "opening": EUR._replace(balance_micros=1)}, "exists", "balance"),
    "subscriber": ({"subscriber": "sub-old"}, "exists", "subscriber"),
    "identity": ({"identities": (Identity("e164", "1555"),)}, "exists", "e164"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_row_changes_nothing_and_its_neighbours_stand(kit: Kit, name: str) -> None:
    fields, kind, field = REFUSED[name]
    kit.account("old", cents=3, msisdn="1555")
    before = content(store_of(kit))
    tally = add(kit, subscriber(2, **fields))
    assert refusals(tally) == [(4, kind, field)]
    after = content(store_of(kit))
    after["documents"] = {key: one for key, one in after["documents"].items() if b"account=a2" not in key}
    assert after == before, "more is left than the claim on the account's name"
    tally = add(kit, subscriber(1), subscriber(2, **fields), subscriber(3))
    assert (counts(tally), refusals(tally)) == ((2, 0, 1), [(4, kind, field)])
    audit(store_of(kit))


def test_a_name_is_free_again_after_its_row_was_refused(kit: Kit) -> None:
    kit.account("old", msisdn="1555")
    taken = subscriber(1, identities=(Identity("imsi", "9"), Identity("e164", "1555")))
    assert counts(add(kit, taken)) == (0, 0, 1)
    assert counts(add(kit, subscriber(2, identities=(Identity("imsi", "9"),)))) == (1, 0, 0)


def test_of_two_rows_with_one_identity_one_is_applied(kit: Kit) -> None:
    same = (Identity("imsi", "9"),)
    tally = add(kit, *(subscriber(n, identities=same) for n in range(6)), bundle=6)
    assert counts(tally) == (1, 0, 5)
    assert {one.field for one in tally.refused} == {"imsi"}
    audit(store_of(kit))


def test_a_balance_of_an_unknown_account_and_one_too_low_are_refused(kit: Kit) -> None:
    kit.account("a", cents=10)
    rows = [balance(1, "x", TopUp(1)), balance(2, "a", Adjustment(-11 * CENT)), balance(3, "a", TopUp(CENT))]
    tally = change(kit, *rows, balance(4, "a", Adjustment(1, 0, BucketKind.OCTETS)))
    assert refusals(tally) == [(3, "not_found", "account"), (4, "conflict", "amount"), (6, "invalid", "amount")]
    assert kit.balance("a") == (11, 0)


def test_an_import_stops_at_the_first_refused_row(kit: Kit) -> None:
    rows = [subscriber(1), subscriber(2, plan="none"), subscriber(3)]
    tally = add(kit, *rows, stop=True)
    assert (counts(tally), tally.stopped) == ((1, 0, 1), True)
    assert [name.decode() for name in _accounts(kit)] == ["a1"]


def _accounts(kit: Kit) -> Sequence[bytes]:
    return sorted(name.encode() for name in store_of(kit).members(b"accounts"))


def test_a_full_outbox_holds_an_import_up(kit: Kit) -> None:
    kit.engine.admitting = False
    with pytest.raises(StoreUnavailable, match="outbox"):
        add(kit, subscriber(1))
    kit.engine.admitting = True
    assert counts(add(kit, subscriber(1))) == (1, 0, 0)


# Once


def test_rows_are_done_once(kit: Kit) -> None:
    rows = [subscriber(n, account=f"a{n // 2}", status=SUSPENDED if n == 3 else ACTIVE) for n in range(9)]
    rows = [row._replace(opening=EUR._replace(balance_micros=700 * CENT)) for row in rows]
    assert counts(add(kit, *rows)) == (9, 0, 0)
    before = store_of(kit).state()
    assert counts(add(kit, *rows, bundle=9)) == (0, 9, 0)
    kit.now_us += 2 * CLAIM_S * 1_000_000
    assert counts(add(kit, *rows)) == (0, 9, 0)
    assert store_of(kit).state() == before


def test_balances_are_done_once(kit: Kit) -> None:
    kit.account("a")
    rows = [balance(n, "a", TopUp(CENT)) for n in range(70)]
    assert counts(change(kit, *rows, bundle=70)) == (70, 0, 0)
    assert counts(change(kit, *rows)) == (0, 70, 0)
    assert counts(change(kit, *rows, balance(70, "a", TopUp(CENT)))) == (1, 70, 0)
    assert kit.balance("a") == (71, 0)


def test_a_key_that_was_used_for_another_row_is_refused(kit: Kit) -> None:
    kit.account("a")
    change(kit, balance(1, "a", TopUp(CENT)))
    assert refusals(change(kit, balance(1, "a", TopUp(2 * CENT)))) == [(3, "conflict", "key")]
    assert kit.balance("a") == (1, 0)


def test_a_row_whose_subscriber_was_removed_since_is_refused(kit: Kit) -> None:
    add(kit, subscriber(1))
    kit.run(subscriber_operations.remove_subscriber(kit.engine, kit.order(), "s1"))
    assert refusals(add(kit, subscriber(1))) == [(3, "conflict", "subscriber")]
    assert counts(add(kit, subscriber(1, key="again/1", opening=None))) == (1, 0, 0)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", range(12))
def test_an_import_whose_commit_is_lost_is_done_once(fault: Fault, after: int) -> None:
    """Each commit is lost in turn, time passes, and the same rows are run again."""
    rows = [subscriber(n, account=f"a{n // 2}") for n in range(4)]
    whole, kit = fresh(), fresh()
    add(whole, *rows)
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
    try:
        add(kit, *rows)
    except StoreUnavailable:
        kit.now_us += (CLAIM_S + 1) * 1_000_000
        add(kit, *rows)
    assert left[0] < 0, "nothing was lost"
    assert content(store) == content(whole.store)  # type: ignore[arg-type]
    assert not kit.raised
    audit(store)


def test_a_claim_that_was_left_behind_is_not_taken_while_its_row_goes_on(kit: Kit) -> None:
    """Killed after the claims; run again a minute later, while another change wants the same identity."""
    store = store_of(kit)
    row = subscriber(1)
    saga = import_subscribers(kit.engine, frame(), [row])
    faulty = FaultyStore(store)
    kit.use(faulty)
    commits = [0]
    inner = faulty.commit

    def commit(partition: int, transactions: Any, done: Any) -> None:
        # The account's name, then three names; the row itself never gets there.
        commits[0] += 1
        if commits[0] <= 4:
            inner(partition, transactions, done)

    faulty.commit = commit  # type: ignore[method-assign]
    kit.engine.run(saga, kit.monotonic() + 5, lambda _: None)
    assert "s1" not in store.members(b"subscribers")
    kit.now_us += (CLAIM_S + 1) * 1_000_000

    interfered: list[Any] = []

    def commit_late(partition: int, transactions: Any, done: Any) -> None:
        if any(write.key.split(b":")[1] == b"a" for one in transactions for write in one.writes) and not interfered:
            interfered.append(None)
            other = subscriber_operations.add_subscriber(
                kit.engine, kit.order(), "thief", "other", "d10", row.identities[:1]
            )
            kit.engine.run(other, kit.monotonic() + 5, interfered.append)
        inner(partition, transactions, done)

    faulty.commit = inner  # type: ignore[method-assign]
    kit.account("other")
    faulty.commit = commit_late  # type: ignore[method-assign]
    kit.conductor.forget()
    resumed = fresh_conductor(kit, faulty)
    assert counts(resumed.run(import_subscribers(resumed.engine, frame(), [row]))) == (1, 0, 0)
    assert isinstance(interfered[1], OperationRefused)
    audit(store)


def fresh_conductor(kit: Kit, store: FaultyStore) -> Kit:
    """Another process on the same store, a moment after the first was killed."""
    other = Kit(store, number=1)
    other.now_us = kit.now_us
    return other


# Rehearsal


def test_a_rehearsal_finds_what_the_import_finds_and_changes_nothing(kit: Kit) -> None:
    kit.account("old", cents=3, msisdn="1555")
    rows = [subscriber(n, account=f"a{n // 2}") for n in range(6)]
    rows += [subscriber(10 + n, **fields) for n, (fields, _, _) in enumerate(REFUSED.values())]
    before = store_of(kit).state()
    engine = rehearsal_of(kit.engine)
    found: list[Any] = []
    engine.run(import_subscribers(engine, frame(), rows), kit.monotonic() + 5, found.append)
    assert store_of(kit).state() == before
    tally = add(kit, *rows)
    assert found == [tally]
    assert counts(tally) == (6, 0, len(REFUSED))


def test_a_rehearsal_of_balances_knows_its_own_rows(kit: Kit) -> None:
    kit.account("a", cents=3)
    rows = [balance(n, "a", Adjustment(-CENT)) for n in range(5)]
    before = store_of(kit).state()
    engine = rehearsal_of(kit.engine)
    found: list[Any] = []
    engine.run(import_balances(engine, frame(), rows), kit.monotonic() + 5, found.append)
    assert counts(found[0]) == (3, 0, 2)
    assert store_of(kit).state() == before


# Names


def test_a_file_under_a_name_that_another_one_had_is_refused(kit: Kit) -> None:
    def begin(digest: bytes, keep: bool = True) -> dict[str, Any]:
        found: dict[str, Any] = kit.run(begin_import(kit.engine, "top-ups.csv", digest, keep))
        return found

    assert begin(b"1" * 8, False)["begun_s"] is None
    assert begin(b"1" * 8)["begun_s"] is None
    assert begin(b"1" * 8)["begun_s"] == kit.engine.now_s()
    with pytest.raises(OperationRefused, match="another file") as refused:
        begin(b"2" * 8)
    assert (refused.value.kind, refused.value.field) == ("conflict", "key")
