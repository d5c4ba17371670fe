"""The AVP codec, written to be read. `cython_ext/_avp.pyx` is the same codec, written to be fast; results are equal.

Decoding is strict and total: any octets give a `Message` with everything that could be read and a list of everything
that is wrong. Choices where the standards leave one, or contradict each other:

- Every 5014 quotes the AVP's header and a zero-filled value of the type's least length, never the received value: RFC
  6733 §7.1.5 asks for that where the value cannot be taken, and doing it always keeps our answers well-formed. The
  Length in the quoted header is the quoted length.
- A member of a group must have its padding inside the group (DB-042); if not, its length runs past the end.
- A broken length ends its group: what follows cannot be found. Members missing for that reason are not reported.
- An AVP with a bad value is left out of the result; its key stands in `faulty` if it is not inside a group.
- Deeper nesting, more AVPs or more errors than the limits stop the decoder (DB-061).
- Failed-AVP quotes what somebody else found broken: what does not decode in it is left out and is no error.
- V with Vendor-Id 0 makes an unknown AVP; `tolerated` with 0 in it makes it the IETF's (DB-059).
- An undefined value of a checked enumeration is 5004 with M, and an AVP to be ignored without (DB-055).
- A 4-octet Address whose first octet is not 0 is an IPv4 address without its family (DB-057).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NoReturn

DEPTH_LIMIT = 16
AVP_LIMIT = 4096
ERROR_LIMIT = 64

HEADER_OCTETS = 20
LENGTH_MAX = 0xFFFFFF
MESSAGE_OCTETS_MAX = 0xFFFFFC
PROXY_INFO = 284
FIRSTS_MAX = 8
_RESULT_CODE_HEADER = bytes.fromhex("0000010c 4000000c")

FLAG_VENDOR = 0x80
FLAG_MANDATORY = 0x40

# Kinds of the wire, numbered as in dictionary.py; the compiled twin has the same list, and neither may import it.
OCTETS, UTF8, ASCII, UNSIGNED32, UNSIGNED64, INTEGER32, INTEGER64, FLOAT32, FLOAT64 = range(9)
ADDRESS, ADDRESS_OR_RAW, TIME, GROUPED, GROUPED_QUOTE, OCTETS_OR_UNSIGNED32 = range(9, 15)

_FIXED = {
    UNSIGNED32: struct.Struct(">I"),
    UNSIGNED64: struct.Struct(">Q"),
    INTEGER32: struct.Struct(">i"),
    INTEGER64: struct.Struct(">q"),
    FLOAT32: struct.Struct(">f"),
    FLOAT64: struct.Struct(">d"),
    TIME: struct.Struct(">I"),
}
_GROUPS = (GROUPED, GROUPED_QUOTE)

AVP_UNSUPPORTED = 5001
INVALID_AVP_VALUE = 5004
MISSING_AVP = 5005
AVP_NOT_ALLOWED = 5008
AVP_OCCURS_TOO_MANY_TIMES = 5009
UNABLE_TO_COMPLY = 5012
INVALID_AVP_LENGTH = 5014

FAMILY_IPV4, FAMILY_IPV6, FAMILY_E164 = 1, 2, 8
_IP_OCTETS = {FAMILY_IPV4: 4, FAMILY_IPV6: 16}
_IP_SOCKET = {FAMILY_IPV4: socket.AF_INET, FAMILY_IPV6: socket.AF_INET6}

# NTP seconds count from 1900; with the top bit clear they are of the era that begins in 2036 (RFC 6733 §4.3.1, DB-058).
UNIX_EPOCH_NTP = 2_208_988_800
ERA_SECONDS = 1 << 32
TIME_LEAST = (1 << 31) - UNIX_EPOCH_NTP
TIME_MOST = (1 << 31) - 1 + ERA_SECONDS - UNIX_EPOCH_NTP


_ENCODING_ERRORS = (ValueError, TypeError, OverflowError, OSError, AttributeError, LookupError, struct.error)


class _Bad(Exception):
    """The value of an AVP cannot be read."""


class _Ignored(Exception):
    """The AVP is to be treated as if it were absent."""


class _Stop(Exception):
    """A limit is reached: decode no further."""


class Message:
    """A decoded message; `errors` empty means that all of `avps` may be used."""

    def __init__(self, data: bytes) -> None:
        first, second, self.application, self.hop_by_hop, self.end_to_end = struct.unpack_from(">IIIII", data)
        self.version = first >> 24
        self.length = first & 0xFFFFFF
        self.flags = second >> 24
        self.command = second & 0xFFFFFF
        self.data = data
        self.avps: list[tuple[int, int, Any]] = []
        self.errors: list[Any] = []
        self.proxy_infos: list[bytes] = []
        self.faulty: list[int] = []
        self.tolerated = 0

    @property
    def signature(self) -> int:
        """Flags, Command-Code and Application-Id in one number."""
        return int(self.flags << 56 | self.command << 32 | self.application)

    @property
    def is_request(self) -> bool:
        """R bit."""
        return bool(self.flags & 0x80)

    @property
    def is_proxiable(self) -> bool:
        """P bit."""
        return bool(self.flags & 0x40)

    @property
    def is_error(self) -> bool:
        """E bit."""
        return bool(self.flags & 0x20)

    @property
    def is_retransmit(self) -> bool:
        """T bit."""
        return bool(self.flags & 0x10)


def _words(data: bytes, offset: int) -> tuple[int, int]:
    code, word = struct.unpack_from(">II", data, offset)
    return code, word


def _pad(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _header(code: int, flags: int, vendor: bytes, value_octets: int) -> bytes:
    length = 8 + len(vendor) + value_octets
    return struct.pack(">II", code, flags << 24 | length) + vendor


def _least_octets(kind: int) -> int:
    return _FIXED[kind].size if kind in _FIXED else 0


class _Decoding:
    """The state of decoding one message."""

    def __init__(self, codec: Codec, message: Message, tolerated: Collection[int]) -> None:
        self.rows = codec.rows
        self.avp_error = codec.avp_error
        self.data = message.data
        self.message = message
        self.tolerated = tolerated
        self.count = 0
        self.quoting = 0
        # Headers (code, flags, vendor octets) of the groups around the AVP at hand, outermost first.
        self.chain: list[tuple[int, int, bytes]] = []

    def report(self, result_code: int, failed: bytes, name: str, detail: str) -> None:
        """Add an error, its Failed-AVP wrapped in the groups around it (DB-049)."""
        if self.quoting:
            return
        failed = _pad(failed)
        for code, flags, vendor in reversed(self.chain):
            failed = _header(code, flags, vendor, len(failed)) + failed
        self.add(result_code, failed, name, detail)

    def add(self, result_code: int, failed: bytes, name: str, detail: str) -> None:
        """Add an error as it stands; the last that may be added stops the decoder."""
        self.message.errors.append(self.avp_error(result_code, failed, name, detail))
        if len(self.message.errors) >= ERROR_LIMIT:
            raise _Stop

    def sequence(self, start: int, end: int, group: Any, avps: list[tuple[int, int, Any]]) -> None:
        """Decode the AVPs between two offsets into `avps`; `group` is the row of the group they stand in, if any."""
        seen: dict[int, int] = {}
        try:
            while start < end:
                start = self.avp(start, end, group, avps, seen)
        except _Bad:
            return
        if group is not None:
            for key, least, _ in group.members:
                if seen.get(key, 0) < least:
                    row = self.rows[key]
                    self.report(MISSING_AVP, example(row), row.name, f"missing in {group.name}")

    def avp(self, start: int, end: int, group: Any, avps: list[tuple[int, int, Any]], seen: dict[int, int]) -> int:
        """Decode one AVP into `avps` and return the offset of the next; `_Bad` if that cannot be known."""
        data = self.data
        self.count += 1
        if self.count > AVP_LIMIT:
            self.add(UNABLE_TO_COMPLY, b"", "", f"more than {AVP_LIMIT} AVPs")
            raise _Stop
        if end - start < 8:
            self.bad_length(data[start:end].ljust(8, b"\0"), b"", 0)
        code, word = _words(data, start)
        flags, length = word >> 24, word & LENGTH_MAX
        head = 12 if flags & FLAG_VENDOR else 8
        if length < head or start + head > end:
            self.bad_length(
                data[start : start + 8], data[start + 8 : min(start + max(length, 8), start + head, end)], 0
            )
        vendor = int.from_bytes(data[start + 8 : start + head], "big")
        key = vendor << 32 | code
        row = self.rows.get(key)
        if head == 12 and vendor == 0 and 0 not in self.tolerated:
            row = None
        following = start + (length + 3 & ~3)
        if following > end:
            least = 0 if row is None else _least_octets(row.kind)
            self.bad_length(data[start : start + 8], data[start + 8 : start + head], least)
        raw = data[start : start + length]
        if row is None:
            self.unknown(raw, key, flags)
            return following
        if group is None and key == PROXY_INFO:
            self.message.proxy_infos.append(_pad(raw))
        if group is not None:
            self.occurrence(group, row, raw, seen)
        try:
            avps.append((key, flags, self.value(row, raw, start, head, flags)))
        except _Ignored:
            if group is not None:
                seen[key] -= 1
        except _Bad:
            if group is None:
                self.message.faulty.append(key)
        return following

    def bad_length(self, start: bytes, vendor: bytes, least_octets: int) -> NoReturn:
        """Report a length from which the next AVP cannot be found, and give up the sequence (DB-043, DB-044)."""
        code, flags = int.from_bytes(start[:4], "big"), start[4]
        vendor = vendor.ljust(4, b"\0") if flags & FLAG_VENDOR else b""
        failed = _header(code, flags, vendor, least_octets) + bytes(least_octets)
        name = self.name(int.from_bytes(vendor, "big") << 32 | code)
        self.report(INVALID_AVP_LENGTH, failed, name, "length out of bounds")
        raise _Bad

    def name(self, key: int) -> str:
        """Name a key for the log."""
        row = self.rows.get(key)
        return f"{key >> 32}:{key & 0xFFFFFFFF}" if row is None else str(row.name)

    def unknown(self, raw: bytes, key: int, flags: int) -> None:
        """Judge an AVP without a row: 5001 with M unless tolerated, otherwise ignored (DB-046, DB-047, DB-051)."""
        if not flags & FLAG_MANDATORY or self.quoting:
            return
        if key in self.tolerated or (flags & FLAG_VENDOR and key >> 32 in self.tolerated):
            self.message.tolerated += 1
            return
        self.report(AVP_UNSUPPORTED, raw, f"{key >> 32}:{key & 0xFFFFFFFF}", "unknown AVP with the M bit")

    def occurrence(self, group: Any, row: Any, raw: bytes, seen: dict[int, int]) -> None:
        """Count a member of a group; the first one too many is 5009 (DB-053)."""
        seen[row.key] = seen.get(row.key, 0) + 1
        for key, _, most in group.members:
            if key == row.key and most is not None and seen[key] == most + 1:
                self.report(AVP_OCCURS_TOO_MANY_TIMES, raw, row.name, f"more than {most} in {group.name}")

    def value(self, row: Any, raw: bytes, start: int, head: int, flags: int) -> Any:
        """Decode the value of a known AVP; a bad one is reported and raises `_Bad`."""
        if row.kind in (GROUPED, GROUPED_QUOTE):
            return self.group(row, start, head, len(raw), flags)
        octets = raw[head:]
        if row.kind in _FIXED:
            least = _least_octets(row.kind)
            if len(octets) != least:
                failed = _header(row.key & 0xFFFFFFFF, flags, raw[8:head], least) + bytes(least)
                self.report(INVALID_AVP_LENGTH, failed, row.name, f"{len(octets)} octets of value, expected {least}")
                raise _Bad
            value = _fixed_value(row.kind, octets)
            if row.allowed is None or value in row.allowed or self.quoting:
                return value
            if not flags & FLAG_MANDATORY:
                raise _Ignored
            detail = f"undefined value {value}"
        else:
            try:
                return _variable_value(row.kind, octets)
            except (_Bad, UnicodeDecodeError):
                detail = _EXPECTED[row.kind]
        self.report(INVALID_AVP_VALUE, raw, row.name, detail)
        raise _Bad

    def group(self, row: Any, start: int, head: int, length: int, flags: int) -> list[tuple[int, int, Any]]:
        """Decode a group's members; a group too deep is left out."""
        if len(self.chain) + 1 >= DEPTH_LIMIT:
            if not self.quoting:
                self.add(UNABLE_TO_COMPLY, b"", row.name, f"more than {DEPTH_LIMIT} levels of AVPs")
            raise _Bad
        members: list[tuple[int, int, Any]] = []
        self.chain.append((row.key & 0xFFFFFFFF, flags, self.data[start + 8 : start + head]))
        self.quoting += row.kind == GROUPED_QUOTE
        self.sequence(start + head, start + length, row, members)
        self.quoting -= row.kind == GROUPED_QUOTE
        self.chain.pop()
        return members


