"""The readable twin of cython_ext/_resp.pyx: commits packed for `lua/commit.lua`, and replies of Redis taken apart.

RESP2 only. The layout of a packed commit stands at the head of lua/commit.lua. A reply is `int`, `bytes` (simple and
bulk strings), `None`, a list of replies, or what `error_type` makes of an error's text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from balance.store import DueChange, IndexChange, Transaction, check_transactions

MAX_EXACT_SCORE = 2**53
"""Scores of a sorted set are doubles; from here on they are not exact, and times go to the hash of far ones."""

DELETE = 0xFFFF_FFFF
TIMED, REPEATS, TAKES = 1, 2, 4

MAX_BULK_OCTETS = 512 * 1024 * 1024
MAX_MEMBERS = 1024 * 1024
MAX_LINE_OCTETS = 64 * 1024
MAX_DEPTH = 8

Names = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
"""Of a partition: tag of its documents' keys, mark of leases, outbox, due set, far due times, start of index keys."""


def encode_command(arguments: Sequence[bytes]) -> bytes:
    """One command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%s\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


def encode_commit(opening: bytes, names: Names, transactions: Sequence[Transaction]) -> bytes:
    """A call of commit.lua; `opening` are its two first arguments (FCALL and the name), already encoded.

    Raises `ValueError` as `balance.store.check_commit` does, and for more than 65,535 parts of one kind in a transaction.
    """
    tag, mark, outbox, due_set, far, index_prefix = names
    check_transactions(tag, transactions)
    flags = 0
    keys: list[bytes] = []
    versions: list[bytes] = []
    documents: list[bytes] = []
    ttls: list[int] = []
    events: list[bytes] = []
    changed: list[bytes] = []
    changes: list[bytes] = []
    shapes: list[bytes] = []
    leases: list[bytes] = []
    for transaction in transactions:
        for key, expected, data, ttl_s in transaction.writes:
            keys.append(key)
            versions.append(b"" if expected is None else expected)
            documents.append(b"" if data is None else data)
            ttls.append(DELETE if data is None else ttl_s)
        events += transaction.events
        before = len(changed)
        for due in transaction.due:
            _pack_due(due, due_set, far, changed, changes)
        for change in transaction.indexes:
            _pack_index(change, index_prefix, changed, changes)
        lease = transaction.lease
        if lease is not None:
            flags |= TAKES if lease.take_ms else 0
            root, holder = lease.root, lease.holder
            leases.append(struct.pack(">HB", lease.take_ms, len(root)) + root + bytes([len(holder)]) + holder)
        counts = (len(transaction.writes), len(transaction.events), len(changed) - before)
        if max(counts) > 0xFFFF:
            raise ValueError("more than 65535 writes, events or changes in one transaction")
        shapes.append(struct.pack(">HHHB", *counts, lease is not None))
    flags |= TIMED if any(ttls) else 0
    flags |= REPEATS if len(set(keys)) < len(keys) else 0
    times = struct.pack(f">{len(ttls)}I", *ttls) if flags & TIMED else b""
    shape = (
        struct.pack(">BHII", flags, len(transactions), len(keys), len(events)) + times + b"".join([*shapes, *leases])
    )
    count = 2 + len(keys) + len(changed)
    arguments = [b"%d" % count, mark, outbox, *keys, *changed, shape, *versions, *documents, *events, *changes]
    packed = encode_command(arguments)
    return b"*%d\r\n" % (len(arguments) + 2) + opening + packed[packed.index(b"\n") + 1 :]


def _pack_due(change: DueChange, due_set: bytes, far: bytes, changed: list[bytes], changes: list[bytes]) -> None:
    """A member stands in the sorted set, or, beyond what a double holds exactly, in the hash; never in both."""
    member, at_us = change
    changed += [due_set, far]
    if at_us is None:
        changes += [b"ZREM", member, b"", b"HDEL", member, b""]
    elif -MAX_EXACT_SCORE < at_us < MAX_EXACT_SCORE:
        changes += [b"ZADD", b"%d" % at_us, member, b"HDEL", member, b""]
    elif -(2**63) <= at_us < 2**63:
        changes += [b"ZREM", member, b"", b"HSET", member, b"%d" % at_us]
    else:
        raise ValueError(f"due time {at_us}, expected 64 bits")


def _pack_index(change: IndexChange, prefix: bytes, changed: list[bytes], changes: list[bytes]) -> None:
    name, member, present = change
    changed.append(prefix + name)
    changes += [b"ZADD", b"0", member] if present else [b"ZREM", member, b""]


class _Incomplete(Exception):
    """The rest of the reply has not arrived; so many octets from its start are needed at least."""

    def __init__(self, need: int) -> None:
        self.need = need


class Parser:
    """Replies from octets as they arrive, split anywhere."""

    def __init__(self, error_type: Callable[[str], Any]) -> None:
        self._error_type = error_type
        self._kept = b""
        self._need = 0
        self._broken = False

    def feed(self, data: bytes) -> list[Any]:
        """The replies that are complete now, in order.

        `ValueError` when the stream is no RESP2: from then on nothing of it can be believed.
        """
        if self._broken:
            raise ValueError("the stream of replies was broken before")
        self._kept += data
        if len(self._kept) < self._need:
            return []
        replies: list[Any] = []
        at = 0
        self._need = 0
        try:
            while at < len(self._kept):
                reply, after = self._reply(at, MAX_DEPTH)
                replies.append(reply)
                at = after
        except _Incomplete as more:
            self._need = more.need - at
        except ValueError:
            self._broken = True
            raise
        self._kept = self._kept[at:]
        return replies

    def _reply(self, at: int, depth: int) -> tuple[Any, int]:
        kept = self._kept
        end = kept.find(b"\r", at, at + MAX_LINE_OCTETS)
        if end < 0 and len(kept) - at >= MAX_LINE_OCTETS:
            raise ValueError(f"a line of a reply is longer than {MAX_LINE_OCTETS} octets")
        kind = kept[at : at + 1]
        if kind not in (b":", b"$", b"*", b"+", b"-"):
            raise ValueError(f"reply of kind {kind!r}")
        if end < 0 or end + 1 >= len(kept):
            raise _Incomplete(len(kept) + 1)
        if kept[end + 1 : end + 2] != b"\n":
            raise ValueError("a line of a reply does not end in CRLF")
        line, after = kept[at + 1 : end], end + 2
        if kind == b"+":
            return line, after
        if kind == b"-":
            return self._error_type(line.decode("utf-8", "replace")), after
        number = _integer(line)
        if kind == b":":
            return number, after
        if kind == b"$":
            return self._bulk(number, after)
        return self._array(number, after, depth)

    def _bulk(self, size: int, at: int) -> tuple[bytes | None, int]:
        if size == -1:
            return None, at
        if not 0 <= size <= MAX_BULK_OCTETS:
            raise ValueError(f"bulk string of {size} octets")
        end = at + size
        if end + 2 > len(self._kept):
            raise _Incomplete(end + 2)
        if self._kept[end : end + 2] != b"\r\n":
            raise ValueError("a bulk string does not end in CRLF")
        return self._kept[at:end], end + 2

    def _array(self, size: int, at: int, depth: int) -> tuple[list[Any] | None, int]:
        if size == -1:
            return None, at
        if not 0 <= size <= MAX_MEMBERS:
            raise ValueError(f"array of {size} members")
        if depth == 0:
            raise ValueError(f"arrays nested deeper than {MAX_DEPTH}")
        members: list[Any] = []
        for _ in range(size):
            if at >= len(self._kept):
                raise _Incomplete(len(self._kept) + 1)
            member, at = self._reply(at, depth - 1)
            members.append(member)
        return members, at


def _integer(digits: bytes) -> int:
    number = digits.removeprefix(b"-")
    if not number.isdigit() or len(number) > 18:
        # 18 digits hold every number that our calls can give, and no overflow needs to be thought of.
        raise ValueError(f"number {digits[:32]!r} in a reply")
    return int(digits)
