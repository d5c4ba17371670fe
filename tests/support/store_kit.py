"""The store's contract, executable: one kit for every engine (`balance.store`, LEDGER §1, §2)."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from balance.documents import seal, version_of
from balance.store import (
    MAX_PAGE,
    MAX_TRANSACTIONS_PER_COMMIT,
    Committed,
    Conflict,
    DueChange,
    DueItem,
    IndexChange,
    OutboxItem,
    Store,
    Transaction,
    Write,
)

TIMEOUT_S = 30


class Blocking:
    """A store's callbacks as plain calls, for tests."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def _wait(self, start: Callable[[Callable[[Any], None]], None]) -> Any:
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        start(results.put)
        return results.get(timeout=TIMEOUT_S)

    def read(self, partition: int, *keys: bytes) -> Any:
        return self._wait(lambda done: self.store.read(partition, keys, done))

    def commit(self, partition: int, *transactions: Transaction) -> Any:
        return self._wait(lambda done: self.store.commit(partition, transactions, done))

    def scan(self, partition: int, index: bytes, after: bytes = b"", limit: int = 100) -> Any:
        return list(self._wait(lambda done: self.store.scan(partition, index, after, limit, done)))

    def due(self, partition: int, now_us: int, limit: int = 100) -> Any:
        return list(self._wait(lambda done: self.store.due(partition, now_us, limit, done)))

    def outbox(self, partition: int, after: int = 0, limit: int = 100) -> Any:
        return list(self._wait(lambda done: self.store.outbox(partition, after, limit, done)))

    def trim(self, partition: int, upto: int) -> None:
        assert self._wait(lambda done: self.store.trim(partition, upto, done)) is None

    def put(self, partition: int, key: bytes, body: bytes, nonce: bytes = b"writer-1", **more: Any) -> bytes:
        """Write a document whatever it was; gives it back with its header."""
        previous = self.read(partition, key)[key]
        expected = None if previous is None else version_of(previous)
        data = seal(expected, nonce, 1, body)
        outcome = self.commit(partition, Transaction((Write(key, expected, data, **more),)))
        assert outcome == [Committed()]
        return data


def create(key: bytes, body: bytes = b"body", ttl_s: int = 0) -> Write:
    return Write(key, None, seal(None, b"writer-1", 1, body), ttl_s)


