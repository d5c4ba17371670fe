"""What is wrong with a catalogue as a whole, though each of its tables is right by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tariffs.model import FinalUnitAction, FinalUnitPolicy, Plan, Rule, RuleKey, Tariff, Unit
from tariffs.reading import Table

USUAL_UNITS: Mapping[str, frozenset[Unit]] = {
    "32251@3gpp.org": frozenset({Unit.OCTETS, Unit.SECONDS}),
    "32260@3gpp.org": frozenset({Unit.SECONDS, Unit.OCTETS}),
    "32270@3gpp.org": frozenset({Unit.EVENTS}),
    "32274@3gpp.org": frozenset({Unit.EVENTS}),
    "32275@3gpp.org": frozenset({Unit.SECONDS, Unit.EVENTS}),
    "32276@3gpp.org": frozenset({Unit.SECONDS}),
}
"""What gateways of each service context report (TS 32.299): packet data, IMS, MMS, SMS, MMTel, circuit voice."""


def check_rules(rules: Sequence[tuple[Table, Rule]]) -> None:
    """Report the rules of one plan that can never match, and warn of those that match only in part.

    A rule is unreachable when an earlier one takes every combination that it names. Earlier rules that cover a list of
    service identifiers only one by one leave usage with several of them to it, so it counts as reachable.
    """
    seen: dict[RuleKey, int] = {}
    for table, rule in rules:
        keys = rule.named_keys()
        lines = [_covering_line(seen, key) for key in keys]
        covered = [line for line in lines if line is not None]
        several = rule.service_identifiers is not None and len(rule.service_identifiers) > 1
        if covered and len(covered) == len(lines) and (not several or len(set(covered)) == 1):
            table.report.problem(
                table.path,
                f"the rule can never match, line {covered[0]} already takes all that it names",
                "the narrower rule first",
            )
        elif covered:
            _, group, identifier = keys[next(place for place, line in enumerate(lines) if line is not None)]
            words = [] if group is None else [f"rating group {group}"]
            words += [] if identifier is None else [f"service identifier {identifier}"]
            what = f"{' with '.join(words)} is already taken by the rule in line {covered[0]}"
            table.report.warning(table.path, what)
        for key in keys:
            seen.setdefault(key, rule.line)


def _covering_line(seen: Mapping[RuleKey, int], key: RuleKey) -> int | None:
    context, group, identifier = key
    for wider in ((context, None, None), (context, group, None), (context, None, identifier), key):
        line = seen.get(wider)
        if line is not None:
            return line
    return None


def check_units(rules: Iterable[tuple[Table, Rule]]) -> None:
    """Warn of tariffs that count what the gateways of their service context do not report."""
    for table, rule in rules:
        usual = USUAL_UNITS.get(rule.service_context)
        if rule.tariff is not None and usual is not None and rule.tariff.unit not in usual:
            what = f"tariff `{rule.tariff.name}` counts {_word(rule.tariff.unit)}"
            expected = " or ".join(_word(unit) for unit in sorted(usual))
            table.warning("tariff", what, f"{expected} in {rule.service_context}")


def check_final_units(tables: Iterable[tuple[Table, Tariff]], policies: Mapping[str, FinalUnitPolicy]) -> None:
    """Warn of events with a final action: only grants of octets and seconds carry one (CC-086)."""
    for table, tariff in tables:
        policy = policies[tariff.final_unit]
        if tariff.unit is Unit.EVENTS and policy.action is not FinalUnitAction.TERMINATE:
            table.warning("final_unit", "events have no final units, the policy is never used", "no `final_unit`")


def check_use(
    tariffs: Iterable[tuple[Table, Tariff]],
    policies: Iterable[tuple[Table, FinalUnitPolicy]],
    plans: Iterable[Plan],
) -> None:
    """Warn of what nothing refers to."""
    used_tariffs = {rule.tariff.name for plan in plans for rule in plan.rules if rule.tariff is not None}
    used_policies = set()
    for table, tariff in tariffs:
        used_policies.add(tariff.final_unit)
        if tariff.name not in used_tariffs:
            table.warning("name", f"no plan uses tariff `{tariff.name}`")
    for table, policy in policies:
        if policy.name not in used_policies:
            table.warning("name", f"no tariff uses final_unit `{policy.name}`")


def _word(unit: Unit) -> str:
    return unit.name.lower()
