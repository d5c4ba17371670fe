"""`python -m bench gy`: loads a Gy server, checks every answer, and compares the books to the micro-unit."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from bench.gy import templates
from bench.gy.accounts import account_name, make_accounts
from bench.gy.connection import Address, PeerError
from bench.gy.plan import PRICES, Plan, parse_price
from bench.gy.report import (
    Balances,
    Books,
    Result,
    compare_books,
    compare_sessions,
    ratios,
    show,
    show_failures,
    spread,
)
from bench.gy.servers import Ocs, Operator, Redis, ServerError
from bench.gy.traffic import Progress, Run, Seen
from bench.measure import describe_machine
from ocs.telemetry import configure_logging

ABOUT = "load a Gy server: answers per second, latency, CPU time; checks every answer and the books"
OURS, REFERENCE, FOREIGN = "tollgate-ocs", "reference", "server"
TELL_EVERY_S = 5.0


class Target(Protocol):
    """A server that is loaded."""

    name: str
    addresses: Sequence[Address]
    processes: Mapping[str, int]

    def balances(self) -> Balances | None:
        """By account; `None`: they cannot be read."""

    def session_cost(self, session_id: str) -> int | None:
        """What a session has cost; `None`: it cannot be asked."""


class _Target:
    """One server, by its parts."""

    def __init__(
        self,
        name: str,
        addresses: Sequence[Address],
        processes: Mapping[str, int],
        balances: Callable[[], Balances | None],
        session_cost: Callable[[str], int | None] = lambda _session_id: None,
    ) -> None:
        self.name = name
        self.addresses = addresses
        self.processes = processes
        self.balances = balances
        self.session_cost = session_cost


def register(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("gy", help=ABOUT, description=ABOUT, formatter_class=argparse.RawTextHelpFormatter)
    plan = Plan()
    load = parser.add_argument_group("load")
    load.add_argument("--connections", type=int, default=plan.connections, metavar="N", help="connections (4)")
    load.add_argument("--window", type=int, default=plan.window, metavar="N", help="requests in flight on each (64)")
    load.add_argument("--sessions", type=int, default=plan.sessions, metavar="N", help="sessions open at a time (1000)")
    load.add_argument("--updates", type=int, default=plan.updates, metavar="N", help="CCR-U of each session (20)")
    load.add_argument("--rating-groups", type=int, choices=(1, 2, 3), default=1, help="MSCCs of each request (1)")
    load.add_argument("--accounts", type=int, default=plan.accounts, metavar="N", help="accounts that are used (1000)")
    load.add_argument(
        "--rate", type=float, metavar="R", help="open loop: requests a second, sent when due, whatever is answered"
    )
    load.add_argument("--duration-s", type=float, default=plan.duration_s, metavar="S", help="measured time (10)")
    load.add_argument("--warm-up-s", type=float, default=plan.warm_up_s, metavar="S", help="before it, not counted (2)")
    load.add_argument("--repeats", type=int, default=1, metavar="N", help="runs, for the spread (1)")
    load.add_argument("--seed", type=int, default=plan.seed, metavar="N", help="of the amounts that are used (1)")
    load.add_argument("--shared-accounts", action="store_true", help="any connection speaks for any account")
    load.add_argument(
        "--resend", action="store_true", help="connect again when a connection is lost, and repeat with the T flag"
    )
    load.add_argument(
        "--allow-busy", action="store_true", help="3002, 3004 and 5012 do not fail the run; they are asked again anyway"
    )
    _own_options(parser.add_argument_group("with a server of its own (the default)"))
    _foreign_options(parser.add_argument_group("against a running server"), plan)
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print JSON instead of the table")
    output.add_argument("--output", type=Path, metavar="FILE", help="write the JSON to a file as well")
    output.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run, parser=parser)


def _own_options(own: Any) -> None:
    own.add_argument("--store", choices=("redis", "sqlite"), default="redis", help="where accounts are kept (redis)")
    own.add_argument("--level", choices=("fast", "safe"), default="fast", help="durability of Redis (fast)")
    own.add_argument("--workers", type=int, default=1, metavar="N", help="processes that charge (1)")
    own.add_argument("--redis-server", metavar="PATH", help="the program (found on PATH)")
    own.add_argument("--redis-over", choices=("unix", "tcp"), default="unix", help="how workers reach Redis (unix)")
    own.add_argument("--settings", metavar="TOML", default="", help="more lines for the server's configuration")
    own.add_argument(
        "--reference", action="store_true", help="measure a server on python-diameter and redis-py as well"
    )


def _foreign_options(foreign: Any, plan: Plan) -> None:
    foreign.add_argument(
        "--server", type=_address, action="append", metavar="HOST:PORT", help="where it listens; may be repeated"
    )
    foreign.add_argument(
        "--price",
        type=_price,
        action="append",
        metavar="P",
        help="RG:QUOTA:PRICE_MICROS:PER:STEP of a rating group: what it costs and how much is granted at a time",
    )
    foreign.add_argument("--msisdn-from", type=_digits, default=plan.msisdn_from, help="number of the first account")
    foreign.add_argument("--imsi-from", type=_digits, default=plan.imsi_from, help="IMSI of the first account")
    foreign.add_argument("--control", type=Path, metavar="SOCKET", help="control socket of a Tollgate, for the books")
    foreign.add_argument(
        "--pid", type=_process, action="append", metavar="NAME=PID", help="process whose CPU time is taken; repeatable"
    )
    for name, about in (
        ("origin_host", "Origin-Host, {} is the number of the connection"),
        ("origin_realm", "Origin-Realm"),
        ("destination_realm", "Destination-Realm"),
        ("destination_host", "Destination-Host"),
        ("service_context", "Service-Context-Id"),
    ):
        default = getattr(plan, name)
        foreign.add_argument(
            "--" + name.replace("_", "-"), default=default, metavar="NAME", help=f"{about} ({default or 'none'})"
        )


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r}, expected HOST:PORT")
    return host.strip("[]"), int(port)


def _price(text: str) -> Any:
    try:
        return parse_price(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _digits(text: str) -> str:
    if not text.isdecimal() or not text.isascii() or not 7 <= len(text) <= 15:
        raise argparse.ArgumentTypeError(f"{text!r}, expected 7 to 15 digits")
    return text


def _process(text: str) -> tuple[str, int]:
    name, _, pid = text.rpartition("=")
    if not pid.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}, expected NAME=PID")
    return name or f"pid {pid}", int(pid)


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for; `ValueError` names what cannot be."""
    if options.price and not options.server:
        raise ValueError("--price: only with --server; a server of its own has prices of its own")
    if options.server and not options.price:
        raise ValueError("--server needs --price, once for each rating group: what it grants and what that costs")
    prices = tuple(options.price) if options.price else PRICES[: options.rating_groups]
    if len(prices) > 3 or len({price.rating_group for price in prices}) != len(prices):
        raise ValueError("--price: expected one to three rating groups, each once")
    for name in ("warm_up_s", "duration_s", "repeats", "rate"):
        value = getattr(options, name)
        if value is not None and (value < 0 or (value == 0 and name != "warm_up_s")):
            raise ValueError(f"--{name.replace('_', '-')}: {value}, expected more than 0")
    same = set(Plan._fields) & set(vars(options))
    plan = Plan(prices=prices, **{name: getattr(options, name) for name in same})
    for start in (plan.msisdn_from, plan.imsi_from):
        if len(str(int(start) + plan.accounts - 1)) > len(start):
            raise ValueError(f"{start} + {plan.accounts} accounts: the last one has more digits than the first")
    plan.load(0)
    return plan


