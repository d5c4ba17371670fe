"""Identifiers of the requests that this server sends (RFC 6733 §3, DB-029, DB-030)."""

from __future__ import annotations

from protocols.diameter.watchdog import Random

_LOW_20 = (1 << 20) - 1
_LOW_32 = (1 << 32) - 1


class HopByHopIdentifiers:
    """Unique on one connection: a random start, then one more each time."""

    def __init__(self, rng: Random) -> None:
        self._next = rng.getrandbits(32)

    def take(self) -> int:
        """The next identifier."""
        identifier = self._next
        self._next = (identifier + 1) & _LOW_32
        return identifier


class EndToEndIdentifiers:
    """Unique for at least four minutes, even across a restart: the start time on top of a random start."""

    def __init__(self, rng: Random, utc_s: int) -> None:
        self._time = (utc_s & 0xFFF) << 20
        self._low = rng.getrandbits(20)

    def take(self) -> int:
        """The next identifier."""
        identifier = self._time | self._low
        self._low = (self._low + 1) & _LOW_20
        return identifier
