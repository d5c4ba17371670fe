"""What queries need of the archive: events that have left the outbox (LEDGER §9). `ocs.archive` provides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class PastEvent(NamedTuple):
    """One archived event."""

    position: int
    """Its place in the archive; grows without end, over all partitions."""
    partition: int
    sequence: int
    """The number that it had in its partition's outbox."""
    event: bytes


class HistoryPage(NamedTuple):
    """A page of archived events, in order."""

    events: Sequence[PastEvent]
    upto: int
    """Position up to which everything that was asked for is in this page or before it."""
    archived: int
    """Last archived sequence number of the partition at the moment of `upto`; 0: none, or no partition was named."""
    more: bool
    """The page is full; what follows `upto` was not looked at."""


class History(Protocol):
    """The archive as queries see it. Every method blocks, so it is called through `saga.Offload`; it may raise
    `ChargingError`."""

    def of_account(self, partition: int, account: str, after: int, limit: int) -> HistoryPage:
        """Events of an account after a position."""

    def of_session(self, partition: int | None, session: str, after: int, limit: int) -> HistoryPage:
        """Events of a session after a position."""

    def archived(self, partition: int) -> int:
        """Last archived sequence number of a partition; 0: none."""
