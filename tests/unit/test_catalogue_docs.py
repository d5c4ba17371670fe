"""The examples of the catalogue's page load, cost what the page says, and fail as the page says."""

from __future__ import annotations

import pathlib
import re

import pytest

from tariffs.loader import load
from tariffs.problems import CatalogueError
from tariffs.quantities import MICROS, format_micros
from tariffs.rating import cost_micros

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "operate" / "catalogue.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GOOD = [text for language, title, text in FENCES if language == "toml" and not title]
WRONG = [text for language, title, text in FENCES if language == "toml" and title]
OUTPUT = [text for language, _, text in FENCES if language == "text"]


def test_the_page_has_its_examples() -> None:
    assert (len(GOOD), len(WRONG), len(OUTPUT)) == (4, 1, 1)


@pytest.mark.parametrize("place", range(len(GOOD)))
def test_an_example_loads_without_a_warning(place: int) -> None:
    assert load(GOOD[place], "example.toml").warnings == ()


def test_the_table_of_costs_is_right() -> None:
    tariffs = {tariff.name: tariff for tariff in load(GOOD[1], "example.toml").tariffs}
    rows = re.findall(r"^\| (data-100k|voice|sms) \| ([0-9,]+) [a-z]+ \|[^|]*\| ([0-9.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for name, amount, cost in rows:
        total = int(amount.replace(",", ""))
        assert format_micros(cost_micros(tariffs[name], total)) == cost


def test_the_rounding_paragraph_is_right() -> None:
    (data,) = load(GOOD[0], "example.toml").tariffs
    assert cost_micros(data, 2 * 1024 * 1024) * 5 == MICROS


def test_the_wrong_example_says_what_the_page_says() -> None:
    with pytest.raises(CatalogueError) as caught:
        load(WRONG[0], "wrong.toml")
    assert str(caught.value) + "\n" == OUTPUT[0]
