"""The session document: reservations by quota key, request numbers seen, outcomes kept for repeats (LEDGER §1, §4)."""

from __future__ import annotations

from typing import Any

import msgspec

from balance.reservation import Reservation
from ocs.charging.kept import KeptOutcome, completed, pack, shorten, unpack
from ocs.charging.requests import FinalAction, Outcome, QuotaKey

SESSION_SCHEMA = 10
LOCATOR_SCHEMA = 11

MAX_RANGES = 16
"""Ranges of seen request numbers; beyond, the lowest gap closes (a number in a closed gap then counts as seen)."""

OUTCOMES_LAST = 4
OUTCOMES_YOUNG_MS = 60_000
OUTCOMES_MOST = 32
"""Kept outcomes: the last 4 and all younger than 60 s, at most 32."""


class KeyState(msgspec.Struct, array_like=True):
    """One quota key of a session."""

    key: QuotaKey
    reservation: Reservation
    version: int = 0
    """Catalogue version of the price that is pinned with the grant."""
    row: int = -1
    """Tariff of that version; -1: none pinned."""
    unit: int = 0
    granted: int = 0
    """Units of the open grant; 0: none."""
    validity_s: int = 0
    granted_s: int = 0
    """UTC seconds of the open grant."""
    final: int = -1
    """`FinalAction` that went with the last grant or was ordered at once; -1: none."""
    was_granted: bool = False
    """Whether this key has had a grant or a final action already (CC-113)."""

    @property
    def restricted(self) -> bool:
        """Whether a redirect or a restriction was ordered for this key (CC-110, CC-111)."""
        return self.final in (FinalAction.REDIRECT, FinalAction.RESTRICT)


class Session(msgspec.Struct, array_like=True):
    """One credit-control session, or the tombstone of one (`closed`), or of a one-time event."""

    id: str
    account: str
    subscriber: str
    origin_host: str
    origin_realm: str
    service_context: str
    plan: str
    version: int
    """Catalogue version that the session is rated under."""
    version_since_s: int
    opened_s: int
    epoch: int = 0
    """Epoch of the peer under which it was opened (LEDGER §10)."""
    keys: list[KeyState] = []
    seen: list[tuple[int, int, int]] = []
    """(type, lowest, highest) ranges of the numbers processed: type and number are a request's key (CC-040)."""
    outcomes: list[KeptOutcome] = []
    """Oldest first."""
    deadline_s: int = 0
    """When Tcc ends (CC-036); 0 when closed."""
    currency: int = 0
    """ISO 4217 numeric and decimals of the account's currency, for the outcomes that are kept without it."""
    exponent: int = 2
    closed: str = ""
    """Cause of closing; empty while open."""
    closed_s: int = 0
    cost_micros: int = 0
    """Money debited so far."""
    armed_s: int = 0
    """Time of the due item; an update that moves the deadline later leaves it alone (LEDGER §8)."""
    located_s: int = 0
    """When the locator was last written; it is written anew before its time to live runs out."""

    def key(self, key: QuotaKey) -> KeyState | None:
        """State of a quota key, `None` if it was never asked for."""
        for state in self.keys:
            if state.key == key:
                return state
        return None

    def held(self) -> dict[int, int]:
        """What this session holds, bucket -> amount."""
        totals: dict[int, int] = {}
        for state in self.keys:
            for hold in state.reservation.holds:
                totals[hold.bucket] = totals.get(hold.bucket, 0) + hold.amount
        return totals

    def was_seen(self, kind: int, number: int) -> bool:
        """Whether a request was processed in this session."""
        return any(kind == one and low <= number <= high for one, low, high in self.seen)

    def note(self, kind: int, number: int) -> None:
        """Remember a processed request."""
        if self.seen:
            one, low, high = self.seen[-1]
            if one == kind and number == high + 1:
                # The next of the highest type, which UPDATE is while a session runs.
                self.seen[-1] = (one, low, number)
                return
        if self.was_seen(kind, number):
            return
        merged: list[tuple[int, int, int]] = []
        for one, low, high in sorted([*self.seen, (kind, number, number)]):
            last = merged[-1] if merged else (-1, 0, 0)
            if one == last[0] and low <= last[2] + 1:
                merged[-1] = (one, last[1], max(high, last[2]))
            else:
                merged.append((one, low, high))
        while len(merged) > MAX_RANGES:
            _close_lowest_gap(merged)
        self.seen = merged

    def kept(self, kind: int, number: int) -> tuple[Outcome, bytes] | None:
        """(outcome, digest) of a request, `None` when it is not kept (any more)."""
        newer: list[Any] | None = None
        for kept in reversed(self.outcomes):
            newer = completed(kept.packed, newer)
            if kept.kind == kind and kept.number == number:
                return unpack(newer, self.currency, self.exponent), kept.digest
        return None

    def outcomes_since(self, opened_s: int) -> list[KeptOutcome]:
        """The kept outcomes for a session that is opened anew at another time."""
        shift_ms = (opened_s - self.opened_s) * 1000
        return [msgspec.structs.replace(one, at_ms=one.at_ms - shift_ms) for one in self.outcomes]

    def keep(self, kind: int, number: int, digest: bytes, now_us: int, outcome: Outcome) -> None:
        """Keep an outcome and forget those that are neither among the last nor young."""
        at_ms = now_us // 1000 - self.opened_s * 1000
        packed = pack(outcome)
        kept = self.outcomes
        if kept:
            shorten(kept[-1].packed, packed)
        kept.append(KeptOutcome(kind, number, digest, at_ms, packed))
        # Only the oldest go, since each may be told by what it has in common with the next.
        most = len(kept) - OUTCOMES_LAST
        gone = max(0, len(kept) - OUTCOMES_MOST)
        while gone < most and at_ms - kept[gone].at_ms >= OUTCOMES_YOUNG_MS:
            gone += 1
        if gone:
            del kept[:gone]


def _close_lowest_gap(ranges: list[tuple[int, int, int]]) -> None:
    """Join the first two ranges of one type: the numbers between them count as seen from now on."""
    for place in range(len(ranges) - 1):
        (kind, low, _), (other, _, high) = ranges[place], ranges[place + 1]
        if kind == other:
            ranges[place : place + 2] = [(kind, low, high)]
            return


class Locator(msgspec.Struct, array_like=True, frozen=True):
    """Where a Session-Id leads; immutable, outlives the tombstone (LEDGER §3)."""

    partition: int
    account: str
    subscriber: str