def _fixed_value(kind: int, octets: bytes) -> int | float:
    number: int | float = _FIXED[kind].unpack(octets)[0]
    if kind != TIME:
        return number
    return number - UNIX_EPOCH_NTP + (0 if number >= 1 << 31 else ERA_SECONDS)


_EXPECTED = {UTF8: "not UTF-8", ASCII: "not ASCII", ADDRESS: "address family and length disagree"}


def _variable_value(kind: int, octets: bytes) -> Any:
    if kind == UTF8:
        return octets.decode("utf-8")
    if kind == ASCII:
        return octets.decode("ascii")
    if kind == ADDRESS:
        return _address(octets)
    if kind == ADDRESS_OR_RAW:
        try:
            family, value = _address(octets)
        except (_Bad, UnicodeDecodeError):
            return (0, octets)
        return (family, value) if isinstance(value, str) and octets[0] == 0 else (0, octets)
    if kind == OCTETS_OR_UNSIGNED32 and len(octets) == 4:
        return int.from_bytes(octets, "big")
    return octets


def _address(octets: bytes) -> tuple[int, str | bytes]:
    """Decode an Address: family and text, or octets of a family without a text form (RFC 6733 §4.3.1, DB-057)."""
    if len(octets) == 4 and octets[0] != 0:
        return (FAMILY_IPV4, socket.inet_ntop(socket.AF_INET, octets))
    family, rest = int.from_bytes(octets[:2], "big"), octets[2:]
    if len(octets) < 2 or family == 0 or len(rest) != _IP_OCTETS.get(family, len(rest)):
        raise _Bad
    if family in _IP_SOCKET:
        return (family, socket.inet_ntop(_IP_SOCKET[family], rest))
    if family == FAMILY_E164:
        return (family, rest.decode("ascii"))
    return (family, rest)


