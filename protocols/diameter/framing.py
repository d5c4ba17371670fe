"""Cuts a stream of octets into Diameter messages by their 24-bit Message-Length (RFC 6733 §3, DB-003…DB-009).

Choices where the standard leaves one:

- A message longer than the limit ends the stream; it is not skipped, so nothing is ever buffered for it (DB-007).
- A wrong version with a sane length is skipped whole and the stream goes on (DB-008). Before the first message, a wrong
  version in the first octet is enough to know that this is no Diameter (DB-009).
"""

from __future__ import annotations

from typing import NamedTuple

from protocols.diameter.avp import whole_messages
from protocols.diameter.errors import ResultCode
from protocols.diameter.header import HEADER_OCTETS, Header, parse_header

VERSION = 1


class FramingFault(NamedTuple):
    """Octets that are no message of ours."""

    result_code: int
    """5011 or 5015."""
    header: Header | None
    """What stood where a header should; `None` if fewer than 20 octets came."""
    fatal: bool
    """The next message cannot be found: the connection must be closed."""


class Framer:
    """Holds the octets that are not yet a whole message; never more than one message and one chunk."""

    def __init__(self, max_message_octets: int) -> None:
        self.max_message_octets = max_message_octets
        """May be raised between two calls of `next_frame`, e.g. when the peer has proved who it is."""
        self.sure = False
        """False: nothing has shown yet that the stream is Diameter, so a wrong first octet is fatal."""
        self._buffer: bytes | bytearray = b""
        self._start = 0
        self._dead = False

    @property
    def buffered_octets(self) -> int:
        """Octets that wait for the rest of their message."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Add received octets; after a fatal fault they are dropped."""
        if self._dead:
            return
        if self._start == len(self._buffer):
            self._buffer, self._start = data, 0
            return
        # A bytearray grows and loses its front without moving the rest, so that one octet at a time stays linear.
        if isinstance(self._buffer, bytes):
            self._buffer = bytearray(self._buffer[self._start :])
        else:
            del self._buffer[: self._start]
        self._start = 0
        self._buffer += data

    def whole_messages(self) -> list[bytes]:
        """All messages that are whole by now, up to the first octets that are not for `next_frame` to hand out as one."""
        messages, self._start = whole_messages(self._buffer, self._start, self.max_message_octets)
        return messages

    def next_frame(self) -> bytes | FramingFault | None:
        """The next whole message, the next fault, or `None` when more octets are needed."""
        buffer, start = self._buffer, self._start
        available = len(buffer) - start
        if available < HEADER_OCTETS:
            if available and not self.sure and buffer[start] != VERSION:
                return self._fatal(ResultCode.UNSUPPORTED_VERSION, None)
            return None
        length = buffer[start + 1] << 16 | buffer[start + 2] << 8 | buffer[start + 3]
        sane = HEADER_OCTETS <= length <= self.max_message_octets and not length & 3
        if sane and buffer[start] == VERSION:
            if available < length:
                return None
            self._start = start + length
            return bytes(buffer[start : self._start])
        return self._fault(parse_header(bytes(buffer[start : start + HEADER_OCTETS])), available, sane)

    def _fault(self, header: Header, available: int, sane: bool) -> FramingFault | None:
        """DB-020: the version is judged before the length."""
        if header.version == VERSION:
            return self._fatal(ResultCode.INVALID_MESSAGE_LENGTH, header)
        if not sane or not self.sure:
            return self._fatal(ResultCode.UNSUPPORTED_VERSION, header)
        if available < header.length:
            return None
        self._start += header.length
        return FramingFault(ResultCode.UNSUPPORTED_VERSION, header, fatal=False)

    def _fatal(self, result_code: int, header: Header | None) -> FramingFault:
        self._dead = True
        self._buffer, self._start = b"", 0
        return FramingFault(result_code, header, fatal=True)
