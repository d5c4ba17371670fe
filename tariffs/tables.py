"""What each kind of table of a catalogue must hold: final-unit policies, tariffs and rules.

A reader returns `None` when it reported a problem that leaves it without a value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from tariffs.currencies import CURRENCIES
from tariffs.model import (
    MAX_COST_MICROS,
    MAX_UNSIGNED32,
    REQUIRED_UNITS,
    TERMINATE,
    Action,
    Currency,
    FinalUnitAction,
    FinalUnitPolicy,
    RedirectType,
    Rounding,
    Rule,
    Tariff,
    Unit,
)
from tariffs.problems import did_you_mean, show
from tariffs.quantities import SIZE_EXPECTED, format_micros, format_size
from tariffs.rating import billed_units, max_units
from tariffs.reading import Table

POLICY_KEYS = ("name", "action", "address_type", "address", "filter_rules", "filter_ids", "validity", "repeat")
TARIFF_KEYS = (
    "name",
    "unit",
    "currency",
    "price",
    "per",
    "step",
    "rounding",
    "default_quota",
    "min_grant",
    "max_grant",
    "threshold",
    "validity",
    "final_unit",
)
RULE_KEYS = ("service_context", "rating_group", "service_identifier", "action", "tariff")

MAX_RULE_KEYS = 10_000
"""Combinations of rating group and service identifier in one rule."""

_UNITS = {unit.name.lower(): unit for unit in Unit}
_ACTIONS = {action.name.lower(): action for action in FinalUnitAction}
_ADDRESS_TYPES = {kind.name.lower(): kind for kind in RedirectType}
_ADDRESS_EXPECTED = {
    RedirectType.IPV4: "an IPv4 address such as `192.0.2.1`",
    RedirectType.IPV6: "an IPv6 address such as `2001:db8::1`",
    RedirectType.URL: "an address such as `http://topup.example.net/`",
    RedirectType.SIP: "a SIP URI such as `sip:topup@example.net`",
}
_FILTER_RULE = re.compile(r"(permit|deny) (in|out) \S+ from \S[ -~]* to \S[ -~]*")
_SIP_URI = re.compile(r"sips?:(?:[!-?A-~]+@)?[!-?A-~]+")
_CONTEXT = re.compile(r"[!-~]{1,255}")
_3GPP_CONTEXT = re.compile(r".*?([0-9]{5}@3gpp\.org)", re.IGNORECASE)


def read_currency(table: Table, default: Currency | None, required: bool) -> Currency | None:
    """Read `currency`, which the catalogue's own stands in for."""
    expected = 'a code of ISO 4217 such as "EUR"'
    if "currency" not in table:
        if default is None and required:
            table.missing("currency", f"{expected}, here or at the top of the catalogue")
        return default
    code = table.text("currency", expected)
    if code is not None and code not in CURRENCIES:
        table.problem("currency", f"unknown currency {show(code)}", expected)
    return None if code is None else CURRENCIES.get(code)


def read_policy(table: Table, name: str) -> FinalUnitPolicy | None:
    """Read one `[[final_unit]]`."""
    word = table.choice("action", _ACTIONS)
    validity = table.size("validity", Unit.SECONDS, 1, MAX_UNSIGNED32)
    repeat = table.boolean("repeat", False)
    if word is None:
        if "action" not in table:
            table.missing("action", "`terminate`, `redirect` or `restrict`")
        return None
    action = _ACTIONS[word]
    _refuse(table, word, _keys_without_effect(action))
    kind, address = _redirect_address(table) if action is FinalUnitAction.REDIRECT else (None, None)
    return FinalUnitPolicy(
        name,
        action,
        kind,
        address,
        _filter_rules(table),
        table.texts("filter_ids", "the name of a filter that the gateway knows"),
        300 if validity is None else validity,
        repeat,
    )


def _keys_without_effect(action: FinalUnitAction) -> tuple[str, ...]:
    if action is FinalUnitAction.TERMINATE:
        return ("address_type", "address", "filter_rules", "filter_ids", "validity", "repeat")
    if action is FinalUnitAction.RESTRICT:
        return ("address_type", "address")
    return ()


def _refuse(table: Table, action: str, keys: tuple[str, ...]) -> None:
    for key in keys:
        if key in table:
            table.problem(key, f"`{key}` has no effect with action `{action}`", "no such key")


