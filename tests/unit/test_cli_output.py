"""Amounts and times as people read them: exact, and for large ones also in words."""

from __future__ import annotations

import json

import pytest

from ocs.cli import output


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (10_000_000, "money", "10.00 EUR"),
        (-1, "money", "-0.000001 EUR"),
        (0, "octets", "0 octets"),
        (1023, "octets", "1,023 octets"),
        (1024, "octets", "1,024 octets (1 KiB)"),
        (15_728_640, "octets", "15,728,640 octets (15 MiB)"),
        (1_572_864, "octets", "1,572,864 octets (1.5 MiB)"),
        (1_572_865, "octets", "1,572,865 octets (about 1.5 MiB)"),
        (-1_048_576, "octets", "-1,048,576 octets (-1 MiB)"),
        (59, "seconds", "59 s"),
        (6000, "seconds", "6,000 s (1 h 40 min)"),
        (90_061, "seconds", "90,061 s (1 d 1 h 1 min 1 s)"),
        (-60, "seconds", "-60 s (-1 min)"),
        (1, "events", "1 event"),
        (50, "events", "50 events"),
    ],
)
def test_an_amount_is_exact_and_readable(value: int, kind: str, text: str) -> None:
    assert output.amount(value, kind, "EUR", 2) == text


def test_a_positive_change_has_its_sign() -> None:
    assert output.amount(5_000_000, "money", "EUR", 2, sign=True) == "+5.00 EUR"


def test_a_currency_without_decimals_has_none() -> None:
    assert output.money(5_000_000, "JPY", 0) == "5 JPY"


def test_times_are_utc() -> None:
    assert output.moment(1_772_450_000) == "2026-03-02 11:13:20Z"
    assert output.moment_us(1_772_450_000_123_456) == "2026-03-02 11:13:20.123Z"
    assert output.moment(None) == ""


def test_a_time_beyond_the_calendar_is_shown_as_it_is() -> None:
    assert output.moment(2**60) == f"{2**60} s"


def test_what_peers_sent_cannot_steer_the_terminal() -> None:
    assert output.plain("a\x1b[31mb\n") == "a\\x1b[31mb\\n"


def test_markup_in_a_cell_is_shown_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name",), [("[red]x[/red]",)])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_a_table_in_a_pipe_is_neither_coloured_nor_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 500
    output.table(("name",), [(long,)])
    out = capsys.readouterr().out
    assert long in out
    assert "\x1b" not in out


def test_json_is_one_document_of_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"reason": "caf\u00e9 \x85"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"reason": "caf\u00e9 \x85"}
