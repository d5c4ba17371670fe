"""Rating as a reader would do it by hand: count the started steps one by one, then the started micro-units.

Its time grows with the amounts, so it serves tests alone: `tariffs.rating` must agree with it everywhere.
"""

from __future__ import annotations

from tariffs.model import Tariff


def billed_units(tariff: Tariff, total: int) -> int:
    """Add steps until they hold the total."""
    billed = 0
    while billed < total:
        billed += tariff.step
    return billed


def cost_micros(tariff: Tariff, total: int) -> int:
    """Add micro-units until they pay for the billed units: `per` units cost `price_micros`."""
    billed = billed_units(tariff, total)
    cost = 0
    while cost * tariff.per < billed * tariff.price_micros:
        cost += 1
    return cost


def cost_between(tariff: Tariff, before: int, after: int) -> int:
    """What a key that had used `before` units owes more when it has used `after`."""
    return cost_micros(tariff, after) - cost_micros(tariff, before)


def affordable_units(tariff: Tariff, before: int, money_micros: int, most: int) -> int:
    """All of `most` if it can be paid, else add one step after the other while the money lasts."""
    if most <= 0:
        return 0
    if tariff.price_micros == 0:
        return most
    if money_micros < 0:
        return 0
    if cost_between(tariff, before, before + most) <= money_micros:
        return most
    units = 0
    while cost_between(tariff, before, before + units + tariff.step) <= money_micros:
        units += tariff.step
    return units
