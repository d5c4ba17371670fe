"""Catalogue versions in the store: a version's text never changes, and documents may name it for as long as it is kept.

The pointer document lists the versions and which one is current; a version and the pointer to it are written in one
transaction of partition 0. Every process compiles the texts by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from balance.documents import VERSION_OCTETS
from balance.store import Conflict, Transaction, Write
from ocs.charging.conductor import ChargingError
from ocs.charging.pricing import Catalogues
from ocs.charging.saga import Commit, Read, Saga
from ocs.charging.workspace import decode_document, encode_document
from tariffs.model import Catalogue

CATALOGUE_SCHEMA = 20
POINTER_SCHEMA = 21
SECRET_SCHEMA = 22

META_PARTITION = 0
POINTER_KEY = b"{p000}:m:catalogue"
SECRET_KEY = b"{p000}:m:secret"

MAX_VERSIONS = 500
"""Versions kept; the oldest are forgotten first. A session leaves its version after a day."""


class CatalogueConflict(ChargingError):
    """Another activation was committed at the same moment."""


class CatalogueText(msgspec.Struct, array_like=True, frozen=True):
    """One version as it was written."""

    version: int
    filename: str
    text: str
    activated_s: int
    who: str
    reason: str


class CataloguePointer(msgspec.Struct, array_like=True, frozen=True):
    """Which versions are there."""

    current: int
    versions: tuple[int, ...]


class Secret(msgspec.Struct, array_like=True, frozen=True):
    """What is made once for a store and stays for its life."""

    secret: bytes
    """Key of the signatures on refund tokens."""
    made_s: int
    """UTC seconds. Told to peers as Origin-State-Id: it changes when, and only when, the sessions are gone (DB-120)."""


def version_key(version: int) -> bytes:
    """Key of a version's text."""
    return b"{p000}:m:catalogue:%d" % version


def read_texts() -> Saga[tuple[CataloguePointer, dict[int, CatalogueText]]]:
    """Every version that is kept; a pointer with `current` 0 when there is none yet."""
    documents = yield Read(((META_PARTITION, POINTER_KEY),))
    data = documents[POINTER_KEY]
    if data is None:
        return CataloguePointer(0, ()), {}
    pointer = decode_document(data, CataloguePointer, POINTER_SCHEMA)
    documents = yield Read(tuple((META_PARTITION, version_key(version)) for version in pointer.versions))
    texts = {}
    for version in pointer.versions:
        found = documents[version_key(version)]
        if found is not None:
            texts[version] = decode_document(found, CatalogueText, CATALOGUE_SCHEMA)
    return pointer, texts


def load(
    compile_text: Callable[[str, str, int], Catalogue], texts: dict[int, CatalogueText], current: int
) -> Catalogues:
    """Compile every kept version; `compile_text(text, filename, version)` may raise for the text of a later release."""
    compiled = {version: compile_text(one.text, one.filename, version) for version, one in texts.items()}
    return Catalogues(compiled, current)


def activate(text: str, filename: str, nonce: Callable[[], bytes], now_s: int, who: str, reason: str) -> Saga[int]:
    """Make a checked text the current version; the same text as now changes nothing. Returns the version."""
    documents = yield Read(((META_PARTITION, POINTER_KEY),))
    data = documents[POINTER_KEY]
    pointer = CataloguePointer(0, ()) if data is None else decode_document(data, CataloguePointer, POINTER_SCHEMA)
    if pointer.current:
        key = version_key(pointer.current)
        documents = yield Read(((META_PARTITION, key),))
        present = documents[key]
        if present is not None and decode_document(present, CatalogueText, CATALOGUE_SCHEMA).text == text:
            return pointer.current
    version = max(pointer.versions, default=0) + 1
    kept = (*pointer.versions, version)
    record = CatalogueText(version, filename, text, now_s, who, reason)
    writes = [
        Write(version_key(version), None, encode_document(None, nonce(), CATALOGUE_SCHEMA, record)),
        _pointer_write(data, CataloguePointer(version, kept[-MAX_VERSIONS:]), nonce()),
    ]
    verdict = yield Commit(META_PARTITION, Transaction(tuple(writes)))
    if isinstance(verdict, Conflict):
        raise CatalogueConflict("another catalogue was activated at the same moment; look at it and try again")
    return version


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