def _redirect_address(table: Table) -> tuple[RedirectType | None, str | None]:
    word = table.choice("address_type", _ADDRESS_TYPES)
    if "address_type" not in table:
        table.missing("address_type", "`ipv4`, `ipv6`, `url` or `sip`")
    if word is None:
        return None, None
    kind = _ADDRESS_TYPES[word]
    address = table.text("address", _ADDRESS_EXPECTED[kind])
    if "address" not in table:
        table.missing("address", _ADDRESS_EXPECTED[kind])
    elif address is not None and not _is_address(kind, address):
        table.problem("address", f"`address` is {show(address)}", _ADDRESS_EXPECTED[kind])
    return kind, address


def _is_address(kind: RedirectType, address: str) -> bool:
    try:
        if kind is RedirectType.IPV4:
            return bool(ipaddress.IPv4Address(address))
        if kind is RedirectType.IPV6:
            return bool(ipaddress.IPv6Address(address)) and "%" not in address
        if kind is RedirectType.SIP:
            return _SIP_URI.fullmatch(address) is not None
        parts = urlsplit(address)
        # Reading the port checks it.
        return bool(
            parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and _CONTEXT.fullmatch(address)
        )
    except ValueError:
        return False


def _filter_rules(table: Table) -> tuple[str, ...]:
    expected = "an IPFilterRule such as `permit out ip from 192.0.2.1 to assigned`"
    rules = table.texts("filter_rules", expected)
    for rule in rules:
        if _FILTER_RULE.fullmatch(rule) is None:
            table.problem("filter_rules", f"`filter_rules` holds {show(rule)}", expected)
    return rules


def read_tariff(
    table: Table, name: str, index: int, currency: Currency | None, policies: Mapping[str, object]
) -> Tariff | None:
    """Read one `[[tariff]]`; `policies` are the final-unit policies that it may name."""
    before = table.report.count
    price = table.price("price")
    table.choice("rounding", [rounding.value for rounding in Rounding])
    policy = _policy_name(table, policies)
    validity = table.size("validity", Unit.SECONDS, 1, MAX_UNSIGNED32)
    word = table.choice("unit", _UNITS)
    if word is None:
        # Without the unit no amount can be read, so those of this table wait until it is known.
        if "unit" not in table:
            table.missing("unit", "`octets`, `seconds` or `events`")
        return None
    unit = _UNITS[word]
    per = _size(table, "per", unit, 1 if unit is Unit.EVENTS else None)
    step = _size(table, "step", unit, per)
    # Quotas of seconds travel as Unsigned32, those of octets and events as Unsigned64.
    widest = MAX_UNSIGNED32 if unit is Unit.SECONDS else None
    quota = _size(table, "default_quota", unit, 1 if unit is Unit.EVENTS else None, widest)
    threshold = table.size("threshold", unit, 0, MAX_UNSIGNED32)
    max_grant = table.size("max_grant", unit, 0, widest)
    min_grant = _size(table, "min_grant", unit, min(step, quota) if step and quota else 1, widest)
    if quota is not None:
        _check_grants(table, unit, quota, min_grant, max_grant, threshold)
    if price is None or per is None or step is None or quota is None or min_grant is None:
        return None
    tariff = Tariff(
        index=index,
        name=name,
        unit=unit,
        price_micros=price,
        per=per,
        step=step,
        default_quota=quota,
        min_grant=min_grant,
        max_grant=max_grant or 0,
        threshold=threshold or 0,
        validity_s=3600 if validity is None else validity,
        final_unit=policy,
        currency=currency.code if currency else "",
        line=table.line,
    )
    _check_overflow(table, tariff)
    return tariff if table.report.count == before else None


def _policy_name(table: Table, policies: Mapping[str, object]) -> str:
    name = table.text("final_unit", "the name of a `[[final_unit]]`, or `terminate`")
    if name is not None and name not in policies:
        _unknown_reference(table, "final_unit", name, policies)
    return name or TERMINATE.name


def _unknown_reference(table: Table, kind: str, name: str, known: Mapping[str, object]) -> None:
    close = did_you_mean(name, known)
    if close:
        table.problem(kind, f"unknown {kind} {show(name)}, did you mean `{close}`?")
    else:
        table.problem(kind, f"unknown {kind} {show(name)}", f"the name of a `[[{kind}]]`")


