"""One run of an import: the file is read ahead in a thread while the server works on the rows before."""

from __future__ import annotations

import asyncio
import hashlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from ocs.api.bodies import MAX_KEY_CHARACTERS
from ocs.api.import_bodies import MAX_ROWS
from ocs.cli.connection import Api
from ocs.cli.errors import BadInput, Unavailable
from ocs.cli.import_files import KEY_COLUMN, Bad, Problem, Refused, Row, RowProblem, Table
from ocs.cli.import_rows import Form, Names, RowKeys, RowText, column_of
from ocs.cli.options import checked_reason
from ocs.cli.output import line, plain

SERVED_ROWS = 240
"""Rows of a request to a server, which is answered in a fraction of a second."""

STOPPING_ROWS = 40
"""Rows of a request with `--stop-on-error`: each is on disk before the next is begun."""

MAX_IMPORT_KEY_CHARACTERS = 64
READ_AHEAD = 4
"""Requests that are made ready while one is worked on."""

TRIES = 6
PAUSE_S = 0.5
"""How often, and after what pause, doubled each time, rows are sent again to a store that does not answer."""

SHOW_EVERY_S = 1.0
LOG_EVERY_S = 10.0
"""How often progress is shown on a terminal, and in what is not one."""

DIGESTED_OCTETS = 1 << 20


class Wanted(NamedTuple):
    """What the command line asks for."""

    form: Form
    file: Path
    reason: str | None
    key: str | None
    dry_run: bool
    stop_on_error: bool
    errors: Path | None


class Ready(NamedTuple):
    """A row that can be sent."""

    text: RowText
    row: Row


class Batch(NamedTuple):
    """What was read: rows to send, and those that cannot be meant."""

    ready: list[Ready]
    problems: list[Bad]
    octets: int
    """Of the file, up to here."""


class _Told(NamedTuple):
    """A refused row."""

    problem: Problem
    values: Mapping[str, str]
    key: str
    """Empty: it could not be read, and has none."""


Found = Ready | Bad


