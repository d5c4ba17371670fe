"""Any text gives a catalogue or a list of problems; any value of a document has its line; matching has one meaning."""

from __future__ import annotations

import json
import pathlib
import tomllib
from typing import cast

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tariffs.currencies import CURRENCIES
from tariffs.describe import describe
from tariffs.loader import load
from tariffs.model import Action, Catalogue, Plan, Rule
from tariffs.positions import Positions
from tariffs.problems import CatalogueError
from tariffs.rating import cost_micros, max_units

DEMO = (pathlib.Path(__file__).parents[2] / "ocs" / "demo" / "catalogue.toml").read_text(encoding="utf-8")
LINES = DEMO.split("\n")
WORDS = [
    *(
        "[[plan]]",
        "[[plan.rule]]",
        "[[tariff]]",
        "[[final_unit]]",
        "[plan]",
        "[tariff.x]",
        "[",
        "]",
        "{",
        "}",
        ",",
        "=",
    ),
    *(
        "'",
        '"',
        '"""',
        "'''",
        "\\",
        "#",
        "\n",
        "\r\n",
        "\r",
        "\x00",
        "\ufeff",
        "\ud800",
        "٣",
        ".",
        "-1",
        "0",
        "1e9",
        "nan",
    ),
    *(
        "true",
        "1979-05-27",
        "9223372036854775808",
        '"KB"',
        '"1 MiB"',
        "name",
        "price",
        "rule = [{}]",
        "x" * 300,
        "9" * 5000,
    ),
]


def outcome(text: str) -> Catalogue | CatalogueError:
    """Load a text and check what every outcome promises."""
    try:
        catalogue = load(text, "f.toml")
    except CatalogueError as error:
        last = text.count("\n") + 1
        assert error.problems
        assert all(1 <= problem.line <= last and problem.file == "f.toml" for problem in error.problems)
        assert all(str(problem).isprintable() for problem in error.problems)
        return error
    json.dumps(describe(catalogue))
    for tariff in catalogue.tariffs:
        assert catalogue.tariff(tariff.index) is tariff
        assert cost_micros(tariff, max_units(tariff)) < 2**63
    return catalogue


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The demo catalogue with a few cuts, copies, swaps of lines and strange words."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "copy", "swap", "word", "value", "cut"])):
            case "drop":
                lines[place] = ""
            case "copy":
                lines.insert(place, draw(st.sampled_from(LINES)))
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[place], lines[other] = lines[other], lines[place]
            case "word":
                at = draw(st.integers(0, len(lines[place])))
                lines[place] = lines[place][:at] + draw(st.sampled_from(WORDS)) + lines[place][at:]
            case "value":
                lines[place] = lines[place].partition("=")[0] + "= " + draw(st.sampled_from(WORDS))
            case _:
                at = draw(st.integers(0, len(lines[place])))
                lines[place] = lines[place][:at]
    return "\n".join(lines)


@given(mutated())
@settings(max_examples=400, deadline=None)
def test_a_mutated_catalogue_is_read_or_refused(text: str) -> None:
    outcome(text)


@given(st.text(max_size=300))
@example("a=" + "[" * 50_000)
@example("a." * 50_000 + "a=1")
@example("['a'" + ".'a'" * 50_000 + "]")
@example("a={" * 20_000)
@settings(deadline=None)
@example("plan=" + "[[" * 400 + "]]" * 400)
def test_any_text_is_read_or_refused(text: str) -> None:
    outcome(text)


