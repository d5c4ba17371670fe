"""The archive: each event once, in order, durable before it leaves the outbox, whatever dies when (LEDGER §9)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balance.memory_store import MemoryStore
from balance.store import OutboxItem, StoreFailure, Transaction
from ocs.archive import archiver as archiver_module
from ocs.archive.exports import ExportState, PendingFile, write_state
from ocs.archive.reader import ArchiveReader
from ocs.archive.segments import ArchiveForeign, ArchiveUnusable, NewEvent, Segment, segment_numbers, segment_path
from ocs.archive.settings import ArchiveSettings
from ocs.archive.writer import DAY_US, ArchiveWriter
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.leases import Leasehold
from ocs.charging.requests import Result
from tests.support.archive_kit import ArchiveKit, Crash, archived, check_books, crashing, ids
from tests.support.charging_kit import MIB, START_US, Kit, messages, report, want

PARTITION = 5
"""Where the kit keeps its accounts."""


def busy_kit(tmp_path: Path, sessions: int = 3, **settings: Any) -> ArchiveKit:
    """A kit with events of two accounts."""
    kit = Kit()
    archive = ArchiveKit(kit, tmp_path / "archive", **settings)
    for name in ("a", "b"):
        play(kit, name, sessions)
    return archive


def play(kit: Kit, name: str, sessions: int = 1, first: int = 0) -> None:
    """Sessions of two requests each and one event, on an account that may be there."""
    who = kit.account(name, 100_00) if first == 0 else kit_identity(kit, name)
    for number in range(first, first + sessions):
        session = f"{name};{number}"
        kit.initial(who, want(), session=session)
        kit.update(1, want(used=MIB), session=session)
        kit.terminate(2, report(used=MIB), session=session)
        kit.event(who, messages(), session=f"{session};sms")


def kit_identity(kit: Kit, name: str) -> Any:
    from ocs.charging import queries
    from ocs.charging.requests import Identity

    found = kit.run(queries.show_subscriber(kit.engine, f"sub-{name}"))["identities"][0]
    return Identity(found["kind"], found["value"])


def new_event(sequence: int, partition: int = 1, event: bytes = b"", account: str = "a", at_us: int = 1) -> NewEvent:
    return NewEvent(partition, sequence, account, "", at_us, 978, 2, event or b"event %d" % sequence)


def test_archive_and_outbox_together_explain_every_balance(tmp_path: Path) -> None:
    archive = busy_kit(tmp_path)
    before = [item.event for _, item in archive.outbox()]
    archive.turn()
    assert archive.outbox() == []
    assert [one.event for one in archive.archived()] == before
    play(archive.kit, "a", 1, first=3)
    for name in ("a", "b"):
        check_books(archive.kit, PARTITION, name, archive.events())


def test_positions_count_from_one_without_gaps_over_all_segments(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path, ArchiveSettings(segment_octets=1_048_576))
    writer.adopt("store")
    total = 0
    for start in range(1, 2001, 100):
        batch = [new_event(sequence, event=b"%d" % sequence + b"x" * 2000) for sequence in range(start, start + 100)]
        total += len(batch)
        assert writer.append(batch, START_US) == (total, 100, 0)
    found = list(archived(ArchiveReader(tmp_path)))
    assert [one.position for one in found] == list(range(1, 2001))
    assert [one.sequence for one in found] == list(range(1, 2001))
    assert len(segment_numbers(tmp_path)) >= 3
    facts = ArchiveReader(tmp_path).facts()
    assert facts is not None
    assert (facts.events, facts.first_position, facts.last_position) == (2000, 1, 2000)


def test_a_new_day_begins_a_new_segment_and_an_empty_one_waits(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path, ArchiveSettings())
    writer.adopt("store")
    writer.append([], START_US)
    writer.append([new_event(1)], START_US + 3 * DAY_US)
    assert segment_numbers(tmp_path) == [1]
    writer.append([new_event(2)], START_US + 4 * DAY_US)
    writer.append([new_event(3)], START_US + 4 * DAY_US)
    assert segment_numbers(tmp_path) == [1, 2]
    assert [one.sequence for one in archived(ArchiveReader(tmp_path))] == [1, 2, 3]


def test_a_closed_segment_is_one_plain_file(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path, ArchiveSettings())
    writer.adopt("store")
    writer.append([new_event(1)], START_US)
    writer.append([new_event(2)], START_US + DAY_US)
    writer.close()
    assert not list(tmp_path.glob("segment-00000001.sqlite-*"))
    copied = sqlite3.connect(f"file:{segment_path(tmp_path, 1)}?mode=ro&immutable=1", uri=True)
    assert copied.execute("SELECT event FROM events").fetchall() == [(b"event 1",)]
    copied.close()


def test_a_commit_is_synced_before_it_counts(tmp_path: Path) -> None:
    segment = Segment(segment_path(tmp_path, 1), write=True)
    assert segment._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert segment._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    segment.close()


def test_what_is_archived_already_is_passed_over(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path, ArchiveSettings())
    writer.adopt("store")
    writer.append([new_event(1), new_event(2), new_event(1, partition=2)], START_US)
    # Over two segments and with new ones behind it.
    writer.append([new_event(3)], START_US + DAY_US)
    again = [new_event(sequence) for sequence in range(1, 6)]
    assert writer.append(again, START_US + DAY_US) == (6, 2, 0)
    assert writer.append(again, START_US + 2 * DAY_US) == (6, 0, 0)
    found = [(one.partition, one.sequence) for one in archived(ArchiveReader(tmp_path))]
    assert found == [(1, 1), (1, 2), (2, 1), (1, 3), (1, 4), (1, 5)]


def test_another_event_under_a_known_number_is_kept_and_counted(tmp_path: Path) -> None:
    """A store at level `fast` that lost power gives its last numbers out again; nothing may be passed over by number."""
    writer = ArchiveWriter(tmp_path, ArchiveSettings())
    writer.adopt("store")
    writer.append([new_event(1), new_event(2), new_event(3)], START_US)
    other = [new_event(1), new_event(2, event=b"other 2"), new_event(3, event=b"other 3"), new_event(4)]
    assert writer.append(other, START_US) == (6, 3, 2)
    assert writer.append(other, START_US) == (6, 0, 0)
    assert [one.event for one in archived(ArchiveReader(tmp_path))] == [
        *(b"event 1", b"event 2", b"event 3"),
        *(b"other 2", b"other 3", b"event 4"),
    ]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("place", ["append", "trim", "finish", "make"])
def test_a_crash_at_any_place_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, before: bool
) -> None:
    archive = busy_kit(tmp_path)
    kit = archive.kit
    # One segment is there, and the next turn begins another: it is another day.
    archive.turn()
    play(kit, "a", 1, first=3)
    kit.now_us += DAY_US
    play(kit, "b", 1, first=3)
    expected = ids(archive.events())
    if place == "trim":
        monkeypatch.setattr(archiver_module, "_trim", _crashing_trim(before))
    else:
        monkeypatch.setattr(Segment, place, crashing(getattr(Segment, place), before))
    with pytest.raises(Crash):
        archive.turn()
    monkeypatch.undo()
    # The process is gone; another one begins with what is on disk.
    after = ArchiveKit(kit, archive.folder)
    assert sorted(ids(after.events())) == sorted(expected)
    after.catch_up()
    assert sorted(ids(after.events())) == sorted(expected)
    assert after.outbox() == []
    assert after.archiver.diverged == 0
    for name in ("a", "b"):
        check_books(kit, PARTITION, name, after.events())
    assert [one.position for one in after.archived()] == list(range(1, len(expected) + 1))


def _crashing_trim(before: bool) -> Callable[[int, int], Callable[[Any, Any], None]]:
    def trim(partition: int, upto: int) -> Callable[[Any, Any], None]:
        def call(store: Any, done: Any) -> None:
            if not before:
                store.trim(partition, upto, lambda _outcome: None)
            raise Crash

        return call

    return trim


def test_a_file_without_tables_is_made_a_segment(tmp_path: Path) -> None:
    """A crash between the file and its tables."""
    archive = busy_kit(tmp_path)
    archive.turn()
    play(archive.kit, "a", 1, first=3)
    expected = sorted(ids(archive.events()))
    archive.writer.close()
    Segment(segment_path(archive.folder, 1), write=True).finish()
    Segment(segment_path(archive.folder, 2), write=True).close()
    assert sorted(ids(archive.events())) == expected
    after = ArchiveKit(archive.kit, archive.folder)
    after.catch_up()
    assert sorted(ids(after.events())) == expected
    assert segment_numbers(archive.folder) == [1, 2]


def test_events_are_trimmed_only_after_the_archive_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = busy_kit(tmp_path)
    order: list[str] = []
    append, trim = ArchiveWriter.append, MemoryStore.trim

    def noted_append(self: ArchiveWriter, *arguments: Any) -> Any:
        result = append(self, *arguments)
        order.append("durable")
        return result

    def noted_trim(self: MemoryStore, *arguments: Any) -> None:
        order.append("trim")
        trim(self, *arguments)

    monkeypatch.setattr(ArchiveWriter, "append", noted_append)
    monkeypatch.setattr(MemoryStore, "trim", noted_trim)
    archive.turn()
    assert order == ["durable", "trim"]


def test_an_archive_that_cannot_be_written_leaves_the_outbox_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = busy_kit(tmp_path)
    archive.turn()
    play(archive.kit, "a", 1, first=3)
    waiting = archive.outbox()

    def full(*_arguments: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Segment, "_set", full)
    with pytest.raises(ArchiveUnusable, match="disk is full"):
        archive.turn()
    assert archive.outbox() == waiting
    monkeypatch.undo()
    archive.turn()
    assert archive.outbox() == []
    check_books(archive.kit, PARTITION, "a", archive.events())


def test_a_store_that_fails_ends_the_turn_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = busy_kit(tmp_path)
    expected = ids(archive.events())
    monkeypatch.setattr(MemoryStore, "trim", lambda self, partition, upto, done: done(StoreFailure("gone", True)))
    with pytest.raises(StoreUnavailable):
        archive.turn()
    monkeypatch.undo()
    archive.turn()
    assert ids(archive.events()) == expected
    assert archive.outbox() == []


def test_an_event_that_cannot_be_decoded_is_archived_as_it_is(tmp_path: Path) -> None:
    kit = Kit()
    archive = ArchiveKit(kit, tmp_path)
    kit.store.commit(3, [Transaction((), (b"\xff damaged",))], lambda _outcome: None)
    archive.catch_up()
    assert [one.event for one in archive.archived()] == [b"\xff damaged"]
    assert archive.archiver.damaged == 1


def test_events_are_archived_with_the_currency_of_their_account(tmp_path: Path) -> None:
    archive = busy_kit(tmp_path)
    kit = archive.kit
    kit.store.commit(PARTITION, [Transaction((), (_event_of_nobody(),))], lambda _outcome: None)
    archive.catch_up()
    found = {(one.currency, one.exponent) for one in archive.archived()[:-1]}
    assert found == {(978, 2)}
    assert archive.archived()[-1][3:5] == (0, 0)


def _event_of_nobody() -> bytes:
    from balance.ledger import Event, encode_event

    return encode_event(Event(account="nobody", at_us=1, kind="sweep"), 1, 0)


def test_one_busy_partition_costs_one_look_at_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one for each of its pages: that would be thousands of calls a second beside charging."""
    kit = Kit()
    archive = ArchiveKit(kit, tmp_path / "archive")
    store = kit.store
    assert isinstance(store, MemoryStore)
    events = tuple(b"event %d" % number for number in range(700))
    store.commit(PARTITION, [Transaction((), events)], lambda _: None)
    looks: list[int] = []
    outbox = store.outbox

    def counted(partition: int, after: int, limit: int, done: Callable[[Any], None]) -> None:
        looks.append(partition)
        outbox(partition, after, limit, done)

    monkeypatch.setattr(store, "outbox", counted)
    archive.turn()
    assert len(archive.archived()) >= 700
    assert len(looks) <= store.partitions + 20


