"""How far each CDR export has come, kept beside the segments, so that none is deleted before it was exported."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ocs.archive.folder import read_json, write_durably
from ocs.archive.segments import ArchiveUnusable, told

FOLDER_NAME = "exports"


class PendingFile(msgspec.Struct, frozen=True):
    """A file that is written and about to appear under its name."""

    sequence: int
    name: str
    records: int
    octets: int
    sha256: str
    day: str
    """UTC day of its events, `YYYY-MM-DD`."""
    first_us: int
    last_us: int


class ExportState(msgspec.Struct, frozen=True, kw_only=True):
    """One export between two files. What is in `pending` is certain to be published, and its positions are done."""

    name: str
    archive: str
    folder: str
    form: str
    since_us: int = 0
    """Events before are left out; 0: none."""
    until_us: int = 0
    """Events from here on are left out; 0: none."""
    sequence: int = 1
    """Number of the next file."""
    position: int = 0
    """Last position that is exported, once `pending` is published."""
    previous: int = 0
    """The position before `pending`."""
    pending: tuple[PendingFile, ...] = ()


def state_path(archive: Path, name: str) -> Path:
    """Where the state of an export lies."""
    return archive / FOLDER_NAME / f"{name}.json"


def read_state(archive: Path, name: str) -> ExportState | None:
    """The state of an export, `None` if it was never begun; `ArchiveUnusable` if it is damaged."""
    path = state_path(archive, name)
    found = read_json(path)
    if found is None:
        return None
    try:
        return msgspec.convert(found, ExportState)
    except msgspec.ValidationError as error:
        raise ArchiveUnusable(f"{path}: {error}") from None


def write_state(archive: Path, state: ExportState) -> None:
    """Make a state durable."""
    path = state_path(archive, state.name)
    with told(path):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    write_durably(path, msgspec.json.format(msgspec.json.encode(state), indent=1))


def states(archive: Path) -> list[ExportState]:
    """Every export of an archive."""
    try:
        names = sorted(path.stem for path in (archive / FOLDER_NAME).glob("*.json") if not path.name.startswith("."))
    except OSError as error:
        raise ArchiveUnusable(f"{archive / FOLDER_NAME}: {error.strerror}") from error
    found = (read_state(archive, name) for name in names)
    return [state for state in found if state is not None]


def exported_position(archive: Path) -> int:
    """Up to where every export has come; 0 if there is none. Those of a span of time hold nothing back."""
    positions = [
        state.previous if state.pending else state.position
        for state in states(archive)
        if not state.since_us and not state.until_us
    ]
    return min(positions, default=0)