def _encode_address(value: Any, raw_allowed: bool) -> bytes:
    family, rest = value
    if family == 0 and raw_allowed:
        return bytes(rest)
    if not 0 < family <= 0xFFFF:
        raise ValueError(f"address family {family}")
    if family in _IP_SOCKET:
        octets = socket.inet_pton(_IP_SOCKET[family], rest)
    elif family == FAMILY_E164:
        octets = rest.encode("ascii")
    else:
        octets = _octets(rest)
    return struct.pack(">H", family) + octets


def _octets(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"value of type {type(value).__name__}, expected bytes")
    return value


def _encode_fixed(kind: int, value: Any) -> bytes:
    if kind not in (FLOAT32, FLOAT64) and not isinstance(value, int):
        raise TypeError(f"value of type {type(value).__name__}, expected int")
    if kind == TIME:
        if not TIME_LEAST <= value <= TIME_MOST:
            raise ValueError("time outside of the two eras")
        value = (value + UNIX_EPOCH_NTP) % ERA_SECONDS
    return _FIXED[kind].pack(value)


def example(row: Any) -> bytes:
    """Return an AVP of a type with a zero-filled value of the least length (RFC 6733 §7.1.5, DB-052)."""
    least = _least_octets(row.kind)
    vendor = row.key >> 32
    flags = (FLAG_VENDOR if vendor else 0) | (FLAG_MANDATORY if row.mandatory else 0)
    return _header(row.key & 0xFFFFFFFF, flags, struct.pack(">I", vendor) if vendor else b"", least) + bytes(least)


