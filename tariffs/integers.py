"""The only two divisions of this package; each says in its name which way it rounds."""

from __future__ import annotations


def div_floor(dividend: int, divisor: int) -> int:
    """Divide and round towards minus infinity; `divisor` > 0."""
    return dividend // divisor


def div_ceil(dividend: int, divisor: int) -> int:
    """Divide and round towards plus infinity; `divisor` > 0."""
    return -(-dividend // divisor)
