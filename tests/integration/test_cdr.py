"""`ocs cdr` as processes: killed at random places, followed, refused; and the archiver of a server that is killed."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from ocs.archive.cdr_verify import verify
from ocs.archive.reader import ArchiveReader
from ocs.archive.settings import ArchiveSettings
from ocs.archive.writer import ArchiveWriter
from ocs.cli.main import run
from tests.support.archive_kit import archived
from tests.support.books import audit
from tests.support.cdr_kit import data_files, new_event, records, usage_archive, usage_event
from tests.support.gy_client import INITIAL, MIB, UPDATE, Requests, mscc, units
from tests.support.processes import DYING_WITH_THE_TEST
from tests.support.redis_books import RedisBooks
from tests.support.redis_server import RedisServer
from tests.support.server_process import Server, Worker, Workers

OCS = (*DYING_WITH_THE_TEST, sys.executable, "-m", "ocs.cli.main")
ROOT = Path(__file__).parents[2]


class Home:
    """A home folder with an archive, and `ocs cdr` in it."""

    def __init__(self, path: Path, events: int = 0) -> None:
        """`events`: so many are put into a new archive."""
        self.path = path
        self.out = path / "out"
        if events:
            usage_archive(path / "archive", events)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OCS_CONFIG")}
        self.environment = {**kept, "OCS_HOME": str(path), "PYTHONPATH": str(ROOT)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            (*OCS, "cdr", *arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """`ocs cdr …` in this process: status, standard output, standard error."""
        return self.ocs("cdr", *arguments)

    def ocs(self, *arguments: str) -> tuple[int, str, str]:
        """Any command; as `run`."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
            patched.setenv("OCS_HOME", str(self.path))
            patched.delenv("OCS_CONFIG", raising=False)
            status = run(arguments)
        return status, out.getvalue(), err.getvalue()

    def json(self, *arguments: str) -> Any:
        status, out, err = self.run(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    def export(self, *more: str) -> Any:
        return self.json("export", "--folder", str(self.out), *more)


@pytest.mark.proves("F52")
def test_kill_9_at_random_places_and_every_event_is_in_one_file(tmp_path: Path) -> None:
    """The exporter is killed in the middle of its work, again and again; each start goes on."""
    events = 6000
    home = Home(tmp_path, events)
    dice = random.Random(20260302)
    kills = 0
    for _ in range(8):
        before = len(_names(home.out))
        with home.start("export", "--folder", str(home.out), "--max-octets", "20kB") as process:
            ends = time.monotonic() + 20
            while process.poll() is None and len(_names(home.out)) == before and time.monotonic() < ends:
                time.sleep(0.002)
            time.sleep(dice.random() * 0.04)
            if process.poll() is None:
                process.kill()
                kills += 1
            process.communicate()
    assert kills >= 4, "the kills came too late"
    last = home.export("--max-octets", "20kB")
    assert last["mismatches"] == 0
    numbers = [record["version"] for record in records(home.out)]
    assert numbers == list(range(1, events + 1))
    found = verify(home.out)
    assert found.problems == []
    assert found.records == events
    assert not [path for path in home.out.iterdir() if path.name.startswith(".")]


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.exists() else set()


def test_export_verify_and_list_as_a_script_sees_them(tmp_path: Path) -> None:
    home = Home(tmp_path, 300)
    found = home.export("--format", "csv", "--max-octets", "50kB")
    assert (found["records"], found["events"], found["position"], found["skipped"]) == (300, 300, 300, 0)
    assert found["files"] == [path.name for path in data_files(home.out)]
    assert home.export("--format", "csv")["files"] == []
    checked = home.json("verify", str(home.out))
    assert (checked["records"], checked["problems"]) == (300, [])
    assert checked["exports"] == {"cdr": {"first": 1, "last": len(found["files"])}}
    usage_archive(tmp_path / "archive", 7, first=301)
    (listed,) = home.json("list")["exports"]
    assert (listed["export"], listed["behind"], listed["next_file"]) == ("cdr", 7, len(found["files"]) + 1)
    data_files(home.out)[0].write_text("changed\n")
    status, out, err = home.run("verify", str(home.out))
    assert (status, err) == (1, "")
    assert "octets, expected" in out
    assert home.run("export", "--folder", str(home.out), "--format", "csv")[1].endswith(
        "1 files, 7 records of 7 events\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--format", "xml"), 2, "format: 'xml', expected jsonl or csv"),
        (("--name", "a-b"), 2, "name: 'a-b', expected 1 to 32 of a-z, 0-9 and _"),
        (("--once", "--follow"), 2, "once: expected only one of --once and --follow"),
        (("--since", "yesterday"), 2, "since: 'yesterday' is no time, expected a day such as 2026-12-31"),
        (("--since", "2026-03-02T10:00"), 2, "since: '2026-03-02T10:00' has no time zone"),
        (("--since", "2026-03-02", "--until", "2026-03-02"), 2, "until: '2026-03-02' is not after --since"),
        (("--max-octets", "5 parsecs"), 2, "max-octets: "),
        (("--max-age", "0s"), 2, "max-age: '0s', expected more than nothing"),
        (("--folder", "/proc/nonesuch"), 3, "/proc/nonesuch: "),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: tuple[str, ...], status: int, message: str) -> None:
    home = Home(tmp_path, 3)
    folder = () if "--folder" in arguments else ("--folder", str(home.out))
    found = home.run("export", *folder, *arguments)
    assert found[:2] == (status, "")
    assert found[2].startswith(f"ocs: {message}")
    assert found[2].count("\n") == 1
    assert not home.out.exists()


