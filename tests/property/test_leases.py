"""A lease never has two holders, whatever is late, lost or interleaved, as long as the clocks agree."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from balance.memory_store import MemoryStore
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.leases import Leasehold
from ocs.charging.saga import Commit, Read

HOLDERS = 3
LENGTH_US = 10_000_000
WHO = st.integers(0, HOLDERS - 1)
STEPS = st.integers(0, 4)


class Leases(RuleBasedStateMachine):
    """Three processes want one lease; each call of the store is a step of its own, and its answer may be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 1_000_000_000
        self.store = MemoryStore(now_us=lambda: self.now_us)
        self.holds = [Leasehold(0, "work", f"process {number}", LENGTH_US) for number in range(HOLDERS)]
        self.sagas: list[Any] = [None] * HOLDERS
        self.requests: list[Any] = [None] * HOLDERS
        nonces = itertools.count(1)
        self.nonce = lambda: next(nonces).to_bytes(8, "big")

    @rule(who=WHO, steps=STEPS)
    def acquire(self, who: int, steps: int) -> None:
        """Begin to take or to renew, and get so far."""
        if self.sagas[who] is None:
            self._begin(who, self.holds[who].acquire(self.now_us, self.nonce))
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

    @rule(passed_us=st.sampled_from([1, 400_000, 2_000_000, 8_000_000, 9_499_999, 10_500_001, 80_000_000]))
    def wait(self, passed_us: int) -> None:
        """Time passes, also while something is under way."""
        self.now_us += passed_us

    @invariant()
    def one_holder(self) -> None:
        """At this instant."""
        assert sum(hold.held(self.now_us) for hold in self.holds) <= 1

    def _begin(self, who: int, saga: Any) -> None:
        try:
            self.requests[who] = next(saga)
        except StopIteration:
            return
        self.sagas[who] = saga


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
