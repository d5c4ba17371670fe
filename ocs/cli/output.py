"""Tables for people, one JSON document for scripts. Amounts are exact in both."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from balance.money import format_micros

Json = dict[str, Any]

_OCTET_SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_UNLIMITED_WIDTH = 100_000


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")


def console() -> Console:
    """Standard output: colours and the terminal's width on a terminal, else neither."""
    if sys.stdout.isatty():
        return Console(highlight=False, markup=False, emoji=False)
    # What goes to a file or a pipe is neither coloured nor cut to a width.
    return Console(highlight=False, markup=False, emoji=False, color_system=None, width=_UNLIMITED_WIDTH)


def plain(value: object) -> str:
    """A value as text that a terminal may show: what peers and operators sent cannot steer it."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table; columns whose name begins with `>` are aligned to the right."""
    shown = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, show_edge=False)
    for column in columns:
        right = column.startswith(">")
        shown.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row))
    console().print(shown)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one to a line."""
    shown = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in pairs:
        shown.add_row(name, value if isinstance(value, Text) else Text(plain(value)))
    console().print(shown)


def line(text: str = "", style: str | None = None) -> None:
    """Print one line."""
    console().print(Text(plain(text), style=style or ""), soft_wrap=True)


def note(text: str) -> None:
    """One line on standard error, beside a table or a document."""
    sys.stderr.write(plain(text) + "\n")


def money(micros: int, currency: str, exponent: int) -> str:
    """E.g. `10.00 EUR`."""
    return f"{format_micros(micros, exponent)} {currency}"


def amount(value: int, kind: str, currency: str = "", exponent: int = 2, sign: bool = False) -> str:
    """An amount of any kind: exact, and for large units also as people say it. With `sign`, `+` before a positive."""
    plus = "+" if sign and value > 0 else ""
    if kind == "money":
        return plus + money(value, currency, exponent)
    if kind == "octets":
        return f"{plus}{value:,} octets{_about_octets(value)}"
    if kind == "seconds":
        return f"{plus}{value:,} s{_about_seconds(value)}"
    return f"{plus}{value:,} {kind.removesuffix('s') if value == 1 else kind}"


def _about_octets(value: int) -> str:
    for size, word in _OCTET_SIZES:
        if abs(value) >= size:
            # Tenths, cut off and not rounded: what is shown is never more than what is there.
            tenths = abs(value) * 10 // size
            whole, tenth = divmod(tenths, 10)
            number = f"{whole:,}.{tenth}" if tenth else f"{whole:,}"
            about = "" if abs(value) * 10 % size == 0 else "about "
            return f" ({about}{'-' if value < 0 else ''}{number} {word})"
    return ""


def _about_seconds(value: int) -> str:
    if abs(value) < 60:
        return ""
    rest, parts = abs(value), []
    for size, word in _SPANS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {word}")
    return f" ({'-' if value < 0 else ''}{' '.join(parts)})"


def moment(seconds: int | None) -> str:
    """UTC seconds as `2026-03-02 11:13:20Z`; empty for none."""
    if not seconds:
        return ""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def moment_us(micros: int) -> str:
    """UTC microseconds as `2026-03-02 11:13:20.000Z`."""
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{moment(seconds).removesuffix('Z')}.{fraction // 1000:03d}Z"


def next_page(page: Json) -> None:
    """Say on standard error how to go on, if there is more."""
    if page["next"] is not None:
        note(f"more: --cursor {page['next']}")