def test_without_archive_or_with_it_switched_off_an_export_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path, 3)
    for path in (tmp_path / "archive").iterdir():
        path.unlink()
    status, _, err = home.run("export", "--folder", str(home.out))
    assert (status, err) == (1, f"ocs: there is no archive in {tmp_path / 'archive'} yet; the server makes it\n")
    (tmp_path / "ocs.toml").write_text("[archive]\nenabled = false\n")
    status, _, err = home.run("export", "--folder", str(home.out))
    assert status == 1
    assert "the archive is off" in err
    assert home.run("verify", str(tmp_path / "nonesuch"))[0] == 3


@pytest.mark.proves("F53")
def test_a_forced_mismatch_is_told_and_sets_the_status(tmp_path: Path) -> None:
    home = Home(tmp_path, 3)
    event = usage_event(4)
    event.usage[0].debited_micros += 1
    writer = ArchiveWriter(tmp_path / "archive", ArchiveSettings())
    writer.identity()
    writer.append([new_event(4, event)], event.at_us)
    writer.close()
    status, out, err = home.run("export", "--folder", str(home.out))
    assert status == 1
    assert out.endswith("1 files, 4 records of 4 events\n")
    assert err == "1 events have usage that does not add up to the money that was taken\n"
    assert verify(home.out).records == 4


def test_following_ends_at_sigterm_with_all_published(tmp_path: Path) -> None:
    home = Home(tmp_path, 50)
    with home.start("export", "--folder", str(home.out), "--follow", "--max-age", "1s", "--json") as process:
        ends = time.monotonic() + 20
        while not (home.out.exists() and data_files(home.out)) and time.monotonic() < ends:
            time.sleep(0.02)
        assert len(records(home.out)) == 50
        usage_archive(tmp_path / "archive", 20, first=51)
        # Read, and not yet old enough to be published.
        time.sleep(0.6)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["records"] == 70
    assert [record["version"] for record in records(home.out)] == list(range(1, 71))


# The archiver of a server


