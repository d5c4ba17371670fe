"""`ledger` and `explain` over archive and outbox: in order, each event once, whatever the archiver does meanwhile."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from balance.ledger import decode_event
from balance.store import Transaction
from ocs.charging import queries
from ocs.charging.operations import OperationRefused
from ocs.charging.saga import Offload, Outbox
from tests.support.archive_kit import ArchiveKit
from tests.support.charging_kit import MIB, Kit, messages, report, want

EventKey = tuple[str, int, int]


def keys(items: list[dict[str, Any]]) -> list[EventKey]:
    return [(item["account"], item["version"], item["n"]) for item in items]


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveKit:
    """An archive that is empty yet, and twelve events of two accounts in the outbox."""
    kit = Kit()
    found = ArchiveKit(kit, tmp_path / "archive")
    people = {name: kit.account(name, 100_00) for name in ("a", "b")}
    for name, who in people.items():
        kit.initial(who, want(), session=f"{name};1")
        kit.update(1, want(used=MIB), session=f"{name};1")
        kit.terminate(2, report(used=MIB), session=f"{name};1")
    kit.event(people["a"], messages(), session="a;sms")
    return found


def whole(archive: ArchiveKit, account: str = "a", limit: int = 1000) -> list[dict[str, Any]]:
    """The ledger, page by page."""
    items: list[dict[str, Any]] = []
    cursor = None
    for _ in range(100):
        page = archive.kit.run(queries.ledger(archive.kit.engine, account, cursor, limit))
        assert len(page["items"]) <= limit
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            return items
    raise AssertionError("the ledger has no end")


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_the_ledger_is_the_same_before_and_after_archiving(archive: ArchiveKit, limit: int) -> None:
    before = whole(archive, limit=limit)
    assert len(before) == 7
    archive.turn()
    assert archive.outbox() == []
    assert whole(archive, limit=limit) == before
    archive.kit.top_up("a", 500)
    assert whole(archive, limit=limit)[:-1] == before
    assert archive.kit.events()[-1]["operation"] == "topup"


@pytest.mark.parametrize("trimmed", [0, 3, 12])
def test_an_event_in_both_places_appears_once(archive: ArchiveKit, trimmed: int) -> None:
    """Archived and not yet trimmed, or trimmed in part."""
    kit, before = archive.kit, whole(archive)
    outbox = [(partition, item) for partition, item in archive.outbox()]
    archive.turn()
    # What stood in the outbox is put back under its numbers: the store had not forgotten it yet.
    data = getattr(kit.store, "_data")[5]  # noqa: B009
    data.outbox = [item for _, item in outbox][trimmed:]
    assert whole(archive) == before
    assert whole(archive, limit=2) == before


def test_a_cursor_stays_good_while_events_move(archive: ArchiveKit) -> None:
    """A page is read, the archiver moves events, the next page follows without a gap or a repeat."""
    expected = keys(whole(archive))
    for when in range(1, 7):
        kit = archive.kit
        first = kit.run(queries.ledger(kit.engine, "a", None, when))
        archive.turn()
        kit.top_up("a", 1)
        expected = keys(whole(archive))
        rest: list[EventKey] = []
        cursor = first["next"]
        while cursor is not None:
            page = kit.run(queries.ledger(kit.engine, "a", cursor, 2))
            rest += keys(page["items"])
            cursor = page["next"]
        assert keys(first["items"]) + rest == expected, when


def test_a_cursor_of_the_outbox_alone_is_good_with_an_archive(archive: ArchiveKit) -> None:
    kit = archive.kit
    kit.engine.history = None
    expected = whole(archive)
    first = kit.run(queries.ledger(kit.engine, "a", None, 3))
    assert first["next"].isdigit()
    kit.engine.history = archive.reader
    archive.turn()
    rest = kit.run(queries.ledger(kit.engine, "a", first["next"], 1000))
    assert first["items"] + rest["items"] == expected


@pytest.mark.parametrize("step", range(12))
def test_events_that_move_between_two_steps_of_a_query_are_neither_lost_nor_doubled(
    archive: ArchiveKit, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archiver works right before the n-th look of the query, and new events come after it."""
    monkeypatch.setattr(queries, "WALK_PAGE", 2)
    kit = archive.kit
    archive.turn()
    numbers = itertools.count()

    def more() -> None:
        kit.top_up("a", 100 + next(numbers))
        kit.top_up("b", 100 + next(numbers))

    for _ in range(3):
        more()
    expected = keys(whole(archive))
    results: list[Any] = []
    saga = queries.ledger(kit.engine, "a", None, 1000)
    looks = 0

    def stepped() -> Any:
        nonlocal looks
        request = next(saga)
        while True:
            if isinstance(request, (Offload, Outbox)):
                if looks == step:
                    archive.turn()
                    more()
                looks += 1
            request = saga.send((yield request))

    def passing() -> Any:
        try:
            yield from stepped()
        except RuntimeError as end:
            # The inner saga came to its end.
            assert isinstance(end.__cause__, StopIteration)
            results.append(end.__cause__.value)

    kit.run(passing())
    found = keys(results[0]["items"])
    assert found[: len(expected)] == expected
    assert len(set(found)) == len(found)
    assert found == keys(whole(archive))[: len(found)]