class Codec:
    """Encoder and decoder of the AVPs of a dictionary.

    `rows` have `key, name, kind, mandatory, members, allowed`; `avp_error` makes the entries of `Message.errors`;
    `local_error` is raised when asked to encode what cannot be encoded.
    """

    def __init__(
        self, rows: Iterable[Any], avp_error: Callable[[int, bytes, str, str], Any], local_error: type[Exception]
    ) -> None:
        self.rows = {row.key: row for row in rows}
        self.avp_error = avp_error
        self.local_error = local_error

    def decode_message(self, data: bytes, tolerated: Collection[int] = frozenset()) -> Message:
        """Decode a whole message of at least 20 octets; what is wrong with its AVPs is in `errors`.

        `tolerated` holds vendors or keys whose unknown AVPs pass with M set (DB-051); a number without a vendor part
        is both a vendor and a code of the IETF's.
        """
        if len(data) < HEADER_OCTETS:
            raise self.local_error(f"{len(data)} octets are not a message")
        message = Message(bytes(data))
        with contextlib.suppress(_Stop):
            _Decoding(self, message, tolerated).sequence(HEADER_OCTETS, len(data), None, message.avps)
        return message

    def encode_avp(self, key: int, value: Any, flags: int | None = None) -> bytes:
        """Encode one AVP with its padding.

        The V bit follows the key and the M bit the dictionary; `flags`, if given, decides M instead, as it must for a
        key without a row, whose value is octets. All other bits are sent as 0 (DB-060).
        """
        try:
            return self._encode(key, value, flags, 1)
        except _ENCODING_ERRORS as error:
            raise self.local_error(f"AVP {key}: {error}") from error

    def encode_message(
        self, command: int, application: int, flags: int, hop_by_hop: int, end_to_end: int, avps: Iterable[Any]
    ) -> bytes:
        """Encode a message; `avps` are `(key, value)`, `(key, flags, value)` or ready octets."""
        parts = []
        for item in avps:
            try:
                parts.append(self._item(item, 1))
            except _ENCODING_ERRORS as error:
                raise self.local_error(
                    f"AVP {item[0] if isinstance(item, tuple) and item else '?'}: {error}"
                ) from error
        body = b"".join(parts)
        length = HEADER_OCTETS + len(body)
        if length > MESSAGE_OCTETS_MAX:
            raise self.local_error(f"message of {length} octets")
        try:
            if not 0 <= command <= 0xFFFFFF or not 0 <= flags <= 0xFF:
                raise ValueError("command or flags out of range")
            words = 1 << 24 | length, flags << 24 | command, application, hop_by_hop, end_to_end
            head = struct.pack(">IIIII", *words)
        except _ENCODING_ERRORS as error:
            raise self.local_error(f"header: {error}") from error
        return head + body

    def check_grammar(
        self,
        avps: Iterable[tuple[int, int, Any]],
        grammar: Mapping[int, tuple[int, int | None]],
        faulty: Collection[int] = (),
    ) -> list[Any]:
        """Compare the AVPs of a message with its grammar `{key: (least, most)}`; return the errors.

        The first instance too many is 5009, or 5008 if none is allowed; a missing AVP is 5005 with an example, unless
        it is among `faulty`: it was there (DB-052, DB-053, DB-054).
        """
        counts = dict.fromkeys(grammar, 0)
        errors: list[Any] = []
        for key, flags, value in avps:
            if key not in counts:
                continue
            counts[key] += 1
            most = grammar[key][1]
            if most is not None and counts[key] == most + 1:
                result_code = AVP_OCCURS_TOO_MANY_TIMES if most else AVP_NOT_ALLOWED
                failed = self.encode_avp(key, value, flags)
                errors.append(self.avp_error(result_code, failed, self._name(key), f"more than {most}"))
        for key, (least, _) in grammar.items():
            if counts[key] < least and key not in faulty:
                errors.append(self.avp_error(MISSING_AVP, _pad(example(self.rows[key])), self._name(key), "missing"))
        return errors

    def _name(self, key: int) -> str:
        row = self.rows.get(key)
        return f"{key >> 32}:{key & 0xFFFFFFFF}" if row is None else str(row.name)

    def _item(self, item: Any, depth: int) -> bytes:
        if isinstance(item, bytes):
            return item
        key, flags, value = item if len(item) == 3 else (item[0], None, item[1])
        return self._encode(key, value, flags, depth)

    def _encode(self, key: int, value: Any, flags: int | None, depth: int) -> bytes:
        row = self.rows.get(key)
        if row is None:
            if flags is None:
                raise ValueError("no row in the dictionary")
            payload = _octets(value)
        else:
            payload = self._payload(row, value, depth)
            flags = (FLAG_MANDATORY if row.mandatory else 0) if flags is None else flags
        vendor = struct.pack(">I", key >> 32) if key >> 32 else b""
        flags = flags & FLAG_MANDATORY | (FLAG_VENDOR if vendor else 0)
        if 8 + len(vendor) + len(payload) > LENGTH_MAX:
            raise ValueError(f"value of {len(payload)} octets")
        return _pad(_header(key & 0xFFFFFFFF, flags, vendor, len(payload)) + payload)

    def _payload(self, row: Any, value: Any, depth: int) -> bytes:
        kind = row.kind
        if kind in (GROUPED, GROUPED_QUOTE):
            if isinstance(value, bytes):
                return value
            if depth >= DEPTH_LIMIT:
                raise ValueError(f"more than {DEPTH_LIMIT} levels of AVPs")
            return b"".join([self._item(item, depth + 1) for item in value])
        if kind in _FIXED:
            return _encode_fixed(kind, value)
        if kind == UTF8:
            return str.encode(value, "utf-8")
        if kind == ASCII:
            return str.encode(value, "ascii")
        if kind in (ADDRESS, ADDRESS_OR_RAW):
            return _encode_address(value, kind == ADDRESS_OR_RAW)
        if kind == OCTETS_OR_UNSIGNED32 and isinstance(value, int):
            return struct.pack(">I", value)
        return _octets(value)