class Import:
    """Reads, sends and counts."""

    def __init__(self, wanted: Wanted) -> None:
        """Raises `BadInput` for a file or an option that cannot be meant."""
        self._wanted = wanted
        self._key = _checked_name(wanted)
        self._reason = checked_reason(f"import {wanted.file.name}" if wanted.reason is None else wanted.reason)
        self._table = Table(wanted.file, wanted.form.columns, wanted.form.required)
        self._names = Names()
        self._keys = RowKeys(self._key, wanted.key is not None)
        self._refused = Refused(wanted.errors or Path(f"{wanted.file}.errors.csv"), self._table.columns)
        self._held: list[_Told] = []
        self._counts = {"rows": 0, "applied": 0, "repeated": 0, "refused": 0}
        self._stopped = False
        self._began = time.monotonic()
        self._progress = _Progress(self._table.octets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.end()
        self._table.close()
        self._refused.close()

    def summary(self) -> dict[str, Any]:
        """What became of the rows."""
        seconds = time.monotonic() - self._began
        return {
            "import": self._wanted.form.name,
            "file": str(self._wanted.file),
            "key": self._key,
            "dry_run": self._wanted.dry_run,
            **self._counts,
            "stopped": self._stopped,
            "errors": str(self._refused.path) if self._refused.count else None,
            "seconds": round(seconds, 3),
            "rows_per_s": round(self._counts["rows"] / max(seconds, 0.001)),
        }

    async def work(self, api: Api) -> None:
        """Import the file; raises `CommandError` when it cannot go on."""
        await self._begin(api)
        size = SERVED_ROWS if api.served else MAX_ROWS
        if self._wanted.stop_on_error:
            size = STOPPING_ROWS
        make = _by_account if self._wanted.dry_run else _in_order
        loop = asyncio.get_running_loop()
        with _Ahead(lambda: make(self._read(), size, self._table.position)) as ahead:
            while not self._stopped and (batch := await loop.run_in_executor(None, ahead.next)) is not None:
                await self._send(api, batch)
        for one in sorted(self._held, key=_line_of):
            self._tell(one)

    async def _begin(self, api: Api) -> None:
        """A file under its own name must be the one that was begun under it, if any was."""
        if self._wanted.key is not None or KEY_COLUMN in self._table.columns:
            return
        body = {"key": self._key, "digest": _digest(self._wanted.file), "dry_run": self._wanted.dry_run}
        begun = await api.post("/v1/import/begin", {**body, "reason": self._reason})
        if begun["begun_s"] is not None and not self._wanted.dry_run:
            note = (
                f"{self._wanted.file}: this file was imported before, or begun; rows that were done are not done again"
            )
            self._progress.note(f"{note} (to import them once more, give another --key)")

    def _read(self) -> Iterator[Found]:
        """Rows in the order of the file."""
        for found in self._table.rows():
            if isinstance(found, Bad):
                yield found
                continue
            try:
                text = self._keys.keyed(self._wanted.form.parse(found), found.values)
                self._names.check(text, found.values)
            except RowProblem as error:
                value = found.values.get(error.column, "")
                yield Bad(Problem(found.line, error.column, value, str(error)), found.values)
            else:
                yield Ready(text, found)

    async def _send(self, api: Api, batch: Batch) -> None:
        """Have the rows applied, and tell of those that are not."""
        rows = batch.ready
        if self._wanted.stop_on_error and batch.problems:
            rows = [one for one in rows if one.row.line < batch.problems[0].problem.line]
        answer: Any = {"applied": 0, "repeated": 0, "refused": [], "stopped": False}
        if rows:
            answer = await self._post(api, [one.text for one in rows])
        self._counts["applied"] += answer["applied"]
        self._counts["repeated"] += answer["repeated"]
        by_line = {one.row.line: one for one in rows}
        told = [self._told(one, by_line[one["line"]]) for one in answer["refused"]]
        if not answer["stopped"]:
            told += [_Told(one.problem, one.values, "") for one in batch.problems]
        told.sort(key=_line_of)
        if self._wanted.stop_on_error and told:
            self._stopped = True
            del told[1:]
        self._counts["refused"] += len(told)
        self._counts["rows"] = sum(self._counts[name] for name in ("applied", "repeated", "refused"))
        if self._wanted.dry_run:
            self._held += told
        else:
            for one in told:
                self._tell(one)
        self._progress.show(self._counts, batch.octets)

    async def _post(self, api: Api, rows: list[RowText]) -> Any:
        """The answer; rows whose outcome is not known are sent again, which is harmless under their keys."""
        body = {
            "reason": self._reason,
            "dry_run": self._wanted.dry_run,
            "stop_on_error": self._wanted.stop_on_error,
            "rows": msgspec.to_builtins(rows),
        }
        pause_s = PAUSE_S
        for _ in range(TRIES - 1):
            try:
                return await api.post(f"/v1/import/{self._wanted.form.name}", body)
            except Unavailable as error:
                self._progress.note(f"ocs: {error}; trying again")
                await asyncio.sleep(pause_s)
                pause_s *= 2
        try:
            return await api.post(f"/v1/import/{self._wanted.form.name}", body)
        except Unavailable as error:
            done = self._counts["rows"]
            raise Unavailable(f"{error}; {done} rows were done with, run the same command again to go on") from None

    def _told(self, refused: dict[str, Any], sent: Ready) -> _Told:
        """What the interface says of a row, in the words of the file."""
        values = sent.row.values
        column = self._wanted.form.fields.get(refused["field"], column_of(refused["field"], values))
        if column == "amount" and not values.get("amount"):
            column = "amount_micros"
        if column not in self._table.columns:
            column = ""
        problem = Problem(sent.row.line, column, values.get(column, ""), refused["message"])
        return _Told(problem, values, sent.text.key)

    def _tell(self, one: _Told) -> None:
        """One line on standard error, and the row in the file of refused rows."""
        self._progress.note(one.problem.text(str(self._wanted.file)))
        self._refused.write(one.problem, one.values, one.key or one.values.get(KEY_COLUMN) or f"{self._key}/")


def _line_of(one: _Told) -> int:
    return one.problem.line


def _checked_name(wanted: Wanted) -> str:
    key = wanted.file.name if wanted.key is None else wanted.key
    longest = min(MAX_IMPORT_KEY_CHARACTERS, MAX_KEY_CHARACTERS)
    if not key or len(key) > longest or not key.isprintable() or key != key.strip() or "/" in key:
        message = f"{key!r}, expected a printable text of 1 to {longest} characters without a slash"
        raise BadInput(f"key: {message}" + ("; the file's name cannot be one" if wanted.key is None else ""))
    return key


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        while data := file.read(DIGESTED_OCTETS):
            digest.update(data)
    return digest.hexdigest()


def _in_order(found: Iterator[Found], size: int, position: Callable[[], int]) -> Iterator[Batch]:
    """Rows as they stand in the file."""
    batch = Batch([], [], 0)
    for one in found:
        if isinstance(one, Ready):
            batch.ready.append(one)
        else:
            batch.problems.append(one)
        if len(batch.ready) + len(batch.problems) >= size:
            yield batch._replace(octets=position())
            batch = Batch([], [], 0)
    yield batch._replace(octets=position())


def _by_account(found: Iterator[Found], size: int, position: Callable[[], int]) -> Iterator[Batch]:
    """Rows of one account together: each request of a dry run knows only what its own rows would change.

    An account with more rows than a request takes is checked in parts.
    """
    accounts: dict[str, list[Ready]] = {}
    problems = []
    for one in found:
        if isinstance(one, Ready):
            accounts.setdefault(one.text.account, []).append(one)
        else:
            problems.append(one)
    yield Batch([], problems, 0)
    ready: list[Ready] = []
    total, done = sum(map(len, accounts.values())), 0
    for rows in accounts.values():
        if len(ready) + len(rows) > size and ready:
            done += len(ready)
            yield Batch(ready, [], position() * done // total)
            ready = []
        while len(rows) > size:
            done += size
            yield Batch(rows[:size], [], position() * done // total)
            del rows[:size]
        ready += rows
    yield Batch(ready, [], position())


class _Ahead:
    """Batches made in a thread, a few ahead."""

    def __init__(self, make: Callable[[], Iterator[Batch]]) -> None:
        self._queue: queue.Queue[Batch | BaseException | None] = queue.Queue(READ_AHEAD)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(make,), name="import-reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        while self._thread.is_alive():
            # The thread may wait for room in the queue.
            while not self._queue.empty():
                self._queue.get_nowait()
            self._thread.join(0.01)

    def next(self) -> Batch | None:
        """The next batch, `None` at the end; what reading raised is raised."""
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self, make: Callable[[], Iterator[Batch]]) -> None:
        try:
            for batch in make():
                self._queue.put(batch)
                if self._ended.is_set():
                    return
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)


class _Progress:
    """How far it has come, on standard error."""

    def __init__(self, octets: int) -> None:
        self._octets = max(octets, 1)
        self._began = self._shown = time.monotonic()
        self._on_terminal = sys.stderr.isatty()
        self._is_open = False

    def show(self, counts: dict[str, int], octets: int) -> None:
        """Show it, if it was not shown just now."""
        now = time.monotonic()
        if now - self._shown < (SHOW_EVERY_S if self._on_terminal else LOG_EVERY_S):
            return
        self._shown = now
        percent, rate = 100 * octets // self._octets, counts["rows"] / (now - self._began)
        text = f"{percent} %: {counts['rows']:,} rows, {counts['refused']:,} refused, {rate:,.0f} rows/s"
        sys.stderr.write(f"\r\x1b[K{text}" if self._on_terminal else text + "\n")
        sys.stderr.flush()
        self._is_open = self._on_terminal

    def note(self, text: str) -> None:
        """A line of its own."""
        self.end()
        sys.stderr.write(plain(text) + "\n")

    def end(self) -> None:
        """Take the line of progress away."""
        if self._is_open:
            sys.stderr.write("\r\x1b[K")
            self._is_open = False


def print_summary(summary: dict[str, Any]) -> None:
    """What became of the rows, for people."""
    verb = "would be applied" if summary["dry_run"] else "applied"
    parts = [f"{summary['applied']:,} {verb}", f"{summary['refused']:,} refused"]
    if summary["repeated"]:
        parts.insert(1, f"{summary['repeated']:,} applied before")
    line(f"{summary['rows']:,} rows of {summary['import']}: {', '.join(parts)}")
    line(f"key: {summary['key']}, {summary['seconds']:.1f} s, {summary['rows_per_s']:,} rows/s")
    if summary["stopped"]:
        line("stopped at the first refused row; those after it were not looked at")
    if summary["errors"]:
        line(f"refused rows: {summary['errors']}")
