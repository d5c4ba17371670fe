"""`python -m bench micro`: CPU time of the parts, each by itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.gy.servers import ServerError
from bench.measure import describe_machine
from bench.micro import codec, documents, messages, rating, rules, stores
from bench.micro.case import Case, Result, run_case

ABOUT = "CPU time of codec, rating, rules, documents, message layer and stores, each by itself"

PARTS: dict[str, Callable[[], Iterable[Case]]] = {
    "codec": codec.measured,
    "rating": rating.measured,
    "rules": rules.measured,
    "documents": documents.measured,
    "messages": messages.measured,
    "store": stores.measured,
}


def register(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("micro", help=ABOUT, description=ABOUT)
    parser.add_argument("--part", choices=tuple(PARTS), action="append", help="only this one; may be repeated (all)")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="repeats of each case (7)")
    parser.add_argument("--repeat-s", type=float, default=0.2, metavar="SECONDS", help="CPU time of a repeat (0.2)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    if options.repeats < 1 or options.repeat_s <= 0:
        options.parser.error("--repeats and --repeat-s must be above 0")
    try:
        results = measure_parts(options.part or PARTS, options.repeats, options.repeat_s)
    except ServerError as error:
        options.parser.exit(1, f"{error}\n")
    if options.json:
        print(as_json(results))
    else:
        show(Console(width=None if Console().is_terminal else 120), results)
    return 0


def measure_parts(parts: Iterable[str], repeats: int, repeat_s: float) -> list[Result]:
    """Every case of the parts; a case ends before the next begins, so that what it holds is given back."""
    return [run_case(case, repeats, repeat_s) for part in parts for case in PARTS[part]()]


def as_json(results: Sequence[Result]) -> str:
    """Results and machine as JSON; times are CPU microseconds of one operation."""
    rows = [
        {"part": one.part, "case": one.case, "variant": one.variant, "octets": one.octets, **one.spread._asdict()}
        for one in results
    ]
    return json.dumps({"benchmark": "micro", "machine": describe_machine(), "results": rows}, indent=2)


def show(console: Console, results: Sequence[Result]) -> None:
    """Results and machine for a person."""
    table = Table(show_edge=False, pad_edge=False)
    for name in ("part", "CPU µs of one", ""):
        table.add_column(name)
    for name in ("octets", "least", "median", "most"):
        table.add_column(name, justify="right")
    for one in results:
        times = (one.spread.min_us, one.spread.median_us, one.spread.max_us)
        octets = str(one.octets) if one.octets else ""
        table.add_row(one.part, one.case, one.variant, octets, *(f"{time:.2f}" for time in times))
    console.print(table)
    console.print()
    for name, value in describe_machine().items():
        console.print(f"{name.replace('_', ' ')}: {value}", highlight=False)
