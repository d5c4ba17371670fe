"""`ocs import` as a process: with a server and without, on SQLite and Redis, killed anywhere and run again."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import Books, audit
from tests.support.charging_kit import CATALOGUE_PATH
from tests.support.import_kit import SqliteBooks, content, write_balances, write_subscribers
from tests.support.processes import DYING_WITH_THE_TEST
from tests.support.redis_books import RedisBooks
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
OCS = (*DYING_WITH_THE_TEST, sys.executable, "-m", "ocs.cli.main")
START_S = 20.0
PAGE = ROOT / "docs" / "operate" / "import.md"
DEMO_CATALOGUE = ROOT / "ocs" / "demo" / "catalogue.toml"


class Home:
    """A home folder with a catalogue, and `ocs` in it."""

    def __init__(self, path: Path, redis: RedisServer | None = None, catalogue: Path = CATALOGUE_PATH) -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.redis = redis
        store = "" if redis is None else f'engine = "redis"\nurl = "{redis.url}"\n'
        config = f'[diameter]\nlisten = "127.0.0.1"\nport = 0\n[store]\npartitions = 8\n{store}'
        (path / "ocs.toml").write_text(config)
        self.environment = {
            **os.environ,
            "OCS_HOME": str(path),
            "OCS_CONFIG": str(path / "ocs.toml"),
            "PYTHONPATH": str(ROOT),
        }
        self.run(0, "catalogue", "activate", str(catalogue), "--reason", "a test", "--key", "catalogue")

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """A command that runs."""
        command = (*OCS, *map(str, arguments))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment, cwd=self.path, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def run(self, status: int, *arguments: str | Path) -> tuple[str, str]:
        """Standard output and error of a command that ends with a status."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=100)
        assert process.returncode == status, err
        return out, err

    def summary(self, status: int, kind: str, *arguments: str | Path) -> dict[str, Any]:
        """What an import says of itself."""
        found: dict[str, Any] = json.loads(self.run(status, "import", kind, *arguments, "--json")[0])
        return found

    def json(self, *arguments: str) -> Any:
        """The document of a command that must succeed."""
        return json.loads(self.run(0, *arguments, "--json")[0])

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """A server, stopped at the end."""
        with (self.path / "server.log").open("a") as log:
            server = subprocess.Popen((*OCS, "serve"), env=self.environment, stderr=log)
        try:
            ends = time.monotonic() + START_S
            while not self._answers():
                assert server.poll() is None, (self.path / "server.log").read_text()
                assert time.monotonic() < ends
                time.sleep(0.05)
            yield server
        finally:
            if server.poll() is None:
                server.terminate()
            server.wait(START_S)

    def _answers(self) -> bool:
        status = self.start("status")
        status.communicate(timeout=START_S)
        return status.returncode == 0

    def books(self) -> Books:
        """What the store holds; nobody works on it."""
        return SqliteBooks(self.path) if self.redis is None else RedisBooks(self.redis, self.path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def numbers(summary: dict[str, Any]) -> tuple[int, int, int]:
    return summary["applied"], summary["repeated"], summary["refused"]


# What it does


@pytest.mark.parametrize("served", [False, True], ids=["alone", "with a server"])
def test_good_rows_are_applied_and_each_bad_one_is_told_once(home: Home, served: bool, tmp_path: Path) -> None:
    subscribers, balances = tmp_path / "s.csv", tmp_path / "b.csv"
    wrong, wrong_balances = write_subscribers(subscribers, 400), write_balances(balances, 300, 100)
    with home.serving() if served else contextlib.nullcontext():
        out, err = home.run(1, "import", "subscribers", subscribers, "--json")
        assert numbers(json.loads(out)) == (400 - wrong, 0, wrong)
        told = re.findall(rf"^{re.escape(str(subscribers))}:(\d+): (\w+): '(.+?)': (.+)$", err, re.MULTILINE)
        expected = {i + 2: "plan" if i % 51 == 50 else "imsi" for i in range(400) if i % 51 in (1, 50)}
        assert {int(line): column for line, column, _, _ in told} == expected
        assert len(err.splitlines()) == wrong
        assert numbers(home.summary(1, "balances", balances)) == (300 - wrong_balances, 0, wrong_balances)
        found = home.json("account", "show", "a0")
        ledger = home.json("ledger", "a0", "--all")["items"]
        money = sum(e["posted_change"] for one in ledger for e in one["entries"] if e["kind"] == "money")
        assert found["balance_micros"] == money == _money_of_a0(subscribers, balances)
    audit(home.books())


def _money_of_a0(subscribers: Path, balances: Path) -> int:
    with subscribers.open() as file:
        opened = next(row["balance"] for row in csv.DictReader(file) if row["account"] == "a0")
    with balances.open() as file:
        rows = [row["amount"] for row in csv.DictReader(file) if row["account"] == "a0"]
    cents = [int(text.replace(".", "")) for text in (opened, *rows) if not text.endswith("MiB") and text != "-5000.00"]
    return sum(cents) * 10_000


@pytest.mark.parametrize("served", [False, True], ids=["alone", "with a server"])
def test_a_dry_run_finds_what_the_run_finds_and_changes_nothing(home: Home, served: bool, tmp_path: Path) -> None:
    subscribers, balances = tmp_path / "s.csv", tmp_path / "b.csv"
    write_subscribers(subscribers, 300)
    write_subscribers(tmp_path / "first.csv", 150, broken=False)
    write_balances(balances, 1200, 50)
    with home.serving() if served else contextlib.nullcontext():
        home.run(0, "import", "subscribers", tmp_path / "first.csv")
        for kind, path in (("subscribers", subscribers), ("balances", balances)):
            before = home.json("account", "list", "--all")
            _, dry = home.run(1, "import", kind, path, "--dry-run")
            assert home.json("account", "list", "--all") == before
            _, wet = home.run(1, "import", kind, path)
            assert dry == wet, "the dry run told other errors"
            assert len(dry.splitlines()) > 10
    audit(home.books())


def test_a_dry_run_writes_no_document(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    write_subscribers(path, 100)
    before = content(home.books())
    home.run(1, "import", "subscribers", path, "--dry-run")
    assert content(home.books()) == before


def test_refused_rows_are_corrected_and_imported(home: Home, tmp_path: Path) -> None:
    path, errors = tmp_path / "s.csv", tmp_path / "s.csv.errors.csv"
    wrong = write_subscribers(path, 120)
    path.write_text(path.read_text() + "x1,x1,d10,EUR,,1.00,12x,,\n")
    assert numbers(home.summary(1, "subscribers", path)) == (120 - wrong, 0, wrong + 1)
    with errors.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["error_column"] for row in rows].count("plan") == 2
    for row in rows:
        row["plan"] = "d10"
        row["imsi"] = row["imsi"] + "9" if row["error_column"] == "imsi" else row["imsi"]
        row["msisdn"] = row["msisdn"].removesuffix("x")
    with errors.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    assert numbers(home.summary(0, "subscribers", errors)) == (wrong + 1, 0, 0)
    assert numbers(home.summary(0, "subscribers", errors)) == (0, wrong + 1, 0)
    # The row that could not be read, corrected in the file itself, is the same row under the same import.
    path.write_text(path.read_text().replace(",12x,", ",12,"))
    again = home.summary(1, "subscribers", path, "--key", "s.csv")
    assert numbers(again) == (0, 120 - wrong + 1, wrong)
    audit(home.books())


def test_another_file_of_the_same_name_is_asked_about(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "top-ups.csv"
    home.run(0, "account", "create", "a", "--currency", "EUR", "--reason", "a test")
    path.write_text("account,amount\na,5.00\na,5.00\n")
    assert numbers(home.summary(0, "balances", path)) == (2, 0, 0)
    _, err = home.run(0, "import", "balances", path)
    assert "imported before" in err
    path.write_text("account,amount\na,5.00\n")
    _, err = home.run(1, "import", "balances", path)
    assert "another file was imported under the name 'top-ups.csv'" in err
    assert numbers(home.summary(0, "balances", path, "--key", "top-ups.csv")) == (0, 1, 0)
    assert numbers(home.summary(0, "balances", path, "--key", "april")) == (1, 0, 0)
    assert home.json("account", "show", "a")["balance_micros"] == 15_000_000


@pytest.mark.parametrize("served", [False, True], ids=["alone", "with a server"])
def test_an_import_stops_at_the_first_refused_row(home: Home, served: bool, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    rows = [f"s{i},{'d10' if i != 50 else 'none'},EUR" for i in range(100)]
    path.write_text("\n".join(["subscriber,plan,currency", *rows]))
    with home.serving() if served else contextlib.nullcontext():
        found = home.summary(1, "subscribers", path, "--stop-on-error")
        assert (numbers(found), found["stopped"]) == ((50, 0, 1), True)
        assert len(home.json("subscriber", "list", "--all")["items"]) == 50
        path.write_text(path.read_text().replace("none", "d10"))
        assert numbers(home.summary(0, "subscribers", path, "--stop-on-error", "--key", "s.csv")) == (50, 50, 0)


def test_bad_usage_is_told_and_changes_nothing(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("subscriber,plan,colour\n")
    assert "unknown column 'colour'" in home.run(2, "import", "subscribers", path)[1]
    assert "No such file" in home.run(2, "import", "subscribers", tmp_path / "none.csv")[1]
    path.write_text("subscriber,plan\n")
    assert "key: 'a/b'" in home.run(2, "import", "subscribers", path, "--key", "a/b")[1]
    assert numbers(home.summary(0, "subscribers", path)) == (0, 0, 0)


# Killed and run again


@pytest.mark.parametrize("engine", ["sqlite", "redis"])
def test_an_import_that_is_killed_again_and_again_is_done_once(
    engine: str, tmp_path: Path, private_redis: RedisServer
) -> None:
    """SIGKILL at moments drawn from the time that a whole run takes; then the store is that of an uninterrupted run."""
    subscribers, balances = tmp_path / "s.csv", tmp_path / "b.csv"
    count, wanted = 1500, {}
    wrong = {"subscribers": write_subscribers(subscribers, count), "balances": write_balances(balances, count, 500)}
    files = {"subscribers": subscribers, "balances": balances}
    redis = private_redis if engine == "redis" else None
    whole = Home(tmp_path / "whole", redis)
    for kind, path in files.items():
        began = time.monotonic()
        assert numbers(whole.summary(1, kind, path)) == (count - wrong[kind], 0, wrong[kind])
        wanted[kind] = time.monotonic() - began
    expected = content(whole.books())
    if redis is not None:
        with redis.client() as client:
            client.flushall()
    killed = Home(tmp_path / "killed", redis)
    dice = random.Random(1)
    for kind, path in files.items():
        cut = 0
        for _ in range(4):
            process = killed.start("import", kind, path)
            time.sleep(wanted[kind] * dice.uniform(0.35, 0.95))
            cut += process.poll() is None
            process.kill()
            process.communicate()
        assert cut, "no run was interrupted"
        applied, repeated, refused = numbers(killed.summary(1, kind, path))
        assert (applied + repeated, refused) == (count - wrong[kind], wrong[kind])
        assert repeated, "no run was killed in the middle"
    books = killed.books()
    audit(books)
    assert content(books) == expected


def test_an_import_goes_on_by_itself_when_its_server_was_killed(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    write_subscribers(path, 2500, broken=False)
    with home.serving() as server:
        process = home.start("import", "subscribers", path, "--json")
        time.sleep(1.2)
        assert process.poll() is None, "the import was over before the server was killed"
        server.kill()
        server.wait(START_S)
    with home.serving():
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert "trying again" in err
    found = json.loads(out)
    assert found["applied"] + found["repeated"] == 2500
    books = home.books()
    audit(books)
    whole = Home(tmp_path / "whole")
    whole.run(0, "import", "subscribers", path)
    assert content(books) == content(whole.books())


# Speed, and what the server does meanwhile


@pytest.mark.parametrize("engine", ["sqlite", "redis"])
def test_five_thousand_rows_are_imported_in_seconds(engine: str, tmp_path: Path, redis_server: RedisServer) -> None:
    """A fifth of the speed that 100,000 rows a minute need; `make soak` runs the whole (tests/support/import_soak.py)."""
    home = Home(tmp_path / "home", redis_server if engine == "redis" else None)
    path = tmp_path / "s.csv"
    write_subscribers(path, 5000, broken=False)
    with home.serving():
        found = home.summary(0, "subscribers", path)
    assert numbers(found) == (5000, 0, 0)
    assert found["seconds"] < 15


def test_a_server_goes_on_answering_during_an_import(home: Home, tmp_path: Path) -> None:
    """Each look at an account waits behind one bundle of rows at most, which takes milliseconds."""
    import httpx

    path = tmp_path / "s.csv"
    write_subscribers(path, 3000, broken=False)
    waits = []
    with home.serving():
        transport = httpx.HTTPTransport(uds=str(home.path / "ocs.sqlite.sock"))
        with httpx.Client(transport=transport, base_url="http://ocs") as client:
            process = home.start("import", "subscribers", path)
            while process.poll() is None:
                began = time.perf_counter()
                assert client.get("/v1/health").status_code == 200
                waits.append(time.perf_counter() - began)
                time.sleep(0.005)
            process.communicate()
    waits.sort()
    assert len(waits) > 100
    assert waits[len(waits) // 2] < 0.02
    assert waits[len(waits) * 99 // 100] < 0.1


# The page


def test_the_examples_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", catalogue=DEMO_CATALOGUE)
    text = PAGE.read_text(encoding="utf-8")
    subscribers, balances = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (home.path / "subscribers.csv").write_text(subscribers)
    (home.path / "top-ups.csv").write_text(balances)
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for line in commands.splitlines():
        home.run(0, *shlex.split(line)[1:])
    shown = {name: home.json("account", "show", name) for name in ("miller", "eve")}
    assert [shown[name]["balance_micros"] for name in shown] == [15_000_000, 10_000_000]
    assert [bucket["posted"] for bucket in shown["miller"]["buckets"][1:]] == [500 * 2**20]
    assert shown["miller"]["credit_limit_micros"] == 20_000_000
    assert home.json("subscriber", "show", "447700900103")["subscriber"] == "ben"
    (home.path / "subscribers.csv").write_text(subscribers.replace("ben,miller,standard", "dan,miller,gold"))
    _, err = home.run(1, "import", "subscribers", "subscribers.csv", "--key", "other", "--dry-run")
    (told,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert told.strip() in err
