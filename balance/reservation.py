"""What one quota key of one session holds, and what it has used so far.

A reservation is kept in its session's document; the amounts it holds are counted in the account's buckets in the same
commit, so both always agree.
"""

from __future__ import annotations

import msgspec


class Hold(msgspec.Struct, array_like=True, gc=False):
    """An amount of one bucket held for this key, in the bucket's own units."""

    bucket: int
    amount: int


class Accumulator(msgspec.Struct, array_like=True, gc=False):
    """Totals under one price row; cumulation never crosses a price (LEDGER §7.1)."""

    version: int
    """Catalogue version of the row."""
    row: int
    used: int = 0
    """Units reported."""
    paid: int = 0
    """Billed units that money paid for; cost(paid) is what this row has cost."""


class Reservation(msgspec.Struct, array_like=True):
    """State of one quota key as far as balances are concerned."""

    holds: list[Hold] = []
    """In the order reserved: unit buckets first, then money."""
    money_units: int = 0
    """Billed units that the money holds pay for."""
    accumulators: list[Accumulator] = []
    """The newest row last; at most `MAX_ACCUMULATORS`."""

    def held_of(self, bucket_id: int) -> int:
        """Amount held of one bucket."""
        return sum(hold.amount for hold in self.holds if hold.bucket == bucket_id)

    def accumulator(self, version: int, row: int) -> Accumulator:
        """The totals of a row; made if it is new. Rows older than the one before are closed and dropped."""
        for accumulator in self.accumulators:
            if accumulator.version == version and accumulator.row == row:
                return accumulator
        fresh = Accumulator(version, row)
        self.accumulators.append(fresh)
        del self.accumulators[:-MAX_ACCUMULATORS]
        return fresh


MAX_ACCUMULATORS = 2
