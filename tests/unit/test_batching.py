"""Commits of one turn travel together, partition by partition, and each hears of its own outcome (LEDGER §2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from balance.documents import account_key, seal
from balance.memory_store import MemoryStore
from balance.store import (
    MAX_TRANSACTIONS_PER_COMMIT,
    CommitOutcome,
    Committed,
    Conflict,
    StoreFailure,
    Transaction,
    Write,
)
from ocs.charging.batching import Batcher, TransactionOutcome


class Turns:
    """A store that counts calls, and a loop whose turn ends when the test says so."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.sizes: list[tuple[int, int]] = []
        self.soon: list[Callable[[], None]] = []
        self.reported: list[Exception] = []
        inner = self.store.commit

        def counted(partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]) -> None:
            inner(partition, transactions, done)
            self.sizes.append((partition, len(transactions)))

        self.store.commit = counted  # type: ignore[method-assign]
        self.batcher = Batcher(self.store, lambda _what, error: self.reported.append(error), self.soon.append)

    def end(self) -> None:
        while self.soon:
            self.soon.pop(0)()


def creation(partition: int, name: str) -> Transaction:
    return Transaction((Write(account_key(partition, name), None, seal(None, b"nonce-01", 1, b"\x90")),))


def test_one_call_for_each_partition_of_a_turn() -> None:
    turns = Turns()
    told: list[tuple[str, TransactionOutcome]] = []
    for partition, name in ((1, "a"), (2, "b"), (1, "c"), (1, "a")):
        turns.batcher.commit(partition, creation(partition, name), lambda one, name=name: told.append((name, one)))  # type: ignore[misc]
    assert not turns.sizes and not told
    turns.end()
    assert turns.sizes == [(1, 3), (2, 1)]
    # In one call, the second creation of one key sees the first.
    assert [(name, type(one)) for name, one in told] == [
        ("a", Committed),
        ("c", Committed),
        ("a", Conflict),
        ("b", Committed),
    ]
    assert (turns.batcher.calls, turns.batcher.transactions) == (2, 4)


def test_a_call_holds_no_more_than_the_contract_allows() -> None:
    turns = Turns()
    for number in range(2 * MAX_TRANSACTIONS_PER_COMMIT + 1):
        turns.batcher.commit(1, creation(1, f"a{number}"), lambda one: None)
    turns.end()
    assert turns.sizes == [(1, 64), (1, 64), (1, 1)]


def test_what_is_committed_while_outcomes_are_told_waits_for_the_next_turn() -> None:
    turns = Turns()
    again = lambda _one: turns.batcher.commit(1, creation(1, "b"), lambda one: None)  # noqa: E731
    turns.batcher.commit(1, creation(1, "a"), again)
    turns.end()
    assert turns.sizes == [(1, 1), (1, 1)]


def test_without_turns_each_goes_at_once() -> None:
    turns = Turns()
    batcher = Batcher(turns.store, lambda _what, error: None)
    told: list[TransactionOutcome] = []
    batcher.commit(1, creation(1, "a"), told.append)
    assert told == [Committed()]


def test_a_failed_call_is_told_to_all_of_it() -> None:
    turns = Turns()
    failure = StoreFailure("gone", True)
    turns.store.commit = lambda partition, transactions, done: done(failure)  # type: ignore[method-assign]
    told: list[TransactionOutcome] = []
    for name in "ab":
        turns.batcher.commit(1, creation(1, name), told.append)
    turns.end()
    assert told == [failure, failure]


@pytest.mark.parametrize("neighbours", [0, 2])
def test_a_transaction_that_breaks_the_contract_fails_alone(neighbours: int) -> None:
    turns = Turns()
    told: list[Any] = []
    turns.batcher.commit(1, creation(2, "of another partition"), told.append)
    for number in range(neighbours):
        turns.batcher.commit(1, creation(1, f"a{number}"), told.append)
    turns.end()
    assert isinstance(told[0], StoreFailure) and not told[0].unknown
    assert told[1:] == [Committed()] * neighbours
    assert [type(error) for error in turns.reported] == [ValueError]
