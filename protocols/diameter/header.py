"""The Diameter header: 20 octets before the AVPs of every message (RFC 6733 §3)."""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER_OCTETS = 20
MESSAGE_OCTETS_MAX = 0xFFFFFC

FLAG_REQUEST = 0x80
FLAG_PROXIABLE = 0x40
FLAG_ERROR = 0x20
FLAG_RETRANSMIT = 0x10

CAPABILITIES_EXCHANGE = 257
RE_AUTH = 258
CREDIT_CONTROL = 272
ABORT_SESSION = 274
SESSION_TERMINATION = 275
DEVICE_WATCHDOG = 280
DISCONNECT_PEER = 282
SPENDING_LIMIT = 8388635
SPENDING_STATUS_NOTIFICATION = 8388636

APPLICATION_COMMON = 0
APPLICATION_CREDIT_CONTROL = 4
APPLICATION_SY = 16777302
APPLICATION_RELAY = 0xFFFFFFFF

_HEADER = struct.Struct(">IIIII")


class Header(NamedTuple):
    """The fields of a header; `length` counts the whole message in octets."""

    version: int
    length: int
    flags: int
    command: int
    application: int
    hop_by_hop: int
    end_to_end: int


def parse_header(data: bytes, offset: int = 0) -> Header:
    """Read 20 octets as a header without judging them; `struct.error` if there are fewer."""
    first, second, application, hop_by_hop, end_to_end = _HEADER.unpack_from(data, offset)
    return Header(first >> 24, first & 0xFFFFFF, second >> 24, second & 0xFFFFFF, application, hop_by_hop, end_to_end)


def build_header(header: Header) -> bytes:
    """Write a header; `struct.error` if a field is out of its range."""
    first = header.version << 24 | header.length
    second = header.flags << 24 | header.command
    return _HEADER.pack(first, second, header.application, header.hop_by_hop, header.end_to_end)
