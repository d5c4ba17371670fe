"""One price row: what cumulative usage costs, and what money buys; compiled and as the readable twin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

from bench.micro.case import Case
from cython_ext import _rating
from tariffs import _price_reference

PRICES: dict[str, Any] = {"compiled": _rating.Price, "twin": _price_reference.Price}
PRICE_MICROS, PER, STEP = 13_000, 1_000_000, 100_000
QUOTA, MONEY_MICROS = 10_000_000, 1_000_000_000


def measured() -> Iterator[Case]:
    """Both ways of both questions."""
    for variant, kind in PRICES.items():
        price, totals = kind(PRICE_MICROS, PER, STEP), itertools.count(1, 1_234_567)
        yield Case("rating", "cost of a cumulative total", variant, partial(_cost, price, totals))
        yield Case("rating", "units that money buys", variant, partial(_affordable, price, totals))


def _cost(price: Any, totals: Iterator[int]) -> object:
    return price.cost_micros(next(totals))


def _affordable(price: Any, totals: Iterator[int]) -> object:
    return price.affordable_units(next(totals), MONEY_MICROS, QUOTA)
