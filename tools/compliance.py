"""Write docs/compliance.md: every requirement row with the tests that prove it.

usage: python tools/compliance.py [--check]

Ids come from docs/requirements/*.md, tests from the names of test functions (`test_db_043_...` proves DB-043) and from
the marker `proves`. `--check` writes nothing; it fails when the page is not current or when an id that this release
requires has no test.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compliance.md"
REQUIREMENTS = ROOT / "docs" / "requirements"
SOURCES = {
    "diameter-base.md": "Diameter base protocol",
    "credit-control.md": "Credit control",
    "scenarios.md": "Scenarios",
    "features.md": "Features",
    "radius.md": "RADIUS",
    "sy-and-nchf.md": "Sy and Nchf",
}
ROW = re.compile(r"^\|\s*((?:DB|CC|RA|SY)-\d+|F\d\d)(?:\s+(P\d))?\s*\|\s*(.*?)\s*\|")
LINE = re.compile(r"^((?:CC|SY|RA)-\d+): (.*)")
SCENARIO = re.compile(r"^## (S\d\d) (.*)")
IN_NAME = re.compile(r"^test_(db|cc|ra|sy)_(\d{3})(?:_|$)|^test_([sf])(\d\d)(?:_|$)")

LATER_DB = {"DB-128", "DB-129", "DB-140"}
LATER_CC = {"CC-011", "CC-019", "CC-021", "CC-023", "CC-052"}


def span(first: int, last: int) -> set[str]:
    return {f"CC-{number:03d}" for number in range(first, last + 1)}


# Release 0.1: what the first session needs. DB rows are those of priority P1, added when the file is read.
REQUIRED = (
    span(1, 53)
    | span(60, 92)
    | span(105, 108)
    | span(110, 113)
    | span(140, 142)
    | {"CC-116", "CC-117", "CC-150", "CC-190", "CC-191", "CC-193", "CC-220", "CC-221"}
    | {f"S{number:02d}" for number in (1, 2, 3, 4, 5, 6, 8, 11, 12, 13, 14, 24, 30)}
    | {"F24", "F25", "F26", "F29", "F34"}
) - LATER_CC


class Row:
    def __init__(self, name: str, priority: str, text: str) -> None:
        self.name = name
        self.priority = priority
        self.text = text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail instead of writing")
    options = parser.parse_args()
    rows = {source: list(read_rows(REQUIREMENTS / source)) for source in SOURCES}
    tests = find_tests()
    page = render(rows, tests)
    if not options.check:
        PAGE.write_text(page)
        return 0
    failed = False
    if not PAGE.exists() or PAGE.read_text() != page:
        print("docs/compliance.md is not current: run `make compliance`", file=sys.stderr)
        failed = True
    for name in missing(rows, tests):
        print(f"{name} is required by this release and no test carries it", file=sys.stderr)
        failed = True
    return int(failed)


def read_rows(path: Path) -> Iterator[Row]:
    seen = set()
    for line in path.read_text().splitlines():
        for pattern in (ROW, LINE, SCENARIO):
            match = pattern.match(line)
            if match is None:
                continue
            groups = match.groups()
            if groups[0] not in seen:
                seen.add(groups[0])
                yield Row(groups[0], groups[1] if len(groups) == 3 and groups[1] else "", groups[-1])


def known_gaps() -> set[str]:
    """Numbers inside the spans above that the documents do not use."""
    named = {row.name for row in read_rows(REQUIREMENTS / "credit-control.md")}
    return {name for name in REQUIRED if name.startswith("CC-") and name not in named}


def missing(rows: dict[str, list[Row]], tests: dict[str, list[str]]) -> list[str]:
    base = {row.name for row in rows["diameter-base.md"] if row.priority == "P1"} - LATER_DB
    return sorted((REQUIRED | base) - known_gaps() - set(tests))


def find_tests() -> dict[str, list[str]]:
    """Id -> places of the tests that prove it."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for name in sorted({*named(node.name), *marked(node)}):
                    found.setdefault(name, []).append(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def named(function: str) -> set[str]:
    match = IN_NAME.match(function)
    if match is None:
        return set()
    if match[1]:
        return {f"{match[1].upper()}-{match[2]}"}
    return {f"{match[3].upper()}{match[4]}"}


def marked(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    names: set[str] = set()
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("mark.proves"):
            names |= {str(argument.value) for argument in decorator.args if isinstance(argument, ast.Constant)}
    return names


def render(rows: dict[str, list[Row]], tests: dict[str, list[str]]) -> str:
    lines = [
        "# Compliance",
        "",
        "Made by `make compliance` from the requirement rows and the tests that carry their ids. A row without a test is",
        "not claimed.",
    ]
    for source, title in SOURCES.items():
        proven = sum(row.name in tests for row in rows[source])
        lines += ["", f"## {title}: {proven} of {len(rows[source])}", "", "| id | | tests |", "|---|---|---|"]
        for row in rows[source]:
            places = tests.get(row.name, [])
            cell = "<br>".join(f"`{place.split('::')[1]}`" for place in places) or "not yet"
            lines.append(f"| {row.name} | {row.priority} | {cell} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
