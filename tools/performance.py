"""Measure what docs/reference/performance.md says, and write its table.

usage: python tools/performance.py run [SCENARIO...] | table

`run` plays the scenarios one after the other, each as its own `python -m bench`, and writes bench/results/SCENARIO.json.
`table` writes the page's table from these files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "reference" / "performance.md"
BEGIN, END = "<!-- results:", "<!-- end of results -->"
Json = dict[str, Any]


class Scenario(NamedTuple):
    """One file of results."""

    about: str
    command: tuple[str, ...]


SCENARIOS = {
    "closed": Scenario("one worker, Redis `fast`", ("gy", "--reference", "--repeats", "3")),
    "half": Scenario("the same at half the pace, open loop", ("gy", "--sessions", "4000", "--rate", "HALF")),
    "groups": Scenario("three rating groups", ("gy", "--rating-groups", "3", "--repeats", "3")),
    "safe": Scenario("one worker, Redis `safe`", ("gy", "--level", "safe", "--repeats", "3")),
    "workers": Scenario("two workers, Redis `fast`", ("gy", "--workers", "2", "--repeats", "3")),
    "sqlite": Scenario("one worker, SQLite", ("gy", "--store", "sqlite", "--repeats", "3")),
    "micro": Scenario("parts", ("micro",)),
    "memory": Scenario("memory in Redis", ("memory", "--accounts", "100000", "--sessions", "100000")),
    "pauses": Scenario("pauses", ("pauses",)),
}
LOADS = ("closed", "half", "groups", "safe", "workers", "sqlite")


def run(names: Sequence[str]) -> int:
    """Play scenarios; the exit status of the first that fails."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        command = [sys.executable, "-m", "bench", *_arguments(name), "--json"]
        print(name, *command[3:], flush=True)
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{name}: failed with status {done.returncode}", file=sys.stderr)
            return done.returncode
        (RESULTS / f"{name}.json").write_text(done.stdout)
    return 0


def _arguments(name: str) -> list[str]:
    command = list(SCENARIOS[name].command)
    if "HALF" in command:
        closed = read("closed")
        if closed is None:
            raise SystemExit(f"{name}: play the scenario `closed` first, whose pace it halves")
        pace = closed["summary"]["tollgate-ocs"]["answers_per_s"]["median"]
        command[command.index("HALF")] = str(max(1, int(pace // 2)))
    return command


def read(name: str) -> Json | None:
    """Results of a scenario, `None` if it was not played."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    found: Json = json.loads(path.read_text())
    return found


def table() -> str:
    """The Markdown between the page's marks."""
    found = {name: result for name in SCENARIOS if (result := read(name)) is not None}
    if not found:
        return "No run of this release is recorded yet.\n"
    parts = [_machine(next(iter(found.values()))["machine"])]
    loads = [name for name in LOADS if name in found]
    if loads:
        parts.append(_loads({name: found[name] for name in loads}))
    writers: dict[str, Callable[[Json], str]] = {"memory": _memory, "pauses": _pauses, "micro": _micro}
    parts += [write(found[name]) for name, write in writers.items() if name in found]
    return "\n\n".join(parts) + "\n"


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}; "
        f"Tollgate {machine['tollgate_ocs']}."
    )


def _loads(found: Mapping[str, Json]) -> str:
    lines = [
        "| scenario | answers/s | p50 ms | p99 ms | p99.9 ms | CPU µs of workers | of Redis | of the generator |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        for server, figures in result["summary"].items():
            about = SCENARIOS[name].about if server == "tollgate-ocs" else "the reference, in the same run"
            latencies = [_spread(figures[f"latency_{one}_ms"]) for one in ("p50", "p99", "p99.9")]
            workers = [one for key, one in figures.items() if key.startswith("cpu_us_per_answer worker")]
            summed = {key: sum(one[key] for one in workers) for key in ("min", "median", "max")}
            redis = figures.get("cpu_us_per_answer redis")
            cells = [
                about,
                _spread(figures["answers_per_s"]),
                *latencies,
                _spread(summed),
                _spread(redis) if redis else "",
                _spread(figures["cpu_us_per_answer generator"]),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    ratio = found.get("closed", {}).get("ratio_to_reference")
    if ratio:
        times, share = ratio["answers_per_s"], 1 / ratio["cpu_us_per_answer"]
        lines += ["", f"To the reference: {times:.1f} times the answers, at 1/{share:.0f} of the CPU time each."]
    return "\n".join(lines)


def _memory(result: Json) -> str:
    lines = ["| in Redis | octets each | MiB a million |", "|---|---|---|"]
    for key, about in (("per_account", "an account"), ("per_session", "an open session")):
        octets = result[key]["octets"]
        lines.append(f"| {about}, locators and indexes included | {octets:,.0f} | {octets * 1e6 / (1 << 20):,.0f} |")
    return "\n".join(lines)


def _pauses(result: Json) -> str:
    longest = max(result["longest_collection_own_cpu_ms"])
    return (
        f"With {result['accounts']:,} accounts and {result['sessions']:,} sessions in its caches, under "
        f"{result['rate']:g} requests/s: longest garbage collection {longest:.1f} ms, a forced collection of everything "
        f"{result['forced_collection_own_cpu_ms']:.1f} ms, longest time between two turns of the loop "
        f"{result['longest_gap_own_cpu_ms']:.1f} ms of its own CPU time."
    )


def _micro(result: Json) -> str:
    lines = ["| part | CPU µs of one | | least – median – most |", "|---|---|---|---|"]
    for one in result["results"]:
        figures = {"min": one["min_us"], "median": one["median_us"], "max": one["max_us"]}
        lines.append(f"| {one['part']} | {one['case']} | {one['variant']} | {_spread(figures)} |")
    return "\n".join(lines)


def _spread(one: Mapping[str, float]) -> str:
    """The median, with the least and the most in brackets where they differ."""
    if one["min"] == one["max"]:
        return _number(one["median"])
    return f"{_number(one['median'])} ({_number(one['min'])}–{_number(one['max'])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def page_with(text: str, between: str) -> str:
    """The page with something else between its marks; `ValueError` if it has none."""
    head, begin, rest = text.partition(BEGIN)
    mark, closing, tail = rest.partition("-->\n")
    _, end, after = tail.partition(END)
    if not (begin and closing and end):
        raise ValueError(f"{PAGE}: the marks of the results are gone")
    return f"{head}{begin}{mark}{closing}\n{between}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    playing = commands.add_parser("run")
    playing.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)} (all)")
    commands.add_parser("table")
    options = parser.parse_args(arguments)
    if options.command == "run":
        if unknown := set(options.scenarios) - set(SCENARIOS):
            parser.error(f"{', '.join(sorted(unknown))}: expected of {', '.join(SCENARIOS)}")
        return run(options.scenarios or list(SCENARIOS))
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
