"""Which rule of a plan a usage meets."""

from __future__ import annotations

import pytest

from tariffs.currencies import CURRENCIES
from tariffs.model import Action, Catalogue, FinalUnitAction, Plan, Rule, Tariff, Unit

GY = "32251@3gpp.org"
SMS = "32274@3gpp.org"
TARIFF = Tariff(0, "t", Unit.OCTETS, 1, 1, 1, 1, 1)


def charge(
    context: str = GY, groups: set[int] | None = None, identifiers: set[int] | None = None, line: int = 0
) -> Rule:
    return Rule(
        context,
        Action.CHARGE,
        TARIFF,
        None if groups is None else frozenset(groups),
        None if identifiers is None else frozenset(identifiers),
        line,
    )


PLAN = Plan(
    "plan",
    CURRENCIES["EUR"],
    (
        charge(groups={10}, identifiers={1, 2}, line=1),
        charge(groups={10}, line=2),
        charge(identifiers={7}, line=3),
        charge(groups={20, 30}, line=4),
        charge(SMS, line=5),
        charge(groups={40}, identifiers={1}, line=6),
    ),
)

CATCH_ALL = Plan("all", CURRENCIES["EUR"], (charge(groups={10}, line=1), charge(line=2), charge(groups={20}, line=3)))


@pytest.mark.parametrize(
    ("plan", "context", "group", "identifiers", "line"),
    [
        (PLAN, GY, 10, (1,), 1),
        (PLAN, GY, 10, (2,), 1),
        (PLAN, GY, 10, (3,), 2),
        (PLAN, GY, 10, (), 2),
        (PLAN, GY, 10, (7,), 2),
        (PLAN, GY, 20, (7,), 3),
        (PLAN, GY, None, (7,), 3),
        (PLAN, GY, 99, (7,), 3),
        (PLAN, GY, 20, (), 4),
        (PLAN, GY, 30, (9,), 4),
        (PLAN, GY, 99, (), None),
        (PLAN, GY, None, (), None),
        (PLAN, GY, 40, (), None),
        (PLAN, GY, 40, (1,), 6),
        # Several identifiers of one quota: a rule must name them all.
        (PLAN, GY, 10, (1, 2), 1),
        (PLAN, GY, 10, (1, 3), 2),
        (PLAN, GY, 40, (1, 2), None),
        (PLAN, SMS, None, (), 5),
        (PLAN, SMS, 10, (1,), 5),
        (PLAN, "32260@3gpp.org", 10, (), None),
        (CATCH_ALL, GY, 10, (), 1),
        (CATCH_ALL, GY, None, (), 2),
        (CATCH_ALL, GY, 20, (5, 6), 2),
    ],
)
def test_the_first_rule_that_matches_wins(
    plan: Plan, context: str, group: int | None, identifiers: tuple[int, ...], line: int | None
) -> None:
    rule = plan.match(context, group, identifiers)
    assert (None if rule is None else rule.line) == line


def test_a_plan_knows_its_contexts() -> None:
    assert PLAN.supports(GY)
    assert PLAN.supports(SMS)
    assert not PLAN.supports("32260@3gpp.org")


def test_a_plan_without_charge_has_no_priced_rule() -> None:
    free = Plan("free", CURRENCIES["EUR"], (Rule(GY, Action.FREE), Rule(SMS, Action.BAR)))
    assert not free.has_priced_rule
    assert PLAN.has_priced_rule


def test_a_tariff_is_found_by_the_index_that_documents_hold() -> None:
    catalogue = Catalogue(3, "c", (TARIFF,), {}, {})
    assert catalogue.tariff(0) is TARIFF
    for index in (1, -1):
        with pytest.raises(LookupError, match="version 3 has no tariff"):
            catalogue.tariff(index)


def test_final_actions_and_units_have_the_numbers_of_the_wire() -> None:
    # RFC 8506 §8.35; and the numbers that charging and documents use for units.
    assert [action.value for action in FinalUnitAction] == [0, 1, 2]
    assert [(unit.name, unit.value) for unit in Unit] == [("OCTETS", 1), ("SECONDS", 2), ("EVENTS", 3)]
