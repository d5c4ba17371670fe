"""The folder of an archive and whose it is: an id of its own, and the mark of the store whose events it holds.

archive.json            identity, made once
segment-00000001.sqlite segments, oldest first
exports/<name>.json     how far each CDR export has come
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec

from ocs.archive.segments import ArchiveForeign, ArchiveUnusable, segment_numbers, sync_folder, told

FORMAT = 1
IDENTITY_NAME = "archive.json"


class Identity(msgspec.Struct, frozen=True):
    """Who an archive is."""

    archive: str
    """Id of the archive, random."""
    store: str
    """Mark of the store, derived from its secret."""
    format: int = FORMAT


def write_durably(path: Path, data: bytes) -> None:
    """Put a whole file in place of another: after a crash there is the old one or the new one."""
    fresh = path.with_name(f".{path.name}.tmp")
    with told(path):
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            os.unlink(fresh)
            raise
        os.replace(fresh, path)
        sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, `None` if there is none; `ArchiveUnusable` if it is damaged."""
    try:
        with told(path):
            found = json.loads(path.read_bytes())
    except ArchiveUnusable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    except ValueError as error:
        raise ArchiveUnusable(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ArchiveUnusable(f"{path}: expected a JSON object")
    return found


def read_identity(folder: Path) -> Identity | None:
    """Whose archive a folder is; `None`: nobody's yet. `ArchiveForeign` if it is of another release."""
    path = folder / IDENTITY_NAME
    found = read_json(path)
    if found is None:
        if segment_numbers(folder):
            raise ArchiveForeign(f"{folder} has segments and no {IDENTITY_NAME}")
        return None
    if found.get("format") != FORMAT:
        raise ArchiveForeign(f"{path} has format {found.get('format')!r}, this release reads {FORMAT}")
    try:
        return msgspec.convert(found, Identity)
    except msgspec.ValidationError as error:
        raise ArchiveUnusable(f"{path}: {error}") from None


def make_identity(folder: Path, store: str) -> Identity:
    """Make a folder the archive of a store; the identity that is there already stays."""
    with told(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    present = read_identity(folder)
    if present is not None:
        return present
    identity = Identity(secrets.token_hex(8), store)
    write_durably(folder / IDENTITY_NAME, msgspec.json.encode(identity))
    return identity