def test_a_batch_is_bounded_and_every_partition_has_its_turn(tmp_path: Path) -> None:
    kit = Kit()
    archive = ArchiveKit(kit, tmp_path)
    for partition in range(kit.store.partitions):
        for _ in range(10):
            events = tuple(_event_of_nobody() for _ in range(30))
            kit.store.commit(partition, [Transaction((), events)], lambda _outcome: None)
    turns, sizes, left = 0, [], 64 * 300
    while archive.turn() or archive.outbox():
        turns += 1
        sizes.append(left - len(archive.outbox()))
        left = len(archive.outbox())
        if turns == 8:
            lengths = [len(list(page)) for page in _outboxes(kit)]
            assert max(lengths) - min(lengths) <= archiver_module.PAGE, "one partition waits longer than the others"
    assert max(sizes) <= archiver_module.BATCH
    assert archive.archiver.archived == 64 * 300


def _outboxes(kit: Kit) -> list[list[OutboxItem]]:
    pages: list[Any] = []
    for partition in range(kit.store.partitions):
        kit.store.outbox(partition, 0, 1000, pages.append)
    return pages


# One archiver


def test_of_two_processes_the_one_with_the_lease_archives(tmp_path: Path) -> None:
    kit = Kit()
    one = ArchiveKit(kit, tmp_path / "archive", Leasehold(0, "archive", "one", 15_000_000))
    two = ArchiveKit(kit, tmp_path / "archive", Leasehold(0, "archive", "two", 15_000_000))
    play_on(kit, one)
    one.turn()
    assert (one.archiver.working, one.archiver.archived) == (True, 15)
    kit.event(kit_identity(kit, "a"), messages(), session="more")
    two.turn()
    assert (two.archiver.working, two.archiver.archived) == (False, 0)
    assert two.archiver.waiting == 1, "who does not archive counts all the same"
    kit.run(one.archiver.release())
    two.turn()
    assert (two.archiver.working, two.archiver.archived) == (True, 1)
    check_books(kit, PARTITION, "a", two.events())


