"""A lease never has two holders, whatever is late, lost or interleaved, also by clocks that are some seconds apart."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from balance.memory_store import MemoryStore
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.leases import CLOCK_ERROR_US, Leasehold
from ocs.charging.saga import Commit, Read

HOLDERS = 2
LENGTH_US = 6_000_000
WHO = st.integers(0, HOLDERS - 1)
STEPS = st.sampled_from([0, 1, 2, 4, 4, 4])
"""Calls of the store that are made at once; four are enough for anything."""
PAUSES = st.sampled_from(
    [
        0,
        1,
        LENGTH_US - 2 * CLOCK_ERROR_US,
        LENGTH_US - CLOCK_ERROR_US,
        LENGTH_US,
        LENGTH_US + CLOCK_ERROR_US,
        80_000_000,
    ]
)
"""What lies near a boundary, and beyond all."""
ERRORS = st.sampled_from([(0, 0), (-CLOCK_ERROR_US, CLOCK_ERROR_US), (CLOCK_ERROR_US, -CLOCK_ERROR_US)])


class Leases(RuleBasedStateMachine):
    """Two processes want one lease; each call of the store is a step of its own, and its answer may be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 1_000_000_000
        self.store = MemoryStore(now_us=lambda: self.now_us)
        self.holds = [Leasehold(0, "work", f"process {number}", LENGTH_US) for number in range(HOLDERS)]
        self.sagas: list[Any] = [None] * HOLDERS
        self.requests: list[Any] = [None] * HOLDERS
        nonces = itertools.count(1)
        self.nonce = lambda: next(nonces).to_bytes(8, "big")
        self.errors_us: tuple[int, ...] = (0,) * HOLDERS

    @initialize(errors_us=ERRORS)
    def set_clocks(self, errors_us: tuple[int, ...]) -> None:
        """No two differ by more than twice the error that is allowed for."""
        self.errors_us = errors_us

    def clock_of(self, who: int) -> int:
        """What a process takes for the time."""
        return self.now_us + self.errors_us[who]

    @rule(passed_us=PAUSES, who=WHO, steps=STEPS)
    def acquire(self, passed_us: int, who: int, steps: int) -> None:
        """Time passes, also while something is under way; then one begins to take or to renew, and gets so far."""
        self.now_us += passed_us
        if self.sagas[who] is None:
            self._begin(who, self.holds[who].acquire(self.clock_of(who), self.nonce))
        for _ in range(steps):
            self.step(who, is_lost=False)

    @rule(who=WHO, steps=STEPS)
    def release(self, who: int, steps: int) -> None:
        """Begin to give back, and get so far."""
        if self.sagas[who] is None:
            self._begin(who, self.holds[who].release(self.nonce))
        for _ in range(steps):
            self.step(who, is_lost=False)

    @rule(who=WHO)
    def lose(self, who: int) -> None:
        """The store does what was asked, and its answer never arrives."""
        self.step(who, is_lost=True)

    @rule(who=WHO)
    def go_on(self, who: int) -> None:
        """What was begun some time ago goes on."""
        self.step(who, is_lost=False)

    def step(self, who: int, is_lost: bool) -> None:
        """The store does what was asked; its answer arrives, or never."""
        saga, request = self.sagas[who], self.requests[who]
        if saga is None:
            return
        answers: list[Any] = []
        if isinstance(request, Read):
            self.store.read(0, [key for _, key in request.wanted], answers.append)
            answer = answers[0]
        else:
            assert isinstance(request, Commit)
            self.store.commit(request.partition, (request.transaction,), answers.append)
            answer = answers[0][0]
        try:
            self.requests[who] = saga.throw(StoreUnavailable("lost")) if is_lost else saga.send(answer)
        except (StopIteration, StoreUnavailable):
            self.sagas[who] = None

    @invariant()
    def one_holder(self) -> None:
        """At this instant."""
        assert sum(hold.held(self.clock_of(who)) for who, hold in enumerate(self.holds)) <= 1

    def _begin(self, who: int, saga: Any) -> None:
        try:
            self.requests[who] = next(saga)
        except StopIteration:
            return
        self.sagas[who] = saga


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
