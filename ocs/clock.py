"""The clock port of charging: UTC for records and rules, monotonic seconds for deadlines (LEDGER §8).

The timers of peers do not run on it: a watchdog measures silence on a real wire, whatever time is charged by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

WALL_STEP_S = 5.0
"""A difference between the wall clock and ours above which sweeping must stop."""

Listener = Callable[[int], None]
"""Called with UTC microseconds after time was stepped."""


class Clock(Protocol):
    """What charging may ask about time."""

    def utc_us(self) -> int:
        """UTC microseconds since 1970; never goes back."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""


class SystemClock:
    """UTC is the time of the start plus monotonic time, so that setting the wall clock changes no balance."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """The two sources are parameters, so that tests can step them apart."""
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._offset_ns = wall_ns() - monotonic_ns()

    def utc_us(self) -> int:
        """UTC microseconds by the wall clock as it was at the start."""
        return (self._monotonic_ns() + self._offset_ns) // 1000

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return self._monotonic_ns() / 1_000_000_000

    def wall_step_s(self) -> float:
        """How far the wall clock was set forward (or back, negative) since the start; 0.0 if within 5 s."""
        step_s = (self._wall_ns() - self._monotonic_ns() - self._offset_ns) / 1_000_000_000
        return step_s if abs(step_s) > WALL_STEP_S else 0.0


class SteppedClock:
    """Time that stands still until it is stepped: for tests and `ocs serve --test-clock`."""

    def __init__(self, start_us: int) -> None:
        """`start_us` is UTC microseconds."""
        self._start_us = start_us
        self._now_us = start_us
        self._listeners: list[Listener] = []

    def utc_us(self) -> int:
        """UTC microseconds."""
        return self._now_us

    def monotonic(self) -> float:
        """Seconds stepped since the start."""
        return (self._now_us - self._start_us) / 1_000_000

    def wall_step_s(self) -> float:
        """0.0: this clock follows no wall clock."""
        return 0.0

    def advance(self, seconds: float) -> None:
        """Step forward and call the listeners in the order of their subscription; `ValueError`: back."""
        if seconds < 0:
            raise ValueError(f"advance by {seconds} s, expected 0 or more")
        self._now_us += round(seconds * 1_000_000)
        for listener in tuple(self._listeners):
            listener(self._now_us)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after every step, until the function that is returned is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)