def play_on(kit: Kit, archive: ArchiveKit) -> None:
    play(kit, "a", 3)
    assert len(archive.outbox()) == 15


def test_an_archiver_that_was_suspended_past_its_lease_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the same page; the second writes and trims first, then the first goes on."""
    kit = Kit()
    one = ArchiveKit(kit, tmp_path / "archive", Leasehold(0, "archive", "one", 15_000_000))
    two = ArchiveKit(kit, tmp_path / "archive", Leasehold(0, "archive", "two", 15_000_000))
    play_on(kit, one)
    expected = ids(one.events())
    append = one.writer.append

    def suspended(*arguments: Any) -> Any:
        kit.now_us += 20_000_000
        monkeypatch.undo()
        two.turn()
        assert two.archiver.archived == 15
        kit.event(kit_identity(kit, "a"), messages(), session="more")
        return append(*arguments)

    monkeypatch.setattr(one.writer, "append", suspended)
    one.turn()
    assert (one.archiver.archived, one.archiver.diverged) == (0, 0)
    assert ids(one.events())[:-1] == expected
    assert len(one.outbox()) == 1, "what was committed meanwhile is not trimmed"
    two.catch_up()
    check_books(kit, PARTITION, "a", two.events())


def test_a_store_that_came_back_older_while_its_events_were_written_is_not_trimmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers begin again where it lost commits: what was read names other events than what stands there now."""
    kit = Kit()
    archive = ArchiveKit(kit, tmp_path / "archive")
    play_on(kit, archive)
    append = archive.writer.append

    def comes_back(*arguments: Any) -> Any:
        monkeypatch.undo()
        kit.store.forget()
        return append(*arguments)

    monkeypatch.setattr(archive.writer, "append", comes_back)
    assert archive.turn() and archive.archiver.archived == 15
    assert len(archive.outbox()) == 15
    archive.catch_up()
    assert (archive.archiver.archived, archive.outbox()) == (15, [])