@pytest.mark.proves("F35")
@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_of_a_server_that_archives_loses_and_doubles_no_event(tmp_path: Path, seed: int) -> None:
    """Requests are in flight and events on their way into the archive; in the end files tell what the balance says."""
    dice = random.Random(seed)
    requests, sessions, updates, kills = Requests(), 12, 20, 3
    home = tmp_path / "home"
    home.mkdir()
    messages = [
        requests.ccr(UPDATE, number, f"s{session}", mscc(100, requested=[], used=[units(total=MIB)]), msisdn=None)
        for number in range(1, updates + 1)
        for session in range(sessions)
    ]
    with Server(home, "[archive]\ninterval_ms = 10\n") as server:
        server.prepare()
        server.subscriber(100_000)
        with server.gateway() as gateway:
            for session in range(sessions):
                opening = requests.ccr(INITIAL, 0, f"s{session}", mscc(100, requested=[]))
                assert gateway.exchange(opening).code == 2001
        for part in range(kills):
            with server.gateway() as gateway:
                sent = messages[part * len(messages) // kills : (part + 1) * len(messages) // kills]
                gateway.send(b"".join(sent))
                for _ in range(dice.randrange(len(sent) - 10)):
                    gateway.receive()
                time.sleep(dice.random() * 0.02)
                server.kill()
            server.start()
        with server.gateway() as gateway:
            for message in messages:
                assert gateway.exchange(message).code == 2001
        charged = 10 * updates * sessions
        assert server.balance() == (100_000 - charged, 100 * sessions)
        assert sum(server.debits()) == charged
        explained = server.get("/v1/session/explain?session=s7")["events"]
        assert sorted(event["request"] for event in explained) == sorted(
            ["initial #0", *(f"update #{number}" for number in range(1, updates + 1))]
        )
        # Silence: after Tcc nothing is reserved any more.
        server.advance(100_000)
        assert server.balance() == (100_000 - charged, 0)
    events = [(one.partition, one.sequence) for one in archived(ArchiveReader(home / "archive"))]
    assert len(set(events)) == len(events)
    environment = {**os.environ, "OCS_HOME": str(home), "PYTHONPATH": str(ROOT)}
    subprocess.run((*OCS, "cdr", "export", "--folder", str(tmp_path / "out")), env=environment, check=True, timeout=60)
    found = records(tmp_path / "out")
    usage = [record for record in found if record["type"] == "usage"]
    assert sum(record["charged_micros"] for record in usage) == charged * 10_000
    assert len(usage) == updates * sessions
    closed = [record for record in found if record["type"] == "session"]
    assert {record["close_cause"] for record in closed} == {"supervision_timeout"}
    assert [record["charged_micros"] for record in closed] == [10 * updates * 10_000] * sessions
    paid_in = sum(record["amount_micros"] for record in found if record["type"] == "posting")
    assert paid_in == 100_000 * 10_000


@pytest.mark.proves("F35", "F52")
def test_of_two_workers_one_archives_and_the_other_takes_over_when_it_is_killed(
    workers: Workers, redis_server: RedisServer
) -> None:
    """The ledger is whole all the time, at either worker; in the end every event was archived and exported once."""
    workers.subscriber(100_000)
    requests = Requests()
    with workers.gateway() as gateway:
        assert gateway.exchange(requests.ccr(INITIAL, 0, "s", mscc(100, requested=[]))).code == 2001
        for number in range(1, 11):
            used = mscc(100, requested=[], used=[units(total=MIB)])
            assert gateway.exchange(requests.ccr(UPDATE, number, "s", used, msisdn=None)).code == 2001
            assert [len(one.debits()) for one in workers.servers] == [number, number]
    archiver = _the_archiver(workers)
    archiver.kill()
    other = next(one for one in workers.servers if one is not archiver)
    with other.gateway() as gateway:
        for number in range(11, 21):
            used = mscc(100, requested=[], used=[units(total=MIB)])
            assert gateway.exchange(requests.ccr(UPDATE, number, "s", used, msisdn=None)).code == 2001
    assert len(other.debits()) == 20
    ends = time.monotonic() + 20
    while other.numbers()["archive_working"] == 0 or other.numbers()["outbox_events"] > 0:
        assert time.monotonic() < ends, "nobody archives any more"
        time.sleep(0.1)
    assert other.debits() == [10] * 20
    assert other.get("/v1/doctor")["problems"] == []
    archiver.start()
    assert len(archiver.debits()) == 20
    books = RedisBooks(redis_server, workers.home)
    audit(books)
    out = workers.home / "out"
    home = Home(workers.home)
    home.export()
    found = records(out)
    assert [record["charged_micros"] for record in found if record["type"] == "usage"] == [100_000] * 20
    assert len({record["record"] for record in found}) == len(found)
    assert verify(out).problems == []


def _the_archiver(workers: Workers) -> Worker:
    """The one that works; waits until it has moved all that is there."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        working = [one for one in workers.servers if one.numbers()["archive_working"]]
        assert len(working) <= 1, "two archive at a time"
        if working and working[0].numbers()["outbox_events"] == 0:
            return working[0]
        time.sleep(0.05)
    raise AssertionError("nobody archives")


def test_a_server_that_stops_leaves_nothing_in_the_outbox(tmp_path: Path) -> None:
    with Server(tmp_path, "[archive]\ninterval_ms = 60000\n") as server:
        server.prepare()
        server.subscriber(1000)
        numbers = server.get("/v1/doctor")["numbers"]
        assert (numbers["archive_working"], numbers["outbox_admitting"]) == (1, 1)
    found = list(archived(ArchiveReader(tmp_path / "archive")))
    assert [one.currency for one in found] == [978, 978, 978]
    # And the command line reads them without a server.
    page = Home(tmp_path).ocs("ledger", "acc", "--json")
    assert [item["operation"] for item in json.loads(page[1])["items"]] == ["create", "topup", "subscriber add"]


def test_a_folder_of_another_store_is_a_problem_and_charging_goes_on(tmp_path: Path) -> None:
    usage_archive(tmp_path / "archive", 1)
    with Server(tmp_path, "[archive]\ninterval_ms = 10\n") as server:
        server.prepare()
        server.subscriber(1000)
        ends = time.monotonic() + 10
        while not (problems := server.get("/v1/doctor")["problems"]) and time.monotonic() < ends:
            time.sleep(0.02)
        assert len(problems) == 1
        assert problems[0].startswith("archive: ")
        assert problems[0].endswith("holds the archive of another store; name another folder")
        requests = Requests()
        with server.gateway() as gateway:
            assert gateway.exchange(requests.ccr(INITIAL, 0, "s", mscc(100, requested=[]))).code == 2001
        assert server.get("/v1/doctor")["numbers"]["outbox_events"] > 0