def _size(table: Table, key: str, unit: Unit, default: int | None, most: int | None = None) -> int | None:
    """Read an amount of at least 1; without a default it is required, save the step, whose default `per` is reported."""
    if key in table:
        return table.size(key, unit, 1, most)
    if default is None and key != "step":
        table.missing(key, SIZE_EXPECTED[unit])
    return default


def _check_grants(
    table: Table, unit: Unit, quota: int, min_grant: int | None, max_grant: int | None, threshold: int | None
) -> None:
    written = format_size(quota, unit)
    if min_grant is not None and min_grant > quota:
        what = f"`min_grant` {format_size(min_grant, unit)} is above `default_quota` {written}"
        table.problem("min_grant", what, f"at most {written}")
    if max_grant and quota > max_grant:
        most = format_size(max_grant, unit)
        table.problem("max_grant", f"`max_grant` {most} is below `default_quota` {written}", f"at least {written}")
    if threshold is not None and threshold >= quota:
        what = f"`threshold` {format_size(threshold, unit)} is not below `default_quota` {written}"
        table.problem("threshold", what, f"less than {written}")


def _check_overflow(table: Table, tariff: Tariff) -> None:
    required = REQUIRED_UNITS[tariff.unit]
    if billed_units(tariff, required) > max_units(tariff):
        what = f"the price of {format_size(required, tariff.unit)} would pass {format_micros(MAX_COST_MICROS)}"
        table.problem("price", what, "a lower `price`, a larger `per` or a smaller `step`")


def read_rule(table: Table, tariffs: Mapping[str, Tariff | None], currency: Currency | None) -> Rule | None:
    """Read one `[[plan.rule]]`; `tariffs` are those it may name, `None` standing for one that was itself reported."""
    context = _service_context(table)
    groups = table.identifiers("rating_group")
    identifiers = table.identifiers("service_identifier")
    action, tariff = _action(table, tariffs, currency)
    if context is None or action is None:
        return None
    rule = Rule(context, action, tariff, groups, identifiers, table.line)
    if rule.combinations > MAX_RULE_KEYS:
        what = f"the rule has {rule.combinations} combinations of `rating_group` and `service_identifier`"
        table.problem("rating_group", what, f"at most {MAX_RULE_KEYS}")
        return None
    return rule


def _service_context(table: Table) -> str | None:
    expected = "a service context such as `32251@3gpp.org`"
    context = table.text("service_context", expected)
    if context is None:
        if "service_context" not in table:
            table.missing("service_context", expected)
        return None
    if _CONTEXT.fullmatch(context) is None:
        table.problem("service_context", f"`service_context` is {show(context)}", expected)
        return None
    found = _3GPP_CONTEXT.fullmatch(context)
    if found and context != found[1].lower():
        what = f"`service_context` is {show(context)}"
        table.problem("service_context", what, f"the part that all releases share, `{found[1].lower()}`")
        return None
    if "@" not in context:
        table.warning("service_context", f"`service_context` {show(context)} names no domain", expected)
    return context


def _action(
    table: Table, tariffs: Mapping[str, Tariff | None], currency: Currency | None
) -> tuple[Action | None, Tariff | None]:
    word = table.choice("action", [action.value for action in Action])
    name = table.text("tariff", "the name of a `[[tariff]]`")
    if "action" in table and word is None:
        return None, None
    action = Action.CHARGE if word is None else Action(word)
    if action is not Action.CHARGE:
        _refuse(table, action, ("tariff",))
        return action, None
    if "tariff" not in table:
        expected = "the name of a `[[tariff]]`" if word else "it, or `action` with `free`, `bar` or `deny`"
        table.missing("tariff", expected)
    elif name is not None and name not in tariffs:
        _unknown_reference(table, "tariff", name, tariffs)
    tariff = None if name is None else tariffs.get(name)
    if tariff and currency and tariff.currency and tariff.currency != currency.code:
        what = f"tariff `{tariff.name}` is priced in {tariff.currency}, the plan is in {currency.code}"
        table.problem("tariff", what, "one currency")
    return action, tariff
