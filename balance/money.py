"""Text to micro-units and back: the edge where people write amounts. Exact, without float or Decimal."""

from __future__ import annotations

import re

MICROS_PER_MAJOR = 1_000_000
MAX_MICROS = 2**62
"""Widest amount that is accepted or kept; sums of two still fit the 64-bit integers of documents and wires."""

_AMOUNT = re.compile(r"([+-]?)(\d{1,13})(?:\.(\d{1,6}))?", re.ASCII)


class MoneyError(ValueError):
    """The text is not an amount."""


def parse_micros(text: str) -> int:
    """`"12.5"` -> 12,500,000 micro-units. At most six decimals; no exponent, separator or currency sign."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise MoneyError(f"{text!r} is not an amount: expected digits with at most six decimals, such as 12.50")
    sign, major, minor = match.groups()
    micros = int(major) * MICROS_PER_MAJOR + int((minor or "").ljust(6, "0"))
    if micros > MAX_MICROS:
        raise MoneyError(f"{text!r} is too large")
    return -micros if sign == "-" else micros


def format_micros(micros: int, exponent: int = 2) -> str:
    """Micro-units as text with the currency's decimals, or more (up to six) where needed to be exact."""
    sign = "-" if micros < 0 else ""
    major, minor = divmod(abs(micros), MICROS_PER_MAJOR)
    decimals = f"{minor:06d}".rstrip("0").ljust(exponent, "0")
    return f"{sign}{major}.{decimals}" if decimals else f"{sign}{major}"
