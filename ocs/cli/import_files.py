"""Files of rows: reading CSV as people and their programs write it, and writing the rows that were refused."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from ocs.cli.errors import BadInput

ERROR_COLUMNS = ("error_line", "error_column", "error")
"""What the file of refused rows has beside the columns of the import; ignored when that file is imported."""

KEY_COLUMN = "key"
MAX_LINE_CHARACTERS = 1_000_000


class Row(NamedTuple):
    """One row of a file."""

    line: int
    """Where it begins, from 1."""
    values: Mapping[str, str]
    """Column -> text without surrounding blanks; a column that is not in the file is absent."""


class Problem(NamedTuple):
    """Why a row is refused."""

    line: int
    column: str
    """Empty: the row as a whole."""
    value: str
    message: str

    def text(self, file: str) -> str:
        """`file:line: column: value: what was expected`."""
        parts = [f"{file}:{self.line}", self.column, repr(self.value) if self.value else "", self.message]
        return ": ".join(part for part in parts if part)


class Bad(NamedTuple):
    """A row that cannot be sent."""

    problem: Problem
    values: Mapping[str, str]
    """What could be read of it."""


class RowProblem(Exception):
    """A row cannot be meant: the column, and what was expected there."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


class Table:
    """A CSV file with a header: UTF-8 with or without BOM, `,` or `;`, quoted fields, any ends of lines."""

    def __init__(self, path: Path, known: Sequence[str], required: Sequence[Sequence[str]]) -> None:
        """`required`: of each group of columns one must be there. Raises `BadInput` for a header that cannot be meant."""
        self.path = path
        self.columns: tuple[str, ...] = ()
        self.octets = 0
        self._raw = self._open()
        # What is not UTF-8 is kept aside by row, so that one bad row does not end the import.
        self._file = io.TextIOWrapper(self._raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            self.octets = os.fstat(self._file.fileno()).st_size
            self._reader = csv.reader(self._file, delimiter=self._delimiter(), strict=True)
            self._check_header(known, required)
        except BaseException:
            self.close()
            raise

    def _open(self) -> IO[bytes]:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise BadInput(f"{self.path}: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def position(self) -> int:
        """Octets that were read, about."""
        return min(self._raw.tell(), self.octets)

    def _delimiter(self) -> str:
        header = self._file.readline(MAX_LINE_CHARACTERS)
        self._file.seek(0)
        return ";" if header.count(";") > header.count(",") else ","

    def _check_header(self, known: Sequence[str], required: Sequence[Sequence[str]]) -> None:
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise BadInput(f"{self.path}:1: {error}") from None
        columns = [name.strip().lower() for name in header]
        for name in columns:
            if name not in known:
                expected = ", ".join(one for one in known if one not in ERROR_COLUMNS)
                raise BadInput(f"{self.path}:1: unknown column {name!r}, expected some of {expected}")
            if columns.count(name) > 1:
                raise BadInput(f"{self.path}:1: column {name!r} stands twice")
        for group in required:
            if not set(group) & set(columns):
                raise BadInput(f"{self.path}:1: no column {' or '.join(group)}")
        self.columns = tuple(columns)

    def rows(self) -> Iterator[Row | Bad]:
        """Rows in their order; empty lines are passed over."""
        while True:
            line = self._reader.line_num + 1
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Bad(Problem(line, "", "", f"not CSV: {error}"), {})
                continue
            if fields:
                yield self._row(line, fields)

    def _row(self, line: int, fields: Sequence[str]) -> Row | Bad:
        values = {column: field.strip() for column, field in zip(self.columns, fields, strict=False)}
        if len(fields) != len(self.columns):
            message = f"{len(fields)} fields, expected {len(self.columns)} as in the header"
            return Bad(Problem(line, "", "", message), values)
        for column, value in values.items():
            if not value.isprintable():
                expected = "expected UTF-8" if _is_undecoded(value) else "expected a text that can be shown"
                return Bad(Problem(line, column, value, expected), values)
        return Row(line, values)


def _is_undecoded(text: str) -> bool:
    return any("\udc80" <= c <= "\udcff" for c in text)


class Refused:
    """The file of refused rows: the same columns with the row's key, and why. It can be imported when it is corrected."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.count = 0
        kept = [name for name in columns if name not in ERROR_COLUMNS]
        self._columns = [*kept, *([] if KEY_COLUMN in kept else [KEY_COLUMN]), *ERROR_COLUMNS]
        self._file: IO[str] | None = None

    def write(self, problem: Problem, values: Mapping[str, str], key: str) -> None:
        """Add a row; made with the first one, an older file is kept beside it with `~` at its end."""
        if self._file is None:
            if self.path.exists():
                self.path.replace(f"{self.path}~")
            self._file = self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(self._columns)
        error = (str(problem.line), problem.column, problem.message)
        shown = {
            **values,
            KEY_COLUMN: key or values.get(KEY_COLUMN, ""),
            **dict(zip(ERROR_COLUMNS, error, strict=True)),
        }
        self._writer.writerow([shown.get(name, "") for name in self._columns])
        self._file.flush()
        self.count += 1

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
