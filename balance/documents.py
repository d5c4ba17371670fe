"""The header that every document carries, and the keys under which documents lie.

Header, 18 octets, never changed in layout (LEDGER §1): counter (unsigned 64), nonce (8 random octets of the writer),
schema (unsigned 16), all big-endian; the MessagePack body follows. Counter and nonce together are the *version* and are
compared whole, so that histories which diverged never mix.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

HEADER = struct.Struct(">Q8sH")
VERSION_OCTETS = 16
DEFAULT_PARTITIONS = 64


class DocumentError(Exception):
    """A stored document is damaged or of a schema that this release does not read."""


class Header(NamedTuple):
    """The decoded header."""

    counter: int
    nonce: bytes
    schema: int


def version_of(document: bytes) -> bytes:
    """Return the 16 octets that a later write must expect."""
    if len(document) < HEADER.size:
        raise DocumentError(f"document of {len(document)} octets, expected at least {HEADER.size}")
    return document[:VERSION_OCTETS]


def header_of(document: bytes) -> Header:
    """Decode the header; `DocumentError` if the document is shorter than one."""
    if len(document) < HEADER.size:
        raise DocumentError(f"document of {len(document)} octets, expected at least {HEADER.size}")
    return Header(*HEADER.unpack_from(document))


def seal(previous: bytes | None, nonce: bytes, schema: int, body: bytes) -> bytes:
    """Put the next version's header before a body; `previous` is the version that was read, `None` for a new one."""
    counter = 1 if previous is None else int.from_bytes(previous[:8], "big") + 1
    return HEADER.pack(counter, nonce, schema) + body


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def partition_tag(partition: int) -> bytes:
    """What every key of a partition begins with; `balance.store` refuses keys that do not.

    It is a hash tag, so that all keys of a partition live on one node of a Redis Cluster.
    """
    return b"{p%03d}:" % partition


def _key(partition: int, kind: str, name: str) -> bytes:
    return b"%s%s:%s" % (partition_tag(partition), kind.encode("ascii"), name.encode("utf-8", "surrogatepass"))


def account_key(partition: int, account_id: str) -> bytes:
    """Key of an account in the partition that was stored with it when it was created."""
    return _key(partition, "a", account_id)


def subscriber_key(partition: int, subscriber_id: str) -> bytes:
    """Key of a subscriber; it lives in its account's partition."""
    return _key(partition, "u", subscriber_id)


def session_key(partition: int, session_id: str) -> bytes:
    """Key of a session in its account's partition; what a peer supplied is hashed into the key."""
    return _key(partition, "s", _digest(session_id).hex())


def operation_key(partition: int, operation: str) -> bytes:
    """Key of the outcome of a change that has no session."""
    return _key(partition, "o", _digest(operation).hex())


def home_partition(kind: str, name: str, partitions: int) -> int:
    """Partition of a locator or an identity: found by hashing, since nothing else is known yet."""
    return int.from_bytes(_digest(kind + "\0" + name)[:4], "big") % partitions


def locator_key(session_id: str, partitions: int) -> tuple[int, bytes]:
    """(partition, key) of a session's locator."""
    partition = home_partition("l", session_id, partitions)
    return partition, _key(partition, "l", _digest(session_id).hex())


def identity_key(kind: str, value: str, partitions: int) -> tuple[int, bytes]:
    """(partition, key) of an identity: kind is `e164`, `imsi`, `nai`, `sip`, `private`, `username`, or `account` and
    `subscriber` for the operator's own names."""
    partition = home_partition(kind, value, partitions)
    return partition, _key(partition, "i", kind + "=" + value)
