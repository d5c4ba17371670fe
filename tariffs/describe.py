"""A catalogue as plain values, for `--json` and for tables on a terminal."""

from __future__ import annotations

from tariffs.model import Catalogue, FinalUnitPolicy, Plan, Rule, Tariff
from tariffs.quantities import format_micros, format_size


def describe(catalogue: Catalogue) -> dict[str, object]:
    """Return what a catalogue holds, of values that JSON has; amounts stand as integers and as a person writes them."""
    return {
        "name": catalogue.name,
        "version": catalogue.version,
        "file": catalogue.filename,
        "counts": {
            "plans": len(catalogue.plans),
            "rules": sum(len(plan.rules) for plan in catalogue.plans.values()),
            "tariffs": len(catalogue.tariffs),
            "final_units": len(catalogue.final_units),
            "warnings": len(catalogue.warnings),
        },
        "plans": [_plan(plan) for plan in catalogue.plans.values()],
        "tariffs": [describe_tariff(tariff) for tariff in catalogue.tariffs],
        "final_units": [_final_unit(policy) for policy in catalogue.final_units.values()],
        "warnings": [str(warning) for warning in catalogue.warnings],
    }


def describe_tariff(tariff: Tariff) -> dict[str, object]:
    """Return one tariff; `text` is its price in a line, such as `0.10 EUR per 1 MiB, in steps of 1 MiB`."""
    return {
        "index": tariff.index,
        "name": tariff.name,
        "line": tariff.line,
        "text": price_text(tariff),
        "unit": tariff.unit.name.lower(),
        "currency": tariff.currency,
        "price": format_micros(tariff.price_micros),
        "price_micros": tariff.price_micros,
        "per": tariff.per,
        "step": tariff.step,
        "rounding": tariff.rounding.value,
        "default_quota": tariff.default_quota,
        "min_grant": tariff.min_grant,
        "max_grant": tariff.max_grant,
        "threshold": tariff.threshold,
        "validity_s": tariff.validity_s,
        "final_unit": tariff.final_unit,
    }


def price_text(tariff: Tariff) -> str:
    """Return a tariff's price in one line, for `explain` and tables."""
    per = format_size(tariff.per, tariff.unit)
    step = format_size(tariff.step, tariff.unit)
    return f"{format_micros(tariff.price_micros)} {tariff.currency} per {per}, in steps of {step}"


def _plan(plan: Plan) -> dict[str, object]:
    return {
        "name": plan.name,
        "line": plan.line,
        "currency": plan.currency.code,
        "has_priced_rule": plan.has_priced_rule,
        "rules": [_rule(rule) for rule in plan.rules],
    }


def _rule(rule: Rule) -> dict[str, object]:
    return {
        "line": rule.line,
        "service_context": rule.service_context,
        "rating_groups": None if rule.rating_groups is None else sorted(rule.rating_groups),
        "service_identifiers": None if rule.service_identifiers is None else sorted(rule.service_identifiers),
        "action": rule.action.value,
        "tariff": None if rule.tariff is None else rule.tariff.name,
    }


def _final_unit(policy: FinalUnitPolicy) -> dict[str, object]:
    return {
        "name": policy.name,
        "action": policy.action.name.lower(),
        "redirect_type": None if policy.redirect_type is None else policy.redirect_type.name.lower(),
        "redirect_address": policy.redirect_address,
        "filter_rules": list(policy.filter_rules),
        "filter_ids": list(policy.filter_ids),
        "validity_s": policy.validity_s,
        "repeat": policy.repeat,
    }
