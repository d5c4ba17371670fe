"""Reading one table of a catalogue: each accessor checks one key and reports what is wrong with it, with its line.

An accessor returns `None` when it has reported a problem, so that reading goes on and all problems are found; a catalogue
is built only if there was none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tariffs.model import MAX_UNSIGNED32, Unit
from tariffs.positions import Path, Positions
from tariffs.problems import MAX_PROBLEMS, Problem, did_you_mean, one_of, show
from tariffs.quantities import FractionText, QuantityError, parse_price, parse_size

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_EXPECTED = "1 to 64 letters, digits, `.`, `_` or `-`, the first a letter or digit"

MAX_LIST = 1000
"""Identifiers in one list."""


class TooManyProblems(Exception):
    """`MAX_PROBLEMS` were found: reading ends."""


class Report:
    """Collects the problems and warnings of one text."""

    def __init__(self, filename: str, positions: Positions) -> None:
        """Start with none."""
        self.filename = filename
        self.positions = positions
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    @property
    def count(self) -> int:
        """Number of problems so far."""
        return len(self.problems)

    def problem(self, path: Path, what: str, expected: str = "") -> None:
        """Add what forbids the catalogue; `TooManyProblems` when the list is full."""
        self.problems.append(Problem(self.filename, self.positions.line(path), what, expected))
        if len(self.problems) >= MAX_PROBLEMS:
            raise TooManyProblems

    def warning(self, path: Path, what: str, expected: str = "") -> None:
        """Add what does not forbid it; beyond `MAX_PROBLEMS` warnings are dropped."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(self.filename, self.positions.line(path), what, expected))