def first(avps: Sequence[tuple[int, int, Any]], key: int) -> Any:
    """Return the value of the first AVP with a key, `None` if there is none."""
    for found, _, value in avps:
        if found == key:
            return value
    return None


def firsts(avps: Sequence[tuple[int, int, Any]], keys: Sequence[int]) -> list[Any]:
    """Return the values of the first AVPs with some keys, in the order of the keys; `None` for each that is not there."""
    if len(keys) > FIRSTS_MAX:
        raise ValueError(f"{len(keys)} keys, at most {FIRSTS_MAX}")
    return [first(avps, key) for key in keys]


def every(avps: Sequence[tuple[int, int, Any]], key: int) -> list[Any]:
    """Return the values of all AVPs with a key, in their order."""
    return [value for found, _, value in avps if found == key]


def whole_messages(octets: bytes | bytearray, start: int, limit: int) -> tuple[list[bytes], int]:
    """Cut whole messages off the front of a stream: the list of them, and where the rest begins.

    Stops before whatever is not whole, longer than `limit`, not of version 1, or of a length that cannot be.
    """
    if start < 0:
        raise ValueError(f"start {start}")
    messages = []
    while len(octets) - start >= HEADER_OCTETS and octets[start] == 1:
        length = int.from_bytes(octets[start + 1 : start + 4], "big")
        if not HEADER_OCTETS <= length <= min(limit, len(octets) - start) or length & 3:
            break
        messages.append(bytes(octets[start : start + length]))
        start += length
    return messages, start


def result_code_of(answer: bytes) -> int:
    """Result-Code at command level of an answer of our own; 0 if it has none. Ends on any octets."""
    at = HEADER_OCTETS
    while at + 12 <= len(answer):
        word = answer[at : at + 8]
        if word == _RESULT_CODE_HEADER:
            return int.from_bytes(answer[at + 8 : at + 12], "big")
        at += max(8, (int.from_bytes(word[5:8], "big") + 3) & ~3)
    return 0
