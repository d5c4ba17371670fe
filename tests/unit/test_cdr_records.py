"""What stands in a charging data record, and that records together tell every change of a balance."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from balance.account import BucketKind
from balance.ledger import Cause, Entry, Event, UsageLine, Verb
from ocs.archive.cdr_form import decode, encode, heading
from ocs.archive.cdr_records import COLUMNS, Record, RecordMaker, utc_text
from ocs.charging import queries
from ocs.charging.requests import EventAction, QuotaKey, ServiceRequest, Units
from tests.support.archive_kit import ArchiveKit
from tests.support.cdr_kit import new_event, usage_event
from tests.support.charging_kit import MIB, START_US, Kit, messages, report, want
from tests.support.charging_world import World

PAGE = Path(__file__).parents[2] / "docs" / "operate" / "archive.md"


def records_of(archive: ArchiveKit, maker: RecordMaker | None = None) -> list[Record]:
    """The records of everything in an archive, fields that do not apply left out."""
    maker = maker or RecordMaker(archive.reader.session_before)
    found = [record for one in archive.archived() for record in maker.records(one)[1]]
    assert maker.mismatches == 0
    return [{name: value for name, value in record.items() if value is not None} for record in found]


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveKit:
    return ArchiveKit(Kit(), tmp_path / "archive")


def only(records: list[Record], kind: str) -> Record:
    found = [record for record in records if record["type"] == kind]
    assert len(found) == 1, found
    return found[0]


def test_a_usage_record_tells_who_used_what_for_how_much(archive: ArchiveKit) -> None:
    kit = archive.kit
    kit.initial(kit.account(cents=1000), want())
    kit.now_us += 60_000_000
    kit.update(1, want(used=MIB + MIB // 2))
    archive.catch_up()
    # d10: 0.10 EUR for each started MiB; two are begun
    assert only(records_of(archive), "usage") == {
        "type": "usage",
        "record": "a/5/0/u0",
        "position": 5,
        "time": "2026-03-02T11:14:20.000000Z",
        "time_us": START_US + 60_000_000,
        "account": "a",
        "subscriber": "sub-a",
        "version": 5,
        "event": 0,
        "kind": "session",
        "session": "s",
        "request": "update #1",
        "peer": "gw1.example.net",
        "service_context": "32251@3gpp.org",
        "result": "success",
        "rating_group": 100,
        "catalogue_version": 1,
        "tariff": "D10",
        "unit": "octets",
        "used": MIB + MIB // 2,
        "billed": MIB + MIB // 2,
        "money_units": MIB + MIB // 2,
        "charged": "0.20",
        "charged_micros": 200_000,
        "currency": "EUR",
        "balance_after": "9.80",
        "balance_after_micros": 9_800_000,
        "buckets_after": [[0, 9_800_000]],
    }


@pytest.mark.proves("F52")
@pytest.mark.parametrize("looked_up", [False, True], ids=["remembered", "looked up"])
def test_a_session_record_for_each_closed_session(archive: ArchiveKit, looked_up: bool) -> None:
    kit = archive.kit
    who = kit.account(cents=1000)
    for session in ("one", "two"):
        kit.initial(who, want(), session=session)
    kit.now_us += 30_000_000
    kit.update(1, want(used=2 * MIB), session="one")
    kit.update(1, want(used=MIB), session="two")
    archive.catch_up()
    maker = RecordMaker(archive.reader.session_before)
    assert [record["type"] for record in records_of(archive, maker)].count("session") == 0
    kit.now_us += 30_000_000
    kit.terminate(2, report(used=3 * MIB), session="one")
    archive.catch_up()
    if looked_up:
        maker = RecordMaker(archive.reader.session_before)
    found = [record for one in archive.archived()[-1:] for record in maker.records(one)[1]]
    record = only(found, "session")
    told = ("session", "close_cause", "opened_us", "duration_s", "requests", "octets", "charged", "charged_micros")
    assert [record[name] for name in told] == [
        *("one", "termination", START_US, 60, 3, 5 * MIB, "0.50", 500_000),
    ]


def test_a_session_opened_anew_is_two_sessions(archive: ArchiveKit) -> None:
    kit = archive.kit
    who = kit.account(cents=1000)
    kit.initial(who, want())
    kit.update(1, want(used=2 * MIB))
    kit.ask(kind_initial(), 2, want(), who=who)
    kit.terminate(3, report(used=MIB))
    archive.catch_up()
    for maker in (RecordMaker(archive.reader.session_before), _forgetful(archive)):
        found = [record for record in records_of(archive, maker) if record["type"] == "session"]
        assert [(one["close_cause"], one["requests"], one["charged_micros"]) for one in found] == [
            ("reopened_by_initial", 2, 200_000),
            ("termination", 2, 100_000),
        ]


def kind_initial() -> Any:
    from ocs.charging.requests import RequestKind

    return RequestKind.INITIAL


def _forgetful(archive: ArchiveKit) -> RecordMaker:
    """A maker that remembers no session, as after a restart."""
    maker = RecordMaker(archive.reader.session_before)

    class Nothing(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            pass

        def __delitem__(self, key: str) -> None:
            pass

    maker._open = Nothing()  # type: ignore[assignment]
    return maker


@pytest.mark.proves("F34", "CC-035")
def test_a_session_that_fell_silent_is_closed_by_supervision(archive: ArchiveKit) -> None:
    kit = archive.kit
    kit.initial(kit.account(cents=1000), want())
    kit.advance(100_000)
    archive.catch_up()
    record = only(records_of(archive), "session")
    assert (record["close_cause"], record["charged_micros"], record["kind"]) == ("supervision_timeout", 0, "sweep")


def test_operators_changes_are_records_of_their_own(archive: ArchiveKit) -> None:
    kit = archive.kit
    kit.account(cents=0)
    kit.top_up("a", 1000, key="voucher")
    kit.top_up("a", amount=5 * MIB, kind=BucketKind.OCTETS, valid_until_s=START_US // 1_000_000 + 60)
    kit.advance(61)
    archive.catch_up()
    found = records_of(archive)
    assert {one["type"] for one in found[:2]} == {"operation"}
    assert [one["operation"] for one in found[:2]] == ["create", "subscriber add"]
    money, units, expiry = found[2:]
    told = ("type", "verb", "operation", "bucket", "unit", "key", "who", "reason", "balance_after")
    assert [money[name] for name in told] == [
        *("posting", "top_up", "topup", 0, "money", "voucher", "tester", "a test", "10.00"),
    ]
    assert (money["amount"], money["amount_micros"], money["currency"]) == ("10.00", 10_000_000, "EUR")
    assert (units["unit"], units["amount_units"], "amount" in units) == ("octets", 5 * MIB, False)
    assert (expiry["type"], expiry["verb"], expiry["amount_units"]) == ("posting", "expire", -5 * MIB)


def test_a_refund_is_a_posting(archive: ArchiveKit) -> None:
    kit = archive.kit
    who = kit.account(cents=1000)
    token = kit.event(who, messages(), session="sms").services[0].refund_token
    service = ServiceRequest(QuotaKey(), Units())
    kit.event(who, service, session="back", action=EventAction.REFUND, refund_token=token)
    archive.catch_up()
    found = [one for one in records_of(archive) if one.get("session")]
    assert [one["type"] for one in found] == ["usage", "posting"]
    assert found[1]["verb"] == "refund"
    assert found[0]["charged_micros"] == found[1]["amount_micros"] > 0


def test_what_was_only_asked_for_leaves_no_record(archive: ArchiveKit) -> None:
    kit = archive.kit
    who = kit.account(cents=1000)
    kit.event(who, messages(), session="check", action=EventAction.CHECK_BALANCE)
    kit.event(who, messages(), session="price", action=EventAction.PRICE_ENQUIRY)
    kit.initial(who, want())
    archive.catch_up()
    assert [one for one in records_of(archive) if one.get("session")] == []


def test_an_event_that_cannot_be_decoded_is_not_left_out() -> None:
    from ocs.archive.segments import ArchivedEvent

    maker = RecordMaker(lambda _session, _position: iter(()))
    at_us, (record,) = maker.records(ArchivedEvent(7, 1, 7, 0, 0, b"\xff\x00"))
    assert (at_us, record["type"], record["record"], record["reason"]) == (0, "damaged", "damaged/7", "ff00")


@pytest.mark.proves("F53")
def test_usage_that_does_not_add_up_is_counted() -> None:
    """A forced mismatch raises an alarm."""
    from ocs.archive.segments import ArchivedEvent

    maker = RecordMaker(lambda _session, _position: iter(()))
    event = usage_event(1)
    event.usage[0].debited_micros += 1
    maker.records(ArchivedEvent(1, 1, 1, 978, 2, new_event(1, event).event))
    assert maker.mismatches == 1
    maker.records(ArchivedEvent(2, 1, 2, 978, 2, new_event(2, usage_event(2)).event))
    assert maker.mismatches == 1


@pytest.mark.proves("F53")
def test_opening_payments_and_charges_give_the_closing_balance(archive: ArchiveKit) -> None:
    """Opening 1,000.00 + payments 500.00 - charges 300.00 = closing 1,200.00, difference 0.00."""
    kit = archive.kit
    who = kit.account(cents=100_000)
    kit.top_up("a", 50_000)
    kit.initial(who, want())
    for number in range(1, 301):
        kit.update(number, want(used=10 * MIB))
    kit.terminate(301)
    archive.catch_up()
    found = records_of(archive)
    payments = sum(one["amount_micros"] for one in found if one["type"] == "posting")
    charges = sum(one["charged_micros"] for one in found if one["type"] == "usage")
    assert (payments, charges) == (1_500_000_000, 300_000_000)
    assert kit.balance() == (120_000, 0)
    assert payments - charges == 1_200_000_000


def test_records_of_any_world_add_up_to_its_balances(tmp_path: Path) -> None:
    """Random sessions, events, top-ups, expiries, refunds: what records say moved is what the balances are."""
    from hypothesis import HealthCheck, given, settings

    from tests.property.test_conservation import COMMANDS, play

    numbers = iter(range(1_000_000))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(COMMANDS)
    def check(commands: list[Any]) -> None:
        world = World()
        archive = ArchiveKit(world.kit, tmp_path / str(next(numbers)))
        play(world, commands)
        archive.catch_up()
        found = records_of(archive)
        assert len({one["record"] for one in found}) == len(found)
        for account in ("a", "b"):
            _add_up(world.kit, account, [one for one in found if one["account"] == account])
        remembered = [one for one in found if one["type"] == "session"]
        assert [one for one in records_of(archive, _forgetful(archive)) if one["type"] == "session"] == remembered

    check()


def _add_up(kit: Kit, account: str, found: list[Record]) -> None:
    moved: Counter[str] = Counter()
    for one in found:
        if one["type"] == "usage":
            moved["money"] -= one["charged_micros"]
            for _, units in one.get("from_buckets", ()):
                moved[one["unit"]] -= units
        elif one["type"] == "posting" and one["verb"] != "uncollected":
            moved[one["unit"]] += one.get("amount_micros", 0) + one.get("amount_units", 0)
    posted: Counter[str] = Counter()
    for bucket in kit.run(queries.show_account(kit.engine, account))["buckets"]:
        posted[bucket["kind"]] += bucket["posted"]
    assert {kind: moved[kind] for kind in moved | posted} == {kind: posted[kind] for kind in moved | posted}
    charged = sum(one["charged_micros"] for one in found if one["type"] == "usage" and one["kind"] == "session")
    open_sessions = kit.run(queries.list_sessions(kit.engine, account))["items"]
    closed = sum(one["charged_micros"] for one in found if one["type"] == "session")
    assert charged == closed + sum(one["cost_micros"] for one in open_sessions)


# Forms


def a_record() -> Record:
    from ocs.archive.segments import ArchivedEvent

    line = UsageLine(None, (7, 8), "success", 'why, "really"\nso', unit=1, used=5, from_buckets=((1, 3), (2, 2)))
    line.unrated = ((2, 60),)
    entry = Entry(3, BucketKind.OCTETS, Verb.DEBIT, Cause.USAGE, -5, -5, 10, 0)
    event = Event(account="ä;1", at_us=START_US, kind="session", entries=(entry,), usage=(line,), session_id="s,1")
    event.request = "update #1"
    maker = RecordMaker(lambda _session, _position: iter(()))
    _, (record,) = maker.records(ArchivedEvent(4, 1, 4, 392, 0, new_event(1, event).event))
    return record


def test_a_csv_line_has_every_column_and_comes_back() -> None:
    (found,) = decode("csv", heading("csv") + encode("csv", a_record()))
    assert tuple(found) == COLUMNS
    told = {name: value for name, value in found.items() if value}
    assert told == {
        "type": "usage",
        "record": "ä;1/1/0/u0",
        "position": "4",
        "time": "2026-03-02T11:13:20.000000Z",
        "time_us": str(START_US),
        "account": "ä;1",
        "version": "1",
        "event": "0",
        "kind": "session",
        "session": "s,1",
        "request": "update #1",
        "result": "success",
        "service_identifiers": "7;8",
        "unit": "octets",
        "used": "5",
        "billed": "0",
        "from_buckets": "1:3;2:2",
        "money_units": "0",
        "unrated": "seconds:60",
        "charged": "0",
        "charged_micros": "0",
        "currency": "JPY",
        "buckets_after": "3:10",
        "reason": 'why, "really"\nso',
    }


def test_a_json_line_leaves_out_what_does_not_apply() -> None:
    line = encode("jsonl", a_record())
    assert line.count(b"\n") == 1
    assert b"null" not in line
    (found,) = decode("jsonl", line)
    assert (found["unrated"], found["reason"]) == ("[['seconds', 60]]", 'why, "really"\nso')


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("csv", b"a,b\n1,2\n", "expected the columns"),
        ("csv", b"", "expected the columns"),
        ("csv", heading("csv") + b"1,2\n", f"expected {len(COLUMNS)} columns"),
        ("jsonl", b"[1]\n", "expected one JSON object"),
        ("jsonl", b"{\n", "Expecting property name"),
    ],
)
def test_what_is_no_file_of_records_is_told(form: str, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(form, data)


def test_times_outside_of_the_calendar_are_told_as_they_are() -> None:
    assert utc_text(START_US + 1) == "2026-03-02T11:13:20.000001Z"
    assert utc_text(10**20) == f"{10**20} us"


def test_the_page_tells_every_column() -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    told = [word for row in rows for word in row.replace("`", "").replace(",", " ").split()]
    assert [name for name in COLUMNS if name not in told] == []
