"""Prices and amounts as a person writes them, read strictly into integers, and written back."""

from __future__ import annotations

import re

from tariffs.integers import div_floor
from tariffs.model import MAX_COST_MICROS, MAX_UNITS, Unit
from tariffs.problems import did_you_mean, one_of, show

MICRO_DECIMALS = 6
MICROS = 1_000_000

PRICE_EXPECTED = 'a decimal number in quotes, in the currency\'s major unit, such as "0.10"'

SIZE_EXPECTED = {
    Unit.OCTETS: 'a whole number of octets such as 1048576, "100 kB" or "1 MiB"',
    Unit.SECONDS: 'a whole number of seconds such as 60, "60 s", "1 min" or "1 h"',
    Unit.EVENTS: "a whole number of events such as 1",
}

SUFFIXES: dict[Unit, dict[str, int]] = {
    Unit.OCTETS: {
        "B": 1,
        "kB": 10**3,
        "MB": 10**6,
        "GB": 10**9,
        "TB": 10**12,
        "KiB": 2**10,
        "MiB": 2**20,
        "GiB": 2**30,
        "TiB": 2**40,
    },
    Unit.SECONDS: {"s": 1, "min": 60, "h": 3600, "d": 86400},
    Unit.EVENTS: {},
}

_PRICE = re.compile(r"(0|[1-9][0-9]{0,18})(?:\.([0-9]+))?")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})(?: ?([A-Za-z]+))?")


class FractionText(str):
    """A TOML number with a fraction or exponent, kept as it was written: it is never made a float."""

    __slots__ = ()


class QuantityError(Exception):
    """A text is no price or amount: what is wrong, and what was expected."""

    def __init__(self, what: str, expected: str = "") -> None:
        """Keep both halves of the message; `expected` is empty if `what` says it already."""
        super().__init__(f"{what}, expected {expected}" if expected else what)
        self.what = what
        self.expected = expected


def parse_price(value: object) -> int:
    """Return the micro-units of a price such as `"0.10"`; exact, at most 2^63 - 1; `QuantityError` if it is none."""
    if not isinstance(value, str) or isinstance(value, FractionText):
        raise QuantityError(f"price {show(value)} is not in quotes", PRICE_EXPECTED)
    if value.startswith("-"):
        raise QuantityError(f"price {show(value)} is negative", '"0" or more')
    found = _PRICE.fullmatch(value)
    if found is None:
        raise QuantityError(f"price {show(value)} is not a decimal number", PRICE_EXPECTED)
    decimals = found[2] or ""
    if len(decimals) > MICRO_DECIMALS:
        raise QuantityError(f"price {show(value)} has {len(decimals)} decimals", f"at most {MICRO_DECIMALS}")
    micros = int(found[1]) * MICROS + int(decimals.ljust(MICRO_DECIMALS, "0"))
    if micros > MAX_COST_MICROS:
        raise QuantityError(f"price {show(value)} is too large", f"at most {format_micros(MAX_COST_MICROS)}")
    return micros


def parse_size(value: object, unit: Unit) -> int:
    """Return the octets, seconds or events of an integer or of a text such as `"1 MiB"`; `QuantityError` if it is none.

    A suffix is written as in the standards (`kB` is 1000, `KiB` is 1024), so that it means one thing only.
    """
    expected = SIZE_EXPECTED[unit]
    if isinstance(value, int) and not isinstance(value, bool):
        amount = value
    elif isinstance(value, str) and not isinstance(value, FractionText):
        found = _SIZE.fullmatch(value)
        if found is None:
            raise QuantityError(f"{show(value)} is not an amount", expected)
        amount = int(found[1]) * _multiple(found[2], unit)
    else:
        raise QuantityError(f"{show(value)} is not an amount", expected)
    if amount < 0:
        raise QuantityError(f"{show(value)} is negative", expected)
    if amount > MAX_UNITS:
        raise QuantityError(f"{show(value)} is too large", f"at most {MAX_UNITS}")
    return amount


def _multiple(suffix: str | None, unit: Unit) -> int:
    if suffix is None:
        return 1
    known = SUFFIXES[unit]
    if suffix in known:
        return known[suffix]
    if suffix == "KB":
        raise QuantityError("unit `KB` means two things", "`kB` (1000 octets) or `KiB` (1024 octets)")
    if not known:
        raise QuantityError(f"{show(suffix)} after a number of events", SIZE_EXPECTED[unit])
    close = {word.lower(): word for word in known}.get(suffix.lower()) or did_you_mean(suffix, known)
    if close:
        raise QuantityError(f"unknown unit {show(suffix)}, did you mean `{close}`?")
    raise QuantityError(f"unknown unit {show(suffix)}", one_of(known))


def format_micros(micros: int) -> str:
    """Write micro-units in the major unit, exactly, with at least two decimals: `0.10`, `0.000125`."""
    sign = "-" if micros < 0 else ""
    major = div_floor(abs(micros), MICROS)
    decimals = f"{abs(micros) - major * MICROS:0{MICRO_DECIMALS}}".rstrip("0").ljust(2, "0")
    return f"{sign}{major}.{decimals}"


def format_size(amount: int, unit: Unit) -> str:
    """Write an amount with the largest suffix that divides it: `10 MiB`, `100 kB`, `1 min`, `3 events`."""
    if unit is Unit.EVENTS:
        return "1 event" if amount == 1 else f"{amount} events"
    fitting = [(size, word) for word, size in SUFFIXES[unit].items() if size == 1 or (amount and amount % size == 0)]
    size, word = max(fitting)
    return f"{div_floor(amount, size)} {word}"
