"""Write docs/compliance.md: every requirement row with the tests that prove it.

usage: python tools/compliance.py [--check | --check-required]

Rows come from docs/requirements/*.md. A test proves the ids at the head of its name (`test_db_043_044_...` proves DB-043
and DB-044, `test_s01_...` proves S01) and those of the marker `proves("DB-043")`. `--check` writes nothing; it fails when
the page is not current or a test names an id that no row has. `--check-required` fails when an id that this release
requires has no test.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "diameter-base.md": "Diameter base protocol",
    "credit-control.md": "Credit control",
    "scenarios.md": "Scenarios",
    "features.md": "Features",
    "radius.md": "RADIUS",
    "sy-and-nchf.md": "Sy and Nchf",
}

RELEASE = "0.1"
REQUIRED = (
    # Release 0.1: the first session. Beside these, the P1 rows of diameter-base.md without LATER.
    # A span means the rows that exist between its ends.
    "CC-001…CC-053", "CC-060…CC-092", "CC-105…CC-108", "CC-110…CC-113", "CC-116", "CC-117", "CC-140…CC-142", "CC-150",
    "CC-190", "CC-191", "CC-193", "CC-220", "CC-221",
    "S01…S06", "S08", "S11…S14", "S24", "S30",
    "F24…F29", "F34", "F35", "F52", "F53",
)  # fmt: skip
LATER = frozenset(
    # Inside the spans above, but of a later release. Of DB-083 the Sy entry, of DB-001 and DB-086 TLS come later.
    ("DB-128", "DB-129", "DB-140", "CC-011", "CC-019", "CC-021", "CC-023", "CC-052")
)
SCENARIO_ID = re.compile(r"S\d\d")
SCENARIO_TESTS = "tests/integration/"
"""A scenario counts when a test here plays it: against the server, over TCP."""

ROW = re.compile(r"^\|\s*((?:DB|CC|RA|SY|NC)-\d{3}|F\d\d)(?:\s+(P\d))?\s*\|\s*(.*?)\s*\|")
LINE = re.compile(r"^((?:CC|SY|RA)-\d{3})()(?: P\d)?: (.*)")
SCENARIO = re.compile(r"^## (S\d\d)() (.*)")
IN_NAME = re.compile(r"_(?:(db|cc|ra|sy|nc)_(\d{3})|([sf]\d\d))(?=_|$)|_(?:and_)?(\d{3})(?=_|$)")
TEXT_LIMIT = 110
TESTS_SHOWN = 6


class Row(NamedTuple):
    """One requirement."""

    id: str
    priority: str
    text: str


class Test(NamedTuple):
    """A test function, by its file (relative to the root) and its name."""

    file: str
    name: str


Proofs = dict[str, list[Test]]
Sheets = dict[str, list[Row]]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the page or check it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="fail if the page is not current")
    mode.add_argument("--check-required", action="store_true", help="fail if a required id has no test")
    options = parser.parse_args(arguments)
    sheets = {name: list(read_rows(root / "docs" / "requirements" / name)) for name in SOURCES}
    proofs = find_proofs(root)
    if options.check_required:
        return report([f"{name}: required by release {RELEASE}, no test" for name in missing(sheets, proofs)])
    page, text = root / "docs" / "compliance.md", render(sheets, proofs)
    if options.check:
        current = page.exists() and page.read_text(encoding="utf-8") == text
        return report(strangers(sheets, proofs) + ([] if current else [f"{page.name} is old: run `make generate`"]))
    page.write_text(text, encoding="utf-8")
    return 0


def report(problems: list[str]) -> int:
    """Print problems; return the exit status."""
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the requirements of a document in its order, each once."""
    seen = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        match = ROW.match(line) or LINE.match(line) or SCENARIO.match(line)
        if match is not None and match[1] not in seen:
            seen.add(match[1])
            yield Row(match[1], match[2] or "", match[3])


def required(sheets: Sheets) -> list[str]:
    """Return the ids that this release requires, in the order of the documents."""
    rows = [row for sheet in sheets.values() for row in sheet]
    spans = [(span.split("…")[0], span.split("…")[-1]) for span in REQUIRED]
    chosen = []
    for row in rows:
        named = any(first <= row.id <= last for first, last in spans)
        first_priority = row.id.startswith("DB-") and row.priority == "P1"
        if (named or first_priority) and row.id not in LATER:
            chosen.append(row.id)
    return chosen


