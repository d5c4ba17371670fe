"""Reading a catalogue from TOML text. Reading the file is the caller's.

All problems are collected, not just the first; only a text that is no TOML at all ends at its first error.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar

from tariffs import lint
from tariffs.model import TERMINATE, Catalogue, Currency, FinalUnitPolicy, Plan, Rule, Tariff
from tariffs.positions import Positions
from tariffs.problems import CatalogueError, Problem
from tariffs.quantities import FractionText
from tariffs.reading import Report, Table, TooManyProblems
from tariffs.tables import POLICY_KEYS, RULE_KEYS, TARIFF_KEYS, read_currency, read_policy, read_rule, read_tariff

MAX_CHARACTERS = 4 * 1024 * 1024
"""Longest text of a catalogue."""

MAX_KEYS = 200_000
"""Combinations of rating group and service identifier in all rules of a catalogue."""

_ROOT_KEYS = ("name", "currency", "tariff", "final_unit", "plan")
_PLAN_KEYS = ("name", "currency", "rule")
_TOML_LINE = re.compile(r" *\(at line ([0-9]+), column [0-9]+\)$")
_TOML_END = " (at end of document)"
# A key of n parts costs tomllib the square of n; none of ours has more than one.
_LONG_KEY = re.compile(r"""(?:^|[{,\[])[ \t]*(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){32}""", re.MULTILINE)
_LONG_INTEGER = re.compile(r"[0-9_]{1000}")

_Value = TypeVar("_Value")


def load(text: str, filename: str, version: int = 1) -> Catalogue:
    """Read a catalogue; `filename` stands in messages and `version` in documents.

    Raises `CatalogueError` with every problem that was found, in order of lines, and nothing else for any text.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        document = _parse(text, filename)
        report = Report(filename, Positions(text))
    except RecursionError:
        raise CatalogueError([Problem(filename, 1, "values are nested too deeply", "at most five levels")]) from None
    catalogue = None
    try:
        catalogue = _Loader(report, document).catalogue(version)
    except TooManyProblems:
        last = max(problem.line for problem in report.problems)
        report.problems.append(Problem(filename, last, "there are more problems, which are not shown"))
    if report.problems or catalogue is None:
        raise CatalogueError(report.problems)
    return catalogue


def _parse(text: str, filename: str) -> dict[str, Any]:
    if len(text) > MAX_CHARACTERS:
        what = f"the text has {len(text)} characters"
        raise CatalogueError([Problem(filename, 1, what, f"at most {MAX_CHARACTERS}")])
    long_key = _LONG_KEY.search(text)
    if long_key:
        line = text.count("\n", 0, long_key.end()) + 1
        raise CatalogueError([Problem(filename, line, "a key of more than 32 parts", "a key without dots")])
    try:
        text.encode("utf-8")
        return tomllib.loads(text, parse_float=FractionText)
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise CatalogueError([Problem(filename, line, "a character that UTF-8 cannot hold", "UTF-8 text")]) from None
    except ValueError as error:
        # TOMLDecodeError is one; an integer of thousands of digits is refused with a plain ValueError that has no line.
        raise CatalogueError([_syntax_problem(str(error), text, filename)]) from None


def _syntax_problem(message: str, text: str, filename: str) -> Problem:
    found = _TOML_LINE.search(message)
    if found:
        return Problem(filename, int(found[1]), f"not TOML: {message[: found.start()]}", "valid TOML")
    if message.endswith(_TOML_END):
        line = text.rstrip("\n").count("\n") + 1
        return Problem(filename, line, f"not TOML: {message.removesuffix(_TOML_END)} at the end", "valid TOML")
    digits = _LONG_INTEGER.search(text)
    line = text.count("\n", 0, digits.start()) + 1 if digits else 1
    return Problem(filename, line, "an integer of thousands of digits", "an integer of 64 bits")


class _Loader:
    """Builds the values of one document in the order in which they refer to each other.

    A name leads to `None` when what it names was itself reported: a reference to it is not a second problem.
    """

    def __init__(self, report: Report, document: dict[str, Any]) -> None:
        self._report = report
        self._root = Table(report, (), document, _ROOT_KEYS)
        self._named: dict[tuple[str, str], Table] = {}
        self._keys = 0

    def catalogue(self, version: int) -> Catalogue | None:
        """Return the catalogue, `None` if a problem was reported."""
        name = self._root.name()
        currency = read_currency(self._root, None, required=False)
        policies = self._policies()
        tariffs = self._tariffs(currency, {TERMINATE.name: TERMINATE, **dict.fromkeys(policies)})
        plans = self._plans(currency, {key: value for key, (_, value) in tariffs.items()})
        if self._report.problems or name is None:
            return None
        good_policies = _built(policies)
        good_tariffs = _built(tariffs)
        by_name = {TERMINATE.name: TERMINATE} | {policy.name: policy for _, policy in good_policies}
        lint.check_use(good_tariffs, good_policies, plans)
        lint.check_final_units(good_tariffs, by_name)
        return Catalogue(
            version,
            name,
            tuple(tariff for _, tariff in good_tariffs),
            {plan.name: plan for plan in plans},
            by_name,
            self._report.filename,
            tuple(sorted(self._report.warnings, key=lambda problem: problem.line)),
        )

    def _policies(self) -> dict[str, tuple[Table, FinalUnitPolicy | None]]:
        policies = {}
        for table in self._root.tables("final_unit", POLICY_KEYS):
            name = self._name(table)
            policy = read_policy(table, name or "")
            if name == TERMINATE.name:
                table.problem("name", f"final_unit `{name}` is built in", "another name")
            elif name is not None:
                policies[name] = (table, policy)
        return policies

    def _tariffs(
        self, default: Currency | None, policies: dict[str, FinalUnitPolicy | None]
    ) -> dict[str, tuple[Table, Tariff | None]]:
        tariffs = {}
        for index, table in enumerate(self._root.tables("tariff", TARIFF_KEYS)):
            name = self._name(table)
            currency = read_currency(table, default, required="currency" not in self._root)
            tariff = read_tariff(table, name or "", index, currency, policies)
            if name is not None:
                tariffs[name] = (table, tariff)
        return tariffs

    def _plans(self, default: Currency | None, tariffs: dict[str, Tariff | None]) -> list[Plan]:
        tables = self._root.tables("plan", _PLAN_KEYS)
        if self._root.is_empty("plan"):
            self._root.missing("plan", "at least one table `[[plan]]`")
        plans = []
        for table in tables:
            name = self._name(table)
            currency = read_currency(table, default, required="currency" not in self._root)
            rules = self._rules(table, tariffs, currency)
            if name is not None and currency is not None:
                plans.append(Plan(name, currency, tuple(rules), table.line))
        return plans

    def _rules(self, plan: Table, tariffs: dict[str, Tariff | None], currency: Currency | None) -> list[Rule]:
        tables = plan.tables("rule", RULE_KEYS)
        if plan.is_empty("rule"):
            plan.problem("rule", "the plan has no rules", "at least one table `[[plan.rule]]`")
        rules = []
        for table in tables:
            rule = read_rule(table, tariffs, currency)
            if rule is None:
                continue
            self._keys += rule.combinations
            if self._keys > MAX_KEYS:
                what = f"the rules up to here name {self._keys} combinations of rating group and service identifier"
                self._report.problem(table.path, what, f"at most {MAX_KEYS}")
                return []
            rules.append((table, rule))
        lint.check_rules(rules)
        lint.check_units(rules)
        return [rule for _, rule in rules]

    def _name(self, table: Table) -> str | None:
        """Read a table's name, `None` if it was reported or is another's of the same kind."""
        name = table.name()
        if name is None:
            return None
        kind = str(table.path[0])
        first = self._named.setdefault((kind, name), table)
        if first is not table:
            table.problem("name", f"{kind} `{name}` is defined twice, first in line {first.line}", "names that differ")
            return None
        return name


def _built(declared: dict[str, tuple[Table, _Value | None]]) -> list[tuple[Table, _Value]]:
    return [(table, value) for table, value in declared.values() if value is not None]
