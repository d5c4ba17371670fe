"""Prices and amounts as a person writes them."""

from __future__ import annotations

import pytest

from tariffs.model import MAX_COST_MICROS, MAX_UNITS, Unit
from tariffs.quantities import (
    FractionText,
    QuantityError,
    format_micros,
    format_size,
    parse_price,
    parse_size,
)

OCTETS, SECONDS, EVENTS = Unit.OCTETS, Unit.SECONDS, Unit.EVENTS


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("0.10", 100_000),
        ("0.1", 100_000),
        ("1", 1_000_000),
        ("0.000001", 1),
        ("0.000125", 125),
        ("12.34", 12_340_000),
        ("9223372036854.775807", MAX_COST_MICROS),
    ],
)
def test_price_is_exact(text: str, micros: int) -> None:
    assert parse_price(text) == micros


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.0000001", "price `0.0000001` has 7 decimals, expected at most 6"),
        ("0.1000000", "price `0.1000000` has 7 decimals, expected at most 6"),
        ("-0.10", 'price `-0.10` is negative, expected "0" or more'),
        ("9223372036854.775808", "price `9223372036854.775808` is too large, expected at most 9223372036854.775807"),
        (FractionText("0.10"), "price `0.10` is not in quotes"),
        (1, "price `1` is not in quotes"),
        (True, "price `true` is not in quotes"),
        ([], "price `[…]` is not in quotes"),
        ("0,10", "price `0,10` is not a decimal number"),
        ("", "price `` is not a decimal number"),
        ("1.", "price `1.` is not a decimal number"),
        (".5", "price `.5` is not a decimal number"),
        ("00.10", "price `00.10` is not a decimal number"),
        ("+1", "price `+1` is not a decimal number"),
        ("1e3", "price `1e3` is not a decimal number"),
        ("1 ", "price `1 ` is not a decimal number"),
        ("1\n", "price `1\\n` is not a decimal number"),
        ("٣", "price `٣` is not a decimal number"),
        ("0.10 EUR", "price `0.10 EUR` is not a decimal number"),
        ("99999999999999999999", "price `99999999999999999999` is not a decimal number"),
    ],
)
def test_what_is_no_price_is_refused(value: object, message: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_price(value)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("value", "unit", "amount"),
    [
        (0, OCTETS, 0),
        (1_048_576, OCTETS, 1_048_576),
        ("7", OCTETS, 7),
        ("7 B", OCTETS, 7),
        ("100 kB", OCTETS, 100_000),
        ("1 MB", OCTETS, 1_000_000),
        ("10 MiB", OCTETS, 10_485_760),
        ("10MiB", OCTETS, 10_485_760),
        ("1 KiB", OCTETS, 1024),
        ("2 GiB", OCTETS, 2_147_483_648),
        ("2 GB", OCTETS, 2_000_000_000),
        ("1 TiB", OCTETS, 1_099_511_627_776),
        ("60 s", SECONDS, 60),
        ("1 min", SECONDS, 60),
        ("1 h", SECONDS, 3600),
        ("1 d", SECONDS, 86_400),
        ("1", EVENTS, 1),
        (MAX_UNITS, OCTETS, MAX_UNITS),
    ],
)
def test_size_is_read_in_its_unit(value: object, unit: Unit, amount: int) -> None:
    assert parse_size(value, unit) == amount


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        ("1 KB", OCTETS, "unit `KB` means two things, expected `kB` (1000 octets) or `KiB` (1024 octets)"),
        ("1 mib", OCTETS, "unknown unit `mib`, did you mean `MiB`?"),
        ("1 min", OCTETS, "unknown unit `min`, "),
        ("1 xyz", OCTETS, "unknown unit `xyz`, expected one of `B`, `kB`, "),
        ("1 m", SECONDS, "unknown unit `m`, "),
        ("1 MiB", SECONDS, "unknown unit `MiB`, "),
        ("1 s", EVENTS, "`s` after a number of events, expected a whole number of events such as 1"),
        ("1.5 MiB", OCTETS, "`1.5 MiB` is not an amount, expected a whole number of octets"),
        ("", OCTETS, "`` is not an amount"),
        ("MiB", OCTETS, "`MiB` is not an amount"),
        ("1  MiB", OCTETS, "`1  MiB` is not an amount"),
        ("-1 MiB", OCTETS, "`-1 MiB` is not an amount"),
        (-1, OCTETS, "`-1` is negative"),
        (True, OCTETS, "`true` is not an amount"),
        (FractionText("1.0"), OCTETS, "`1.0` is not an amount"),
        (MAX_UNITS + 1, OCTETS, "`9223372036854775808` is too large, expected at most 9223372036854775807"),
        ("9999999999999999999 TiB", OCTETS, "`9999999999999999999 TiB` is too large"),
        (10**100, OCTETS, "`an integer of 333 bits` is too large"),
    ],
)
def test_what_is_no_size_is_refused(value: object, unit: Unit, message: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_size(value, unit)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0.00"), (100_000, "0.10"), (125, "0.000125"), (12_340_000, "12.34"), (-10_000, "-0.01"), (1_500, "0.0015")],
)
def test_money_is_written_exactly(micros: int, text: str) -> None:
    assert format_micros(micros) == text


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (10_485_760, OCTETS, "10 MiB"),
        (100_000, OCTETS, "100 kB"),
        (7, OCTETS, "7 B"),
        (0, OCTETS, "0 B"),
        (90, SECONDS, "90 s"),
        (60, SECONDS, "1 min"),
        (1, EVENTS, "1 event"),
        (3, EVENTS, "3 events"),
    ],
)
def test_size_is_written_with_the_largest_suffix(amount: int, unit: Unit, text: str) -> None:
    assert format_size(amount, unit) == text