def missing(sheets: Sheets, proofs: Proofs) -> list[str]:
    """Return the required ids without a test that counts."""
    return [name for name in required(sheets) if not is_tested(name, proofs)]


def is_tested(name: str, proofs: Proofs) -> bool:
    """Whether an id has a test that is proof enough: a scenario has to be played against the server."""
    files = [test.file for test in proofs.get(name, [])]
    return any(file.startswith(SCENARIO_TESTS) or SCENARIO_ID.fullmatch(name) is None for file in files)


def strangers(sheets: Sheets, proofs: Proofs) -> list[str]:
    """List tests that name an id which no document has."""
    known = {row.id for sheet in sheets.values() for row in sheet}
    return [f"{test.file}: {test.name}: no row {name}" for name in proofs if name not in known for test in proofs[name]]


def find_proofs(root: Path) -> Proofs:
    """Return the tests under `tests/` by the ids that they prove."""
    proofs: Proofs = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        file = path.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for name in sorted({*ids_in_name(node.name), *ids_marked(node)}):
                    proofs.setdefault(name, []).append(Test(file, node.name))
    return proofs


def ids_in_name(function: str) -> list[str]:
    """Return the ids at the head of a test's name; a bare number repeats the prefix before it."""
    found: list[str] = []
    position, prefix = len("test"), ""
    while match := IN_NAME.match(function, position):
        if match[4] and not prefix:
            break
        prefix = (match[1] or prefix) if not match[3] else ""
        found.append(match[3].upper() if match[3] else f"{prefix.upper()}-{match[2] or match[4]}")
        position = match.end()
    return found


def ids_marked(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the ids of a test's `proves` markers."""
    calls = [call for call in node.decorator_list if isinstance(call, ast.Call)]
    proving = [call for call in calls if ast.unparse(call.func).endswith("mark.proves")]
    return [str(given.value) for call in proving for given in call.args if isinstance(given, ast.Constant)]


def render(sheets: Sheets, proofs: Proofs) -> str:
    """Return the page's text."""
    needed = set(required(sheets))
    open_ids = missing(sheets, proofs)
    lines = [
        "# Compliance",
        "",
        "Clause by clause: which test proves which requirement. Written by `make generate` from the requirement rows and",
        "from the tests that carry their ids; a row without a test is not claimed. A scenario counts when a test plays it",
        "against the server over TCP.",
        "",
        f"Release {RELEASE} requires {len(needed)} rows; {len(needed) - len(open_ids)} are tested.",
        "",
        "| document | rows | tested |",
        "|---|---|---|",
    ]
    for source, title in SOURCES.items():
        tested = sum(is_tested(row.id, proofs) for row in sheets[source])
        lines.append(f"| [{title}](requirements/{source}) | {len(sheets[source])} | {tested} |")
    for source, title in SOURCES.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| id | requirement | priority | release | status | tests |",
            "|---|---|---|---|---|---|",
        ]
        for row in sheets[source]:
            status = "tested" if is_tested(row.id, proofs) else "not yet"
            release = RELEASE if row.id in needed else ""
            cell = tests_cell(proofs.get(row.id, []))
            lines.append(f"| {row.id} | {shorten(row.text)} | {row.priority} | {release} | {status} | {cell} |")
    return "\n".join(lines) + "\n"


def tests_cell(tests: list[Test]) -> str:
    """Return the names of tests for a table's cell."""
    shown = [f"`{test.name}`" for test in tests[:TESTS_SHOWN]]
    if len(tests) > TESTS_SHOWN:
        shown.append(f"and {len(tests) - TESTS_SHOWN} more")
    return "<br>".join(shown)


def shorten(text: str) -> str:
    """Return the beginning of a requirement, as plain text."""
    plain = re.sub(r"[*`]", "", text).replace("<", "&lt;").replace("[", "\\[")
    return plain if len(plain) <= TEXT_LIMIT else plain[:TEXT_LIMIT].rsplit(" ", 1)[0] + " …"


if __name__ == "__main__":
    sys.exit(main())
