"""The digest by which a repeat with another content is noticed (CC-043): written to be read.

`cython_ext/_credit.pyx` computes the same, written to be fast. It is over decoded values, so that padding, reserved bits
and unknown AVPs do not count. A hash that is quick is enough: it guards against accidents, and nobody gains by two
requests of one number that look alike.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

Avp = tuple[int, int, Any]

_WORD = (1 << 64) - 1
_MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio


def readable_digest_of(charged: list[Avp]) -> bytes:
    """Four octets over AVPs in their order: keys, flags and values, also those in groups."""
    state = _MULTIPLIER
    for avp in charged:
        state = _mixed_avp(state, avp)
    return ((state ^ (state >> 32)) & 0xFFFFFFFF).to_bytes(4, "big")


def _mixed(state: int, word: int) -> int:
    state = ((state ^ word) * _MULTIPLIER) & _WORD
    return state ^ (state >> 32)


def _mixed_avp(state: int, avp: Avp) -> int:
    key, flags, value = avp
    return _mixed_value(_mixed(_mixed(state, key), flags), value)


def _mixed_value(state: int, value: Any) -> int:
    if isinstance(value, int):
        return _mixed(state, value & _WORD)
    if isinstance(value, str):
        return _mixed_octets(state, value.encode("utf-8"))
    if isinstance(value, bytes):
        return _mixed_octets(state, value)
    if isinstance(value, float):
        return _mixed(state, struct.unpack("<Q", struct.pack("<d", value))[0])
    if isinstance(value, list):
        state = _mixed(state, len(value))
        for avp in value:
            state = _mixed_avp(state, avp)
        return state
    family, rest = value  # an Address
    return _mixed_value(_mixed_value(state, family), rest)


def _mixed_octets(state: int, octets: bytes) -> int:
    """Their number, then eight at a time, the last filled up with zeros; the first octet is the lowest."""
    state = _mixed(state, len(octets))
    for start in range(0, len(octets), 8):
        state = _mixed(state, int.from_bytes(octets[start : start + 8], "little"))
    return state


if TYPE_CHECKING or os.environ.get("OCS_PURE") == "1":
    digest_of = readable_digest_of
else:
    from cython_ext._credit import digest_of

__all__ = ["digest_of", "readable_digest_of"]
