"""The documents one commit works on: read once, changed in memory, written together or not at all.

A `Workspace` belongs to one lane (one account). Each job works in a `child`; only a job that ends without error is
merged, so a request that breaks an invariant changes nothing of its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from balance.account import (
    ACCOUNT_SCHEMA,
    OPERATION_SCHEMA,
    SUBSCRIBER_SCHEMA,
    Account,
    OperationRecord,
    Subscriber,
)
from balance.documents import DocumentError, Header, header_of, seal, version_of
from balance.ledger import Event, encode_event
from balance.store import DueChange, IndexChange, Transaction, Write
from ocs.charging.session import SESSION_SCHEMA, Session

T = TypeVar("T")

SCHEMAS: dict[type, int] = {
    Account: ACCOUNT_SCHEMA,
    Subscriber: SUBSCRIBER_SCHEMA,
    Session: SESSION_SCHEMA,
    OperationRecord: OPERATION_SCHEMA,
}

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}
HEADER_OCTETS = 18


def decode_document(data: bytes, kind: type[T], schema: int) -> T:
    """The document behind the header; `DocumentError` for another schema or a damaged body."""
    return _decode_body(data[HEADER_OCTETS:], header_of(data).schema, kind, schema)


def _decode_body(body: bytes, schema: int, kind: type[T], expected: int) -> T:
    if schema != expected:
        raise DocumentError(f"document of schema {schema}, expected {expected} ({kind.__name__})")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        result: T = decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise DocumentError(f"damaged {kind.__name__}: {error}") from error
    return result


def encode_document(previous: bytes | None, nonce: bytes, schema: int, document: object) -> bytes:
    """A sealed document: the next version of `previous` (a version, `None` for a new document)."""
    return seal(previous, nonce, schema, _encoder.encode(document))


class _Slot(NamedTuple):
    schema: int
    body: bytes | None
    """MessagePack without header; `None`: absent."""
    ttl_s: int
    dirty: bool


class Workspace:
    """Documents by key, with what the jobs made of them."""

    def __init__(self, account_key: bytes, documents: Mapping[bytes, bytes | None]) -> None:
        self.account_key = account_key
        self._parent: Workspace | None = None
        self._versions = {key: None if data is None else version_of(data) for key, data in documents.items()}
        self._slots: dict[bytes, _Slot] = {}
        for key, data in documents.items():
            header = Header(0, b"", 0) if data is None else header_of(data)
            body = None if data is None else data[HEADER_OCTETS:]
            self._slots[key] = _Slot(header.schema, body, 0, False)
        self._events: list[Event] = []
        self._due: dict[bytes, int | None] = {}
        self._indexes: dict[tuple[bytes, bytes], bool] = {}

    def child(self) -> Workspace:
        """An overlay for one job."""
        overlay = Workspace(self.account_key, {})
        overlay._parent = self
        return overlay

    def merge(self, child: Workspace) -> None:
        """Take over what a job did."""
        self._slots.update(child._slots)
        self._events.extend(child._events)
        self._due.update(child._due)
        self._indexes.update(child._indexes)

    def knows(self, key: bytes) -> bool:
        """Whether the document was read (it may be absent all the same)."""
        return key in self._slots or (self._parent is not None and self._parent.knows(key))

    def get(self, key: bytes, kind: type[T]) -> T | None:
        """A fresh copy of a document, `None` if absent. `KeyError` if it was not read: that is our bug."""
        slot = self._find(key)
        if slot.body is None:
            return None
        return _decode_body(slot.body, slot.schema, kind, SCHEMAS[kind])

    def put(self, key: bytes, document: object, ttl_s: int = 0) -> None:
        """Write a document with this commit."""
        self._find(key)
        self._slots[key] = _Slot(SCHEMAS[type(document)], _encoder.encode(document), ttl_s, True)

    def delete(self, key: bytes) -> None:
        """Delete a document with this commit."""
        slot = self._find(key)
        self._slots[key] = _Slot(slot.schema, None, 0, True)

    def present(self, key: bytes) -> bool:
        """Whether a document exists, of whatever kind."""
        return self._find(key).body is not None

    def put_record(self, key: bytes, name: str, now_us: int, ttl_s: int) -> None:
        """Note under a key of its own that something was done, so that its repeat does nothing."""
        self.put(key, OperationRecord(name, b"", b"", now_us // 1_000_000), ttl_s)

    def account(self) -> Account | None:
        """The lane's account."""
        return self.get(self.account_key, Account)

    def put_account(self, account: Account) -> None:
        """Write the lane's account."""
        self.put(self.account_key, account)

    def event(self, event: Event) -> None:
        """Append an event; its version and number are set when the transaction is built."""
        self._events.append(event)

    def due(self, member: bytes, at_us: int | None) -> None:
        """Set or remove a due time."""
        self._due[member] = at_us

    def index(self, index: bytes, member: bytes, present: bool) -> None:
        """Change an index."""
        self._indexes[(index, member)] = present

    def _find(self, key: bytes) -> _Slot:
        slot = self._slots.get(key)
        if slot is None:
            if self._parent is None:
                raise KeyError(key)
            return self._parent._find(key)
        return slot

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._events or self._due or self._indexes) or any(s.dirty for s in self._slots.values())

    def transaction(self, nonce: bytes) -> Transaction:
        """The transaction for all that was done; the account is always written, so its version numbers the events."""
        account_version = self._versions[self.account_key]
        slots = dict(self._slots)
        slots[self.account_key] = slots[self.account_key]._replace(dirty=True)
        writes = []
        for key, slot in slots.items():
            if not slot.dirty:
                continue
            version = self._versions[key]
            data = None if slot.body is None else seal(version, nonce, slot.schema, slot.body)
            if data is None and version is None:
                continue
            writes.append(Write(key, version, data, slot.ttl_s))
        counter = 1 if account_version is None else int.from_bytes(account_version[:8], "big") + 1
        events = tuple(
            encode_event(msgspec.structs.replace(event, version=counter, n=n)) for n, event in enumerate(self._events)
        )
        due = tuple(DueChange(member, at) for member, at in self._due.items())
        indexes = tuple(IndexChange(name, member, present) for (name, member), present in self._indexes.items())
        return Transaction(tuple(writes), events, due, indexes)
