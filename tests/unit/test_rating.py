"""What usage costs, in the numbers of the requirements."""

from __future__ import annotations

import pytest

from tariffs.integers import div_ceil, div_floor
from tariffs.model import MAX_COST_MICROS, MAX_UNITS, Tariff, Unit
from tariffs.rating import affordable_units, billed_units, cost_between, cost_micros, max_units

MIB = 1_048_576
CENT = 10_000

D10 = Tariff(0, "D10", Unit.OCTETS, 10 * CENT, MIB, MIB, 10 * MIB, MIB, threshold=MIB)
F13 = Tariff(1, "F13", Unit.OCTETS, 20_000, 1_000_000, 100_000, 10_000_000, 100_000)
VOICE = Tariff(2, "voice", Unit.SECONDS, 60_000, 60, 60, 60, 60)
SMS = Tariff(3, "sms", Unit.EVENTS, 90_000, 1, 1, 1, 1)
FREE = Tariff(4, "nothing", Unit.OCTETS, 0, MIB, MIB, 10 * MIB, MIB)


@pytest.mark.parametrize(
    ("dividend", "divisor", "floor", "ceil"),
    [(0, 3, 0, 0), (1, 3, 0, 1), (3, 3, 1, 1), (4, 3, 1, 2), (-1, 3, -1, 0), (-3, 3, -1, -1), (-4, 3, -2, -1)],
)
def test_divisions_round_the_way_their_names_say(dividend: int, divisor: int, floor: int, ceil: int) -> None:
    assert div_floor(dividend, divisor) == floor
    assert div_ceil(dividend, divisor) == ceil


@pytest.mark.parametrize(
    ("tariff", "total", "billed", "cost"),
    [
        (D10, 0, 0, 0),
        (D10, 1, MIB, 10 * CENT),
        (D10, MIB, MIB, 10 * CENT),
        (D10, MIB + 1, 2 * MIB, 20 * CENT),
        (D10, 10 * MIB, 10 * MIB, 100 * CENT),
        # S27: 12.5 MiB are 13 started MiB.
        (D10, 12 * MIB + MIB // 2, 13 * MIB, 130 * CENT),
        (VOICE, 1, 60, 60_000),
        (VOICE, 61, 120, 120_000),
        (SMS, 3, 3, 270_000),
        (FREE, 10 * MIB, 10 * MIB, 0),
    ],
)
def test_cost_is_that_of_the_started_steps(tariff: Tariff, total: int, billed: int, cost: int) -> None:
    assert billed_units(tariff, total) == billed
    assert cost_micros(tariff, total) == cost


def test_f13_volume_is_rounded_to_started_steps() -> None:
    # F13: 0.02/MB in 100 kB steps, 1,250,001 B -> 13 steps = 1.3 MB -> 0.026.
    assert billed_units(F13, 1_250_001) == 1_300_000
    assert cost_micros(F13, 1_250_001) == 26_000


def test_s02_rounding_is_cumulative() -> None:
    # 1.5 MiB, then 0.5 MiB more: B 1000 -> 980 -> 980. Per-report rounding would wrongly give 970.
    assert cost_between(D10, 0, 1_572_864) == 20 * CENT
    assert cost_between(D10, 1_572_864, 1_572_864 + 524_288) == 0
    # Step 2 reserves cost(11.5) - cost(1.5) = 100.
    assert cost_between(D10, 1_572_864, 1_572_864 + 10 * MIB) == 100 * CENT


def test_money_is_rounded_up_once_per_total() -> None:
    # 1 micro-unit per 3 units: one unit costs a whole micro-unit, and so do two and three.
    third = Tariff(0, "third", Unit.EVENTS, 1, 3, 1, 1, 1)
    assert [cost_micros(third, total) for total in range(8)] == [0, 1, 1, 1, 2, 2, 2, 3]


def test_a_step_need_not_divide_the_priced_amount() -> None:
    # 0.60 per 60 s in steps of 7 s: 8 s are 14 s billed = 0.14.
    sevens = Tariff(0, "sevens", Unit.SECONDS, 600_000, 60, 7, 60, 7)
    assert cost_micros(sevens, 8) == 140_000


@pytest.mark.parametrize(
    ("tariff", "before", "cents", "most", "units"),
    [
        # S03: 50 left buy 5 MiB of 10.
        (D10, 10 * MIB, 50, 10 * MIB, 5_242_880),
        (D10, 0, 100, 10 * MIB, 10 * MIB),
        (D10, 0, 99, 10 * MIB, 9 * MIB),
        (D10, 0, 9, 10 * MIB, 0),
        (D10, 0, 0, 10 * MIB, 0),
        (D10, 0, -1, 10 * MIB, 0),
        (D10, 0, 100, 0, 0),
        (D10, 0, 100, -1, 0),
        # A request that is no whole number of steps is honoured when its started steps can be paid.
        (D10, 0, 20, MIB + 1, MIB + 1),
        (D10, 0, 19, MIB + 1, MIB),
        # The rest of a started step is paid already: it costs nothing more.
        (D10, MIB // 2, 0, MIB // 2, MIB // 2),
        (D10, MIB // 2, 10, 10 * MIB, MIB),
        (VOICE, 0, 11, 120, 60),
        (SMS, 0, 26, 3, 2),
        (FREE, 0, 0, 10 * MIB, 10 * MIB),
        (FREE, 0, -1, 10 * MIB, 10 * MIB),
    ],
)
def test_money_buys_all_or_the_most_whole_steps(tariff: Tariff, before: int, cents: int, most: int, units: int) -> None:
    assert affordable_units(tariff, before, cents * CENT, most) == units


def test_the_widest_total_is_the_last_that_fits_a_document() -> None:
    # Hand calculation: 2^63 - 1 micro-units at 100,000 a MiB buy 92,233,720,368,547 whole MiB, which is more than the
    # 8,796,093,022,207 whole MiB below 2^63: units are the narrower limit.
    assert max_units(D10) == 8_796_093_022_207 * MIB
    # 2^63 - 1 = 9,223,372,036,854,775,807 micro-units at 90,000 an event.
    assert max_units(SMS) == 102_481_911_520_608
    assert cost_micros(SMS, max_units(SMS)) <= MAX_COST_MICROS < cost_micros(SMS, max_units(SMS) + 1)
    assert max_units(FREE) <= MAX_UNITS < max_units(FREE) + FREE.step


def test_the_time_of_rating_does_not_grow_with_the_steps() -> None:
    # 2^63 - 1 steps of one event: a loop over them would never end.
    assert cost_micros(SMS, MAX_UNITS) == MAX_UNITS * 90_000
    assert affordable_units(SMS, 0, MAX_COST_MICROS, MAX_UNITS) == 102_481_911_520_608
