"""The arithmetic of one price row as a reader would write it; the compiled twin is `cython_ext._rating`."""

from __future__ import annotations

from tariffs.integers import div_ceil, div_floor


class Price:
    """`price_micros` for every `per` units, billed in started steps of `step` units."""

    def __init__(self, price_micros: int, per: int, step: int) -> None:
        """All three positive but the price, which may be 0; `ValueError` otherwise."""
        if price_micros < 0 or per < 1 or step < 1:
            raise ValueError(f"price {price_micros} per {per}, step {step}: expected 0 or more, 1 or more, 1 or more")
        self.price_micros = price_micros
        self.per = per
        self.step = step

    def billed_units(self, total: int) -> int:
        """Cumulative units that are billed for `total` used ones: whole started steps."""
        return div_ceil(total, self.step) * self.step

    def cost_micros(self, total: int) -> int:
        """Cumulative cost of `total` units: billed units × price / per, rounded up once."""
        return div_ceil(self.billed_units(total) * self.price_micros, self.per)

    def affordable_units(self, before: int, money_micros: int, most: int) -> int:
        """How many of `most` further units the money pays for after `before` cumulative units.

        All of `most` if their added cost fits; else the largest multiple of the step whose added cost fits, 0 if none
        does (CC-086, CC-087). What costs nothing needs no money, so a price of 0 gives `most` even to an account in
        debt; at any other price negative money buys nothing.
        """
        if most <= 0:
            return 0
        if self.price_micros == 0:
            return most
        if money_micros < 0:
            return 0
        already = self.cost_micros(before)
        if self.cost_micros(before + most) - already <= money_micros:
            return most
        # cost(b + n) = ceil((billed(b) + n) * price / per) for whole steps n, and a rounded-up amount fits a whole
        # number exactly when the amount itself does; so the division can be turned around without losing a unit.
        payable = div_floor((already + money_micros) * self.per, self.price_micros)
        return div_floor(payable - self.billed_units(before), self.step) * self.step
