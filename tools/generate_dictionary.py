"""Write `protocols/diameter/_dictionary_data.py` from `docs/requirements/avps.csv`.

Run it after a change of the table: `python tools/generate_dictionary.py`. With `--check` it writes nothing and exits 1
if the committed file differs.
"""

from __future__ import annotations

import csv
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "requirements" / "avps.csv"
TARGET = ROOT / "protocols" / "diameter" / "_dictionary_data.py"

VENDORS = {0: "", 10415: "_TGPP + ", 13019: "_ETSI + ", 5535: "_TGPP2 + "}
HEAD = '''"""The AVPs of docs/requirements/avps.csv, as tools/generate_dictionary.py wrote them: change the table."""

_TGPP = 10415 << 32
_ETSI = 13019 << 32
_TGPP2 = 5535 << 32

'''
MEMBER = re.compile(r"(\d*\*\d*)?([\[{<])([^\]}>]+)[\]}>]")

Row = dict[str, str]


def identifiers(rows: list[Row]) -> list[str]:
    """Give each row its constant's name; a name that occurs again gets the code as suffix."""
    names: list[str] = []
    for row in rows:
        name = row["name"].upper().replace("3GPP2-", "TGPP2-").replace("3GPP-", "TGPP-").replace("-", "_")
        if name in names:
            name = f"{name}_{row['code']}"
        if not name.isidentifier() or name in names:
            raise ValueError(f"{row['name']}: no unique constant can be made of this name")
        names.append(name)
    return names


def members(row: Row, known: dict[str, str]) -> list[str]:
    """Read a group's grammar as `(least, most, KEY)` texts; -1 is without limit.

    Members of groups marked "WS, unordered" come from a source without multiplicities: they bind nothing. Optional
    members that the table has no row for are left out; the first mention of a member counts.
    """
    unordered = "WS, unordered" in row["members"]
    found: dict[str, str] = {}
    for repeat, bracket, name in MEMBER.findall(row["members"]):
        least = 0 if bracket == "[" else 1
        key = known.get(name.lower())
        if name == "AVP" or (key is None and least == 0):
            continue
        if key is None:
            raise ValueError(f"{row['name']}: required member {name} has no row")
        most = -1 if repeat or unordered else 1
        found.setdefault(key, f"({least}, {most}, {key})")
    return list(found.values())


def enumerations(row: Row) -> list[str]:
    """Read `1=NAME; 2=OTHER` as `1: "NAME"` texts; bit masks are none; the first name of a value counts."""
    if not row["enums"] or row["enums"].startswith("bit mask"):
        return []
    names: dict[int, str] = {}
    for part in row["enums"].split(";"):
        value, name = part.strip().split("=", 1)
        names.setdefault(int(value), name)
    return [f'{value}: "{name}"' for value, name in names.items()]


def fill(items: Iterable[str], indent: str) -> str:
    """Put items into lines of at most 118 columns; an item breaks at its own spaces only if it fills a line alone."""
    line = " ".join(f"{item},".replace(" ", "\0" if len(item) < 110 else " ") for item in items)
    filled = textwrap.fill(
        line, 118, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return filled.replace("\0", " ")


def generate(table: Path) -> str:
    """Return the module's text for a table."""
    with table.open(encoding="utf-8", newline="") as file:
        rows: list[Row] = list(csv.DictReader(file))
    names = identifiers(rows)
    known = {row["name"].lower(): name for row, name in zip(rows, names, strict=True)}
    constants = [f"{n} = {VENDORS[int(r['vendor'])]}{r['code']}" for r, n in zip(rows, names, strict=True)]
    definitions = [f'({n}, "{r["name"]}", "{r["type"]}", "{r["M"]}")' for r, n in zip(rows, names, strict=True)]
    groups = [(n, members(r, known)) for r, n in zip(rows, names, strict=True) if r["type"] == "Grouped"]
    values = [(n, enumerations(r)) for r, n in zip(rows, names, strict=True)]
    text = HEAD + "\n".join(constants) + "\n\n# fmt: off\n"
    text += "ROWS: tuple[tuple[int, str, str, str], ...] = (\n" + fill(definitions, "    ") + "\n)\n\n"
    text += "MEMBERS: dict[int, tuple[tuple[int, int, int], ...]] = {\n"
    text += "".join(f"    {name}: (\n{fill(found, '        ')}\n    ),\n" for name, found in groups if found)
    text += "}\n\nENUMERATIONS: dict[int, dict[int, str]] = {\n"
    text += "".join(f"    {name}: {{\n{fill(found, '        ')}\n    }},\n" for name, found in values if found)
    return text + "}\n"


def main(arguments: list[str]) -> int:
    """Write the file, or with `--check` compare it; return the exit status."""
    text = generate(TABLE)
    if arguments == ["--check"]:
        return 0 if TARGET.read_text(encoding="utf-8") == text else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
