"""When a worker that died is started again, and when it is given up. Pure: times come in, pauses go out.

A worker that served for a while is started again at once. One that dies again and again right after its start waits
longer each time, and after `most_early_deaths` in a row the supervisor ends, so that whoever watches it knows.
"""

from __future__ import annotations

from typing import NamedTuple

UNAVAILABLE = 3
"""Exit status of a worker that cannot use its store or an address: that may pass by itself, so it is not given up."""


class Policy(NamedTuple):
    """The numbers of the rule."""

    stable_s: float = 10.0
    """A worker that lived as long as this and was ready did not die early."""
    first_pause_s: float = 0.25
    most_pause_s: float = 10.0
    most_early_deaths: int = 5
    """In a row; the last of them ends the supervisor."""


class GivenUp(Exception):
    """A worker dies whenever it is started."""


class Restarts:
    """The deaths of one worker."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._early = 0
        self._given_up = 0

    def pause_s(self, lived_s: float, was_ready: bool, status: int) -> float:
        """How long to wait before the next start; `GivenUp` after too many early deaths in a row.

        `status` is the exit status, negative: the signal that killed it.
        """
        if was_ready and lived_s >= self._policy.stable_s:
            self._early = self._given_up = 0
            return 0.0
        self._early += 1
        # A store or an address that is taken for a while is waited for; everything else is a fault that stays.
        self._given_up += status != UNAVAILABLE
        if self._given_up >= self._policy.most_early_deaths:
            raise GivenUp(f"it died {self._given_up} times in a row right after its start")
        # The exponent is bounded: the number of deaths is not.
        pause_s: float = self._policy.first_pause_s * 2 ** min(self._early - 1, 16)
        return min(pause_s, self._policy.most_pause_s)