def test_a_segment_that_another_process_closed_is_left_to_it(tmp_path: Path) -> None:
    one, two = (ArchiveWriter(tmp_path, ArchiveSettings()) for _ in range(2))
    one.adopt("store")
    two.identity()
    one.append([new_event(1)], START_US)
    two.append([new_event(2)], START_US + DAY_US)
    one.append([new_event(3)], START_US + DAY_US)
    assert segment_numbers(tmp_path) == [1, 2]
    found = list(archived(ArchiveReader(tmp_path)))
    assert [(one.position, one.sequence) for one in found] == [(1, 1), (2, 2), (3, 3)]


def test_a_segment_that_is_closed_in_the_last_moment_takes_no_more_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and the transaction; else both processes would give out one position."""
    one, two = (ArchiveWriter(tmp_path, ArchiveSettings()) for _ in range(2))
    one.adopt("store")
    two.identity()
    one.append([new_event(1)], START_US)
    append = Segment.append

    def late(self: Segment, choose: Any) -> int:
        monkeypatch.undo()
        two.append([new_event(2)], START_US + DAY_US)
        return append(self, choose)

    monkeypatch.setattr(Segment, "append", late)
    one.append([new_event(3)], START_US)
    found = list(archived(ArchiveReader(tmp_path)))
    assert [(found_one.position, found_one.sequence) for found_one in found] == [(1, 1), (2, 2), (3, 3)]


# Whose archive it is


def test_the_archive_of_another_store_is_refused(tmp_path: Path) -> None:
    archive = busy_kit(tmp_path)
    archive.turn()
    other = Kit()
    other.engine.secret = b"o" * 32
    strange = ArchiveKit(other, archive.folder)
    play(other, "a")
    with pytest.raises(ArchiveForeign, match="holds the archive of another store"):
        strange.turn()
    assert len(strange.outbox()) == 7
    with pytest.raises(ArchiveForeign):
        strange.reader.archived(PARTITION)


def test_a_store_has_one_archive(tmp_path: Path) -> None:
    archive = busy_kit(tmp_path)
    archive.turn()
    play(archive.kit, "a", 1, first=3)
    second = ArchiveKit(archive.kit, tmp_path / "second")
    with pytest.raises(ArchiveForeign, match="of this store is at test, not in"):
        second.turn()
    assert len(second.outbox()) == 4
    assert not (tmp_path / "second").exists()


def test_segments_without_their_identity_are_refused(tmp_path: Path) -> None:
    archive = busy_kit(tmp_path)
    archive.turn()
    (archive.folder / "archive.json").unlink()
    with pytest.raises(ArchiveForeign, match=r"has segments and no archive\.json"):
        ArchiveKit(archive.kit, archive.folder).turn()


def test_a_crash_between_identity_and_its_document_is_gone_on_from(tmp_path: Path) -> None:
    archive = busy_kit(tmp_path)
    archive.writer.adopt(archiver_module.store_mark(archive.kit.engine.secret))
    archive.turn()
    assert archive.outbox() == []


def test_a_segment_of_another_archive_is_refused(tmp_path: Path) -> None:
    archive = busy_kit(tmp_path)
    archive.turn()
    other = ArchiveWriter(tmp_path / "other", ArchiveSettings())
    other.adopt("store")
    other.append([new_event(1)], START_US)
    other.close()
    archive.writer.close()
    segment_path(tmp_path / "other", 1).replace(segment_path(archive.folder, 2))
    play(archive.kit, "a", 1, first=3)
    with pytest.raises(ArchiveForeign, match="belongs to another archive"):
        archive.turn()


# How full the outbox is


def test_at_nine_tenths_of_the_limit_nothing_new_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit()
    archive = ArchiveKit(kit, tmp_path, outbox_limit=1000)
    who = kit.account("a", 100_00)
    kit.initial(who, want(), session="open")
    _fill(kit, 899 - len(archive.outbox()))
    kit.run(archive.archiver.measure())
    assert (archive.archiver.waiting, archive.archiver.fill_percent) == (899, 89)
    assert kit.initial(who, want(), session="last").result is Result.SUCCESS
    kit.run(archive.archiver.measure())
    assert archive.archiver.fill_percent == 90
    assert kit.initial(who, want(), session="refused").result is Result.TOO_BUSY
    assert kit.update(1, want(used=MIB), session="open").result is Result.SUCCESS
    archive.catch_up()
    kit.run(archive.archiver.measure())
    assert kit.initial(who, want(), session="again").result is Result.SUCCESS


def _fill(kit: Kit, count: int) -> None:
    for _ in range(count):
        kit.store.commit(9, [Transaction((), (_event_of_nobody(),))], lambda _outcome: None)


# How long it is kept


def test_old_segments_are_deleted_once_they_are_exported(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path, ArchiveSettings(ledger_retention_days=90))
    writer.adopt("store")
    for day in range(5):
        at_us = START_US + day * DAY_US
        writer.append([new_event(2 * day + 1, at_us=at_us), new_event(2 * day + 2, at_us=at_us)], at_us)
    late = START_US + 93 * DAY_US
    assert writer.retire(late) == 0, "nothing was exported"
    export(tmp_path, "cdr", position=100)
    export(tmp_path, "other", position=4)
    export(tmp_path, "march", position=0, since_us=1)
    assert writer.retire(START_US + 90 * DAY_US) == 0, "not old enough"
    assert writer.retire(late) == 2
    assert segment_numbers(tmp_path) == [3, 4, 5]
    export(tmp_path, "other", position=10)
    assert writer.retire(late) == 1
    assert writer.retire(START_US + 1000 * DAY_US) == 1
    assert segment_numbers(tmp_path) == [5], "the newest stays"
    reader = ArchiveReader(tmp_path)
    assert [one.position for one in reader.after(8, 10)] == [9, 10]
    with pytest.raises(ArchiveUnusable, match="positions 4 to 8 are missing"):
        reader.after(3, 10)
    assert writer.append([new_event(11)], START_US).position == 11


def export(folder: Path, name: str, position: int, since_us: int = 0, pending: tuple[PendingFile, ...] = ()) -> None:
    state = ExportState(
        name=name, archive="a", folder="f", form="csv", position=position, since_us=since_us, pending=pending
    )
    write_state(folder, state)


def test_an_export_between_two_steps_holds_back_what_it_has_not_published(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path, ArchiveSettings(ledger_retention_days=1))
    writer.adopt("store")
    for day in range(3):
        writer.append([new_event(day + 1, at_us=START_US + day * DAY_US)], START_US + day * DAY_US)
    export(tmp_path, "cdr", position=2, pending=(PendingFile(1, "f", 1, 1, "", "", 0, 0),))
    assert writer.retire(START_US + 100 * DAY_US) == 0


def test_unexported_segments_are_deleted_only_if_a_setting_says_so(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path, ArchiveSettings(ledger_retention_days=1, delete_unexported=True))
    writer.adopt("store")
    for day in range(3):
        writer.append([new_event(day + 1, at_us=START_US + day * DAY_US)], START_US + day * DAY_US)
    assert writer.retire(START_US + 100 * DAY_US) == 2


def test_the_archiver_looks_for_old_segments_once_a_day(tmp_path: Path) -> None:
    archive = busy_kit(tmp_path, ledger_retention_days=10, delete_unexported=True)
    archive.turn()
    archive.kit.now_us += 20 * DAY_US
    play(archive.kit, "a", 1, first=3)
    archive.turn()
    archive.kit.now_us += DAY_US
    archive.turn()
    assert archive.archiver.retired == 1
    assert segment_numbers(archive.folder) == [2]
