"""CDR files: each event in exactly one of them, numbered without gaps, checkable; whatever dies when."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocs.archive import cdr_export
from ocs.archive import folder as archive_folder
from ocs.archive.cdr_export import CdrExport, ExportOrder, ExportRefused, follow, opened, run_once
from ocs.archive.cdr_verify import verify
from ocs.archive.exports import exported_position, read_state
from ocs.archive.reader import ArchiveReader
from ocs.archive.segments import ArchiveUnusable, segment_path
from ocs.archive.writer import DAY_US
from tests.support.archive_kit import Crash
from tests.support.cdr_kit import HOUR_US, data_files, manifests, records, usage_archive
from tests.support.charging_kit import START_US

MIDNIGHT_US = START_US - START_US % DAY_US + DAY_US


def order(folder: Path, form: str = "jsonl", name: str = "cdr", max_octets: int = 1 << 30, **more: Any) -> ExportOrder:
    return ExportOrder(name, folder, form, max_octets, **more)


def export_all(reader: ArchiveReader, what: ExportOrder) -> CdrExport:
    with opened(reader, what) as running:
        run_once(running, lambda _done: None)
        return running


def sequences(folder: Path) -> list[int]:
    return [one["sequence"] for one in manifests(folder)]


def versions(folder: Path) -> list[int]:
    """The number of each event, in the order of the files."""
    return [int(record["version"]) for record in records(folder)]


@pytest.mark.proves("F52")
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_every_event_is_exported_once_over_many_runs(tmp_path: Path, form: str) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    for run in range(4):
        reader = usage_archive(archive, 700, first=1 + 700 * run)
        done = export_all(reader, order(out, form, max_octets=60_000)).done
        assert (done.events, done.records) == (700, 700)
        assert export_all(reader, order(out, form, max_octets=60_000)).done.files == ()
    assert versions(out) == list(range(1, 2801))
    assert sequences(out) == list(range(1, len(data_files(out)) + 1))
    assert len(data_files(out)) > 8
    assert verify(out) == ({"cdr": (1, len(data_files(out)))}, len(data_files(out)), 2800, octets(out), [])


def octets(folder: Path) -> int:
    return sum(path.stat().st_size for path in data_files(folder))


def test_a_manifest_describes_its_file(tmp_path: Path) -> None:
    reader = usage_archive(tmp_path / "archive", 3)
    export_all(reader, order(tmp_path / "out"))
    (path,) = data_files(tmp_path / "out")
    assert path.name == "cdr-000000001-20260302.jsonl"
    (facts,) = manifests(tmp_path / "out")
    identity = reader.identity()
    assert identity is not None
    assert facts == {
        "format": 1,
        "file": path.name,
        "export": "cdr",
        "archive": identity.archive,
        "sequence": 1,
        "form": "jsonl",
        "day": "2026-03-02",
        "records": 3,
        "octets": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "first_us": START_US + 1_000_000,
        "last_us": START_US + 3_000_000,
        "after_position": 0,
        "upto_position": 3,
    }


def test_a_file_is_closed_when_it_is_full_and_an_event_is_never_cut(tmp_path: Path) -> None:
    reader = usage_archive(tmp_path / "archive", 100)
    export_all(reader, order(tmp_path / "out", max_octets=5000))
    sizes = [path.stat().st_size for path in data_files(tmp_path / "out")]
    longest = max(len(line) for path in data_files(tmp_path / "out") for line in path.read_bytes().splitlines()) + 1
    assert len(sizes) > 5
    assert all(5000 <= size < 5000 + longest for size in sizes[:-1])


@pytest.mark.proves("F52")
def test_a_day_has_files_of_its_own_whose_total_is_that_of_the_ledger(tmp_path: Path) -> None:
    """Events of partitions come a little out of order, so around midnight two files are written at a time."""
    from ocs.archive.settings import ArchiveSettings
    from ocs.archive.writer import ArchiveWriter
    from tests.support.cdr_kit import new_event, usage_event

    writer = ArchiveWriter(tmp_path / "archive", ArchiveSettings())
    writer.adopt("store")
    times = [MIDNIGHT_US + shift * HOUR_US // 4 for shift in (-2, -1, 1, -1, 2, -2, 1)]
    events = [new_event(place + 1, usage_event(place + 1, at_us)) for place, at_us in enumerate(times)]
    writer.append(events, MIDNIGHT_US)
    writer.close()
    out = tmp_path / "out"
    export_all(ArchiveReader(tmp_path / "archive"), order(out))
    assert [path.name for path in data_files(out)] == ["cdr-000000001-20260302.jsonl", "cdr-000000002-20260303.jsonl"]
    totals = {one["day"]: one["records"] for one in manifests(out)}
    assert totals == {"2026-03-02": 4, "2026-03-03": 3}
    lines = [path.read_text().splitlines() for path in data_files(out)]
    charged = [sum(json.loads(line)["charged_micros"] for line in file) for file in lines]
    assert charged == [400_000, 300_000]
    assert verify(out).problems == []


def test_an_export_of_a_span_of_time_is_one_of_its_own(tmp_path: Path) -> None:
    reader = usage_archive(tmp_path / "archive", 50, step_us=HOUR_US)
    what = order(tmp_path / "out", name="day", since_us=MIDNIGHT_US, until_us=MIDNIGHT_US + DAY_US)
    export_all(reader, what)
    times = [record["time_us"] for record in records(tmp_path / "out")]
    assert times == [START_US + n * HOUR_US for n in range(1, 51) if 0 <= START_US + n * HOUR_US - MIDNIGHT_US < DAY_US]
    assert len(times) == 24
    assert exported_position(tmp_path / "archive") == 0
    with pytest.raises(ExportRefused, match=f"was begun with since {MIDNIGHT_US}, not 0"):
        export_all(reader, order(tmp_path / "out", name="day"))


def test_an_export_goes_on_only_as_it_was_begun(tmp_path: Path) -> None:
    reader = usage_archive(tmp_path / "archive", 5)
    export_all(reader, order(tmp_path / "out"))
    with pytest.raises(ExportRefused, match="was begun with format 'jsonl', not 'csv'"):
        export_all(reader, order(tmp_path / "out", "csv"))
    with pytest.raises(ExportRefused, match="was begun with folder"):
        export_all(reader, order(tmp_path / "elsewhere"))
    export_all(reader, order(tmp_path / "elsewhere", "csv", name="second"))
    assert len(records(tmp_path / "elsewhere")) == 5


def test_one_run_of_an_export_at_a_time(tmp_path: Path) -> None:
    reader = usage_archive(tmp_path / "archive", 5)
    with opened(reader, order(tmp_path / "out")):
        with pytest.raises(ExportRefused, match="is running already"):
            export_all(reader, order(tmp_path / "out"))
        export_all(reader, order(tmp_path / "other", name="other"))
    export_all(reader, order(tmp_path / "out"))
    assert versions(tmp_path / "out") == [1, 2, 3, 4, 5]


def test_files_of_another_export_are_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_all(usage_archive(tmp_path / "first", 5), order(out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ExportRefused, match="has files of another export 'cdr'"):
        export_all(usage_archive(tmp_path / "second", 9), order(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_name_that_was_taken_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    export_all(usage_archive(archive, 5), order(out))
    stranger = out / "cdr-000000002-20260302.jsonl"
    stranger.write_text("precious\n")
    reader = usage_archive(archive, 5, first=6)
    with pytest.raises(ExportRefused, match="is there already, and is not of this export"):
        export_all(reader, order(out))
    assert stranger.read_text() == "precious\n"
    stranger.unlink()
    export_all(reader, order(out))
    assert versions(out) == list(range(1, 11))
    assert verify(out).problems == []


def test_without_an_archive_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="there is no archive"):
        export_all(ArchiveReader(tmp_path / "none"), order(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_deleted_events_are_told_and_passed_over_only_if_asked(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    export_all(usage_archive(archive, 5), order(out))
    reader = usage_archive(archive, 3000, first=6, step_us=HOUR_US)
    for number in (1, 2):
        segment_path(archive, number).unlink()
    first = reader.first_position()
    assert first > 7
    with pytest.raises(ExportRefused, match=f"positions 6 to {first - 1} were deleted"):
        export_all(reader, order(out))
    done = export_all(reader, order(out, accept_gap=True)).done
    assert (done.skipped, done.events) == (first - 6, 3005 - first + 1)
    assert verify(out).problems == []
    # One that begins now begins with what is there.
    assert export_all(reader, order(tmp_path / "late", name="late")).done.events == 3005 - first + 1


def test_a_hole_between_segments_ends_the_export_and_publishes_nothing_behind_it(tmp_path: Path) -> None:
    reader = usage_archive(tmp_path / "archive", 3000, step_us=HOUR_US)
    segment_path(tmp_path / "archive", 2).unlink()
    with pytest.raises(ArchiveUnusable, match="are missing"):
        export_all(reader, order(tmp_path / "out"))
    found = versions(tmp_path / "out")
    assert sorted(found) == list(range(1, len(found) + 1))
    assert len(found) <= 1000


# Following


class Loop:
    """Time for `follow`, with things that happen at given seconds."""

    def __init__(self, happen: dict[int, Callable[[], object]], ends: int) -> None:
        self.now = 0.0
        self._happen = happen
        self._ends = ends

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        before = int(self.now)
        self.now += seconds
        for second in range(before + 1, int(self.now) + 1):
            self._happen.pop(second, lambda: None)()
        return self.now >= self._ends


def test_following_publishes_by_age_and_at_the_end(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    reader = usage_archive(archive, 10)
    seen: dict[int, int] = {}
    happen: dict[int, Callable[[], object]] = {
        9: lambda: seen.update({9: len(data_files(out))}),
        12: lambda: seen.update({12: len(data_files(out))}),
        20: lambda: usage_archive(archive, 5, first=11),
        35: lambda: usage_archive(archive, 5, first=16),
    }
    loop = Loop(happen, ends=37)
    with opened(reader, order(out)) as running:
        follow(running, 10, loop.wait, loop.monotonic, lambda _done: None)
    assert seen == {9: 0, 12: 1}
    assert [one["records"] for one in manifests(out)] == [10, 5, 5]
    assert versions(out) == list(range(1, 21))


def test_following_publishes_a_full_file_at_once(tmp_path: Path) -> None:
    reader = usage_archive(tmp_path / "archive", 100)
    loop = Loop({}, ends=1)
    with opened(reader, order(tmp_path / "out", max_octets=5000)) as running:
        running.advance()
        assert len(data_files(tmp_path / "out")) > 5
        follow(running, 1000, loop.wait, loop.monotonic, lambda _done: None)
    assert versions(tmp_path / "out") == list(range(1, 101))


# Crashes


class Fuse:
    """Kills the process at the n-th step that the disk could see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, burns_at: int) -> None:
        self.count = 0
        self._burns_at = burns_at
        for module in (cdr_export, archive_folder):
            monkeypatch.setattr(module, "os", self)
        self._patch = monkeypatch

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name == "unlink" and self.count >= self._burns_at:
            # A killed process cleans nothing up.
            return lambda *_arguments: None
        if name not in ("replace", "fsync", "open"):
            return real

        def step(*arguments: Any) -> Any:
            self.count += 1
            if self.count == self._burns_at:
                raise Crash
            return real(*arguments)

        return step