def run(options: argparse.Namespace) -> int:
    """Run it all; 0 if every answer and every balance was right, 1 if not or if a server fails."""
    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console = Console(width=140)
    try:
        plan = plan_of(options)
        if options.workers < 1:
            raise ValueError(f"--workers: {options.workers}, expected 1 or more")
        if options.store == "sqlite" and options.workers > 1 and not options.server:
            raise ValueError("--workers: more than one need --store redis")
    except ValueError as error:
        options.parser.error(str(error))
    configure_logging("error", "text")
    if plan.rate is None and plan.sessions < plan.connections * plan.window:
        note = f"{plan.sessions} sessions do not fill {plan.connections} × {plan.window}: raise --sessions"
        errors.print(f"[yellow]note[/] {note}", highlight=False, soft_wrap=True)
    results: dict[str, list[Result]] = {}
    try:
        for target in _targets(options, plan):
            with target as opened:
                results[opened.name] = [
                    _measure(opened, plan, repeat, options, errors) for repeat in range(options.repeats)
                ]
    except (ServerError, PeerError) as error:
        errors.print(f"[bold red]FAILED[/] {error}", highlight=False, soft_wrap=True)
        return 1
    document = as_json(options, plan, results)
    text = json.dumps(document, indent=2)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")
    if options.json:
        print(text)
    else:
        _print_table(console, plan, results, document)
    show_failures(errors, results)
    return 0 if document["passed"] else 1


