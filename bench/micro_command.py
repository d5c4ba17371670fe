"""`python -m bench micro`: CPU time of the parts, each for itself."""

from __future__ import annotations

import argparse
import json
from typing import Any

from bench import micro
from bench.measure import describe_machine

ABOUT = "CPU time of the codec per message, compiled and readable twin"


def register(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("micro", help=ABOUT, description=ABOUT)
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="repeats of each case (7)")
    parser.add_argument("--repeat-s", type=float, default=0.2, metavar="SECONDS", help="CPU time of a repeat (0.2)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    if options.repeats < 1 or options.repeat_s <= 0:
        options.parser.error("--repeats and --repeat-s must be above 0")
    results = micro.run(options.repeats, options.repeat_s)
    print(as_json(results) if options.json else as_table(results))
    return 0


def as_json(results: list[micro.Result]) -> str:
    """Return results and machine as JSON; times are CPU microseconds per message."""
    rows = [{"case": row.case, "codec": row.codec, "octets": row.octets, **row.spread._asdict()} for row in results]
    return json.dumps({"benchmark": "micro", "machine": describe_machine(), "results": rows}, indent=2)


def as_table(results: list[micro.Result]) -> str:
    """Return results and machine for a person."""
    lines = [f"{'CPU µs per message':40}{'codec':10}{'octets':>8}{'min':>10}{'median':>10}{'max':>10}"]
    for row in results:
        times = f"{row.spread.min_us:10.2f}{row.spread.median_us:10.2f}{row.spread.max_us:10.2f}"
        lines.append(f"{row.case:40}{row.codec:10}{row.octets:8}{times}")
    lines += ["", *(f"{name}: {value}" for name, value in describe_machine().items())]
    return "\n".join(lines)
