"""`python -m bench memory`: what accounts and sessions take in Redis, locators and indexes included.

Accounts are made and sessions are opened through the product itself; then every key of Redis is asked for its memory
(MEMORY USAGE, all elements), and the sums by kind of key are scaled to a million. `used_memory` before and after,
less the events, says how much of the truth the sums tell.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.gy.accounts import make_accounts
from bench.gy.connection import PeerError
from bench.gy.filling import fill
from bench.gy.plan import PRICES, Plan
from bench.gy.servers import Ocs, Redis, ServerError
from bench.measure import describe_machine
from bench.redis_facts import RedisFacts
from ocs.telemetry import configure_logging

ABOUT = "memory in Redis of a million accounts and of a million sessions"
MILLION = 1_000_000
FILL_S_EACH = 0.01
"""Seconds that one request may take at most, on average."""

KINDS = {
    "a": "account documents",
    "u": "subscriber documents",
    "i": "identity documents",
    "o": "operation documents (30 days)",
    "s": "session documents",
    "l": "locators",
    "m": "catalogue and secret",
    "other": "the store's mark",
    "!outbox": "events not archived yet",
    "!trimmed": "how far events are archived",
    "!due": "due items",
    "!index:accounts": "index of accounts",
    "!index:subscribers": "index of subscribers",
    "!index:account-subscribers": "index of an account's subscribers",
    "!index:sessions": "index of sessions",
    "!index:account-sessions": "index of an account's sessions",
    "!index:peer-sessions": "index of a peer's sessions",
}
PASSING = frozenset({"!outbox", "!trimmed"})
"""What the archiver takes away; it is told apart, and not in the sums."""

_KEY = re.compile(rb"\{p\d+\}(?::([a-z]+):|(!index:[a-z-]+)|(![a-z]+))")


class Sums(NamedTuple):
    """Keys of Redis by kind."""

    used_octets: int
    kinds: Mapping[str, tuple[int, int]]
    """(keys, octets)."""

    @property
    def staying_octets(self) -> int:
        """What Redis has given out, without what the archiver takes away."""
        return self.used_octets - sum(octets for kind, (_, octets) in self.kinds.items() if kind in PASSING)


def register(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("memory", help=ABOUT, description=ABOUT)
    parser.add_argument("--accounts", type=int, default=20_000, metavar="N", help="accounts that are made (20000)")
    parser.add_argument("--sessions", type=int, default=20_000, metavar="N", help="sessions that are opened (20000)")
    parser.add_argument(
        "--requests", type=int, default=4, metavar="N", help="requests of each session: as many outcomes are kept (4)"
    )
    parser.add_argument("--rating-groups", type=int, choices=(1, 2, 3), default=1, help="of each session (1)")
    parser.add_argument("--redis-server", metavar="PATH", help="the program (found on PATH)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Make, open, count and print; 1 if a server fails."""
    connections = 4
    if min(options.accounts, options.sessions) < connections or options.requests < 1:
        options.parser.error(f"--accounts and --sessions: expected {connections} or more; --requests: 1 or more")
    plan = Plan(
        connections=connections,
        window=64,
        accounts=options.accounts,
        sessions=options.sessions,
        prices=PRICES[: options.rating_groups],
    )
    configure_logging("error", "text")
    try:
        report = measure(plan, options.requests, options.redis_server)
    except (ServerError, PeerError) as error:
        print(f"FAILED {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(Console(width=None if Console().is_terminal else 120), report)
    return 0


def measure(plan: Plan, requests_each: int, redis_server: str | None = None) -> dict[str, Any]:
    """The whole measurement; `ServerError` or `PeerError` if it cannot be made."""
    with tempfile.TemporaryDirectory(prefix="ocs-bench-") as name:
        folder = Path(name)
        with Redis(folder / "redis", "fast", redis_server) as redis, RedisFacts(folder / "redis/redis.sock") as facts:
            store = f'[store]\nengine = "redis"\nlevel = "fast"\nurl = "{redis.url()}"\n'
            ocs = Ocs(folder / "home", 1, store)
            empty = sums(facts)
            make_accounts(ocs.settings, plan)
            accounts = sums(facts)
            with ocs:
                filled = fill(plan, ocs.addresses, requests_each, FILL_S_EACH * plan.sessions * requests_each + 30)
            if filled.problems:
                raise ServerError(f"answers were not as expected: {filled.problems}")
            sessions = sums(facts)
    return {
        "benchmark": "memory",
        "machine": describe_machine(),
        "accounts": plan.accounts,
        "sessions": filled.open_sessions,
        "requests_each": requests_each,
        "rating_groups": len(plan.prices),
        "per_account": per_one(empty, accounts, plan.accounts),
        "per_session": per_one(accounts, sessions, filled.open_sessions),
    }


def sums(facts: RedisFacts) -> Sums:
    """Every key's memory, by kind."""
    kinds: dict[str, tuple[int, int]] = {}
    for key, octets in facts.octets_of(sorted(set(facts.keys()))):
        found = _KEY.match(key)
        kind = next(part for part in found.groups() if part).decode() if found else "other"
        keys, total = kinds.get(kind, (0, 0))
        kinds[kind] = keys + 1, total + octets
    return Sums(facts.used_octets(), kinds)


def per_one(before: Sums, after: Sums, count: int) -> dict[str, Any]:
    """What came between two looks, for each of `count` things; octets."""
    kinds = {}
    for kind in {**before.kinds, **after.kinds}:
        keys, octets = after.kinds.get(kind, (0, 0))
        old_keys, old_octets = before.kinds.get(kind, (0, 0))
        if octets != old_octets:
            kinds[kind] = {"keys": (keys - old_keys) / count, "octets": (octets - old_octets) / count}
    staying = sum(one["octets"] for kind, one in kinds.items() if kind not in PASSING)
    return {
        "octets": staying,
        "passing_octets": sum(one["octets"] for kind, one in kinds.items() if kind in PASSING),
        "used_memory_octets": (after.staying_octets - before.staying_octets) / count,
        "kinds": kinds,
    }


def show(console: Console, report: Mapping[str, Any]) -> None:
    """A table for people."""
    for name, about in (("per_account", "an account"), ("per_session", "a session")):
        found = report[name]
        table = Table(show_edge=False, pad_edge=False)
        table.add_column(f"Redis memory of {about}")
        for column in ("keys", "octets", "MiB a million"):
            table.add_column(column, justify="right")
        for kind, one in sorted(found["kinds"].items(), key=lambda item: -item[1]["octets"]):
            table.add_row(KINDS.get(kind, kind), f"{one['keys']:.2f}", *_sizes(one["octets"]))
        table.add_section()
        table.add_row("together, without events", "", *_sizes(found["octets"]), style="bold")
        table.add_row("used_memory, without events", "", *_sizes(found["used_memory_octets"]))
        console.print(table)
        console.print()
    console.print(
        f"{report['accounts']:,} accounts with one subscriber and two identities each; {report['sessions']:,} open "
        f"sessions of {report['rating_groups']} rating group(s), each after {report['requests_each']} requests.",
        highlight=False,
    )
    console.print(
        "Each key's MEMORY USAGE (all elements) before and after; used_memory also has free space of Redis' tables.",
        highlight=False,
    )


def _sizes(octets: float) -> tuple[str, str]:
    return f"{octets:,.0f}", f"{octets * MILLION / (1 << 20):,.0f}"
