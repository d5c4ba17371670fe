"""Text to micro-units and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance.integers import div_ceil, div_floor
from balance.money import MAX_MICROS, MoneyError, format_micros, parse_micros


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("12.5", 12_500_000),
        ("12.50", 12_500_000),
        ("-3", -3_000_000),
        ("+3", 3_000_000),
        ("0.000001", 1),
        (" 7 ", 7_000_000),
        ("-0.01", -10_000),
        ("4611686018427.387904", MAX_MICROS),
    ],
)
def test_amounts(text: str, micros: int) -> None:
    assert parse_micros(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".5",
        "5.",
        "1e3",
        "1,5",
        "1.0000001",
        "0x10",
        "1 000",
        "٣",
        "4611686018427.387905",
        "9" * 13,
        "nan",
        "--1",
    ],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(MoneyError):
        parse_micros(text)


@pytest.mark.parametrize(
    ("micros", "exponent", "text"),
    [
        (12_500_000, 2, "12.50"),
        (12_345_678, 2, "12.345678"),
        (-10_000, 2, "-0.01"),
        (-1, 2, "-0.000001"),
        (5_000_000, 0, "5"),
        (5_100_000, 0, "5.1"),
        (1_000, 3, "0.001"),
        (0, 2, "0.00"),
    ],
)
def test_amounts_as_text(micros: int, exponent: int, text: str) -> None:
    assert format_micros(micros, exponent) == text


@given(st.integers(-MAX_MICROS, MAX_MICROS), st.integers(0, 6))
def test_text_loses_nothing(micros: int, exponent: int) -> None:
    assert parse_micros(format_micros(micros, exponent)) == micros


@given(st.integers(-(2**130), 2**130), st.integers(1, 2**70))
def test_division_rounds_as_it_is_named(numerator: int, denominator: int) -> None:
    low, high = div_floor(numerator, denominator), div_ceil(numerator, denominator)
    assert low * denominator <= numerator <= high * denominator
    assert high - low == (numerator % denominator != 0)
