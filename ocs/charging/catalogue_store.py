"""Catalogue versions in the store: a version's text never changes, and documents may name it for as long as it is kept.

The pointer document lists the versions and which one is current; a version and the pointer to it are written in one
transaction of partition 0. Every process compiles the texts by itself. A version becomes current in two steps: it is
published, so that all load it, and then made current at a time that all know (`ocs.charging.catalogue_rollout`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from balance.account import OPERATION_SCHEMA, OperationRecord
from balance.documents import VERSION_OCTETS, operation_key
from balance.store import Conflict, Transaction, Write
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.operations import OperationRefused, Order
from ocs.charging.saga import Commit, Read, Saga
from ocs.charging.workspace import decode_document, encode_document

CATALOGUE_SCHEMA = 20
POINTER_SCHEMA = 21
SECRET_SCHEMA = 22

META_PARTITION = 0
POINTER_KEY = b"{p000}:m:catalogue"
SECRET_KEY = b"{p000}:m:secret"

MAX_VERSIONS = 500
"""Versions kept; the oldest are forgotten first. A session leaves its version after a day."""

TEXTS_AT_ONCE = 16
"""Texts in one read: each may have megabytes."""


class CatalogueConflict(ChargingError):
    """Another activation was committed at the same moment."""


class CatalogueText(msgspec.Struct, array_like=True, frozen=True):
    """One version as it was written."""

    version: int
    filename: str
    text: str
    published_s: int
    who: str
    reason: str


class CataloguePointer(msgspec.Struct, array_like=True, frozen=True):
    """Which versions are there."""

    current: int
    versions: tuple[int, ...]
    published: int = 0
    """The version that is to become current when all workers have loaded it; 0: none."""
    previous: int = 0
    """What is current until `at_us`."""
    at_us: int = 0
    """UTC microseconds from which `current` counts, by the clock that the workers share."""

    def current_at(self, now_us: int) -> int:
        """What new sessions are opened under."""
        return self.current if self.at_us <= now_us else self.previous


class Publication(NamedTuple):
    """What became of publishing a text."""

    version: int
    pointer: CataloguePointer
    repeated: bool
    """The key was used before, for the same text."""


class Secret(msgspec.Struct, array_like=True, frozen=True):
    """What is made once for a store and stays for its life."""

    secret: bytes
    """Key of the signatures on refund tokens."""
    made_s: int
    """UTC seconds. Told to peers as Origin-State-Id: it changes when, and only when, the sessions are gone (DB-120)."""


def version_key(version: int) -> bytes:
    """Key of a version's text."""
    return b"{p000}:m:catalogue:%d" % version


def read_pointer() -> Saga[tuple[CataloguePointer, bytes]]:
    """Which versions are there, and the version of the document that says so; empty if there is none."""
    documents = yield Read(((META_PARTITION, POINTER_KEY),))
    data = documents[POINTER_KEY]
    return _pointer_of(data), b"" if data is None else data[:VERSION_OCTETS]


def read_texts(versions: Sequence[int]) -> Saga[dict[int, CatalogueText]]:
    """The texts of some versions; one that is no longer kept is left out."""
    texts = {}
    for start in range(0, len(versions), TEXTS_AT_ONCE):
        wanted = versions[start : start + TEXTS_AT_ONCE]
        documents = yield Read(tuple((META_PARTITION, version_key(version)) for version in wanted))
        for version in wanted:
            found = documents[version_key(version)]
            if found is not None:
                texts[version] = decode_document(found, CatalogueText, CATALOGUE_SCHEMA)
    return texts