JSON_KEYS = st.sampled_from(["a", "b-c", "d e", "f.g", "é", "", '"', "\\", "'", "#", "[x]", "k=1"])
DOCUMENTS = st.dictionaries(
    JSON_KEYS,
    st.recursive(
        st.just(0) | st.sampled_from(["# no", "[[a]]", "}", '"""', "'''", "\\", "a\nb = 1"]),
        lambda values: st.lists(values, max_size=4) | st.dictionaries(JSON_KEYS, values, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


class Writer:
    """Writes a document as TOML, with blanks drawn at random, and puts into each integer the line that it stands on."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.text = ""

    def document(self, document: dict[str, object]) -> str:
        """Pairs first, then tables and arrays of tables with headers of their own."""
        nested = {key: value for key, value in document.items() if self._has_header(value)}
        for key, value in document.items():
            if key not in nested:
                self._pairs({key: value})
        for key, value in nested.items():
            brackets = ("[[", "]]") if isinstance(value, list) else ("[", "]")
            tables: list[dict[str, object]] = value if isinstance(value, list) else [cast("dict[str, object]", value)]
            for table in tables:
                self.text += f"{brackets[0]} {json.dumps(key)} {brackets[1]}"
                self._end()
                self._pairs(table)
        return self.text

    def _pairs(self, table: dict[str, object]) -> None:
        for key, value in table.items():
            self._pair(key, value)
            self._end()

    def _has_header(self, value: object) -> bool:
        is_table = isinstance(value, dict)
        is_array = isinstance(value, list) and bool(value) and all(isinstance(member, dict) for member in value)
        return (is_table or is_array) and self._data.draw(st.booleans())

    def _pair(self, key: str, value: object) -> None:
        quoted = f"'{key}'" if "'" not in key and self._data.draw(st.booleans()) else json.dumps(key)
        self.text += quoted + self._data.draw(st.sampled_from(["=", " = ", "\t="]))
        self._value(value)

    def _value(self, value: object) -> None:
        if isinstance(value, dict):
            self.text += "{"
            for place, (key, member) in enumerate(value.items()):
                self.text += ", " if place else " "
                self._pair(key, member)
            self.text += " }"
        elif isinstance(value, list):
            self.text += "["
            for member in value:
                self.text += self._data.draw(st.sampled_from(["", " ", "\n", "# ] }\n", "\n\n\t"]))
                self._value(member)
                self.text += ","
            self.text += self._data.draw(st.sampled_from(["", "\n"])) + "]"
        elif isinstance(value, str):
            self._string(value)
        else:
            self.text += str(self.text.count("\n") + 1)

    def _string(self, value: str) -> None:
        if "'''" not in value and self._data.draw(st.booleans()):
            self.text += f"'''\n{value}'''"
        elif self._data.draw(st.booleans()):
            self.text += '"""' + value.replace("\\", "\\\\").replace('"""', '""\\"') + '"""'
        else:
            self.text += json.dumps(value)

    def _end(self) -> None:
        self.text += self._data.draw(st.sampled_from(["\n", " # x = [\n", "\n\n", "\n# '''\n"]))


def check_lines(value: object, path: tuple[str | int, ...], positions: Positions) -> None:
    """Every integer is the number of the line that its path leads to."""
    if isinstance(value, dict):
        for key, member in value.items():
            check_lines(member, (*path, key), positions)
    elif isinstance(value, list):
        for place, member in enumerate(value):
            check_lines(member, (*path, place), positions)
    elif isinstance(value, int) and len(path) <= 8:
        assert positions.lines.get(path) == value


@given(DOCUMENTS, st.data())
@settings(max_examples=300, deadline=None)
def test_every_value_is_found_on_its_line(document: dict[str, object], data: st.DataObject) -> None:
    text = Writer(data).document(document)
    check_lines(tomllib.loads(text), (), Positions(text))


SMALL_SETS = st.none() | st.frozensets(st.integers(0, 3), min_size=1)
RULES = st.builds(
    lambda context, groups, identifiers: Rule(context, Action.FREE, None, groups, identifiers),
    st.sampled_from(["a@b", "c@d"]),
    SMALL_SETS,
    SMALL_SETS,
)


@given(
    st.lists(RULES, max_size=6),
    st.sampled_from(["a@b", "c@d", "e@f"]),
    st.none() | st.integers(0, 4),
    st.lists(st.integers(0, 4), max_size=3, unique=True),
)
def test_matching_is_the_first_rule_that_matches(
    rules: list[Rule], context: str, group: int | None, identifiers: list[int]
) -> None:
    plan = Plan("p", CURRENCIES["EUR"], tuple(rules))
    first = next((rule for rule in rules if rule.matches(context, group, tuple(identifiers))), None)
    assert plan.match(context, group, tuple(identifiers)) is first


@given(st.lists(RULES, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_a_rule_said_to_be_unreachable_never_matches(rules: list[Rule]) -> None:
    text = 'name = "t"\ncurrency = "EUR"\n[[plan]]\nname = "p"\n'
    for rule in rules:
        text += f'[[plan.rule]]\nservice_context = "{rule.service_context}"\naction = "free"\n'
        for key, numbers in (("rating_group", rule.rating_groups), ("service_identifier", rule.service_identifiers)):
            text += "" if numbers is None else f"{key} = {sorted(numbers)}\n"
    found = outcome(text)
    if isinstance(found, Catalogue):
        return
    lines = text.split("\n")
    starts = [place + 1 for place, line in enumerate(lines) if line == "[[plan.rule]]"]
    usages = [
        (context, group, identifiers)
        for context in ("a@b", "c@d")
        for group in (None, 0, 1, 2, 3, 4)
        for identifiers in ((), (0,), (1,), (2,), (3,), (4,), (0, 1), (0, 2), (1, 2), (2, 3), (0, 1, 2, 3))
    ]
    for problem in found.problems:
        assert "can never match" in problem.what
        hidden = starts.index(problem.line)
        for usage in usages:
            first = next((place for place, rule in enumerate(rules) if rule.matches(*usage)), None)
            assert first != hidden