def _measure(target: Target, plan: Plan, repeat: int, options: argparse.Namespace, errors: Console) -> Result:
    before = target.balances()
    with _progress(errors, f"{target.name}, run {repeat + 1} of {options.repeats}", options.quiet) as tell:
        seen = Run(plan, target.addresses, target.processes, tell).run()
    after = target.balances()
    books = Books(0, sum(seen.spent_micros))
    if before is not None and after is not None:
        books = _with_sessions(compare_books(before, after, seen.spent_micros, plan.msisdn), target, seen)
    return Result(target.name, repeat, seen, books, options.allow_busy)


def _with_sessions(books: Books, target: Target, seen: Seen) -> Books:
    """The books with those sessions compared whose cost the server tells."""
    costs = [target.session_cost(session_id) for session_id, _micros in seen.sessions]
    found = [(one, cost) for one, cost in zip(seen.sessions, costs, strict=True) if cost is not None]
    wrong = compare_sessions([one for one, _cost in found], [cost for _one, cost in found])
    return books._replace(wrong=(*books.wrong, *wrong), sessions=len(found))


# Servers


def _targets(options: argparse.Namespace, plan: Plan) -> Iterator[contextlib.AbstractContextManager[Target]]:
    if options.server:
        yield _foreign(options, plan)
        return
    yield _ours(options, plan)
    if options.reference:
        yield _reference(options, plan)


@contextlib.contextmanager
def _ours(options: argparse.Namespace, plan: Plan) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="ocs-bench-") as name, contextlib.ExitStack() as stack:
        folder, processes, section = Path(name), {}, '[store]\nengine = "sqlite"\n'
        if options.store == "redis":
            redis = stack.enter_context(Redis(folder / "redis", options.level, options.redis_server))
            processes["redis"] = redis.pid
            url = redis.url(options.redis_over)
            section = f'[store]\nengine = "redis"\nlevel = "{options.level}"\nurl = "{url}"\n'
        ocs = Ocs(folder / "home", options.workers, section, options.settings)
        make_accounts(ocs.settings, plan)
        stack.enter_context(ocs)

        def balances() -> Balances:
            found = ocs.operators[0].accounts()
            return [found[account_name(number)] for number in range(plan.accounts)]

        cost = ocs.operators[0].session_cost
        yield _Target(OURS, ocs.addresses, {**ocs.workers, **processes}, balances, cost)


@contextlib.contextmanager
def _reference(options: argparse.Namespace, plan: Plan) -> Iterator[Target]:
    try:
        from bench.gy.reference import Reference
    except ModuleNotFoundError:
        # redis-py: wanted by the reference only.
        raise ServerError("the reference server needs the extra [bench]: pip install 'tollgate-ocs[bench]'") from None
    with (
        tempfile.TemporaryDirectory(prefix="ocs-bench-") as folder,
        Redis(Path(folder) / "redis", options.level, options.redis_server) as redis,
        Reference(Path(folder) / "reference", plan, redis.url(options.redis_over)) as reference,
    ):
        processes = {"worker 0": reference.pid, "redis": redis.pid}
        yield _Target(REFERENCE, reference.addresses, processes, reference.balances)


@contextlib.contextmanager
def _foreign(options: argparse.Namespace, plan: Plan) -> Iterator[Target]:
    if options.control is None:
        yield _Target(FOREIGN, options.server, dict(options.pid or ()), lambda: None)
        return
    with contextlib.closing(Operator(options.control)) as operator:

        def balances() -> Balances:
            return [operator.balance_of(f"e164:{plan.msisdn(number)}") for number in range(plan.accounts)]

        yield _Target(FOREIGN, options.server, dict(options.pid or ()), balances, operator.session_cost)


