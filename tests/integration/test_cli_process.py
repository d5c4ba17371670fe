"""The command `ocs` as processes over one SQLite file: with a server, without, and when one of them was killed."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balance.sqlite_store import SqliteStore
from ocs.cli import connection
from ocs.cli.main import run
from tests.support.charging_kit import CATALOGUE_PATH

OCS = (sys.executable, "-m", "ocs.cli.main")
ROOT = Path(__file__).parents[2]
START_S = 20.0
HELP_CPU_S = 0.5
REASON = ("--reason", "a test")


class Home:
    """A home folder with its configuration, and `ocs` in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = path / "ocs.sqlite.sock"
        (path / "ocs.toml").write_text('[diameter]\nlisten = "127.0.0.1"\nport = 0\n[store]\npartitions = 4\n')
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OCS_CONFIG")}
        self.environment = {**kept, "OCS_HOME": str(path), "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command."""
        return subprocess.run(
            (*OCS, *arguments), env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def json(self, *arguments: str) -> Any:
        """The document of a command that must succeed."""
        found = self.run(*arguments, "--json")
        assert (found.returncode, found.stderr) == (0, "")
        return json.loads(found.stdout)

    @contextlib.contextmanager
    def serving(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A server, stopped at the end."""
        with (self.path / "server.log").open("w") as log:
            server = subprocess.Popen((*OCS, "serve", *options), env=self.environment, stderr=log, text=True)
        try:
            ends = time.monotonic() + START_S
            while not connection.answers(self.socket):
                assert server.poll() is None, (self.path / "server.log").read_text()
                assert time.monotonic() < ends
                time.sleep(0.02)
            yield server
        finally:
            if server.poll() is None:
                server.terminate()
            server.wait(START_S)

    def dump(self) -> list[str]:
        """Everything in the store's file."""
        with contextlib.closing(sqlite3.connect(self.path / "ocs.sqlite")) as db:
            return list(db.iterdump())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home folder without a store."""
    return Home(tmp_path)


def test_a_store_is_provisioned_before_the_first_start_and_served_then(home: Home) -> None:
    assert home.json("catalogue", "activate", str(CATALOGUE_PATH), *REASON)["version"] == 1
    home.json("account", "create", "a", "--currency", "EUR", *REASON)
    home.json("account", "topup", "a", "5.00", "--key", "k", *REASON)
    with home.serving() as server:
        # The repeat of a change that was made without a server, now asked of one.
        assert home.json("account", "topup", "a", "5.00", "--key", "k", *REASON)["repeated"] is True
        home.json("subscriber", "add", "s", "--account", "a", "--plan", "d10", "--msisdn", "447700900123", *REASON)
        assert home.json("account", "show", "a")["balance_micros"] == 5_000_000
        doctor = home.json("doctor")
        assert doctor["server"]["running"] is True
        assert doctor["state"]["store"]["level"] == "safe"
        assert {one["name"] for one in doctor["state"]["listeners"]} == {"control", "diameter"}
        server.send_signal(signal.SIGTERM)
        assert server.wait(START_S) == 0
    assert not home.socket.exists()
    assert home.json("subscriber", "show", "447700900123")["subscriber"] == "s"
    assert [event["operation"] for event in home.json("ledger", "a")["items"]] == ["create", "topup", "subscriber add"]


def test_a_second_server_is_refused_in_one_line(home: Home) -> None:
    with home.serving():
        second = home.run("serve")
        assert second.returncode == 3
        assert second.stderr.splitlines()[-1].startswith("ocs: ")
        assert "held by another process" in second.stderr
        assert home.json("account", "list")["items"] == []


def test_a_killed_server_leaves_a_socket_that_disturbs_nobody(home: Home) -> None:
    with home.serving() as server:
        home.json("account", "create", "a", "--currency", "EUR", *REASON)
        server.kill()
        server.wait(START_S)
    assert home.socket.exists()
    assert [one["account"] for one in home.json("account", "list")["items"]] == ["a"]
    with home.serving():
        assert [one["account"] for one in home.json("account", "list")["items"]] == ["a"]


def test_time_is_stepped_only_with_a_test_clock(home: Home) -> None:
    import httpx

    def step() -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(home.socket)), base_url="http://ocs") as client:
            return client.post("/v1/clock/advance", json={"seconds": 3600})

    with home.serving():
        assert step().status_code == 409
    with home.serving("--test-clock"):
        home.json("account", "create", "a", "--currency", "EUR", *REASON)
        home.json("account", "topup", "a", "7events", "--expires", "1h", *REASON)
        answer = step()
        assert (answer.status_code, answer.json()["swept"]) == (200, 1)
        assert [bucket["bucket"] for bucket in home.json("account", "show", "a")["buckets"]] == [0]


def test_bad_input_changes_nothing_in_the_file(home: Home) -> None:
    home.json("account", "create", "a", "--currency", "EUR", *REASON)
    before = home.dump()
    for status, arguments in (
        (2, ("account", "topup", "a", "1.1.1", *REASON)),
        (2, ("account", "topup", "a", "5.00")),
        (1, ("account", "topup", "none", "5.00", *REASON)),
        (1, ("account", "adjust", "a", "-1", *REASON)),
        (2, ("account", "adjust", "a", "1s", *REASON)),
        (1, ("account", "create", "a", "--currency", "EUR", *REASON)),
    ):
        found = home.run(*arguments)
        assert (found.returncode, found.stdout) == (status, ""), found.stderr
        assert found.stderr.count("\n") == 1
    assert home.dump() == before


def test_commands_side_by_side_wait_for_each_other(home: Home) -> None:
    home.json("account", "create", "a", "--currency", "EUR", *REASON)
    topup = (*OCS, "account", "topup", "a", "1.00", *REASON)
    running = [
        subprocess.Popen(topup, env=home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for one in running:
        _, errors = one.communicate(timeout=60)
        assert (one.returncode, errors) == (0, b"")
    assert home.json("account", "show", "a")["balance_micros"] == 3_000_000


def test_a_store_that_is_not_there_is_not_made_by_looking(home: Home) -> None:
    found = home.run("account", "list")
    assert (found.returncode, found.stdout) == (3, "")
    assert "there is no store" in found.stderr
    assert not (home.path / "ocs.sqlite").exists()
    assert home.json("doctor")["warnings"] == [
        f"there is no store {home.path}/ocs.sqlite yet; the first change makes it"
    ]


def test_a_store_that_cannot_be_used_is_status_3(home: Home) -> None:
    (home.path / "ocs.sqlite").write_text("this is no database, and it is long enough to be seen as none" * 20)
    for arguments in (("account", "list"), ("serve",)):
        found = home.run(*arguments)
        assert (found.returncode, found.stdout) == (3, ""), found.stderr
        assert found.stderr.splitlines()[-1].startswith("ocs: ")
    assert home.run("doctor").returncode == 1


def test_mistakes_in_the_configuration_are_status_2_and_a_problem_for_doctor(home: Home) -> None:
    (home.path / "ocs.toml").write_text("[store]\npartitions = 0\nx = 1\n")
    for arguments in (("account", "list"), ("serve",)):
        found = home.run(*arguments)
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr.splitlines() == [
            f"ocs: {home.path}/ocs.toml:2: store.partitions: 0: expected `int` >= 1",
            f"ocs: {home.path}/ocs.toml:3: store.x: unknown field",
        ]
    doctor = home.run("doctor", "--json")
    assert (doctor.returncode, len(json.loads(doctor.stdout)["problems"])) == (1, 2)


def test_a_store_held_by_something_that_does_not_answer_is_status_3(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCS_HOME", str(home.path))
    monkeypatch.setattr(connection, "WAIT_S", 0.05)
    store = SqliteStore(home.path / "ocs.sqlite", lambda: 0, partitions=4)
    try:
        assert run(["account", "list"]) == 3
    finally:
        store.close()
    assert f"held by another process (pid {os.getpid()})" in capsys.readouterr().err


def test_a_pipe_that_is_closed_ends_a_command_quietly(home: Home) -> None:
    home.json("account", "create", "a", "--currency", "EUR", *REASON)
    found = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m ocs.cli.main ledger a --json | true"],
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_help_is_there_at_once(home: Home) -> None:
    def cpu_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert home.run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor time, not time on the wall: other work on the machine is no fault of the command.
    assert min(cpu_s() for _ in range(3)) < HELP_CPU_S


def test_every_command_has_help(home: Home) -> None:
    for command in ("serve", "doctor", "demo", "ledger", "explain", "account", "subscriber", "catalogue", "session"):
        found = home.run(command, "--help")
        assert (found.returncode, found.stderr) == (0, ""), command
        assert "Usage: ocs" in found.stdout


def test_a_server_that_goes_away_leaves_the_key_with_which_to_repeat(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCS_HOME", str(home.path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(home.socket))
        listener.listen()

        def hang_up() -> None:
            # The first connection only asks whether somebody listens; the second one brings the change.
            for _ in range(2):
                listener.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        assert run(["account", "topup", "a", "5.00", "--reason", "x", "--key", "k1"]) == 3
        thread.join(START_S)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ocs: the server went away: ")
    assert captured.err.endswith("; repeat with --key k1 to learn whether the change was made\n")
