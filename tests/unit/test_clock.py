"""The clock port: UTC that cannot be set back, and time that is stepped by hand."""

from __future__ import annotations

import pytest

from ocs.clock import SteppedClock, SystemClock

SECOND_NS = 1_000_000_000


class Sources:
    def __init__(self) -> None:
        self.wall = 1_772_481_600 * SECOND_NS
        self.mono = 5 * SECOND_NS

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.mono)


def test_utc_is_the_start_plus_monotonic_time() -> None:
    sources = Sources()
    clock = sources.clock()
    assert clock.utc_us() == 1_772_481_600_000_000
    sources.mono += 1_500_000
    sources.wall -= 3600 * SECOND_NS
    assert clock.utc_us() == 1_772_481_600_001_500
    assert clock.monotonic() == pytest.approx(5.0015)


@pytest.mark.parametrize(("step_s", "told"), [(4.9, 0.0), (-4.9, 0.0), (5.5, 5.5), (-3600.0, -3600.0)])
def test_a_step_of_the_wall_clock_above_five_seconds_is_told(step_s: float, told: float) -> None:
    sources = Sources()
    clock = sources.clock()
    sources.mono += 100 * SECOND_NS
    sources.wall += 100 * SECOND_NS + int(step_s * SECOND_NS)
    assert clock.wall_step_s() == pytest.approx(told)


def test_the_real_sources_agree() -> None:
    clock = SystemClock()
    first = clock.utc_us()
    assert clock.utc_us() >= first
    assert clock.wall_step_s() == 0.0


def test_stepped_time_stands_still_until_it_is_stepped() -> None:
    clock = SteppedClock(1_000_000)
    assert (clock.utc_us(), clock.monotonic()) == (1_000_000, 0.0)
    clock.advance(3600)
    clock.advance(0.5)
    assert (clock.utc_us(), clock.monotonic()) == (3_601_500_000, 3600.5)
    assert clock.wall_step_s() == 0.0


def test_time_is_not_stepped_back() -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        SteppedClock(0).advance(-1)


def test_listeners_hear_of_each_step_until_they_leave() -> None:
    clock = SteppedClock(0)
    heard: list[int] = []
    leave = clock.subscribe(heard.append)
    clock.advance(1)
    clock.advance(2)
    leave()
    clock.advance(3)
    assert heard == [1_000_000, 3_000_000]
