"""The closed form equals the readable twin where that can count, and keeps its identities over all 64 bits."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from cython_ext import _rating as compiled_module
from tariffs import _price_reference, _reference, rating
from tariffs.model import MAX_COST_MICROS, MAX_UNITS, Tariff, Unit


def tariffs(widest: int) -> st.SearchStrategy[Tariff]:
    """Tariffs whose price, per and step go up to `widest`."""
    return st.builds(
        lambda price, per, step: Tariff(0, "t", Unit.OCTETS, price, per, step, step, step),
        st.integers(0, widest),
        st.integers(1, widest),
        st.integers(1, widest),
    )


SMALL = tariffs(30)
WIDE = tariffs(MAX_UNITS)
UNITS = st.integers(0, 2**64 - 1)
MONEY = st.integers(-MAX_COST_MICROS, MAX_COST_MICROS)


@given(SMALL, st.integers(0, 120), st.integers(0, 120))
def test_costs_equal_the_twin(tariff: Tariff, before: int, more: int) -> None:
    assert rating.billed_units(tariff, before) == _reference.billed_units(tariff, before)
    assert rating.cost_micros(tariff, before) == _reference.cost_micros(tariff, before)
    expected = _reference.cost_between(tariff, before, before + more)
    assert rating.cost_between(tariff, before, before + more) == expected


@given(SMALL, st.integers(0, 120), st.integers(-20, 300), st.integers(-3, 120))
def test_affordable_units_equal_the_twin(tariff: Tariff, before: int, money: int, most: int) -> None:
    expected = _reference.affordable_units(tariff, before, money, most)
    assert rating.affordable_units(tariff, before, money, most) == expected


@given(WIDE, UNITS)
def test_billed_units_are_the_next_whole_step(tariff: Tariff, total: int) -> None:
    billed = rating.billed_units(tariff, total)
    assert billed % tariff.step == 0
    assert total <= billed < total + tariff.step


@given(WIDE, UNITS)
def test_cost_is_the_exact_price_rounded_up(tariff: Tariff, total: int) -> None:
    exact = Fraction(rating.billed_units(tariff, total) * tariff.price_micros, tariff.per)
    assert exact <= rating.cost_micros(tariff, total) < exact + 1


@given(WIDE, st.lists(UNITS, min_size=1, max_size=8))
def test_splitting_usage_anywhere_gives_the_same_total(tariff: Tariff, parts: list[int]) -> None:
    total = 0
    charged = 0
    for part in parts:
        added = rating.cost_between(tariff, total, total + part)
        assert added >= 0
        charged += added
        total += part
    assert charged == rating.cost_micros(tariff, total)


@given(WIDE, UNITS, MONEY, UNITS)
def test_cc_087_a_grant_fits_the_money_and_the_next_step_does_not(
    tariff: Tariff, before: int, money: int, most: int
) -> None:
    units = rating.affordable_units(tariff, before, money, most)
    # CC-087: Granted octets for monetary accounts are computed in integers: floor(A x unit / price); never float.
    assert 0 <= units <= most
    assert rating.cost_between(tariff, before, before + units) <= max(money, 0)
    if units < most:
        assert units % tariff.step == 0
        # More than all that was wanted is never looked at, so the next step may pass it.
        beyond = min(units + tariff.step, most)
        assert money < 0 or rating.cost_between(tariff, before, before + beyond) > money


@given(WIDE)
def test_max_units_is_the_last_that_fits(tariff: Tariff) -> None:
    widest = rating.max_units(tariff)
    assert widest % tariff.step == 0
    assert rating.cost_micros(tariff, widest) <= MAX_COST_MICROS
    assert rating.billed_units(tariff, widest) <= MAX_UNITS
    after = widest + 1
    assert rating.billed_units(tariff, after) > MAX_UNITS or rating.cost_micros(tariff, after) > MAX_COST_MICROS


@given(
    st.integers(0, 2**80),
    st.integers(1, 2**70),
    st.integers(1, 2**70),
    UNITS | st.integers(0, 2**70),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 2**70),
)
@example(2**63 - 1, 1, 1, 2**63 - 1, 2**63 - 1, 2**63 - 1)
@example(1, 2**63 - 1, 2**63 - 1, 2**63 - 1, 0, 1)
@example(2**63, 2**63, 2**63, 2**63, 2**63, 2**63)
def test_the_compiled_price_is_its_twin(
    price_micros: int, per: int, step: int, before: int, money_micros: int, most: int
) -> None:
    # Over the whole range and beyond what fits 63 bits, where the compiled one falls back to wide integers.
    compiled, twin = compiled_module.Price(price_micros, per, step), _price_reference.Price(price_micros, per, step)
    assert compiled.billed_units(before) == twin.billed_units(before)
    assert compiled.cost_micros(before) == twin.cost_micros(before)
    expected = twin.affordable_units(before, money_micros, most)
    assert compiled.affordable_units(before, money_micros, most) == expected