def publish(engine: Engine, order: Order, text: str, filename: str) -> Saga[Publication]:
    """Commit a checked text as a new version that every worker loads and none uses yet (LEDGER §11).

    The text that is current, or published already, makes no version. A repeat under the same key gives the version that
    the first one made.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    record_key = operation_key(META_PARTITION, f"catalogue:{order.key}")
    documents = yield Read(((META_PARTITION, POINTER_KEY), (META_PARTITION, record_key)))
    data, recorded = documents[POINTER_KEY], documents[record_key]
    pointer = _pointer_of(data)
    if recorded is not None:
        record = decode_document(recorded, OperationRecord, OPERATION_SCHEMA)
        if record.digest != digest:
            raise OperationRefused(
                "conflict", "key", f"key {order.key!r} was used for another change; expected a new key"
            )
        return Publication(int(record.outcome), pointer, True)
    same = yield from _version_of_text(pointer, text)
    version = same or max(pointer.versions, default=0) + 1
    now_s = engine.now_s()
    record = OperationRecord(order.key, digest, b"%d" % version, now_s)
    sealed = encode_document(None, engine.nonce(), OPERATION_SCHEMA, record)
    writes = [Write(record_key, None, sealed, engine.settings.operation_kept_s)]
    if not same:
        made = CatalogueText(version, filename, text, now_s, order.who, order.reason)
        writes.append(Write(version_key(version), None, encode_document(None, engine.nonce(), CATALOGUE_SCHEMA, made)))
        versions = (*pointer.versions, version)[-MAX_VERSIONS:]
        pointer = msgspec.structs.replace(pointer, versions=versions, published=version)
        writes.append(_pointer_write(data, pointer, engine.nonce()))
    verdict = yield Commit(META_PARTITION, Transaction(tuple(writes)))
    if isinstance(verdict, Conflict):
        raise CatalogueConflict("another catalogue was activated at the same moment; look at it and try again")
    return Publication(version, pointer, False)


def _version_of_text(pointer: CataloguePointer, text: str) -> Saga[int]:
    """The current or the published version, if it has this text; else 0."""
    versions = [version for version in (pointer.current, pointer.published) if version]
    documents = yield Read(tuple((META_PARTITION, version_key(version)) for version in versions))
    for version in versions:
        data = documents[version_key(version)]
        if data is not None and decode_document(data, CatalogueText, CATALOGUE_SCHEMA).text == text:
            return version
    return 0


def switch(engine: Engine, version: int, now_us: int, at_us: int) -> Saga[CataloguePointer]:
    """Make the published version current from `at_us` on, UTC microseconds by the clock that the workers share."""
    documents = yield Read(((META_PARTITION, POINTER_KEY),))
    data = documents[POINTER_KEY]
    pointer = _pointer_of(data)
    if pointer.current == version:
        return pointer
    if pointer.published != version:
        raise CatalogueConflict(
            f"version {version} gave way to version {max(pointer.current, pointer.published)}, which was published"
            " meanwhile; look at it and try again"
        )
    until_then = pointer.current if pointer.at_us <= now_us else pointer.previous
    switched = msgspec.structs.replace(pointer, current=version, previous=until_then, at_us=at_us, published=0)
    verdict = yield Commit(META_PARTITION, Transaction((_pointer_write(data, switched, engine.nonce()),)))
    if isinstance(verdict, Conflict):
        raise CatalogueConflict("another catalogue was published at the same moment; look at it and try again")
    return switched


def _pointer_of(data: bytes | None) -> CataloguePointer:
    return CataloguePointer(0, ()) if data is None else decode_document(data, CataloguePointer, POINTER_SCHEMA)


def _pointer_write(data: bytes | None, pointer: CataloguePointer, nonce: bytes) -> Write:
    expected = None if data is None else data[:VERSION_OCTETS]
    return Write(POINTER_KEY, expected, encode_document(expected, nonce, POINTER_SCHEMA, pointer))


def store_secret(fresh: Secret, nonce: bytes) -> Saga[Secret]:
    """The store's secret; `fresh` becomes it if there is none."""
    data = encode_document(None, nonce, SECRET_SCHEMA, fresh)
    verdict = yield Commit(META_PARTITION, Transaction((Write(SECRET_KEY, None, data),)))
    if not isinstance(verdict, Conflict):
        return fresh
    present = verdict.documents[SECRET_KEY]
    if present is None:
        raise CatalogueConflict("the store's secret is being made by another process; try again")
    return decode_document(present, Secret, SECRET_SCHEMA)
