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
from balance.documents import HEADER, VERSION_OCTETS, DocumentError, header_of, seal
from balance.ledger import Event, encode_event
from balance.store import DueChange, IndexChange, Lease, Transaction, Write
from ocs.charging.notice_documents import ACCOUNT_NOTICE_SCHEMA, AccountNotice
from ocs.charging.session import SESSION_SCHEMA, Session

T = TypeVar("T")

SCHEMAS: dict[type, int] = {
    Account: ACCOUNT_SCHEMA,
    Subscriber: SUBSCRIBER_SCHEMA,
    Session: SESSION_SCHEMA,
    OperationRecord: OPERATION_SCHEMA,
    AccountNotice: ACCOUNT_NOTICE_SCHEMA,
}

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}
HEADER_OCTETS = HEADER.size


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


class _Written(NamedTuple):
    schema: int
    body: bytes | None
    """MessagePack without header; `None`: deleted."""
    ttl_s: int


class Workspace:
    """Documents by key, with what the jobs made of them."""

    __slots__ = ("_documents", "_due", "_events", "_indexes", "_parent", "_written", "account_key")

    def __init__(self, account_key: bytes, documents: Mapping[bytes, bytes | None]) -> None:
        """`documents` may hold more than is asked for; it is not changed."""
        self.account_key = account_key
        self._parent: Workspace | None = None
        self._documents = documents
        self._written: dict[bytes, _Written] = {}
        self._events: list[Event] = []
        self._due: dict[bytes, int | None] = {}
        self._indexes: dict[tuple[bytes, bytes], bool] = {}

    def child(self) -> Workspace:
        """An overlay for one job."""
        overlay = Workspace(self.account_key, self._documents)
        overlay._parent = self
        return overlay

    def merge(self, child: Workspace) -> None:
        """Take over what a job did."""
        self._written.update(child._written)
        self._events.extend(child._events)
        self._due.update(child._due)
        self._indexes.update(child._indexes)

    def knows(self, key: bytes) -> bool:
        """Whether the document was read (it may be absent all the same)."""
        return key in self._documents

    def get(self, key: bytes, kind: type[T]) -> T | None:
        """A fresh copy of a document, `None` if absent. `KeyError` if it was not read: that is our bug."""
        written = self._find_written(key)
        if written is not None:
            return None if written.body is None else _decode_body(written.body, written.schema, kind, SCHEMAS[kind])
        data = self._documents[key]
        return None if data is None else decode_document(data, kind, SCHEMAS[kind])

    def put(self, key: bytes, document: object, ttl_s: int = 0) -> None:
        """Write a document with this commit."""
        self._check(key)
        self._written[key] = _Written(SCHEMAS[type(document)], _encoder.encode(document), ttl_s)

    def delete(self, key: bytes) -> None:
        """Delete a document with this commit."""
        self._check(key)
        self._written[key] = _Written(0, None, 0)

    def present(self, key: bytes) -> bool:
        """Whether a document exists, of whatever kind."""
        written = self._find_written(key)
        return self._documents[key] is not None if written is None else written.body is not None

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

    def _find_written(self, key: bytes) -> _Written | None:
        written = self._written.get(key)
        if written is None and self._parent is not None:
            return self._parent._find_written(key)
        return written

    def _check(self, key: bytes) -> None:
        if key not in self._documents:
            raise KeyError(key)

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._written or self._events or self._due or self._indexes)

    def transaction(self, nonce: bytes, lease: Lease | None = None) -> Transaction:
        """The transaction for all that was done; the account is always written, so its version numbers the events."""
        documents = self._documents
        account = documents[self.account_key]
        writes = []
        if self.account_key not in self._written and account is not None:
            writes.append(Write(self.account_key, account[:VERSION_OCTETS], _next(account, nonce)))
        for key, (schema, body, ttl_s) in self._written.items():
            previous = documents[key]
            version = None if previous is None else previous[:VERSION_OCTETS]
            if body is not None:
                writes.append(Write(key, version, seal(version, nonce, schema, body), ttl_s))
            elif version is not None:
                writes.append(Write(key, version, None))
        counter = 1 if account is None else int.from_bytes(account[:8], "big") + 1
        events = tuple([encode_event(event, counter, n) for n, event in enumerate(self._events)])
        due: tuple[DueChange, ...] = ()
        indexes: tuple[IndexChange, ...] = ()
        if self._due:
            due = tuple([DueChange(member, at_us) for member, at_us in self._due.items()])
        if self._indexes:
            indexes = tuple([IndexChange(name, member, present) for (name, member), present in self._indexes.items()])
        return Transaction(tuple(writes), events, due, indexes, lease)


def _next(document: bytes, nonce: bytes) -> bytes:
    """The next version of a document with the same body."""
    return seal(document[:VERSION_OCTETS], nonce, header_of(document).schema, document[HEADER_OCTETS:])
