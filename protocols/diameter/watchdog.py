"""The watchdog of one accepted connection (RFC 3539 §3.4, RFC 6733 §5.5; DB-111…DB-113).

Deviations from RFC 3539:

- INITIAL and REOPEN are left out: this server accepts connections and opens none, and a first-time connection is usable
  at once.
- The timer is armed for the message that was heard last when it fires, not anew for each message: the silence before a
  DWR still lies within Tw ± 2 s, and a message costs no random number.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple, Protocol

JITTER_S = 2.0
TW_LEAST_S = 6.0
"""RFC 3539 §3.4.1: Tw must not be set lower."""


class Random(Protocol):
    """The part of `random.Random` that the node uses."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between the two."""

    def getrandbits(self, k: int, /) -> int:
        """A number of k random bits."""


class Health(IntEnum):
    """States of RFC 3539 that an accepted connection can be in."""

    OKAY = 0
    SUSPECT = 1
    DOWN = 2


class Signal(IntEnum):
    """What the watchdog hears; the timer counts apart by whether a DWR is unanswered."""

    DWA = 0
    OTHER_MESSAGE = 1
    TIMER_IDLE = 2
    TIMER_PENDING = 3


class Action(IntEnum):
    """What the peer has to do."""

    NONE = 0
    SEND_DWR = 1
    FAIL_OVER = 2
    """Send nothing new on this connection."""
    FAIL_BACK = 3
    """Use the connection again."""
    CLOSE = 4


class Step(NamedTuple):
    """One row of the table."""

    health: Health
    pending: bool | None
    """Whether a DWR is unanswered afterwards; `None`: as before."""
    action: Action


TABLE: Mapping[tuple[Health, Signal], Step] = {
    (Health.OKAY, Signal.DWA): Step(Health.OKAY, False, Action.NONE),
    (Health.OKAY, Signal.OTHER_MESSAGE): Step(Health.OKAY, None, Action.NONE),
    (Health.OKAY, Signal.TIMER_IDLE): Step(Health.OKAY, True, Action.SEND_DWR),
    (Health.OKAY, Signal.TIMER_PENDING): Step(Health.SUSPECT, None, Action.FAIL_OVER),
    (Health.SUSPECT, Signal.DWA): Step(Health.OKAY, False, Action.FAIL_BACK),
    (Health.SUSPECT, Signal.OTHER_MESSAGE): Step(Health.OKAY, None, Action.FAIL_BACK),
    (Health.SUSPECT, Signal.TIMER_IDLE): Step(Health.DOWN, None, Action.CLOSE),
    (Health.SUSPECT, Signal.TIMER_PENDING): Step(Health.DOWN, None, Action.CLOSE),
    (Health.DOWN, Signal.DWA): Step(Health.DOWN, None, Action.NONE),
    (Health.DOWN, Signal.OTHER_MESSAGE): Step(Health.DOWN, None, Action.NONE),
    (Health.DOWN, Signal.TIMER_IDLE): Step(Health.DOWN, None, Action.NONE),
    (Health.DOWN, Signal.TIMER_PENDING): Step(Health.DOWN, None, Action.NONE),
}


class Watchdog:
    """Decides when to ask whether the peer lives, and when to give it up. Times are monotonic seconds."""

    def __init__(self, tw_s: float, rng: Random, now: float) -> None:
        self.health = Health.OKAY
        self.pending = False
        self._tw_s = tw_s
        self._rng = rng
        self._heard = now
        self._armed_at = now
        self.deadline = now
        """When `expired` has to be called next."""
        self._arm(now)

    def received(self, is_dwa: bool, now: float) -> Action:
        """Note a whole message; any message resets Tw (DB-111)."""
        self._heard = now
        if self.health is Health.OKAY and not is_dwa:
            return Action.NONE
        return self._step(Signal.DWA if is_dwa else Signal.OTHER_MESSAGE)

    def expired(self, now: float) -> Action:
        """Judge the silence; does nothing before the deadline."""
        if now < self.deadline:
            return Action.NONE
        if self._heard > self._armed_at:
            self._arm(self._heard)
            if now < self.deadline:
                return Action.NONE
        action = self._step(Signal.TIMER_PENDING if self.pending else Signal.TIMER_IDLE)
        self._heard = now
        self._arm(now)
        return action

    def probe(self) -> None:
        """Note a DWR that was sent out of turn (DB-096)."""
        self.pending = True

    def _step(self, signal: Signal) -> Action:
        step = TABLE[self.health, signal]
        self.health = step.health
        if step.pending is not None:
            self.pending = step.pending
        return step.action

    def _arm(self, since: float) -> None:
        self._armed_at = since
        self.deadline = since + self._tw_s + self._rng.uniform(-JITTER_S, JITTER_S)
