"""Leases: which process does the work that one process must do, such as archiving or the sweep of a partition.

A lease is a document with its holder and its end inside, taken and renewed by compare-and-set, so it works on every
store. It says who works, and keeps others from doing the same work twice at once; it never makes money right: what is
done under a lease must be harmless when two do it for a moment (a holder may be suspended past the end).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from balance.documents import VERSION_OCTETS, partition_tag
from balance.store import Conflict, Transaction, Write
from ocs.charging.saga import Commit, Read, Saga
from ocs.charging.workspace import decode_document, encode_document

LEASE_SCHEMA = 23

KEPT_BEYOND_S = 60
"""How long the document of an ended lease stays; an absent one is free as well."""

CLOCK_ERROR_US = 1_000_000
"""A holder stops so much before the end, a taker waits so much after: so there are never two as long as no two clocks
differ by more than twice this. The clock is the host's, the same for all processes of a host; several hosts need NTP."""


class LeaseDocument(msgspec.Struct, array_like=True, frozen=True):
    """Who holds a lease until when."""

    holder: str
    until_us: int
    """UTC microseconds; 0: given back."""


def lease_key(partition: int, name: str) -> bytes:
    """Key of a lease; a lease on a whole store lies in partition 0."""
    return partition_tag(partition) + b"m:lease:" + name.encode()


class Leasehold:
    """One process's view of one lease: ask `held` before each piece of work, run `acquire` well before it ends."""

    __slots__ = ("_version", "holder", "key", "length_us", "partition", "until_us")

    def __init__(self, partition: int, name: str, holder: str, length_us: int) -> None:
        """`holder` is unlike that of every other process, also of an earlier life of this one."""
        if length_us <= 2 * CLOCK_ERROR_US:
            raise ValueError(f"lease of {length_us} us, expected more than {2 * CLOCK_ERROR_US}")
        self.partition = partition
        self.key = lease_key(partition, name)
        self.holder = holder
        self.length_us = length_us
        self.until_us = 0
        """End of what this process holds; 0: nothing."""
        self._version: bytes | None = None

    def held(self, now_us: int) -> bool:
        """Whether the work may be done now."""
        return now_us < self.until_us - CLOCK_ERROR_US

    def acquire(self, now_us: int, nonce: Callable[[], bytes]) -> Saga[bool]:
        """Take or renew the lease from `now_us` on, the time before the saga is started; whether it is held.

        A renewal is one commit without a read. `StoreUnavailable` leaves what is known to be held as it was.
        """
        if self._version is not None:
            verdict = yield from self._write(self._version, now_us, nonce)
            if verdict:
                return True
        documents = yield Read(((self.partition, self.key),))
        data = documents[self.key]
        if data is not None:
            found = decode_document(data, LeaseDocument, LEASE_SCHEMA)
            if found.holder != self.holder and now_us < found.until_us + CLOCK_ERROR_US:
                self._lose()
                return False
        return (yield from self._write(None if data is None else data[:VERSION_OCTETS], now_us, nonce))

    def release(self, nonce: Callable[[], bytes]) -> Saga[None]:
        """Give the lease back, so that another need not wait for its end. Without effect if it is another's by now."""
        version = self._version
        self._lose()
        if version is not None:
            yield Commit(self.partition, Transaction((self._document(version, 0, nonce()),)))

    def _write(self, version: bytes | None, now_us: int, nonce: Callable[[], bytes]) -> Saga[bool]:
        write = self._document(version, now_us + self.length_us, nonce())
        verdict = yield Commit(self.partition, Transaction((write,)))
        if isinstance(verdict, Conflict):
            self._lose()
            return False
        assert write.data is not None
        self._version, self.until_us = write.data[:VERSION_OCTETS], now_us + self.length_us
        return True

    def _document(self, version: bytes | None, until_us: int, nonce: bytes) -> Write:
        data = encode_document(version, nonce, LEASE_SCHEMA, LeaseDocument(self.holder, until_us))
        # Seconds to the end are counted by the store's clock; what is kept beyond covers the rounding.
        return Write(self.key, version, data, KEPT_BEYOND_S + self.length_us // 1_000_000)

    def _lose(self) -> None:
        self._version, self.until_us = None, 0
