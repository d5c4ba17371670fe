"""Requests that wait for a catalogue version which another process has loaded and this one has not yet (LEDGER §11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

MOST_PARKED = 1024
"""Requests that may wait; more are told at once that they failed."""


class _Parked(NamedTuple):
    again: Callable[[], None]
    give_up: Callable[[], None]


class Parking:
    """A request is tried again when other catalogues are there, and given up at its deadline."""

    def __init__(self, monotonic: Callable[[], float], later: Callable[[float, Callable[[], None]], object]) -> None:
        self._monotonic = monotonic
        self._later = later
        self._parked: dict[int, _Parked] = {}
        self._next = 0
        self.total = 0
        """Requests that had to wait."""

    def __len__(self) -> int:
        """How many wait now."""
        return len(self._parked)

    def park(self, deadline: float, again: Callable[[], None], give_up: Callable[[], None]) -> None:
        """Wait until `resume`, at most until `deadline` (monotonic seconds); one of the two is called, once."""
        left_s = deadline - self._monotonic()
        if left_s <= 0 or len(self._parked) >= MOST_PARKED:
            give_up()
            return
        number, self._next = self._next, self._next + 1
        self._parked[number] = _Parked(again, give_up)
        self.total += 1
        self._later(left_s, lambda: self._end(number))

    def resume(self) -> None:
        """Try all again; one that still cannot be processed parks anew."""
        parked, self._parked = self._parked, {}
        for one in parked.values():
            one.again()

    def _end(self, number: int) -> None:
        one = self._parked.pop(number, None)
        if one is not None:
            one.give_up()
