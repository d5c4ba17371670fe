"""One thing that is measured by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bench.measure import Spread, measure


class Case(NamedTuple):
    """What is called, and what it is called."""

    part: str
    """`codec`, `rating`, `rules`, `documents`, `messages` or `store`."""
    case: str
    variant: str
    """Which of several ways: `compiled` or `twin`, the engine of a store; empty: there is only one."""
    call: Callable[[], object]
    octets: int = 0
    """Length of the message or document; 0: there is none."""
    operations: int = 1
    """How many a call does: the time is that of one."""


class Result(NamedTuple):
    """One measured case."""

    part: str
    case: str
    variant: str
    octets: int
    spread: Spread


def run_case(case: Case, repeats: int, repeat_s: float) -> Result:
    """CPU time of one operation over the repeats."""
    whole = measure(case.call, repeats, repeat_s)
    least, median, most = (one / case.operations for one in whole[:3])
    spread = Spread(least, median, most, repeats, whole.calls * case.operations)
    return Result(case.part, case.case, case.variant, case.octets, spread)
