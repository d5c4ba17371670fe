"""`python -m bench pauses`: how long a worker with full caches stands still.

A worker of its own on a Redis of its own opens many sessions, each of another account, so that its caches are full. Then
it is loaded, open loop, and watches itself (`bench.watched_serve`): the longest time between two turns of its loop and
the longest garbage collection. At the end it is told to collect everything, as the interpreter may at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.gy.accounts import make_accounts
from bench.gy.connection import PeerError
from bench.gy.filling import fill
from bench.gy.plan import Plan
from bench.gy.servers import Ocs, Redis, ServerError
from bench.gy.traffic import Run, percentile_ns
from bench.measure import describe_machine
from ocs.telemetry import configure_logging

ABOUT = "the longest pause of a worker with many accounts and sessions in its caches"
SIGNAL_TIMEOUT_S = 30.0
FILL_S_EACH = 0.01


def register(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("pauses", help=ABOUT, description=ABOUT)
    parser.add_argument("--accounts", type=int, default=100_000, metavar="N", help="accounts with a session (100000)")
    parser.add_argument(
        "--rate", type=float, default=2000.0, metavar="R", help="requests a second while watched (2000)"
    )
    parser.add_argument("--duration-s", type=float, default=20.0, metavar="S", help="watched time (20)")
    parser.add_argument(
        "--most-ms", type=float, metavar="MS", help="fail if a collection takes longer, the forced one included"
    )
    parser.add_argument("--redis-server", metavar="PATH", help="the program (found on PATH)")
    parser.add_argument("--settings", metavar="TOML", default="", help="more lines for the server's configuration")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Fill, load, watch and print; 1 if a server fails or a collection took longer than it may."""
    connections = 4
    if options.accounts < connections or options.rate <= 0 or options.duration_s <= 0:
        options.parser.error(f"--accounts: expected {connections} or more; --rate and --duration-s: more than 0")
    plan = Plan(
        connections=connections,
        accounts=options.accounts,
        sessions=options.accounts,
        rate=options.rate,
        warm_up_s=1,
        duration_s=options.duration_s,
    )
    configure_logging("error", "text")
    try:
        report = measure(plan, options.redis_server, options.settings)
    except (ServerError, PeerError) as error:
        print(f"FAILED {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(Console(width=None if Console().is_terminal else 120), report)
    longest_ms = max(*report["longest_collection_own_cpu_ms"], report["forced_collection_own_cpu_ms"])
    if options.most_ms is not None and longest_ms > options.most_ms:
        print(f"FAILED a collection took {longest_ms:.1f} ms, expected at most {options.most_ms:g}", file=sys.stderr)
        return 1
    return 0


def measure(plan: Plan, redis_server: str | None, settings: str) -> dict[str, Any]:
    """The whole measurement; `ServerError` or `PeerError` if it cannot be made."""
    with tempfile.TemporaryDirectory(prefix="ocs-bench-") as name:
        folder = Path(name)
        watched = folder / "watch.json"
        with Redis(folder / "redis", "fast", redis_server) as redis:
            store = f'[store]\nengine = "redis"\nlevel = "fast"\nurl = "{redis.url()}"\n'
            ocs = Ocs(folder / "home", 1, store, settings)
            ocs.program = ("bench.watched_serve",)
            ocs.environment = {"OCS_WATCH_FILE": str(watched)}
            make_accounts(ocs.settings, plan)
            with ocs:
                pid = ocs.workers["worker 0"]
                # The sessions that are watched are others of the same accounts: those that fill stay as they are.
                filled = fill(plan, ocs.addresses, 2, FILL_S_EACH * plan.sessions * 2 + 30)
                if filled.problems:
                    raise ServerError(f"answers were not as expected: {filled.problems}")
                _tell(pid, signal.SIGUSR1, watched)
                loaded = plan._replace(sessions=min(plan.sessions, 2000), connections=2)
                seen = Run(loaded, ocs.addresses, {"worker 0": pid}).run()
                counts = _tell(pid, signal.SIGUSR1, watched)
                forced = _tell(pid, signal.SIGUSR2, watched)
    if seen.problems:
        raise ServerError(f"answers were not as expected: {seen.problems} {seen.examples}")
    return {
        "benchmark": "pauses",
        "machine": describe_machine(),
        "accounts": plan.accounts,
        "sessions": filled.open_sessions,
        "rate": plan.rate,
        "duration_s": plan.duration_s,
        "latency_p50_ms": percentile_ns(seen.latencies, 50) / 1e6,
        "latency_max_ms": seen.longest_ns / 1e6,
        "rss_mib": seen.rss_octets.get("worker 0", 0) / (1 << 20),
        **{name: value for name, value in counts.items() if not name.startswith(("forced", "tracked"))},
        **{name: forced[name] for name in ("forced_collection_ms", "forced_collection_own_cpu_ms", "tracked_objects")},
    }


def _tell(pid: int, number: signal.Signals, watched: Path) -> dict[str, Any]:
    """Send a signal and read what the worker writes because of it."""
    before = watched.stat().st_mtime_ns if watched.exists() else 0
    os.kill(pid, number)
    end = time.monotonic() + SIGNAL_TIMEOUT_S
    while not watched.exists() or watched.stat().st_mtime_ns == before:
        if time.monotonic() > end:
            raise ServerError(f"the worker did not obey {number.name} within {SIGNAL_TIMEOUT_S:g} s")
        time.sleep(0.01)
    found: dict[str, Any] = json.loads(watched.read_text())
    return found


def show(console: Console, report: Mapping[str, Any]) -> None:
    """A table for people."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("longest of a worker, in ms")
    table.add_column("by the clock", justify="right")
    table.add_column("own CPU", justify="right")
    table.add_row(
        "time between two turns of the loop",
        f"{report['longest_gap_ms']:.1f}",
        f"{report['longest_gap_own_cpu_ms']:.1f}",
    )
    for generation in range(3):
        count = report["collections"][generation]
        table.add_row(
            f"garbage collection of generation {generation} ({count:,} of them)",
            f"{report['longest_collection_ms'][generation]:.1f}",
            f"{report['longest_collection_own_cpu_ms'][generation]:.1f}",
        )
    table.add_row(
        f"collection of everything, forced ({report['tracked_objects']:,} objects looked at)",
        f"{report['forced_collection_ms']:.1f}",
        f"{report['forced_collection_own_cpu_ms']:.1f}",
    )
    console.print(table)
    console.print()
    console.print(
        f"{report['accounts']:,} accounts and {report['sessions']:,} sessions; {report['rate']:g} requests/s for "
        f"{report['duration_s']:g} s, latency p50 {report['latency_p50_ms']:.1f} ms, longest "
        f"{report['latency_max_ms']:.1f} ms; {report['rss_mib']:.0f} MiB",
        highlight=False,
    )
    for name, value in report["machine"].items():
        console.print(f"{name.replace('_', ' ')}: {value}", highlight=False)
