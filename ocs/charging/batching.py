"""Commits of one turn of the loop travel together: up to 64 transactions of a partition in one call (LEDGER §2)."""

from __future__ import annotations

from collections.abc import Callable

from balance.store import (
    MAX_TRANSACTIONS_PER_COMMIT,
    CommitOutcome,
    Committed,
    Conflict,
    Leased,
    Store,
    StoreFailure,
    Transaction,
)

TransactionOutcome = Committed | Conflict | Leased | StoreFailure
Told = Callable[[TransactionOutcome], None]


class Batcher:
    """Collects transactions until the turn ends, then commits them partition by partition, in their order."""

    def __init__(
        self,
        store: Store,
        report: Callable[[object, Exception], None],
        soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`soon` runs a call at the end of this turn of the loop; `None`: each transaction is committed at once.

        `report` is told of a transaction that breaks the store's contract.
        """
        self.store = store
        self._report = report
        self.calls = 0
        self.transactions = 0
        self._soon = soon
        self._queued: dict[int, list[tuple[Transaction, Told]]] = {}

    def commit(self, partition: int, transaction: Transaction, told: Told) -> None:
        """Commit a transaction with its neighbours; `told` gets its own outcome, or the failure of the call."""
        if self._soon is None:
            self._send(partition, [(transaction, told)])
            return
        if not self._queued:
            self._soon(self._flush)
        queue = self._queued.get(partition)
        if queue is None:
            self._queued[partition] = [(transaction, told)]
        else:
            queue.append((transaction, told))

    def _flush(self) -> None:
        queued, self._queued = self._queued, {}
        for partition, queue in queued.items():
            if len(queue) <= MAX_TRANSACTIONS_PER_COMMIT:
                self._send(partition, queue)
                continue
            for start in range(0, len(queue), MAX_TRANSACTIONS_PER_COMMIT):
                self._send(partition, queue[start : start + MAX_TRANSACTIONS_PER_COMMIT])

    def _send(self, partition: int, queue: list[tuple[Transaction, Told]]) -> None:
        self.calls += 1
        self.transactions += len(queue)

        def done(outcome: CommitOutcome) -> None:
            if isinstance(outcome, StoreFailure):
                for one in queue:
                    self._tell(one, outcome)
            else:
                for one, verdict in zip(queue, outcome, strict=True):
                    self._tell(one, verdict)

        try:
            self.store.commit(partition, tuple([transaction for transaction, _ in queue]), done)
        except ValueError as error:
            self._refused(partition, queue, error)

    def _tell(self, one: tuple[Transaction, Told], outcome: TransactionOutcome) -> None:
        try:
            one[1](outcome)
        except Exception as error:
            # Our bug; the others of the call must hear of theirs all the same.
            self._report(one[0], error)

    def _refused(self, partition: int, queue: list[tuple[Transaction, Told]], error: ValueError) -> None:
        """A transaction breaks the contract, which is our bug: it fails alone, its neighbours go on."""
        if len(queue) > 1:
            for one in queue:
                self._send(partition, [one])
            return
        self._report(queue[0][0], error)
        queue[0][1](StoreFailure(f"broken contract: {error}", False))