def test_a_crash_at_any_step_and_a_consumer_that_takes_files_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step of an export that the disk could see; what was published is taken away at once."""
    reader = usage_archive(tmp_path / "archive", 60, step_us=HOUR_US)
    monkeypatch.setattr(CdrExport, "abandon", _closed_only)
    crashes = 0
    for burns_at in range(1, 1000):
        out = tmp_path / f"out{burns_at}"
        taken = tmp_path / f"taken{burns_at}"
        taken.mkdir()
        what = order(out, name=f"n{burns_at}", max_octets=9000)
        with monkeypatch.context() as patched:
            fuse = Fuse(patched, burns_at)
            try:
                export_all(reader, what)
            except Crash:
                crashes += 1
        take(out, taken)
        export_all(reader, what)
        take(out, taken)
        assert versions(taken) == list(range(1, 61)), burns_at
        assert verify(taken).problems == [], burns_at
        assert sequences(taken) == list(range(1, len(data_files(taken)) + 1))
        assert not list(out.iterdir()), "nothing is left behind"
        if fuse.count < burns_at:
            break
    assert crashes > 40


def _closed_only(export: CdrExport) -> None:
    for file in export._files.values():
        file._file.close()


def take(out: Path, taken: Path) -> None:
    """What a mediation system does: it takes every file that has a name, and its manifest."""
    if out.exists():
        for path in out.iterdir():
            if not path.name.startswith("."):
                path.replace(taken / path.name)


def test_what_is_not_published_yet_holds_segments_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = usage_archive(tmp_path / "archive", 10)
    monkeypatch.setattr(CdrExport, "_publish_pending", lambda self: None)
    export_all(reader, order(tmp_path / "out"))
    state = read_state(tmp_path / "archive", "cdr")
    assert state is not None
    assert (state.position, len(state.pending)) == (10, 1)
    assert exported_position(tmp_path / "archive") == 0
    monkeypatch.undo()
    export_all(reader, order(tmp_path / "out"))
    assert exported_position(tmp_path / "archive") == 10
    assert versions(tmp_path / "out") == list(range(1, 11))


# Verifying


def broken(tmp_path: Path, damage: Callable[[Path], object]) -> list[str]:
    reader = usage_archive(tmp_path / "archive", 30)
    out = tmp_path / "out"
    export_all(reader, order(out, max_octets=4000))
    assert len(data_files(out)) >= 4
    assert verify(out).problems == []
    damage(out)
    return verify(out).problems


THIRD = "cdr-000000003-20260302.jsonl"


def test_a_missing_pair_of_files_is_a_gap(tmp_path: Path) -> None:
    def damage(out: Path) -> None:
        (out / THIRD).unlink()
        (out / f"{THIRD}.manifest.json").unlink()

    assert broken(tmp_path, damage) == ["cdr: sequence number 3 is missing"]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert broken(tmp_path, lambda out: (out / THIRD).unlink()) == [f"{THIRD}: missing"]


def test_a_file_without_manifest_is_told(tmp_path: Path) -> None:
    found = broken(tmp_path, lambda out: (out / f"{THIRD}.manifest.json").unlink())
    assert found == [f"{THIRD}: no manifest", "cdr: sequence number 3 is missing"]


def test_a_changed_octet_is_found(tmp_path: Path) -> None:
    def damage(out: Path) -> None:
        data = bytearray((out / THIRD).read_bytes())
        data[data.index(b"100000")] = ord("2")
        (out / THIRD).write_bytes(data)

    assert broken(tmp_path, damage) == [f"{THIRD}: checksum differs from its manifest"]


def test_a_lost_line_is_found(tmp_path: Path) -> None:
    def damage(out: Path) -> None:
        lines = (out / THIRD).read_bytes().splitlines(keepends=True)
        (out / THIRD).write_bytes(b"".join(lines[:-1]))

    (problem,) = broken(tmp_path, damage)
    assert problem.startswith(f"{THIRD}: ")
    assert "octets, expected" in problem


def _rewritten(out: Path, change: Callable[[list[bytes]], list[bytes]], **facts: Any) -> None:
    """A file and its manifest changed together."""
    lines = change((out / THIRD).read_bytes().splitlines(keepends=True))
    data = b"".join(lines)
    (out / THIRD).write_bytes(data)
    path = out / f"{THIRD}.manifest.json"
    manifest = {**json.loads(path.read_text()), "octets": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps({**manifest, **facts}))


def test_a_file_whose_manifest_counts_otherwise_is_found(tmp_path: Path) -> None:
    found = broken(tmp_path, lambda out: _rewritten(out, lambda lines: lines[:-1]))
    assert len(found) == 1
    assert "records, expected" in found[0]


def test_a_record_that_stands_twice_is_found(tmp_path: Path) -> None:
    found = broken(tmp_path, lambda out: _rewritten(out, lambda lines: [*lines[:-1], lines[0]]))
    assert found == [f"{THIRD}: a record is there twice"]


def test_positions_that_overlap_are_found(tmp_path: Path) -> None:
    found = broken(tmp_path, lambda out: _rewritten(out, lambda lines: lines, after_position=3))
    assert found == [f"{THIRD}: its positions overlap those of cdr-000000002-20260302.jsonl"]


def test_records_outside_of_the_positions_are_found(tmp_path: Path) -> None:
    found = broken(tmp_path, lambda out: _rewritten(out, lambda lines: lines, upto_position=18))
    assert len(found) == 1
    assert found[0].startswith(f"{THIRD}: a record is outside of the positions ")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": "1"}'])
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str) -> None:
    found = broken(tmp_path, lambda out: (out / f"{THIRD}.manifest.json").write_text(text))
    assert any("manifest" in one for one in found)
    assert f"{THIRD}: no manifest" in found


def test_a_file_that_was_taken_from_the_front_is_no_gap(tmp_path: Path) -> None:
    def damage(out: Path) -> None:
        for path in out.glob("cdr-000000001-*"):
            path.unlink()

    assert broken(tmp_path, damage) == []