class Table:
    """One table of the document, which knows where it is."""

    def __init__(self, report: Report, path: Path, values: Mapping[str, Any], known: Collection[str]) -> None:
        """Report the keys that are not known."""
        self.report = report
        self.path = path
        self._values = values
        for key in values:
            if key not in known:
                self._unknown_key(key, known)

    def __contains__(self, key: str) -> bool:
        """Whether the key is present, with whatever value."""
        return key in self._values

    def is_empty(self, key: str) -> bool:
        """Whether the key is absent or holds an empty list."""
        return bool(self._values.get(key, []) == [])

    @property
    def line(self) -> int:
        """Line where the table begins."""
        return self.report.positions.line(self.path)

    def problem(self, key: str, what: str, expected: str = "") -> None:
        """Report what is wrong with a key, or with the table if it has no such key."""
        self.report.problem((*self.path, key), what, expected)

    def warning(self, key: str, what: str, expected: str = "") -> None:
        """Report what only looks wrong."""
        self.report.warning((*self.path, key), what, expected)

    def missing(self, key: str, expected: str) -> None:
        """Report a required key that is absent."""
        self.problem(key, f"`{key}` is missing", expected)

    def text(self, key: str, expected: str) -> str | None:
        """Return a text, `None` if it is absent or was reported."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or isinstance(value, FractionText):
            self.problem(key, f"`{key}` is {show(value)}", expected)
            return None
        return value

    def name(self, key: str = "name") -> str | None:
        """Return a required name that can stand in a command line, `None` if it was reported."""
        if key not in self._values:
            self.missing(key, _NAME_EXPECTED)
            return None
        value = self.text(key, _NAME_EXPECTED)
        if value is not None and _NAME.fullmatch(value) is None:
            self.problem(key, f"`{key}` is {show(value)}", _NAME_EXPECTED)
            return None
        return value

    def choice(self, key: str, choices: Collection[str]) -> str | None:
        """Return one of a few words, `None` if it is absent or was reported."""
        value = self.text(key, one_of(choices))
        if value is None or value in choices:
            return value
        close = did_you_mean(value, choices)
        if close:
            self.problem(key, f"`{key}` is {show(value)}, did you mean `{close}`?")
        else:
            self.problem(key, f"`{key}` is {show(value)}", one_of(choices))
        return None

    def boolean(self, key: str, default: bool) -> bool:
        """Return `true` or `false`; the default if it is absent or was reported."""
        value = self._values.get(key, default)
        if isinstance(value, bool):
            return value
        self.problem(key, f"`{key}` is {show(value)}", "`true` or `false`")
        return default

    def size(self, key: str, unit: Unit, least: int = 0, most: int | None = None) -> int | None:
        """Return an amount between two bounds, `None` if it is absent or was reported."""
        if key not in self._values:
            return None
        try:
            amount = parse_size(self._values[key], unit)
        except QuantityError as error:
            self.problem(key, f"`{key}`: {error.what}", error.expected)
            return None
        if amount < least:
            self.problem(key, f"`{key}` is {amount}", f"at least {least}")
            return None
        if most is not None and amount > most:
            self.problem(key, f"`{key}` is {amount}", f"at most {most}")
            return None
        return amount

    def price(self, key: str) -> int | None:
        """Return a required price in micro-units, `None` if it was reported."""
        if key not in self._values:
            self.missing(key, 'a price in quotes such as "0.10"')
            return None
        try:
            return parse_price(self._values[key])
        except QuantityError as error:
            self.problem(key, error.what, error.expected)
            return None

    def texts(self, key: str, expected: str) -> tuple[str, ...]:
        """Return a list of texts, without those that were reported; empty if it is absent."""
        value = self._values.get(key, [])
        if not isinstance(value, list):
            self.problem(key, f"`{key}` is {show(value)}", f"a list of texts, each {expected}")
            return ()
        good = []
        for place, member in enumerate(value):
            if isinstance(member, str) and not isinstance(member, FractionText) and member:
                good.append(member)
            else:
                self.report.problem((*self.path, key, place), f"`{key}` holds {show(member)}", expected)
        return tuple(good)

    def identifiers(self, key: str) -> frozenset[int] | None:
        """Return the numbers of an integer or of a list of them, `None` if it is absent.

        What was reported is left out, so the set may be empty then.
        """
        if key not in self._values:
            return None
        value = self._values[key]
        expected = f"an integer from 0 to {MAX_UNSIGNED32}, or a list of such"
        members = value if isinstance(value, list) else [value]
        if not members or len(members) > MAX_LIST:
            self.problem(key, f"`{key}` lists {len(members)} numbers", f"1 to {MAX_LIST}")
            return frozenset()
        good: set[int] = set()
        for place, member in enumerate(members):
            path: Path = (*self.path, key, place)
            if not isinstance(member, int) or isinstance(member, bool) or not 0 <= member <= MAX_UNSIGNED32:
                self.report.problem(path, f"`{key}` is {show(member)}", expected)
            elif member in good:
                self.report.problem(path, f"`{key}` lists {member} twice", "each number once")
            else:
                good.add(member)
        return frozenset(good)

    def tables(self, key: str, known: Collection[str]) -> list[Table]:
        """Return the tables of an array of tables; empty if it is absent or was reported."""
        value = self._values.get(key, [])
        header = ".".join([*(step for step in self.path if isinstance(step, str)), key])
        if not isinstance(value, list):
            self.problem(key, f"`{key}` is {show(value)}", f"tables that each begin with `[[{header}]]`")
            return []
        tables = []
        for place, member in enumerate(value):
            path: Path = (*self.path, key, place)
            if isinstance(member, dict):
                tables.append(Table(self.report, path, member, known))
            else:
                self.report.problem(path, f"`{key}` holds {show(member)}", f"a table that begins with `[[{header}]]`")
        return tables

    def _unknown_key(self, key: str, known: Collection[str]) -> None:
        close = did_you_mean(key, known)
        if close:
            self.problem(key, f"unknown key {show(key)}, did you mean `{close}`?")
        else:
            self.problem(key, f"unknown key {show(key)}", one_of(known))
