"""CDR files of a folder, and an archive to make them from."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from balance.account import BucketKind
from balance.ledger import Cause, Entry, Event, UsageLine, Verb, encode_event
from ocs.archive.reader import ArchiveReader
from ocs.archive.segments import NewEvent
from ocs.archive.settings import ArchiveSettings
from ocs.archive.writer import ArchiveWriter
from tests.support.charging_kit import START_US

HOUR_US = 3_600_000_000


def data_files(folder: Path) -> list[Path]:
    """Published files in the order of their sequence numbers, all exports of a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".jsonl", ".csv"))


def manifests(folder: Path) -> list[dict[str, Any]]:
    """Manifests in the order of their files."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.manifest.json"))]


def records(folder: Path) -> list[dict[str, Any]]:
    """Every record of every file, in order; those of CSV files as texts."""
    found: list[dict[str, Any]] = []
    for path in data_files(folder):
        if path.suffix == ".jsonl":
            found += [json.loads(line) for line in path.read_text().splitlines()]
        else:
            found += list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    return found


def usage_event(number: int, at_us: int = START_US, account: str = "a") -> Event:
    """The n-th request of a session that goes on: a mebibyte for ten cents."""
    after = 1_000_000_000 - number * 100_000
    entry = Entry(0, BucketKind.MONEY, Verb.DEBIT, Cause.USAGE, -100_000, -100_000, after, 0)
    line = UsageLine(100, (), "success", unit=BucketKind.OCTETS, used=1_048_576, billed=1_048_576)
    line.tariff, line.catalogue_version, line.money_units, line.debited_micros = "D10", 1, 1_048_576, 100_000
    return Event(
        account=account,
        at_us=at_us,
        kind="session",
        entries=(entry,),
        usage=(line,),
        session_id=f"{account};1",
        request=f"update #{number}",
        subscriber=f"sub-{account}",
        result="success",
    )


def new_event(sequence: int, event: Event, partition: int = 1) -> NewEvent:
    """An event as the archiver takes it over."""
    data = encode_event(event, sequence, 0)
    return NewEvent(partition, sequence, event.account, event.session_id, event.at_us, 978, 2, data)


def usage_archive(folder: Path, count: int, first: int = 1, step_us: int = 1_000_000) -> ArchiveReader:
    """An archive with usage events, one each `step_us`."""
    writer = ArchiveWriter(folder, ArchiveSettings(segment_octets=1_048_576))
    if writer.identity() is None:
        writer.adopt("store")
    for start in range(first, first + count, 1000):
        numbers = range(start, min(start + 1000, first + count))
        batch = [new_event(number, usage_event(number, START_US + number * step_us)) for number in numbers]
        writer.append(batch, batch[-1].at_us)
    writer.close()
    return ArchiveReader(folder)
