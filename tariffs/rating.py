"""What usage costs, and how much usage an amount of money buys. Closed form: no loop, whatever the number of steps.

Amounts are cumulative. A key (quota key of one session) that has used `total` units at a tariff owes `cost_micros(total)`,
and a report costs the difference of two such sums, so that many reports never round more often than one (LEDGER §7.1).
`total` counts only units that money pays for; what unit buckets pay for never enters here.

Limits. A cost is at most `MAX_COST_MICROS` = 2^63 - 1, the widest integer of a document. `max_units` says up to which total
this holds for a tariff: never below `model.REQUIRED_UNITS` for a tariff of a loaded catalogue, and never above 2^63 - 1
units. These functions are exact beyond the limit too; the caller refuses such usage before it stores a sum. The widest
intermediate product is price times billed units: within the limits below 2^126.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tariffs.integers import div_floor
from tariffs.model import MAX_COST_MICROS, MAX_UNITS, Tariff

if TYPE_CHECKING or os.environ.get("OCS_PURE") == "1":
    from tariffs._price_reference import Price
else:
    try:
        from cython_ext._rating import Price
    except ImportError as error:
        raise ImportError(
            "the compiled rating cython_ext._rating is missing: build it with `pip install -e .`, "
            "or set OCS_PURE=1 to run the slow readable twin"
        ) from error

__all__ = ["Price", "affordable_units", "billed_units", "cost_between", "cost_micros", "max_units", "price_of"]


def price_of(tariff: Tariff) -> Price:
    """The arithmetic of a tariff, for who asks it often."""
    return Price(tariff.price_micros, tariff.per, tariff.step)


def billed_units(tariff: Tariff, total: int) -> int:
    """Return the cumulative units that are billed for `total` used ones: whole started steps, in units of the tariff."""
    return price_of(tariff).billed_units(total)


def cost_micros(tariff: Tariff, total: int) -> int:
    """Return the cumulative cost, in micro-units, of `total` units: billed units × price / per, rounded up once."""
    return price_of(tariff).cost_micros(total)


def cost_between(tariff: Tariff, before: int, after: int) -> int:
    """Return what a key owes more, in micro-units, when its cumulative units go from `before` to `after`."""
    return cost_micros(tariff, after) - cost_micros(tariff, before)


def affordable_units(tariff: Tariff, before: int, money_micros: int, most: int) -> int:
    """Return how many of `most` further units the money pays for after `before` cumulative units.

    All of `most` if their added cost fits; else the largest multiple of the step whose added cost fits, 0 if none does
    (CC-086, CC-087).
    """
    return price_of(tariff).affordable_units(before, money_micros, most)


def max_units(tariff: Tariff) -> int:
    """Return the largest cumulative total, a whole number of steps, whose cost and billed units fit 2^63 - 1.

    Usage beyond it cannot be stored; the caller refuses it. Widest product: `MAX_COST_MICROS` × `per`, below 2^126.
    """
    widest = MAX_UNITS
    if tariff.price_micros > 0:
        widest = min(widest, div_floor(MAX_COST_MICROS * tariff.per, tariff.price_micros))
    return div_floor(widest, tariff.step) * tariff.step
