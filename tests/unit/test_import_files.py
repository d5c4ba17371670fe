"""Files of rows: what is read of them, and every mistake named with its line and column."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from ocs.api.import_bodies import BalanceText, OpeningText, SubscriberText
from ocs.cli.errors import BadInput
from ocs.cli.import_files import Bad, Problem, Refused, Row, RowProblem, Table
from ocs.cli.import_rows import BALANCES, SUBSCRIBERS, Form, Names, RowKeys

MIB = 1_048_576
SMALL = "subscriber,plan,account\n"


def table(tmp_path: Path, text: str | bytes, form: Form = SUBSCRIBERS) -> Table:
    path = tmp_path / "rows.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Table(path, form.columns, form.required)


def read(tmp_path: Path, text: str | bytes) -> list[Row | Bad]:
    opened = table(tmp_path, text)
    found = list(opened.rows())
    opened.close()
    return found


def row(**values: str) -> Row:
    return Row(2, values)


# The file

SAME = [("s1", "d10", "a;1,x"), ("s2", "d10", "")]


@pytest.mark.parametrize(
    "text",
    [
        'subscriber,plan,account\ns1,d10,"a;1,x"\ns2,d10,\n',
        'subscriber,plan,account\r\ns1,d10,"a;1,x"\r\n\r\ns2,d10,\r\n',
        'subscriber;plan;account\ns1;d10;"a;1,x"\ns2;d10;',
        '\ufeffsubscriber,plan,account\n s1 ,d10,"a;1,x"\ns2,d10,\n',
        '"Subscriber", PLAN,account\n"s1",d10,"a;1,x"\ns2, d10 ,\n',
    ],
    ids=["comma", "crlf and an empty line", "semicolon without an end", "bom and blanks", "header in other words"],
)
def test_one_table_in_the_spellings_of_many_programs(tmp_path: Path, text: str) -> None:
    rows = read(tmp_path, text)
    assert [tuple(one.values[name] for name in ("subscriber", "plan", "account")) for one in rows] == SAME


def test_columns_stand_in_any_order_and_lines_are_those_of_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, 'account,subscriber,plan\n\n"a",s,p\nb,t,q\n')
    assert found == [
        Row(3, {"account": "a", "subscriber": "s", "plan": "p"}),
        Row(4, {"account": "b", "subscriber": "t", "plan": "q"}),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column subscriber"),
        ("subscriber,account\n", ":1: no column plan"),
        ("subscriber,plan,colour\n", ":1: unknown column 'colour', expected some of subscriber, "),
        ("subscriber,plan,plan\n", ":1: column 'plan' stands twice"),
        ('subscriber,"plan\n', ":1: "),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadInput) as refused:
        table(tmp_path, text)
    assert told in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        Table(tmp_path / "none.csv", SUBSCRIBERS.columns, SUBSCRIBERS.required)


@pytest.mark.parametrize(
    ("line", "column", "told"),
    [
        (b"s,p", "", "2 fields, expected 3"),
        (b"s,p,a,b", "", "4 fields, expected 3"),
        (b"s\xff,p,a", "subscriber", "expected UTF-8"),
        (b"s,p,a\x00b", "account", "can be shown"),
        (b's,"p"x,a', "", "not CSV"),
    ],
)
def test_a_bad_row_is_told_by_line_and_column_and_the_next_is_read(
    tmp_path: Path, line: bytes, column: str, told: str
) -> None:
    first, bad, last = read(tmp_path, SMALL.encode() + b"s0,p,a\n" + line + b"\ns9,p,a\n")
    assert isinstance(first, Row)
    assert isinstance(bad, Bad)
    assert (bad.problem.line, bad.problem.column) == (3, column)
    assert told in bad.problem.message
    assert isinstance(last, Row)
    assert (last.line, last.values["subscriber"]) == (4, "s9")


def test_a_problem_is_one_line() -> None:
    assert Problem(7, "msisdn", "12x", "expected digits").text("f.csv") == "f.csv:7: msisdn: '12x': expected digits"
    assert Problem(7, "", "", "not CSV").text("f.csv") == "f.csv:7: not CSV"


def test_refused_rows_make_a_file_that_can_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "refused.csv"
    path.write_text("older")
    refused = Refused(path, ("plan", "subscriber"))
    assert path.read_text() == "older", "an import without a refused row leaves the file alone"
    refused.write(Problem(3, "plan", "no;ne", "no plan"), {"subscriber": 's,"1"', "plan": "no;ne"}, "k/1")
    refused.close()
    assert Path(f"{path}~").read_text() == "older"
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["plan", "subscriber", "key", "error_line", "error_column", "error"],
            ["no;ne", 's,"1"', "k/1", "3", "plan", "no plan"],
        ]
    again = Table(path, SUBSCRIBERS.columns, SUBSCRIBERS.required)
    (found,) = again.rows()
    again.close()
    assert isinstance(found, Row)
    assert found.values["subscriber"] == 's,"1"'


# Subscribers


def test_a_subscriber_s_columns() -> None:
    found = SUBSCRIBERS.parse(
        row(
            subscriber="s",
            account="a",
            plan="d10",
            currency="EUR",
            credit_limit="2.50",
            balance="5",
            msisdn="+44 7700 900123|447700900124",
            imsi="234150000000001",
            nai="Ann@Example.COM",
            sip="",
            username="ann",
            status="suspended",
        )
    )
    assert isinstance(found, SubscriberText)
    assert [(one.kind, one.value) for one in found.identities] == [
        ("e164", "447700900123"),
        ("e164", "447700900124"),
        ("imsi", "234150000000001"),
        ("nai", "Ann@example.com"),
        ("username", "ann"),
    ]
    assert found.opening == OpeningText(currency="EUR", credit_limit_micros=2_500_000, balance_micros=5_000_000)
    assert (found.account, found.status) == ("a", "suspended")


def test_a_subscriber_without_an_account_has_one_of_its_own_name() -> None:
    found = SUBSCRIBERS.parse(row(subscriber="s", plan="p"))
    assert isinstance(found, SubscriberText)
    assert (found.account, found.opening, found.status, found.identities) == ("s", None, "active", [])


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"subscriber": ""}, "subscriber"),
        ({"plan": ""}, "plan"),
        ({"msisdn": "12x"}, "msisdn"),
        ({"e164": "1" * 21}, "e164"),
        ({"imsi": "12 3"}, "imsi"),
        ({"nai": "a b"}, "nai"),
        ({"status": "closed"}, "status"),
        ({"balance": "5"}, "currency"),
        ({"credit_limit": "5"}, "currency"),
        ({"currency": "EUR", "balance": "-5"}, "balance"),
        ({"currency": "EUR", "balance": "5,00"}, "balance"),
        ({"currency": "EUR", "credit_limit": "1e3"}, "credit_limit"),
        ({"currency": "EUR", "credit_limit": "0.0000001"}, "credit_limit"),
    ],
)
def test_a_wrong_value_of_a_subscriber_names_its_column(values: dict[str, str], column: str) -> None:
    with pytest.raises(RowProblem) as refused:
        SUBSCRIBERS.parse(row(**{"subscriber": "s", "plan": "p", **values}))
    assert refused.value.column == column
    assert "expected" in str(refused.value)


# Balances


@pytest.mark.parametrize(
    ("values", "kind", "amount"),
    [
        ({"amount": "5.00"}, "money", 5_000_000),
        ({"amount": "0.000001", "kind": "money"}, "money", 1),
        ({"amount_micros": "1"}, "money", 1),
        ({"amount": "", "amount_micros": "9223372036854"}, "money", 9_223_372_036_854),
        ({"amount": "15MiB"}, "octets", 15 * MIB),
        ({"amount": "15", "kind": "octets"}, "octets", 15),
        ({"amount": "2h", "kind": "seconds"}, "seconds", 7200),
        ({"amount": "3", "kind": "events"}, "events", 3),
        ({"amount": "-3", "kind": "events", "operation": "adjust"}, "events", -3),
        ({"amount_micros": "-3", "operation": "adjust"}, "money", -3),
    ],
)
def test_an_amount_in_each_spelling(values: dict[str, str], kind: str, amount: int) -> None:
    found = BALANCES.parse(row(account="a", **values))
    assert isinstance(found, BalanceText)
    assert (found.kind, found.amount) == (kind, amount)


def test_a_balance_s_columns() -> None:
    found = BALANCES.parse(
        row(
            account="a",
            amount="1",
            expires="30d",
            priority="-2",
            rating_group="0",
            service_context="x@3gpp.org",
            reason="r",
        )
    )
    assert found == BalanceText(
        line=2,
        key="",
        account="a",
        amount=1_000_000,
        valid_for_s=30 * 86_400,
        priority=-2,
        rating_group=0,
        service_context="x@3gpp.org",
        reason="r",
    )


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"account": "", "amount": "1"}, "account"),
        ({"amount": ""}, "amount"),
        ({"amount": "1", "amount_micros": "1"}, "amount_micros"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount_micros": "-1"}, "amount_micros"),
        ({"amount": "0", "operation": "adjust"}, "amount"),
        ({"amount_micros": "1.5"}, "amount_micros"),
        ({"amount_micros": "1", "kind": "octets"}, "kind"),
        ({"amount": "1", "kind": "apples"}, "kind"),
        ({"amount": "5MiB", "kind": "seconds"}, "amount"),
        ({"amount": "5 parsecs"}, "amount"),
        ({"amount": "1", "expires": "soon"}, "expires"),
        ({"amount": "1", "operation": "give"}, "operation"),
        ({"amount": "1", "priority": "1.5"}, "priority"),
        ({"amount": "1", "rating_group": "x"}, "rating_group"),
        ({"amount": "1", "bucket": "\u0661"}, "bucket"),
    ],
)
def test_a_wrong_value_of_a_balance_names_its_column(values: dict[str, str], column: str) -> None:
    with pytest.raises(RowProblem) as refused:
        BALANCES.parse(row(**{"account": "a", **values}))
    assert refused.value.column == column
    assert "expected" in str(refused.value)


# Keys and names


def key_of(keys: RowKeys, **values: str) -> str:
    found = BALANCES.parse(Row(int(values.pop("line", "2")), values))
    return keys.keyed(found, values).key


def test_a_key_is_made_of_the_content_and_not_of_the_line() -> None:
    one, other = RowKeys("f", False), RowKeys("f", False)
    assert key_of(one, account="a", amount="1", line="2") == key_of(other, account="a", amount="1.00", line="9")
    assert key_of(RowKeys("f", False), account="a", amount="1") != key_of(RowKeys("f", False), account="a", amount="2")
    assert key_of(RowKeys("f", False), account="a", amount="1") != key_of(RowKeys("g", False), account="a", amount="1")


def test_equal_rows_have_keys_of_their_own() -> None:
    keys = RowKeys("f", False)
    found = [key_of(keys, account="a", amount="1") for _ in range(3)]
    assert found == [found[0], found[0] + ".2", found[0] + ".3"]


def test_a_row_s_own_key_is_taken() -> None:
    assert key_of(RowKeys("f", False), account="a", amount="1", key="mine") == "mine"


def test_the_key_of_a_row_that_could_not_be_read_stands_for_its_import() -> None:
    made = key_of(RowKeys("f", False), account="a", amount="1")
    assert key_of(RowKeys("f.errors", False), account="a", amount="1", key="f/") == made


@pytest.mark.parametrize("key", ["", "k" * 200])
def test_a_key_that_cannot_be_one_is_refused(key: str) -> None:
    with pytest.raises(RowProblem) as refused:
        key_of(RowKeys("f", False), account="a", amount="1", key=key)
    assert refused.value.column == "key"


def test_an_empty_key_is_made_in_an_import_that_was_named() -> None:
    assert key_of(RowKeys("f", True), account="a", amount="1", key="").startswith("f/")


@pytest.mark.parametrize(
    ("values", "column"),
    [({"subscriber": "s"}, "subscriber"), ({"msisdn": "1"}, "msisdn"), ({"imsi": "7|2"}, "imsi")],
)
def test_a_name_stands_in_one_row_only(values: dict[str, Any], column: str) -> None:
    names = Names()
    first = {"subscriber": "s", "plan": "p", "msisdn": "+1", "imsi": "2"}
    names.check(SUBSCRIBERS.parse(Row(5, first)), first)
    second = {"subscriber": "t", "plan": "p", **values}
    with pytest.raises(RowProblem, match="stands in line 5, too") as refused:
        names.check(SUBSCRIBERS.parse(Row(6, second)), second)
    assert refused.value.column == column
    third = {"subscriber": "t", "plan": "p", "msisdn": "3"}
    names.check(SUBSCRIBERS.parse(Row(7, third)), third)
