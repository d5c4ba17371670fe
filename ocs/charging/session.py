"""The session document: reservations by quota key, request numbers seen, outcomes kept for repeats (LEDGER §1, §4)."""

from __future__ import annotations

import msgspec

from balance.reservation import Reservation
from ocs.charging.kept import KeptOutcomes, unpack
from ocs.charging.requests import FinalAction, Outcome, QuotaKey

SESSION_SCHEMA = 10
LOCATOR_SCHEMA = 11

MAX_RANGES = 16
"""Ranges of seen request numbers; beyond, the lowest gap closes (a number in a closed gap then counts as seen)."""


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
    realm: str
    """Origin-Realm; empty: what follows the first dot of Origin-Host, which is so at most peers."""
    service_context: str
    plan: str
    version: int
    """Catalogue version that the session is rated under."""
    opened_s: int
    version_after_s: int = 0
    """When it came under that version, in seconds after the opening."""
    epoch: int = 0
    """Epoch of the peer under which it was opened (LEDGER §10)."""
    keys: list[KeyState] = []
    seen: list[tuple[int, int, int]] = []
    """(type, lowest, highest) ranges of the numbers processed: type and number are a request's key (CC-040)."""
    outcomes: KeptOutcomes = msgspec.field(default_factory=KeptOutcomes)
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
    armed_after_s: int = 0
    """Time of the due item in seconds after the opening, 0: none; a later deadline leaves it alone (LEDGER §8)."""
    located_after_s: int = 0
    """When the locator was last written, in seconds after the opening; it is renewed before it ends."""

    @property
    def origin_realm(self) -> str:
        """Origin-Realm of the peer."""
        return self.realm or self.origin_host.partition(".")[2]

    def age_s(self, now_s: int) -> int:
        """Seconds since the opening; never negative, so that a clock set back leaves fields in their range."""
        return max(0, now_s - self.opened_s)

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
        kept = self.outcomes.find(kind, number)
        return None if kept is None else (unpack(kept.packed, self.currency, self.exponent), kept.digest)

    def keep(self, kind: int, number: int, digest: bytes, now_us: int, outcome: Outcome) -> None:
        """Keep an outcome and forget those that are neither among the last nor young."""
        self.outcomes.add(kind, number, digest, now_us - self.opened_s * 1_000_000, outcome)


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


def realm_field(origin_host: str, origin_realm: str) -> str:
    """What a session keeps of the realm beside the host: nothing where the host tells it."""
    return "" if origin_host.partition(".")[2] == origin_realm else origin_realm
