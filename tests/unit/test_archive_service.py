"""The archive on a loop: it moves events, tells what is wrong, and leaves nothing running."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from balance.store import Transaction
from ocs.archive import service as service_module
from ocs.archive.folder import make_identity
from ocs.archive.reader import ArchiveReader
from ocs.archive.service import ArchiveService
from ocs.archive.settings import ArchiveSettings
from ocs.charging import queries
from ocs.charging.requests import Result
from ocs.charging.saga import Offload, Saga
from tests.support.archive_kit import archived
from tests.support.cdr_kit import new_event, usage_event
from tests.support.charging_kit import Kit, want


@pytest.fixture(autouse=True)
def _plain_logging() -> None:
    """Log lines of every level, whatever other tests have set."""
    structlog.reset_defaults()


def play(folder: Path, work: Callable[[Kit, ArchiveService], Awaitable[None]], **settings: Any) -> Kit:
    """A service over a kit, on a loop of its own; closed at the end."""
    kit = Kit()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        chosen = ArchiveSettings(**{"interval_ms": 10, **settings})
        service = ArchiveService(kit.engine, chosen, folder, lambda: kit.now_us, "worker", True, loop)
        try:
            await work(kit, service)
        finally:
            await service.close()

    asyncio.run(run())
    return kit


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, ten seconds at most."""
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.005)


def fill(kit: Kit, count: int) -> None:
    for number in range(count):
        event = new_event(number + 1, usage_event(number + 1)).event
        kit.store.commit(9, [Transaction((), (event,))], lambda _outcome: None)


def archived_in(folder: Path) -> int:
    return len(list(archived(ArchiveReader(folder))))


def test_events_are_moved_and_the_ledger_is_read_off_the_loop(tmp_path: Path) -> None:
    async def work(kit: Kit, service: ArchiveService) -> None:
        kit.account("a", 1000)
        service.start()
        service.start()
        await until(lambda: service.archiver.archived == 3)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        kit.engine.run(queries.ledger(kit.engine, "a"), kit.monotonic() + 5, future.set_result)
        page = await future
        assert [item["operation"] for item in page["items"]] == ["create", "topup", "subscriber add"]
        assert service.problems() == []
        numbers = service.numbers()
        assert (numbers["archive_working"], numbers["archive_events_moved"]) == (1, 3)

    play(tmp_path / "archive", work)
    assert archived_in(tmp_path / "archive") == 3
    assert not [one for one in threading.enumerate() if one.name.startswith("archive")]


def test_what_is_left_is_moved_when_the_process_ends(tmp_path: Path) -> None:
    async def work(kit: Kit, service: ArchiveService) -> None:
        service.start()
        await until(lambda: service.archiver.working)
        fill(kit, 2500)

    play(tmp_path / "archive", work, interval_ms=60_000)
    assert archived_in(tmp_path / "archive") == 2500


def test_a_service_that_was_not_started_moves_nothing(tmp_path: Path) -> None:
    async def work(kit: Kit, service: ArchiveService) -> None:
        fill(kit, 5)

    play(tmp_path / "archive", work)
    assert not (tmp_path / "archive").exists()


def test_a_failure_is_told_once_until_it_is_over(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    make_identity(folder, "another store")

    async def work(kit: Kit, service: ArchiveService) -> None:
        fill(kit, 5)
        service.start()
        await until(lambda: service.numbers()["archive_turns_failed"] > 3)
        assert service.problems() == [f"archive: {folder} holds the archive of another store; name another folder"]
        (folder / "archive.json").unlink()
        await until(lambda: service.archiver.archived == 5)
        await until(lambda: not service.problems())

    with capture_logs() as logs:
        play(folder, work)
    assert [line["event"] for line in logs] == ["events cannot be archived", "events are archived again"]


@pytest.mark.parametrize(
    ("waiting", "problems", "admitting"),
    [
        (498, [], True),
        (500, ["archive: 500 events wait in the store's outbox, 50 % of its limit"], True),
        (899, ["archive: 899 events wait in the store's outbox, 89 % of its limit"], True),
        (900, ["archive: 900 events wait in the store's outbox, 90 % of its limit; new sessions are refused"], False),
    ],
)
def test_an_outbox_that_fills_up_while_the_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: int, problems: list[str], admitting: bool
) -> None:
    monkeypatch.setattr(service_module, "WATCH_S", 0.01)
    monkeypatch.setattr(service_module, "STUCK_S", 0.05)
    hang = threading.Event()

    async def work(kit: Kit, service: ArchiveService) -> None:
        who = kit.account("a", 1000)
        identity = service._writer.identity
        monkeypatch.setattr(service._writer, "identity", lambda: identity() if hang.wait(20) else None)
        service.start()
        fill(kit, waiting - 3)
        stuck = "archive: no answer from the store or the disk for more than 0 s"
        await until(lambda: service.archiver.waiting == waiting and stuck in service.problems())
        assert service.problems() == [stuck, *problems]
        outcome = kit.initial(who, want())
        assert outcome.result is (Result.SUCCESS if admitting else Result.TOO_BUSY)
        hang.set()
        await until(lambda: service.archiver.waiting == 0)
        await until(lambda: service.problems() == [] and not service._alarmed)
        assert kit.initial(who, want(), session="later").result is Result.SUCCESS

    with capture_logs() as logs:
        play(tmp_path / "archive", work, outbox_limit=1000)
    told = [line["event"] for line in logs]
    assert told == (["the outbox fills up", "the outbox is emptied"] if problems else [])


def test_work_after_the_end_is_refused(tmp_path: Path) -> None:
    async def work(kit: Kit, service: ArchiveService) -> None:
        return None

    kit = play(tmp_path / "archive", work)

    def saga() -> Saga[object]:
        return (yield Offload(lambda: 1))

    results: list[Any] = []
    kit.engine.run(saga(), kit.monotonic() + 5, results.append)
    assert "the archive is closed" in str(results[0])


def test_events_of_another_history_are_a_problem(tmp_path: Path) -> None:
    async def work(kit: Kit, service: ArchiveService) -> None:
        service.start()
        fill(kit, 3)
        await until(lambda: service.archiver.archived == 3)
        # The store lost its last commits and gives their numbers out again.
        data = getattr(kit.store, "_data")[9]  # noqa: B009
        data.sequence = 1
        kit.store.commit(9, [Transaction((), (b"\x01",))], lambda _outcome: None)
        await until(lambda: service.archiver.archived == 4)
        await until(lambda: len(service.problems()) == 2)
        diverged, damaged = service.problems()
        assert diverged.startswith("archive: 1 events came under the numbers of others that were archived before")
        assert damaged.startswith("archive: 1 events cannot be decoded")

    play(tmp_path / "archive", work)