def test_a_session_is_explained_from_both_places(archive: ArchiveKit) -> None:
    kit = archive.kit
    before = kit.run(queries.explain(kit.engine, "a;1"))
    assert [event["request"] for event in before["events"]] == ["initial #0", "update #1", "termination #2"]
    archive.turn()
    assert kit.run(queries.explain(kit.engine, "a;1")) == before


def test_an_open_session_is_explained_across_the_border(archive: ArchiveKit) -> None:
    kit = archive.kit
    kit.initial(kit.account("c", 100_00), want(), session="c;1")
    archive.turn()
    kit.update(1, want(used=MIB), session="c;1")
    found = kit.run(queries.explain(kit.engine, "c;1"))
    assert [event["request"] for event in found["events"]] == ["initial #0", "update #1"]
    assert found["summary"]["state"] == "open"


def test_a_session_whose_locator_is_gone_is_explained_from_the_archive(archive: ArchiveKit) -> None:
    kit = archive.kit
    archive.turn()
    before = kit.run(queries.explain(kit.engine, "a;1"))
    kit.advance(kit.engine.settings.locator_s + 1)
    found = kit.run(queries.explain(kit.engine, "a;1"))
    assert (found["events"], found["account"]) == (before["events"], "a")
    assert found["summary"] is None
    with pytest.raises(OperationRefused, match="no session 'nonesuch'"):
        kit.run(queries.explain(kit.engine, "nonesuch"))
    kit.engine.history = None
    with pytest.raises(OperationRefused, match="no session 'a;1'"):
        kit.run(queries.explain(kit.engine, "a;1"))


def test_a_query_by_index_does_not_read_what_others_did(archive: ArchiveKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive has 5,000 events of others; the ledger and an explanation decode only their own."""
    kit = archive.kit
    event = archive.outbox()[-1][1].event
    for _ in range(50):
        kit.store.commit(5, [Transaction((), (event,) * 100)], lambda _outcome: None)
    expected = whole(archive, "b"), kit.run(queries.explain(kit.engine, "b;1"))
    archive.catch_up()
    decoded: list[bytes] = []

    def counted(data: bytes) -> Any:
        decoded.append(data)
        return decode_event(data)

    monkeypatch.setattr(queries, "decode_event", counted)
    assert (whole(archive, "b"), kit.run(queries.explain(kit.engine, "b;1"))) == expected
    assert len(decoded) == 6 + 3


def test_names_with_the_same_hash_are_told_apart(archive: ArchiveKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocs.archive.segments.hash_of", lambda _text: 7)
    before = {name: whole(archive, name) for name in ("a", "b")}
    archive.turn()
    for limit in (1, 2, 1000):
        assert {name: whole(archive, name, limit) for name in ("a", "b")} == before


@pytest.mark.parametrize("cursor", ["x", "1.x", "1.2.3", "-1", "", "1." + "9" * 19])
def test_what_is_no_cursor_is_refused(archive: ArchiveKit, cursor: str) -> None:
    with pytest.raises(OperationRefused, match="no cursor of this list"):
        archive.kit.run(queries.ledger(archive.kit.engine, "a", cursor))
