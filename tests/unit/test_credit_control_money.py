"""Money between micro-units and Unit-Value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.diameter import dictionary as d
from protocols.diameter.credit_control_messages import MAX_MONEY_MICROS, micros_of, unit_value
from tests.support.gy_client import EVENT, Requests, units
from tests.support.gy_edge import charging, refusal


@pytest.mark.parametrize(
    ("micros", "minor_digits", "expected"),
    [
        (8_700_000, 2, (870, -2)),
        (26_000, 2, (26, -3)),
        (50_000, 2, (5, -2)),
        (0, 2, (0, -2)),
        (1, 2, (1, -6)),
        (-100_000, 2, (-10, -2)),
        (-1, 2, (-1, -6)),
        (5_000_000, 0, (5, 0)),
        (5_500_000, 0, (55, -1)),
        (1_234_000, 3, (1234, -3)),
        (1_234_500, 3, (12345, -4)),
    ],
)
def test_an_amount_has_the_currencys_exponent_or_the_nearest_exact_one(
    micros: int, minor_digits: int, expected: tuple[int, int]
) -> None:
    # scenarios.md: "on the wire the currency's exponent, or a smaller one where needed to be exact"
    assert unit_value(micros, minor_digits) == expected


@given(st.integers(-(2**62), 2**62), st.integers(0, 6))
def test_what_is_written_is_read_back(micros: int, minor_digits: int) -> None:
    assert micros_of(*unit_value(micros, minor_digits)) == micros


@pytest.mark.parametrize(
    ("digits", "exponent", "micros"),
    [
        (1000, -2, 10_000_000),
        (5, 0, 5_000_000),
        (1, 3, 1_000_000_000),
        (1_000, -9, 1),
        (1, -7, None),
        (1, 2_147_483_647, None),
        (0, 2_147_483_647, 0),
        (2**63 - 1, 0, None),
        (MAX_MONEY_MICROS, -6, MAX_MONEY_MICROS),
        (MAX_MONEY_MICROS + 1, -6, None),
    ],
)
def test_amounts_are_read_exactly_or_not_at_all(digits: int, exponent: int, micros: int | None) -> None:
    assert micros_of(digits, exponent) == micros


@pytest.mark.parametrize("money", [(1, -7, 978), (1, 2_147_483_647, 978), (-1, 0, 978), (2**63 - 1, 0, 978)])
def test_a_cc_money_that_is_no_amount_is_5004(money: tuple[int, int, int]) -> None:
    requested = (d.REQUESTED_SERVICE_UNIT, units(money=money))
    answer = refusal(Requests().ccr(EVENT, 0, "e", action=0, context="voice@rfc.example", extra=[requested]))
    assert answer.code == 5004
    ((failed,),) = answer.all(d.FAILED_AVP)
    assert (failed[0], failed[2][0][0]) == (d.REQUESTED_SERVICE_UNIT, d.CC_MONEY)


def test_money_without_exponent_or_currency_is_whole_units_of_the_accounts_currency() -> None:
    # CC-174: "absent Exponent = 0"
    requested = (d.REQUESTED_SERVICE_UNIT, units(money=(3, 0, None)))
    data = Requests().ccr(EVENT, 0, "e", action=0, context="voice@rfc.example", extra=[requested])
    asked = charging(data).services[0].requested
    assert asked is not None
    assert (asked.money_micros, asked.currency) == (3_000_000, None)
