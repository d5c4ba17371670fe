"""Diameter messages as the load generator writes and reads them: a few lines of its own, so that what the server's codec
gets wrong is not got wrong here in the same way.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

from cython_ext._loadgen import FIELD_NAMES

TGPP = 10415
FLAG_VENDOR, FLAG_MANDATORY = 0x80, 0x40
FLAG_REQUEST, FLAG_PROXIABLE = 0x80, 0x40
HEADER_OCTETS = 20

_FIELDS = {name: number for number, name in enumerate(FIELD_NAMES)}


class Patch(NamedTuple):
    """A place in a message where something changes from one to the next."""

    at: int
    field: int
    """Place in `FIELD_NAMES`."""
    key: int
    """Of the rating group."""
    width: int
    """Digits; 0: a number."""


class Writer:
    """One message, AVP by AVP; remembers what is to be patched."""

    def __init__(self, command: int, application: int, flags: int, hop_by_hop: int = 0, end_to_end: int = 0) -> None:
        self.octets = bytearray(
            struct.pack(">IIIII", 1 << 24, flags << 24 | command, application, hop_by_hop, end_to_end)
        )
        self.patches: list[Patch] = []

    def avp(self, code: int, value: bytes | str | int, vendor: int = 0, mandatory: bool = True) -> int:
        """Append an AVP; text as UTF-8, an int as Unsigned32. Gives where its value stands."""
        data = (
            value.to_bytes(4, "big") if isinstance(value, int) else value.encode() if isinstance(value, str) else value
        )
        self._head(code, len(data), vendor, mandatory)
        at = len(self.octets)
        self.octets += data + bytes(-len(data) % 4)
        return at

    def patched(self, code: int, value: bytes | str | int, field: str, *, index: int = 0, vendor: int = 0) -> int:
        """An AVP whose value is patched: the digits of a text from its first `0` on, else the whole number."""
        at = self.avp(code, value, vendor)
        digits = value.find("0" * 6) if isinstance(value, str) else 0
        width = len(value[digits:]) - len(value[digits:].lstrip("0")) if isinstance(value, str) else 0
        self.patches.append(Patch(at + digits, _FIELDS[field], index, width))
        return at

    def patch(self, at: int, field: str) -> None:
        """Have a number at a place patched."""
        self.patches.append(Patch(at, _FIELDS[field], 0, 0))

    @contextlib.contextmanager
    def group(self, code: int, vendor: int = 0) -> Iterator[None]:
        """What is appended inside is a group's content."""
        start = len(self.octets)
        self._head(code, 0, vendor, mandatory=True)
        yield
        self.octets[start + 5 : start + 8] = (len(self.octets) - start).to_bytes(3, "big")

    def finish(self) -> bytes:
        """The message."""
        self.octets[1:4] = len(self.octets).to_bytes(3, "big")
        return bytes(self.octets)

    def _head(self, code: int, octets: int, vendor: int, mandatory: bool) -> None:
        flags = (FLAG_VENDOR if vendor else 0) | (FLAG_MANDATORY if mandatory else 0)
        size = octets + (12 if vendor else 8)
        self.octets += struct.pack(">II", code, flags << 24 | size) + (struct.pack(">I", vendor) if vendor else b"")


class Header(NamedTuple):
    """Header of a message."""

    length: int
    is_request: bool
    command: int
    hop_by_hop: int
    end_to_end: int


def read_header(message: bytes) -> Header:
    """The header of a whole message."""
    first, second, _application, hop_by_hop, end_to_end = struct.unpack_from(">IIIII", message)
    return Header(first & 0xFFFFFF, bool(second >> 31), second & 0xFFFFFF, hop_by_hop, end_to_end)


def read_unsigned(message: bytes, code: int) -> int | None:
    """The first Unsigned32 of the standard with a code at the top of a message, `None` if there is none."""
    at = HEADER_OCTETS
    while at + 8 <= len(message):
        found, size = struct.unpack_from(">II", message, at)
        octets = size & 0xFFFFFF
        if octets < 8:
            return None
        if found == code and octets == 12 and not size >> 31:
            return int.from_bytes(message[at + 8 : at + 12], "big")
        at += octets + -octets % 4
    return None
