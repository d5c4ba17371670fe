"""Checks a folder of CDR files: no file is missing, none was changed, every record stands once."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from ocs.archive.cdr_export import MANIFEST, MANIFEST_FORMAT
from ocs.archive.cdr_form import FORMS, decode
from ocs.archive.folder import read_json
from ocs.archive.segments import ArchiveError

_FILE = re.compile(rf"(.+)-([0-9]{{9,}})-[0-9]{{8}}\.({'|'.join(FORMS)})")

_NUMBERS = ("format", "sequence", "records", "octets", "after_position", "upto_position")
_TEXTS = ("file", "export", "form", "sha256")


class Verified(NamedTuple):
    """What was found."""

    exports: dict[str, tuple[int, int]]
    """Name -> (lowest, highest) sequence number."""
    files: int
    records: int
    octets: int
    problems: list[str]


def verify(folder: Path) -> Verified:
    """Read every file of a folder; `OSError` if the folder cannot be read."""
    names = sorted(path.name for path in folder.iterdir())
    problems: list[str] = []
    manifests: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for name in names:
        if name.endswith(MANIFEST) and not name.startswith("."):
            facts = _facts(folder / name, problems)
            if facts is not None:
                manifests[facts["export"]].append(facts)
    described = {facts["file"] for group in manifests.values() for facts in group}
    problems += [f"{name}: no manifest" for name in names if _FILE.fullmatch(name) and name not in described]
    records = octets = 0
    for group in manifests.values():
        group.sort(key=lambda facts: int(facts["sequence"]))
        problems += _gaps(group)
        for facts in group:
            problems += _check(folder, facts)
            records, octets = records + facts["records"], octets + facts["octets"]
    spans = {name: (group[0]["sequence"], group[-1]["sequence"]) for name, group in sorted(manifests.items())}
    return Verified(spans, len(described), records, octets, problems)


def _facts(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except ArchiveError as error:
        problems.append(str(error))
        return None
    if found is None:
        return None
    wrong = [name for name in _NUMBERS if type(found.get(name)) is not int]
    wrong += [name for name in _TEXTS if not isinstance(found.get(name), str)]
    if wrong or found["format"] != MANIFEST_FORMAT or found["form"] not in FORMS:
        problems.append(f"{path.name}: no manifest of this release" + (f": {', '.join(wrong)}" if wrong else ""))
        return None
    if found["file"] + MANIFEST != path.name:
        problems.append(f"{path.name}: describes {found['file']!r}")
        return None
    return found


def _gaps(group: list[dict[str, Any]]) -> list[str]:
    problems = []
    for one, following in itertools.pairwise(group):
        gap = following["sequence"] - one["sequence"]
        if gap == 0:
            problems.append(f"{following['file']}: sequence number {one['sequence']} is there twice")
        elif gap > 1:
            missing = f"{one['sequence'] + 1} to {following['sequence'] - 1}" if gap > 2 else one["sequence"] + 1
            problems.append(f"{one['export']}: sequence number {missing} is missing")
        span = (one["after_position"], one["upto_position"])
        if span != (following["after_position"], following["upto_position"]) and following["after_position"] < span[1]:
            problems.append(f"{following['file']}: its positions overlap those of {one['file']}")
    return problems


def _check(folder: Path, facts: dict[str, Any]) -> list[str]:
    name = facts["file"]
    try:
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        return [f"{name}: missing"]
    if len(data) != facts["octets"]:
        return [f"{name}: {len(data)} octets, expected {facts['octets']}"]
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        return [f"{name}: checksum differs from its manifest"]
    try:
        records = decode(facts["form"], data)
    except ValueError as error:
        return [f"{name}: {error}"]
    if len(records) != facts["records"]:
        return [f"{name}: {len(records)} records, expected {facts['records']}"]
    problems = []
    if len({record.get("record") for record in records}) != len(records):
        problems.append(f"{name}: a record is there twice")
    after, upto = facts["after_position"], facts["upto_position"]
    positions = [record.get("position", "") for record in records]
    if not all(text.isdecimal() and after < int(text) <= upto for text in positions):
        problems.append(f"{name}: a record is outside of the positions {after + 1} to {upto}")
    return problems
