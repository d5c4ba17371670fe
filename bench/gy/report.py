"""What a run says: figures with their spread, as a table for people and as JSON; and whether everything was right."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.gy.traffic import Seen, percentile_ns

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
NS_PER_MS = 1e6
MOST_SHOWN = 5
SUCCESS = 2001

Balances = Sequence[tuple[int, int]]
"""By account: balance, and what is reserved of it, in micro-units."""


class Books(NamedTuple):
    """Balances compared with what the sessions must have been debited."""

    accounts: int
    """How many were compared; 0: none could be read."""
    expected_micros: int
    """Sum of all debits that the generator computed."""
    wrong: tuple[str, ...] = ()
    """A sentence for each account or session that is wrong."""
    sessions: int = 0
    """How many sessions that ended were compared, each by itself."""


def compare_books(before: Balances, after: Balances, spent_micros: Sequence[int], name: Callable[[int], str]) -> Books:
    """Every account must have lost what its sessions cost, to the micro-unit, and hold nothing back."""
    wrong = []
    for number, spent in enumerate(spent_micros):
        expected = before[number][0] - spent
        posted, reserved = after[number]
        if posted != expected:
            wrong.append(
                f"account {name(number)}: balance {posted}, expected {expected}: {posted - expected:+} micro-units"
            )
        if reserved != before[number][1]:
            wrong.append(f"account {name(number)}: {reserved} micro-units reserved, expected {before[number][1]}")
    return Books(len(spent_micros), sum(spent_micros), tuple(wrong))


def compare_sessions(expected: Sequence[tuple[str, int]], found_micros: Sequence[int]) -> list[str]:
    """A sentence for each session that cost something else than it must have."""
    return [
        f"session {session}: cost {found}, expected {micros}: {found - micros:+} micro-units"
        for (session, micros), found in zip(expected, found_micros, strict=True)
        if found != micros
    ]


class Result(NamedTuple):
    """One run against one server."""

    server: str
    repeat: int
    seen: Seen
    books: Books
    tolerate_busy: bool

    @property
    def failures(self) -> list[str]:
        """Why the run failed, a sentence each; empty: it passed."""
        seen = self.seen
        found = list(self.books.wrong)
        found += [f"{name}: {count}" for name, count in seen.problems.items()]
        found += seen.examples
        refused = {code: count for code, count in seen.codes.items() if code != SUCCESS}
        if refused and not self.tolerate_busy:
            found.append("answers other than success: " + listed(refused))
        if seen.unanswered:
            found.append(f"{seen.unanswered} requests were not answered")
        if not seen.counts["answers"]:
            found.append("no answer came in the measured time")
        return found

    def figures(self) -> dict[str, float]:
        """Numbers that are compared over the repeats, each named with its unit."""
        seen = self.seen
        answers = max(1, seen.counts["answers"])
        found = {"answers_per_s": seen.counts["answers"] / seen.seconds}
        for name, percent in PERCENTILES.items():
            found[f"latency_{name}_ms"] = percentile_ns(seen.latencies, percent) / NS_PER_MS
        found["latency_max_ms"] = seen.longest_ns / NS_PER_MS
        for name, cpu_us in seen.cpu_us.items():
            found[f"cpu_us_per_answer {name}"] = cpu_us / answers
        for name, octets in seen.rss_octets.items():
            found[f"rss_mib {name}"] = octets / (1 << 20)
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything that was seen."""
        seen = self.seen
        return {
            "server": self.server,
            "repeat": self.repeat,
            "passed": not self.failures,
            "failures": self.failures,
            "figures": self.figures(),
            "counts": {**seen.counts, "reconnects": seen.reconnects, "overdue_at_end": seen.overdue},
            "result_codes": {str(code): count for code, count in seen.codes.items()},
            "service_result_codes": {str(code): count for code, count in seen.service_codes.items()},
            "written_late_ms": {
                name: percentile_ns(seen.lags, percent) / NS_PER_MS
                for name, percent in {**PERCENTILES, "max": 100.0}.items()
            },
            "books": self.books._asdict(),
        }


def spread(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Least, median and most of each figure over the repeats."""
    each = [one.figures() for one in results]
    names = [name for name in each[0] if all(name in one for one in each)]
    found = {}
    for name in names:
        values = [one[name] for one in each]
        found[name] = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return found


def ratios(ours: Sequence[Result], reference: Sequence[Result]) -> dict[str, float]:
    """How many times the reference's medians ours are: answers a second, and CPU time that an answer costs.

    CPU time is that of the server's processes and of Redis, not the generator's.
    """

    def cost_us(results: Sequence[Result]) -> float:
        return statistics.median(
            sum(
                value
                for name, value in one.figures().items()
                if name.startswith("cpu_us") and not name.endswith("generator")
            )
            for one in results
        )

    def pace(results: Sequence[Result]) -> float:
        return statistics.median(one.figures()["answers_per_s"] for one in results)

    return {
        "answers_per_s": pace(ours) / max(pace(reference), 1e-9),
        "cpu_us_per_answer": cost_us(ours) / max(cost_us(reference), 1e-9),
    }


def show(console: Console, results: Mapping[str, Sequence[Result]], facts: Mapping[str, object]) -> None:
    """A table for people: one column for each server, least – median – most where there were repeats."""
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("figure")
    for server in results:
        table.add_column(server, justify="right")
    spreads = {server: spread(runs) for server, runs in results.items()}
    names = list(dict.fromkeys(name for one in spreads.values() for name in one))
    for name in names:
        table.add_row(name.replace("_", " "), *(_cell(one.get(name)) for one in spreads.values()))
    codes = [listed(_added([run.seen.codes for run in runs])) for runs in results.values()]
    service_codes = [listed(_added([run.seen.service_codes for run in runs])) for runs in results.values()]
    table.add_row("result codes", *codes)
    table.add_row("of services", *service_codes)
    table.add_row("accounts compared", *(_books(runs) for runs in results.values()))
    console.print(table)
    console.print()
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' ')}: {value}", highlight=False)


def show_failures(console: Console, results: Mapping[str, Sequence[Result]]) -> None:
    """What was wrong, the first of it."""
    for runs in results.values():
        for run in runs:
            failures = run.failures
            for line in failures[:MOST_SHOWN]:
                console.print(f"[bold red]FAILED[/] {run.server}: {line}", highlight=False, soft_wrap=True)
            if len(failures) > MOST_SHOWN:
                console.print(
                    f"[bold red]FAILED[/] {run.server}: and {len(failures) - MOST_SHOWN} more", highlight=False
                )


def listed(codes: Mapping[int, int]) -> str:
    """`2001 × 12,345, 3004 × 6`."""
    return ", ".join(f"{code or 'none'} × {count:,}" for code, count in sorted(codes.items())) or "none"


def _books(runs: Sequence[Result]) -> str:
    if not runs[0].books.accounts:
        return "none: no way to read them"
    wrong = sum(len(run.books.wrong) for run in runs)
    sessions = sum(run.books.sessions for run in runs)
    compared = f"{runs[0].books.accounts:,}" + (f" and {sessions:,} sessions" if sessions else "")
    return f"{compared}, " + (f"{wrong} wrong" if wrong else "all right")


def _added(each: Sequence[Mapping[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for one in each:
        for code, count in one.items():
            total[code] = total.get(code, 0) + count
    return total


def _cell(one: Mapping[str, float] | None) -> str:
    if one is None:
        return ""
    if one["min"] == one["max"]:
        return _number(one["median"])
    return f"{_number(one['min'])} – {_number(one['median'])} – {_number(one['max'])}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
