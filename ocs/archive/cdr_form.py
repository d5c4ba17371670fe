"""How records are written: JSON Lines or CSV, and read again when a file is verified."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from ocs.archive.cdr_records import COLUMNS, Record

FORMS = ("jsonl", "csv")


def heading(form: str) -> bytes:
    """What a file begins with."""
    return _csv_line(COLUMNS) if form == "csv" else b""


def encode(form: str, record: Record) -> bytes:
    """One record as it stands in a file."""
    if form == "csv":
        return _csv_line([_cell(record.get(name)) for name in COLUMNS])
    # In the order of the columns, without what does not apply.
    fields = {name: value for name in COLUMNS if (value := record.get(name)) is not None}
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def decode(form: str, data: bytes) -> list[dict[str, str]]:
    """The records of a whole file, each with the text of its fields; `ValueError` if it is not of the form."""
    text = data.decode()
    if form == "jsonl":
        found = [json.loads(line) for line in text.splitlines()]
        if not all(isinstance(one, dict) for one in found):
            raise ValueError("expected one JSON object to a line")
        return [{name: str(value) for name, value in one.items()} for one in found]
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ValueError("expected the columns of this release in the first line")
    if any(len(row) != len(COLUMNS) for row in rows):
        raise ValueError(f"expected {len(COLUMNS)} columns in every line")
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


def _csv_line(cells: Sequence[str]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> str:
    """Lists are written `a:b;c:d`."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ";".join(":".join(map(str, one)) if isinstance(one, list) else str(one) for one in value)
    return str(value)
