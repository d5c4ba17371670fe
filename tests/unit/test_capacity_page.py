"""The page on capacity: its examples are what its formula gives with the default settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ocs.charging.settings import ChargingSettings

TEXT = (Path(__file__).parents[2] / "docs" / "operate" / "capacity.md").read_text(encoding="utf-8")
NAMES = ("A", "S", "s", "e", "o", "P")
EXAMPLES = re.findall(r"^\| a [a-z ]+\|" + r" ([\d,]+) \|" * 6 + r" ([\d.]+) GB \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one[0])
def test_an_example_is_what_the_formula_gives(example: tuple[str, ...]) -> None:
    (formula,) = re.findall(r"octets = (.*?)```", TEXT, re.DOTALL)
    settings = ChargingSettings()
    values: dict[str, object] = {name: getattr(settings, name) for name in settings.__struct_fields__}
    values |= {name: int(text.replace(",", "")) for name, text in zip(NAMES, example, strict=False)}
    python = re.sub(r"(\d),(\d)", r"\1\2", formula).replace("×", "*")
    octets = eval(" ".join(python.split()), {}, values)
    assert octets / 1e9 == pytest.approx(float(example[-1]), rel=0.01)


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) == 2
