"""What people type, as integers: amounts, ends of validity, identities."""

from __future__ import annotations

import pytest

from ocs.cli.errors import BadInput
from ocs.cli.values import gather_identities, one_identity, parse_amount, parse_expiry, parse_identity, parse_money

MIB = 1_048_576


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("5.00", "money", 5_000_000),
        ("5", "money", 5_000_000),
        ("-1.50", "money", -1_500_000),
        ("+0.000001", "money", 1),
        ("15MiB", "octets", 15 * MIB),
        ("15 MiB", "octets", 15 * MIB),
        ("-15MiB", "octets", -15 * MIB),
        ("1kB", "octets", 1000),
        ("1KiB", "octets", 1024),
        ("7B", "octets", 7),
        ("100min", "seconds", 6000),
        ("90s", "seconds", 90),
        ("2h", "seconds", 7200),
        ("1d", "seconds", 86_400),
        ("50events", "events", 50),
        ("1 event", "events", 1),
    ],
)
def test_an_amount_is_money_without_a_suffix_and_units_with_one(text: str, kind: str, amount: int) -> None:
    assert parse_amount(text) == (kind, amount)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected money such as 5.00"),
        ("abc", "unknown unit 'abc'"),
        ("5.00EUR", "unknown unit 'EUR'"),
        ("15XB", "unknown unit 'XB'"),
        ("1KB", "means two things"),
        ("1mib", "did you mean `MiB`"),
        ("1.5MiB", "is not an amount"),
        ("1.0000001", "is no amount"),
        ("1e3", "is no amount"),
        ("1,000", "is no amount"),
        ("٣", "is no amount"),
        ("nan", "unknown unit"),
        ("--5MiB", "is not an amount"),
        ("-+5", "is no amount"),
        ("99999999999999999999MiB", "is not an amount"),
        ("9223372036854775807KiB", "too large"),
        ("99999999999999", "is no amount"),
        ("events", "is not an amount"),
        ("1.5events", "is not an amount"),
    ],
)
def test_what_is_no_amount_is_refused_with_what_was_expected(text: str, told: str) -> None:
    with pytest.raises(BadInput, match="amount: ") as caught:
        parse_amount(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("3600s", {"valid_for_s": 3600}),
        ("30d", {"valid_for_s": 2_592_000}),
        ("2 h", {"valid_for_s": 7200}),
        # The end of the day: 2027-01-01T00:00:00Z.
        ("2026-12-31", {"valid_until_s": 1_798_761_600}),
        ("2026-12-31T12:00:00Z", {"valid_until_s": 1_798_718_400}),
        ("2026-12-31T13:00:00+01:00", {"valid_until_s": 1_798_718_400}),
    ],
)
def test_an_end_of_validity_is_a_span_a_day_or_a_time(text: str, fields: dict[str, int]) -> None:
    assert parse_expiry(text) == fields


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3600",
        "0s",
        "-5s",
        "soon",
        "2026-13-01",
        "2026-02-30",
        "2026-12-31T12:00:00",
        "5KiB",
        "1960-01-01T00:00:00Z",
    ],
)
def test_what_is_no_end_of_validity_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="expires: "):
        parse_expiry(text)


def test_an_identity_is_kind_and_value() -> None:
    assert parse_identity("sip:sip:user@example.net") == {"kind": "sip", "value": "sip:user@example.net"}


@pytest.mark.parametrize("text", ["", "447700900123", "phone:1", "e164:", ":1"])
def test_what_is_no_identity_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"identity: .*KIND:VALUE"):
        parse_identity(text)


def test_identities_come_from_texts_and_from_options() -> None:
    assert gather_identities(["imsi:1"], e164=["2"], nai=()) == [
        {"kind": "imsi", "value": "1"},
        {"kind": "e164", "value": "2"},
    ]


@pytest.mark.parametrize("given", [(), ("e164:1", "e164:2")])
def test_exactly_one_identity_is_wanted_where_one_is_changed(given: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match="expected exactly one"):
        one_identity(given)


def test_money_names_its_field() -> None:
    with pytest.raises(BadInput, match="credit-limit: 'x'"):
        parse_money("credit-limit", "x")
