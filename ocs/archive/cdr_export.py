"""Writes CDR files from the archive, each event once, whatever dies when.

A *cut* is a span of positions. Its records are written to hidden files, one for each UTC day, and made durable. Then the
export's state names those files and the new position: from that moment on they count, and nothing is exported again.
Only then do they get their names; what a crash kept from it is done at the next start. A file without its hidden twin
has been published, whether it is still there or was already taken away.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from ocs.archive.cdr_form import encode, heading
from ocs.archive.cdr_records import Record, RecordMaker, day_of
from ocs.archive.exports import FOLDER_NAME, ExportState, PendingFile, read_state, write_state
from ocs.archive.folder import write_durably
from ocs.archive.reader import ArchiveReader
from ocs.archive.segments import ArchivedEvent, ArchiveError, sync_folder, told

PAGE = 500
"""Events that are read from the archive at a time."""

MAX_DAYS = 32
"""Days of one cut: so many files are open at a time."""

MANIFEST = ".manifest.json"
MANIFEST_FORMAT = 1


class ExportRefused(ArchiveError):
    """The export cannot go on like this; nothing was changed."""


class ExportOrder(NamedTuple):
    """What is to be exported, where to, and how."""

    name: str
    folder: Path
    form: str
    max_octets: int
    since_us: int = 0
    until_us: int = 0
    accept_gap: bool = False
    """Go on behind events whose segments were deleted before they were exported."""


class Done(NamedTuple):
    """What a run has done so far."""

    files: tuple[str, ...] = ()
    records: int = 0
    events: int = 0
    position: int = 0
    skipped: int = 0
    """Events that were deleted before they were exported."""


class CdrExport:
    """One export, locked against others of its name. Use `opened`."""

    def __init__(self, reader: ArchiveReader, order: ExportOrder, state: ExportState) -> None:
        self._reader = reader
        self._order = order
        self._state = state
        self._maker = RecordMaker(reader.session_before)
        self._files: dict[str, _File] = {}
        self._position = state.position
        self._events = 0
        self.done = Done(position=state.position)

    @property
    def mismatches(self) -> int:
        """Events whose usage does not add up to their entries."""
        return self._maker.mismatches

    @property
    def waiting(self) -> bool:
        """Whether anything was read that is not published yet."""
        return self._position > self._state.position

    @property
    def position(self) -> int:
        """Up to where the archive was read."""
        return self._position

    def last_position(self) -> int:
        """Where the archive ends now."""
        facts = self._reader.facts()
        return 0 if facts is None else facts.last_position

    def start(self) -> None:
        """Finish what an earlier run left behind."""
        order, state = self._order, self._state
        with told(order.folder):
            order.folder.mkdir(parents=True, exist_ok=True)
        self._publish_pending()
        with told(order.folder):
            for path in order.folder.glob(f".{order.name}-*.tmp"):
                # Not in the state, so it never counted.
                path.unlink()
        first = self._reader.first_position()
        if first > state.position + 1:
            # A new export begins with what is there.
            if state.sequence > 1 or state.position:
                if not order.accept_gap:
                    message = f"positions {state.position + 1} to {first - 1} were deleted before they were exported"
                    raise ExportRefused(f"{message}; --accept-gap goes on behind them")
                self.done = self.done._replace(skipped=first - 1 - state.position)
            self._position = first - 1

    def advance(self) -> bool:
        """Write the records of one page of the archive; whether there was one. Publishes when a file is full."""
        page = self._reader.after(self._position, PAGE)
        for one in page:
            self._take(one)
            if any(file.octets >= self._order.max_octets for file in self._files.values()) or (
                len(self._files) >= MAX_DAYS
            ):
                self.publish()
        return bool(page)

    def publish(self) -> None:
        """Give the files that are being written their names; without any, only the position moves on."""
        state = self._state
        if self._position == state.position:
            return
        days = sorted(self._files)
        pending = tuple(self._files[day].finish(state.sequence + place) for place, day in enumerate(days))
        self._files = {}
        with told(self._order.folder):
            sync_folder(self._order.folder)
        self._save(
            msgspec.structs.replace(
                state,
                sequence=state.sequence + len(pending),
                previous=state.position,
                position=self._position,
                pending=pending,
            )
        )
        self._publish_pending()
        self.done = self.done._replace(
            files=(*self.done.files, *(one.name for one in pending)),
            records=self.done.records + sum(one.records for one in pending),
            events=self.done.events + self._events,
            position=self._position,
        )
        self._events = 0

    def abandon(self) -> None:
        """Forget what is not published."""
        for file in self._files.values():
            file.discard()
        self._files = {}

    def _take(self, one: ArchivedEvent) -> None:
        at_us, records = self._maker.records(one)
        self._position = one.position
        order = self._order
        if records and order.since_us <= at_us and (not order.until_us or at_us < order.until_us):
            self._events += 1
            day = day_of(at_us)
            file = self._files.get(day)
            if file is None:
                file = self._files[day] = _File(order, day)
            for record in records:
                file.write(record, at_us)

    def _publish_pending(self) -> None:
        state, folder = self._state, self._order.folder
        if not state.pending:
            return
        for one in state.pending:
            hidden = folder / f".{one.name}.tmp"
            if hidden.exists():
                if (folder / one.name).exists():
                    raise ExportRefused(f"{folder / one.name} is there already, and is not of this export")
                # The manifest first: who sees a file can check it at once.
                write_durably(folder / (one.name + MANIFEST), _manifest(state, one))
                with told(hidden):
                    os.replace(hidden, folder / one.name)
        with told(folder):
            sync_folder(folder)
        self._save(msgspec.structs.replace(state, pending=()))

    def _save(self, state: ExportState) -> None:
        write_state(self._reader.folder, state)
        self._state = state


class _File:
    """A file that is being written, hidden until it counts."""

    def __init__(self, order: ExportOrder, day: str) -> None:
        self._order = order
        self._day = day
        self._path = order.folder / f".{order.name}-{day}.part.tmp"
        with told(self._path):
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        self._file: BinaryIO = os.fdopen(handle, "wb")
        self._digest = hashlib.sha256()
        self.octets = 0
        self._records = 0
        self._first_us = self._last_us = 0
        self._put(heading(order.form))

    def write(self, record: Record, at_us: int) -> None:
        """Append one record."""
        self._put(encode(self._order.form, record))
        if self._records == 0:
            self._first_us = self._last_us = at_us
        self._first_us, self._last_us = min(self._first_us, at_us), max(self._last_us, at_us)
        self._records += 1

    def finish(self, sequence: int) -> PendingFile:
        """Make it durable under the hidden form of its name."""
        order = self._order
        name = f"{order.name}-{sequence:09d}-{self._day.replace('-', '')}.{order.form}"
        with told(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._path, order.folder / f".{name}.tmp")
        digest = self._digest.hexdigest()
        return PendingFile(sequence, name, self._records, self.octets, digest, self._day, self._first_us, self._last_us)

    def discard(self) -> None:
        """Remove it."""
        with told(self._path):
            self._file.close()
            self._path.unlink(missing_ok=True)

    def _put(self, data: bytes) -> None:
        with told(self._path):
            self._file.write(data)
        self._digest.update(data)
        self.octets += len(data)


def _manifest(state: ExportState, one: PendingFile) -> bytes:
    facts: dict[str, Any] = {
        "format": MANIFEST_FORMAT,
        "file": one.name,
        "export": state.name,
        "archive": state.archive,
        "sequence": one.sequence,
        "form": state.form,
        "day": one.day,
        "records": one.records,
        "octets": one.octets,
        "sha256": one.sha256,
        "first_us": one.first_us,
        "last_us": one.last_us,
        "after_position": state.previous,
        "upto_position": state.position,
    }
    return json.dumps(facts, indent=1).encode() + b"\n"


@contextmanager
def opened(reader: ArchiveReader, order: ExportOrder) -> Iterator[CdrExport]:
    """The export of a name, ready to go on; `ExportRefused` if it runs already or was begun differently."""
    identity = reader.identity()
    if identity is None:
        raise ExportRefused(f"there is no archive in {reader.folder} yet; the server makes it")
    with _locked(reader.folder, order.name):
        folder = str(order.folder.resolve())
        state = read_state(reader.folder, order.name)
        if state is None:
            _refuse_strange_files(order)
            state = ExportState(
                name=order.name,
                archive=identity.archive,
                folder=folder,
                form=order.form,
                since_us=order.since_us,
                until_us=order.until_us,
            )
        wanted = (identity.archive, folder, order.form, order.since_us, order.until_us)
        begun = (state.archive, state.folder, state.form, state.since_us, state.until_us)
        for what, is_now, was in zip(("archive", "folder", "format", "since", "until"), wanted, begun, strict=True):
            if is_now != was:
                message = f"export {order.name!r} was begun with {what} {was!r}, not {is_now!r}"
                raise ExportRefused(f"{message}; go on as it was begun, or use another --name")
        export = CdrExport(reader, order, state)
        export.start()
        try:
            yield export
        finally:
            export.abandon()


def _refuse_strange_files(order: ExportOrder) -> None:
    """A new export numbers its files from 1: those of another archive must not be in its way."""
    with told(order.folder):
        found = sorted(order.folder.glob(f"{order.name}-*"))
    if found:
        message = f"{order.folder} has files of another export {order.name!r}, such as {found[0].name}"
        raise ExportRefused(f"{message}; use another folder or another --name")


@contextmanager
def _locked(archive: Path, name: str) -> Iterator[None]:
    path = archive / FOLDER_NAME / f"{name}.lock"
    with told(path):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportRefused(f"export {name!r} is running already") from None
        yield
    finally:
        os.close(handle)


def run_once(export: CdrExport, progress: Callable[[Done], None]) -> None:
    """Everything that the archive holds now; what comes meanwhile waits for the next run."""
    ends = export.last_position()
    while export.position < ends and export.advance():
        progress(export.done)
    export.publish()


def follow(
    export: CdrExport,
    max_age_s: float,
    wait: Callable[[float], bool],
    monotonic: Callable[[], float],
    progress: Callable[[Done], None],
    pause_s: float = 0.5,
) -> None:
    """What the archive holds and what comes, until `wait(seconds)` says stop; a file is published after `max_age_s`."""
    since = monotonic()
    while True:
        before = len(export.done.files)
        more = export.advance()
        now = monotonic()
        if len(export.done.files) != before or not export.waiting:
            since = now
        if now - since >= max_age_s:
            export.publish()
            since = now
        progress(export.done)
        if wait(0.0 if more else pause_s):
            break
    export.publish()