class StoreKit:
    """Tests; a subclass gives the fixtures `store` and `clock` (a list of one: UTC microseconds)."""

    @pytest.fixture
    def calls(self, store: Store) -> Blocking:
        return Blocking(store)

    def test_absent_documents_read_as_none(self, calls: Blocking) -> None:
        assert calls.read(3, b"a", b"b") == {b"a": None, b"b": None}

    def test_create_if_absent_wins_once_and_conflict_brings_the_document(self, calls: Blocking) -> None:
        first = create(b"k", b"one")
        assert calls.commit(1, Transaction((first,))) == [Committed()]
        outcome = calls.commit(1, Transaction((create(b"k", b"two"),)))
        assert outcome == [Conflict({b"k": first.data})]
        assert calls.read(1, b"k") == {b"k": first.data}

    def test_update_compares_counter_and_nonce(self, calls: Blocking) -> None:
        data = calls.put(1, b"k", b"one")
        foreign = version_of(data)[:8] + b"another!"
        lost = calls.commit(1, Transaction((Write(b"k", foreign, seal(foreign, b"writer-2", 1, b"two")),)))
        assert lost == [Conflict({b"k": data})]
        version = version_of(data)
        won = calls.commit(1, Transaction((Write(b"k", version, seal(version, b"writer-2", 1, b"two")),)))
        assert won == [Committed()]
        assert calls.read(1, b"k")[b"k"][18:] == b"two"

    def test_delete_compares_too(self, calls: Blocking) -> None:
        data = calls.put(1, b"k", b"one")
        assert calls.commit(1, Transaction((Write(b"k", None, None),))) == [Conflict({b"k": data})]
        assert calls.commit(1, Transaction((Write(b"k", version_of(data), None),))) == [Committed()]
        assert calls.read(1, b"k") == {b"k": None}

    def test_a_loser_changes_nothing_and_gets_all_its_documents(self, calls: Blocking) -> None:
        data = calls.put(1, b"old", b"one")
        loser = Transaction(
            (create(b"new"), create(b"old")),
            events=(b"event",),
            due=(DueChange(b"m", 5),),
            indexes=(IndexChange(b"i", b"m", True),),
        )
        assert calls.commit(1, loser) == [Conflict({b"new": None, b"old": data})]
        assert calls.read(1, b"new") == {b"new": None}
        assert (calls.outbox(1), calls.due(1, 10), calls.scan(1, b"i")) == ([], [], [])

    def test_each_transaction_of_a_call_wins_or_loses_alone(self, calls: Blocking) -> None:
        outcome = calls.commit(
            1,
            Transaction((create(b"a"),), events=(b"a",)),
            Transaction((create(b"a"),), events=(b"again",)),
            Transaction((create(b"b"),), events=(b"b",)),
        )
        assert [type(one) for one in outcome] == [Committed, Conflict, Committed]
        assert [item.event for item in calls.outbox(1)] == [b"a", b"b"]

    def test_later_transactions_see_earlier_ones(self, calls: Blocking) -> None:
        first = create(b"a")
        version = version_of(first.data or b"")
        second = Write(b"a", version, seal(version, b"writer-1", 1, b"two"))
        assert calls.commit(1, Transaction((first,)), Transaction((second,))) == [Committed(), Committed()]

    def test_partitions_do_not_share_events_due_items_or_indexes(self, calls: Blocking) -> None:
        transaction = Transaction(
            (), events=(b"e",), due=(DueChange(b"m", 5),), indexes=(IndexChange(b"i", b"m", True),)
        )
        calls.commit(1, transaction)
        assert (calls.outbox(2), calls.due(2, 10), calls.scan(2, b"i")) == ([], [], [])

    def test_transaction_without_writes_wins(self, calls: Blocking) -> None:
        assert calls.commit(1, Transaction((), events=(b"e",))) == [Committed()]
        assert [item.event for item in calls.outbox(1)] == [b"e"]

    def test_time_to_live_ends_a_document(self, calls: Blocking, clock: list[int]) -> None:
        calls.put(1, b"k", b"one", ttl_s=10)
        clock[0] += 9_999_999
        assert calls.read(1, b"k")[b"k"] is not None
        clock[0] += 1
        assert calls.read(1, b"k") == {b"k": None}
        assert calls.commit(1, Transaction((create(b"k"),))) == [Committed()]

    def test_writing_again_sets_the_time_to_live_anew(self, calls: Blocking, clock: list[int]) -> None:
        calls.put(1, b"k", b"one", ttl_s=10)
        calls.put(1, b"k", b"two")
        clock[0] += 60_000_000
        assert calls.read(1, b"k")[b"k"] is not None

    def test_due_has_one_time_for_a_member(self, calls: Blocking) -> None:
        def change(member: bytes, at_us: int | None) -> None:
            calls.commit(1, Transaction((), due=(DueChange(member, at_us),)))

        change(b"a", 30)
        change(b"b", 20)
        change(b"c", 40)
        assert calls.due(1, 30) == [DueItem(b"b", 20), DueItem(b"a", 30)]
        change(b"a", 10)
        assert calls.due(1, 30) == [DueItem(b"a", 10), DueItem(b"b", 20)]
        assert calls.due(1, 30, limit=1) == [DueItem(b"a", 10)]
        change(b"a", None)
        assert calls.due(1, 100) == [DueItem(b"b", 20), DueItem(b"c", 40)]

    def test_index_pages_in_octet_order(self, calls: Blocking) -> None:
        members = [b"\xff", b"b", b"a", b"ba"]
        calls.commit(1, Transaction((), indexes=tuple(IndexChange(b"i", member, True) for member in members)))
        calls.commit(1, Transaction((), indexes=(IndexChange(b"i", b"a", True), IndexChange(b"j", b"x", True))))
        assert calls.scan(1, b"i", limit=2) == [b"a", b"b"]
        assert calls.scan(1, b"i", after=b"b") == [b"ba", b"\xff"]
        calls.commit(1, Transaction((), indexes=(IndexChange(b"i", b"b", False), IndexChange(b"i", b"no", False))))
        assert calls.scan(1, b"i") == [b"a", b"ba", b"\xff"]

    def test_outbox_pages_and_never_uses_a_number_again(self, calls: Blocking) -> None:
        calls.commit(1, Transaction((), events=(b"1", b"2", b"3")))
        assert calls.outbox(1, after=1, limit=1) == [OutboxItem(2, b"2")]
        calls.trim(1, 3)
        assert calls.outbox(1) == []
        calls.commit(1, Transaction((), events=(b"4",)))
        assert calls.outbox(1) == [OutboxItem(4, b"4")]

    def test_calls_that_break_the_contract_are_refused(self, store: Store) -> None:
        def ignore(_: object) -> None:
            raise AssertionError("a refused call must not complete")

        too_many: Sequence[Transaction] = [Transaction(())] * (MAX_TRANSACTIONS_PER_COMMIT + 1)
        with pytest.raises(ValueError, match="transactions"):
            store.commit(1, too_many, ignore)
        with pytest.raises(ValueError, match="page"):
            store.scan(1, b"i", b"", MAX_PAGE + 1, ignore)
        with pytest.raises(ValueError, match="page"):
            store.outbox(1, 0, 0, ignore)