# Output


def as_json(options: argparse.Namespace, plan: Plan, results: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """Everything, with the machine and the durability that the figures hold for."""
    document: dict[str, Any] = {
        "benchmark": "gy",
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": describe_machine(),
        "durability": durability(options),
        "workers": None if options.server else options.workers,
        "request_octets": request_octets(plan),
        "plan": {**plan._asdict(), "prices": [price._asdict() for price in plan.prices]},
        "summary": {server: spread(runs) for server, runs in results.items()},
        "runs": [one.as_json() for runs in results.values() for one in runs],
    }
    if OURS in results and REFERENCE in results:
        document["ratio_to_reference"] = ratios(results[OURS], results[REFERENCE])
    document["passed"] = all(one["passed"] for one in document["runs"])
    return document


def durability(options: argparse.Namespace) -> str:
    """What an answer promises, as DESIGN's levels name it."""
    if options.server:
        return "as the server is configured"
    return "sqlite, safe" if options.store == "sqlite" else f"redis, {options.level}"


def request_octets(plan: Plan) -> dict[str, int]:
    """Length of the requests."""
    groups = [price.rating_group for price in plan.prices]
    kinds = {
        "initial": templates.INITIAL,
        "update": templates.UPDATE,
        "termination": templates.TERMINATION,
    }
    gateway = plan.gateway(0, time.time_ns() // 1_000_000)
    return {name: len(templates.credit_control(gateway, kind, groups).octets) for name, kind in kinds.items()}


def _print_table(
    console: Console, plan: Plan, results: Mapping[str, Sequence[Result]], document: Mapping[str, Any]
) -> None:
    loop = "closed loop" if plan.rate is None else f"open loop, {plan.rate:g} requests/s"
    facts = {
        "load": f"{loop}, {plan.connections} connections × window {plan.window}, {plan.sessions} sessions × "
        f"{plan.updates} updates, {len(plan.prices)} rating groups, {plan.accounts} accounts",
        "request octets": ", ".join(f"{name} {octets}" for name, octets in document["request_octets"].items()),
        "durability": document["durability"],
        "measured": f"{plan.duration_s:g} s after {plan.warm_up_s:g} s of warm-up; least – median – most of the repeats",
        **document["machine"],
    }
    if "ratio_to_reference" in document:
        ratio = document["ratio_to_reference"]
        facts["to the reference"] = (
            f"{ratio['answers_per_s']:.1f} × the answers/s, {ratio['cpu_us_per_answer']:.3f} × the CPU of an answer"
        )
    show(console, results, facts)
    if document["passed"]:
        console.print("[green]passed[/]: every answer was as expected" + _about_books(results), highlight=False)


def _about_books(results: Mapping[str, Sequence[Result]]) -> str:
    if any(run.books.accounts == 0 for runs in results.values() for run in runs):
        return "; balances were not compared (name a control socket with --control)"
    return ", every balance to the micro-unit"


@contextlib.contextmanager
def _progress(console: Console, what: str, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Where a run stands: one line that changes on a terminal, else a line every few seconds."""
    last = [time.monotonic(), 0.0, 0.0]

    def line(progress: Progress) -> str:
        seconds = max(progress.elapsed_s - last[1], 1e-9)
        pace = (progress.answers - last[2]) / seconds
        last[1:] = [progress.elapsed_s, progress.answers]
        wrong = f", {progress.problems} PROBLEMS" if progress.problems else ""
        return (
            f"{what}: {progress.phase}, {progress.elapsed_s:.0f} s, {progress.answers:,} answers, {pace:,.0f}/s, "
            f"{progress.in_flight} in flight{wrong}"
        )

    if quiet:
        yield lambda _progress: None
    elif console.is_terminal:
        with console.status(what, refresh_per_second=2) as status:
            yield lambda progress: status.update(line(progress))
    else:

        def tell(progress: Progress) -> None:
            if time.monotonic() - last[0] >= TELL_EVERY_S:
                last[0] = time.monotonic()
                print(line(progress), file=sys.stderr, flush=True)

        yield tell
