"""Every command, over a server's socket and over the store in process: output, statuses, keys, and bad input."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocs.charging.account_operations import TopUp, top_up
from ocs.charging.operations import Order
from ocs.cli import connection
from ocs.cli.main import run
from ocs.config import Settings
from tests.support.charging_kit import CATALOGUE_PATH, MIB, report, want
from tests.support.operate_kit import KitRuntime, served, snapshot

SESSION = "gw1.example.net;1;2"


class Cli:
    """`ocs` in this process."""

    def __init__(self, runtime: KitRuntime, capsys: pytest.CaptureFixture[str]) -> None:
        self.runtime = runtime
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Status, standard output, standard error."""
        self._capsys.readouterr()
        status = run(arguments)
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    def json(self, *arguments: str) -> Any:
        """The document of a command that must succeed and say nothing else."""
        status, out, err = self.run(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    def ok(self, *arguments: str) -> str:
        """The output of a command that must succeed."""
        status, out, err = self.run(*arguments)
        assert (status, err) == (0, ""), err
        return out

    def fails(self, status: int, *arguments: str) -> str:
        """The one line on standard error of a command that must fail, having printed nothing else."""
        found, out, err = self.run(*arguments)
        assert (found, out) == (status, ""), err
        assert err.startswith("ocs: ")
        assert err.count("\n") == 1
        return err.removeprefix("ocs: ").rstrip("\n")


@pytest.fixture
def runtime() -> KitRuntime:
    """A runtime with an empty store."""
    return KitRuntime()


@pytest.fixture(params=["in process", "over the socket"])
def cli(
    request: pytest.FixtureRequest,
    runtime: KitRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Cli]:
    """The command line, either way."""
    monkeypatch.setenv("OCS_HOME", str(tmp_path))
    monkeypatch.delenv("OCS_CONFIG", raising=False)
    if request.param == "over the socket":
        with served(runtime, tmp_path / "ocs.sqlite.sock"):
            yield Cli(runtime, capsys)
        return

    async def open_runtime(settings: Settings) -> KitRuntime:
        return runtime

    monkeypatch.setattr(connection, "open_runtime", open_runtime)
    (tmp_path / "ocs.sqlite").touch()
    yield Cli(runtime, capsys)


@pytest.fixture
def account(cli: Cli) -> str:
    """An account with five euros and a subscriber, without the cost of three commands."""
    kit, order = cli.runtime.kit, Order("topup-a", "tester", "cash")
    kit.account("a", 0, msisdn="447700900123")
    kit.run(top_up(kit.engine, order, "a", TopUp(amount=5_000_000)))
    return "a"


# Changes


def test_an_account_lives_from_create_to_close(cli: Cli) -> None:
    created = cli.json("account", "create", "a", "--currency", "EUR", "--credit-limit", "2.50", "--reason", "new")
    assert (created["credit_limit_micros"], created["status"], created["repeated"]) == (2_500_000, "active", False)
    assert cli.json("account", "topup", "a", "5.00", "--reason", "cash")["balance_micros"] == 5_000_000
    assert cli.json("account", "adjust", "a", "-1.50", "--reason", "error")["balance_micros"] == 3_500_000
    assert cli.json("account", "suspend", "a", "--reason", "unpaid")["status"] == "suspended"
    assert cli.json("account", "resume", "a", "--reason", "paid")["status"] == "active"
    assert cli.json("account", "adjust", "a", "-3.5", "--reason", "paid out")["balance_micros"] == 0
    assert cli.json("account", "close", "a", "--reason", "left")["status"] == "closed"


def test_units_are_topped_up_with_an_end_and_a_purpose(cli: Cli, account: str) -> None:
    now_s = cli.runtime.now_us() // 1_000_000
    found = cli.json(
        *("account", "topup", "a", "15MiB", "--expires", "3600s", "--priority", "1", "--rating-group", "100"),
        *("--service-context", "32251@3gpp.org", "--reason", "bonus"),
    )
    assert found["buckets"][1] == {
        "bucket": 1,
        "kind": "octets",
        "posted": 15 * MIB,
        "reserved": 0,
        "free": 15 * MIB,
        "priority": 1,
        "valid_until_s": now_s + 3600,
        "service_context": "32251@3gpp.org",
        "rating_group": 100,
    }
    assert (
        cli.json("account", "adjust", "a", "-5MiB", "--bucket", "1", "--reason", "x")["buckets"][1]["free"] == 10 * MIB
    )
    assert cli.json("account", "topup", "a", "100min", "--reason", "x")["buckets"][2]["posted"] == 6000
    assert cli.json("account", "topup", "a", "50events", "--reason", "x")["buckets"][3]["posted"] == 50


def test_a_subscriber_lives_from_add_to_remove(cli: Cli, account: str) -> None:
    changed = cli.json("subscriber", "change", "sub-a", "--plan", "two", "--status", "suspended", "--reason", "x")
    assert (changed["plan"], changed["status"]) == ("two", "suspended")
    cli.ok("subscriber", "identity", "add", "sub-a", "imsi:234150000000001", "--reason", "new SIM")
    cli.ok("subscriber", "identity", "add", "sub-a", "--nai", "a/b@Example.NET", "--reason", "x")
    cli.ok("subscriber", "identity", "remove", "sub-a", "--msisdn", "+44 7700 900123", "--reason", "gave it back")
    # A name with a slash cannot stand in a path; it is found all the same.
    found = cli.json("subscriber", "show", "nai:a/b@example.net")
    assert found["subscriber"] == "sub-a"
    assert [one["value"] for one in found["identities"]] == ["234150000000001", "a/b@example.net"]
    cli.ok("subscriber", "remove", "imsi:234150000000001", "--reason", "left")
    assert cli.json("subscriber", "list") == {"items": [], "next": None}


def test_who_and_why_are_in_the_ledger(cli: Cli) -> None:
    me = getpass.getuser()
    cli.ok("account", "create", "a", "--currency", "EUR", "--reason", "new")
    cli.ok("account", "topup", "a", "5.00", "--reason", "cash", "--key", "topup-a")
    cli.ok("subscriber", "add", "s", "--account", "a", "--plan", "d10", "--reason", "also new")
    page = cli.json("ledger", "a")
    assert [(event["operation"], event["who"], event["reason"]) for event in page["items"]] == [
        ("create", me, "new"),
        ("topup", me, "cash"),
        ("subscriber add", me, "also new"),
    ]
    out = cli.ok("ledger", "a")
    for word in ("top up", "+5.00 EUR", "topup key topup-a", me, "cash"):
        assert word in out


def test_a_repeat_under_its_key_does_nothing_and_says_so(cli: Cli, account: str) -> None:
    before = snapshot(cli.runtime.kit)
    again = cli.ok("account", "topup", "a", "5.00", "--reason", "cash", "--key", "topup-a")
    assert "key: topup-a  (done before under this key; nothing changed now)" in again
    assert cli.json("account", "topup", "a", "5.00", "--reason", "cash", "--key", "topup-a")["repeated"] is True
    assert "used for another change" in cli.fails(
        1, "account", "topup", "a", "6.00", "--reason", "cash", "--key", "topup-a"
    )
    assert snapshot(cli.runtime.kit) == before


def test_a_key_is_made_and_printed(cli: Cli, account: str) -> None:
    out = cli.ok("account", "topup", "a", "1.00", "--reason", "x")
    key = out.rsplit("key: ", 1)[1].strip()
    assert cli.json("account", "topup", "a", "1.00", "--reason", "x", "--key", key)["repeated"] is True


# Looking


def test_tables_show_exact_amounts_with_their_currency(cli: Cli, account: str) -> None:
    cli.ok("account", "topup", "a", "15MiB", "--reason", "bonus")
    shown = cli.ok("account", "show", "a")
    for word in ("5.00 EUR", "15,728,640 octets (15 MiB)", "subscribers", "anything", "never"):
        assert word in shown
    assert "5.00 EUR" in cli.ok("account", "list")
    assert "e164:447700900123" in cli.ok("subscriber", "list")
    both = cli.ok("subscriber", "show", "447700900123")
    assert "d10" in both
    assert "5.00 EUR" in both


def test_lists_are_paged(cli: Cli) -> None:
    for name in ("a", "b", "c"):
        cli.ok("account", "create", name, "--currency", "EUR", "--reason", "x")
    status, out, err = cli.run("account", "list", "--limit", "2", "--json")
    page = json.loads(out)
    assert (status, err, len(page["items"])) == (0, "", 2)
    rest = cli.json("account", "list", "--limit", "2", "--cursor", page["next"])
    assert (len(rest["items"]), rest["next"]) == (1, None)
    status, _, err = cli.run("account", "list", "--limit", "2")
    assert (status, err) == (0, f"more: --cursor {page['next']}\n")
    whole = cli.json("account", "list", "--limit", "1", "--all")
    assert ([item["account"] for item in whole["items"]], whole["next"]) == (
        [item["account"] for item in page["items"] + rest["items"]],
        None,
    )


@pytest.fixture
def session(cli: Cli) -> str:
    """S02: 1.5 MiB and 0.5 MiB, at ten cents for each started MiB."""
    kit = cli.runtime.kit
    who = kit.account("a", 1000)
    kit.initial(who, want(), session=SESSION)
    kit.update(1, want(used=MIB + MIB // 2), session=SESSION)
    return SESSION


def test_sessions_are_listed_and_shown(cli: Cli, session: str) -> None:
    for filters in ((), ("--account", "a"), ("--peer", "gw1.example.net")):
        assert [one["session"] for one in cli.json("session", "list", *filters)["items"]] == [session]
    assert session in cli.ok("session", "list")
    shown = cli.ok("session", "show", session)
    for word in ("open", "gw1.example.net", "1,572,864 octets (1.5 MiB)", "10,485,760 octets (10 MiB)"):
        assert word in shown


def test_explain_tells_tariff_rounding_bucket_and_money(cli: Cli, session: str) -> None:
    cli.runtime.kit.terminate(2, report(used=MIB // 2), session=session)
    assert cli.json("explain", session)["account"] == "a"
    out = cli.ok("explain", session)
    first, second, third = out.split("\n\n")[1:]
    assert "initial #0: success" in first
    assert "granted 10,485,760 octets (10 MiB), 1.00 EUR reserved" in first
    assert "tariff D10 of catalogue version 1, 0.10 EUR per 1 MiB, in steps of 1 MiB" in second
    assert "in all 1,572,864 octets (1.5 MiB), rounded up to 2 started steps of 1,048,576 octets (1 MiB)" in second
    assert "0 of them paid before: 0.20 EUR" in second
    assert "bucket 0: 10.00 EUR -> 9.80 EUR" in second
    assert "rounded up to 2 started steps of 1,048,576 octets (1 MiB), 2 of them paid before: 0.00 EUR" in third
    assert "the session is closed: termination" in third


def test_explain_tells_why_something_was_refused(cli: Cli) -> None:
    kit = cli.runtime.kit
    who = kit.account("a", 30)
    kit.initial(who, want(), want(400), session=SESSION)
    kit.update(1, want(used=4 * MIB), session=SESSION)
    out = cli.ok("explain", SESSION)
    assert "rating group 400: service_denied: the plan bars this key" in out
    assert "the final one: the money ends here" in out
    assert "beyond the grant: 1,048,576 octets (1 MiB), 0.10 EUR of the charge" in out
    assert "rating group 100: credit_limit_reached" in out
    assert "bucket 0: 0.30 EUR -> -0.10 EUR" in out


def test_the_catalogue_is_checked_activated_and_shown(cli: Cli, tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text(CATALOGUE_PATH.read_text().replace('name = "kit"', 'name = "new"', 1))
    assert "0.10 EUR per 1 MiB" in cli.ok("catalogue", "check", str(good))
    assert cli.json("catalogue", "check", str(good))["name"] == "new"
    assert cli.json("catalogue", "show")["name"] == "kit"
    assert "is active" in cli.ok("catalogue", "activate", str(good), "--reason", "prices")
    assert "new, version" in cli.ok("catalogue", "show")


def test_every_problem_of_a_catalogue_has_its_line(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('name = "x"\nfoo = 1\nbar = 2\n')
    for command in (("check", str(bad)), ("activate", str(bad), "--reason", "x")):
        status, out, err = cli.run("catalogue", *command)
        assert (status, out) == (2, "")
        lines = err.splitlines()
        assert len(lines) >= 2
        assert all(line.startswith(f"ocs: {bad}:") for line in lines)


def test_doctor_succeeds_when_all_is_well_and_fails_when_something_is_wrong(cli: Cli) -> None:
    found = cli.json("doctor")
    assert (found["problems"], found["state"]["store"]["engine"]) == ([], "memory")
    assert found["installation"]["cython_ext._avp"]
    out = cli.ok("doctor")
    for word in ("installation", "store", "configuration", "127.0.0.1:3868", "no problem found"):
        assert word in out
    cli.runtime.wrong.append("the disk is full")
    status, out, _ = cli.run("doctor")
    assert status == 1
    assert "problem: the disk is full" in out
    status, out, _ = cli.run("doctor", "--json")
    assert (status, json.loads(out)["problems"]) == (1, ["the disk is full"])


# Bad input

REASON = ("--reason", "x")
BAD = [
    (2, ("account", "topup", "a", "5.00"), "Missing option '--reason'"),
    (2, ("account", "topup", "a", "5.00", "--reason", ""), "reason: "),
    (2, ("account", "topup", "a", "5.00", "--reason", " "), "reason: "),
    (2, ("account", "topup", "a", "5.00", "--reason", "a\nb"), "reason: "),
    (2, ("account", "topup", "a", "5.00", *REASON, "--key", ""), "key: "),
    (2, ("account", "topup", "a", "abc", *REASON), "amount: unknown unit 'abc'"),
    (2, ("account", "topup", "a", "0", *REASON), "amount: '0', expected an amount above zero"),
    (2, ("account", "topup", "a", "0.0000001", *REASON), "amount: "),
    (2, ("account", "topup", "a", "5.00", "--expires", "soon", *REASON), "expires: 'soon'"),
    (2, ("account", "topup", "a", "5.00", "--expires", "2001-01-01", *REASON), "expires: expected a time to come"),
    (2, ("account", "topup", "a", "5.00", "--rating-group", "-1", *REASON), "--rating-group"),
    (2, ("account", "topup", "a", "5.00", "--rating-group", "4294967296", *REASON), "rating_group: "),
    (2, ("account", "topup", "a", "5.00", "--nothing", *REASON), "--nothing"),
    (2, ("account", "topup", "a", *REASON), "Missing argument 'AMOUNT'"),
    (1, ("account", "topup", "none", "5.00", *REASON), "account: no account 'none'"),
    (1, ("account", "topup", "a/b", "5.00", *REASON), "nothing is named 'a/b'"),
    (1, ("account", "show", ".."), "nothing is named '..'"),
    (2, ("account", "adjust", "a", "0", *REASON), "amount: "),
    (1, ("account", "adjust", "a", "-5.01", *REASON), "amount: only 5.00 of bucket 0 is free"),
    (1, ("account", "adjust", "a", "1", "--bucket", "7", *REASON), "bucket: account 'a' has no bucket 7"),
    (2, ("account", "adjust", "a", "1KiB", *REASON), "amount: bucket 0 holds money, not octets"),
    (1, ("account", "create", "a", "--currency", "EUR", *REASON), "account: account 'a' exists already"),
    (2, ("account", "create", "b", *REASON), "Missing option '--currency'"),
    (2, ("account", "create", "b", "--currency", "XXX", *REASON), "currency: 'XXX'"),
    (2, ("account", "create", "b", "--currency", "EUR", "--credit-limit", "-1", *REASON), "credit-limit: "),
    (2, ("account", "create", "b", "--currency", "EUR", "--credit-limit", "x", *REASON), "credit-limit: "),
    (2, ("account", "create", "b c", "--currency", "EUR", *REASON), "account: 'b c'"),
    (2, ("account", "create", "b/c", "--currency", "EUR", *REASON), "account: 'b/c'"),
    (1, ("account", "close", "a", *REASON), "account: buckets 0 are not empty"),
    (1, ("account", "suspend", "none", *REASON), "account: no account 'none'"),
    (2, ("subscriber", "add", "t", "--account", "a", "--plan", "none", *REASON), "plan: no plan 'none'"),
    (1, ("subscriber", "add", "t", "--account", "none", "--plan", "d10", *REASON), "account: no account 'none'"),
    (2, ("subscriber", "add", "t", "--account", "a", "--plan", "d10", "--msisdn", "x", *REASON), "identity: 'x'"),
    (2, ("subscriber", "add", "t", "--account", "a", "--plan", "d10", "--identity", "x", *REASON), "identity: 'x'"),
    (2, ("subscriber", "change", "sub-a", *REASON), "plan: nothing to change"),
    (2, ("subscriber", "change", "sub-a", "--status", "closed", *REASON), "status: 'closed'"),
    (1, ("subscriber", "change", "none", "--plan", "two", *REASON), "subscriber: no subscriber 'none'"),
    (2, ("subscriber", "identity", "add", "sub-a", *REASON), "identity: 0 given"),
    (2, ("subscriber", "identity", "add", "sub-a", "e164:1", "--imsi", "2", *REASON), "identity: 2 given"),
    (
        1,
        ("subscriber", "identity", "remove", "sub-a", "e164:1", *REASON),
        "identity: subscriber 'sub-a' has no identity",
    ),
    (1, ("subscriber", "remove", "none", *REASON), "subscriber: no subscriber 'none'"),
    (1, ("session", "show", "none"), "session: no session 'none'"),
    (1, ("explain", "none"), "session: no session 'none'"),
    (2, ("session", "list", "--account", "a", "--peer", "b"), "peer: "),
    (1, ("ledger", "none"), "account: no account 'none'"),
    (2, ("account", "list", "--limit", "0"), "--limit"),
    (2, ("account", "list", "--cursor", "x"), "cursor: "),
    (2, ("catalogue", "check", "/nonexistent/c.toml"), "/nonexistent/c.toml: No such file"),
    (2, ("catalogue", "activate", "/nonexistent/c.toml", *REASON), "/nonexistent/c.toml: No such file"),
    (2, ("account", "nothing"), "No such command 'nothing'"),
    (2, ("account", "list", "--config", "/nonexistent/ocs.toml"), "/nonexistent/ocs.toml: cannot be read"),
]


@pytest.mark.parametrize("cli", ["over the socket"], indirect=True)
def test_bad_input_over_the_socket_is_one_line_and_changes_nothing(cli: Cli, account: str) -> None:
    before = snapshot(cli.runtime.kit)
    for status, arguments, told in BAD:
        assert told in cli.fails(status, *arguments)
        assert snapshot(cli.runtime.kit) == before, arguments


@pytest.mark.parametrize("cli", ["in process"], indirect=True)
@pytest.mark.parametrize(("status", "arguments", "told"), BAD, ids=[" ".join(one[1]) for one in BAD])
def test_bad_input_is_one_line_and_changes_nothing(
    cli: Cli, account: str, status: int, arguments: tuple[str, ...], told: str
) -> None:
    before = snapshot(cli.runtime.kit)
    assert told in cli.fails(status, *arguments)
    assert snapshot(cli.runtime.kit) == before


def test_an_identity_of_another_is_refused(cli: Cli, account: str) -> None:
    message = cli.fails(
        1, "subscriber", "add", "t", "--account", "a", "--plan", "d10", "--msisdn", "447700900123", *REASON
    )
    assert message == "identity: e164:447700900123 belongs to subscriber 'sub-a'"
    assert len(cli.json("subscriber", "list")["items"]) == 1


# What scripts rely on

ACCOUNT_FIELDS = {
    *("account", "status", "currency", "currency_code", "exponent", "credit_limit_micros", "balance_micros"),
    *("reserved_micros", "available_micros", "open_sessions", "created_s", "buckets"),
}
BUCKET_FIELDS = {
    *("bucket", "kind", "posted", "reserved", "free", "priority", "valid_until_s", "service_context", "rating_group"),
}
SUBSCRIBER_FIELDS = {"subscriber", "account", "plan", "status", "identities", "created_s"}
EVENT_FIELDS = {
    *("schema", "account", "version", "n", "at_us", "kind", "entries", "usage", "session_id", "request", "subscriber"),
    *("peer", "service_context", "event_time_us", "result", "operation", "key", "who", "reason", "close_cause"),
}
ENTRY_FIELDS = {
    *(
        "bucket",
        "kind",
        "verb",
        "cause",
        "posted_change",
        "reserved_change",
        "posted_after",
        "reserved_after",
        "amount",
    ),
}
USAGE_FIELDS = {
    *("rating_group", "service_identifiers", "result", "why", "catalogue_version", "tariff", "unit", "used", "billed"),
    *("from_buckets", "money_units", "money_units_total", "debited_micros", "over_use_micros", "over_use_units"),
    *("granted", "reserved_micros", "final", "unrated"),
}
SESSION_FIELDS = {
    *("session", "state", "close_cause", "account", "subscriber", "peer", "service_context", "plan"),
    *("catalogue_version", "opened_s", "closed_s", "deadline_s", "cost_micros", "keys"),
}


def test_json_documents_keep_their_fields(cli: Cli, session: str) -> None:
    account = cli.json("account", "show", "a")
    assert set(account) >= {*ACCOUNT_FIELDS, "subscribers"}
    assert set(account["buckets"][0]) >= BUCKET_FIELDS
    change = cli.json("account", "topup", "a", "1", "--reason", "x")
    assert set(change) >= {*ACCOUNT_FIELDS, "key", "repeated"}
    assert set(cli.json("subscriber", "show", "sub-a")) >= {*SUBSCRIBER_FIELDS, "balance"}
    assert set(cli.json("session", "show", session)) >= SESSION_FIELDS
    ledger = cli.json("ledger", "a")
    assert set(ledger) >= {"account", "currency_code", "exponent", "items", "next"}
    assert all(set(event) >= EVENT_FIELDS for event in ledger["items"])
    assert all(set(entry) >= ENTRY_FIELDS for event in ledger["items"] for entry in event["entries"])
    explained = cli.json("explain", session)
    assert set(explained) >= {"session", "account", "summary", "events", "currency_code", "exponent", "tariffs"}
    assert all(set(line) >= USAGE_FIELDS for event in explained["events"] for line in event["usage"])
    doctor = cli.json("doctor")
    assert set(doctor) >= {"installation", "server", "state", "warnings", "problems"}


def test_output_in_a_pipe_has_no_colours(cli: Cli, session: str) -> None:
    for command in (("account", "show", "a"), ("ledger", "a"), ("explain", session), ("doctor",)):
        assert "\x1b" not in cli.ok(*command)
