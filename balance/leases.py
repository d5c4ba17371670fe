"""Leases on hot roots for the stores that keep them in memory (LEDGER §6)."""

from __future__ import annotations

from balance.integers import div_ceil
from balance.store import Lease

US_PER_MS = 1000


class Leases:
    """The leases of one partition: root -> (holder, UTC microseconds of its end)."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[bytes, int]] = {}

    def ask(self, lease: Lease, now_us: int) -> int:
        """Milliseconds to wait, at least 1, while another holds the root; 0: go on, and the lease is taken if asked."""
        root, holder, take_ms = lease
        if not self._held and not take_ms:
            return 0
        found = self._held.get(root)
        if found is not None and found[0] != holder and found[1] > now_us:
            return div_ceil(found[1] - now_us, US_PER_MS)
        if take_ms:
            self._take(root, holder, now_us + take_ms * US_PER_MS, now_us)
        return 0

    def _take(self, root: bytes, holder: bytes, ends_us: int, now_us: int) -> None:
        # Few roots are hot at a time, so looking at all of them is what keeps the table short.
        for other in [other for other, (_, end_us) in self._held.items() if end_us <= now_us]:
            del self._held[other]
        mine = self._held.get(root)
        self._held[root] = (holder, ends_us if mine is None else max(ends_us, mine[1]))
