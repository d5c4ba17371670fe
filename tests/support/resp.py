"""Where commands and replies end in a stream of RESP2 or RESP3; written apart from the product's client on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_LINE = frozenset(b"+-:_,#(")
_BULK = frozenset(b"$!=")
_GROUP = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}
_PUSH = ord(">")
_ATTRIBUTE = ord("|")


class Command(NamedTuple):
    """A command of a client."""

    octets: bytes
    arguments: tuple[bytes, ...]

    @property
    def name(self) -> bytes:
        return self.arguments[0].upper() if self.arguments else b""


class Reply(NamedTuple):
    """A value of the server; a push belongs to no command."""

    octets: bytes
    is_push: bool


class Octets:
    """What came and is not yet whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def commands(self) -> Iterator[Command]:
        """Every whole command."""
        while (end := _value_end(self._buffer, 0)) is not None:
            octets = self._take(end)
            yield Command(octets, tuple(_bulks(octets)))

    def replies(self) -> Iterator[Reply]:
        """Every whole reply."""
        while (end := _value_end(self._buffer, 0)) is not None:
            octets = self._take(end)
            yield Reply(octets, octets[0] == _PUSH)

    def _take(self, end: int) -> bytes:
        octets = bytes(self._buffer[:end])
        del self._buffer[:end]
        return octets


def _value_end(buffer: bytearray, start: int) -> int | None:
    """Place after the value that begins at `start`; `None` if it is not whole. `ValueError`: not RESP."""
    open_values = 1
    while open_values:
        line_end = buffer.find(b"\r\n", start)
        if line_end < 0:
            return None
        kind = buffer[start]
        open_values -= 1
        if kind in _BULK:
            length = int(buffer[start + 1 : line_end])
            start = line_end + 2 + (length + 2 if length >= 0 else 0)
            if start > len(buffer):
                return None
            continue
        if kind in _GROUP:
            open_values += max(int(buffer[start + 1 : line_end]), 0) * _GROUP[kind]
        elif kind == _ATTRIBUTE:
            open_values += 2 * int(buffer[start + 1 : line_end]) + 1  # and the value that it describes
        elif kind not in _LINE:
            raise ValueError(f"not RESP: {bytes(buffer[start:line_end])!r}")
        start = line_end + 2
    return start


def _bulks(octets: bytes) -> Iterator[bytes]:
    """The bulk strings of a flat array."""
    start = octets.index(b"\r\n") + 2
    while start < len(octets):
        line_end = octets.index(b"\r\n", start)
        length = int(octets[start + 1 : line_end])
        start = line_end + 2 + length + 2
        yield octets[line_end + 2 : start - 2]
