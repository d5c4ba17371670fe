"""Integer division with its rounding named; a bare `//` never touches money."""

from __future__ import annotations


def div_ceil(numerator: int, denominator: int) -> int:
    """Quotient rounded towards plus infinity; the denominator is positive."""
    return -(-numerator // denominator)


def div_floor(numerator: int, denominator: int) -> int:
    """Quotient rounded towards minus infinity; the denominator is positive."""
    return numerator // denominator
