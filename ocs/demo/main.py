"""`ocs demo`: a real server, a foreign gateway, and every micro-unit accounted for, on one screen.

The expected amounts are written here, worked out by hand from the demo catalogue; if the server gives others, the
demonstration says so and fails.
"""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from balance.money import format_micros
from ocs.demo.gateway import Gateway, Granted
from ocs.demo.server import DemoServer, ServerFailed

MIB = 1_048_576
CENT = 10_000
DATA, VOICE, SMS = "32251@3gpp.org", "32260@3gpp.org", "32274@3gpp.org"
ALICE, BOB = "447700900123", "447700900456"
FINAL_ACTIONS = {0: "terminate", 1: "redirect", 2: "restrict"}


class Step(NamedTuple):
    """One request of the script and what must come of it (cents, units)."""

    who: str
    kind: str
    context: str
    unit: str
    what: str
    requested: int | None
    wanted: bool
    used: int | None
    granted: int | None
    final: bool
    balance: int
    reserved: int


def _data(kind: str, used: int | None, granted: int | None, final: bool, balance: int, reserved: int) -> Step:
    what = (
        "open, asks for quota" if used is None else f"used {used} MiB" + ("" if granted is None else ", asks for more")
    )
    if kind == "termination":
        what = f"used {used} MiB, ends the session"
    octets = None if used is None else used * MIB
    quota = None if granted is None else granted * MIB
    wanted = kind != "termination"
    return Step("alice", kind, DATA, "cc_total_octets", what, None, wanted, octets, quota, final, balance, reserved)


# Alice has 3.50 at 0.10 per started MiB; Bob has 1.00, voice costs 0.06 per started minute, an SMS 0.09.
SCRIPT = (
    _data("initial", None, 10, False, 350, 100),
    _data("update", 10, 10, False, 250, 100),
    _data("update", 10, 10, False, 150, 100),
    _data("update", 10, 5, True, 50, 50),
    _data("termination", 5, None, False, 0, 0),
    Step("bob", "event", VOICE, "cc_time", "a call of 75 s", 75, True, None, 75, False, 88, 0),
    Step("bob", "event", SMS, "cc_service_specific_units", "one SMS", 1, True, None, 1, False, 79, 0),
)
NUMBERS = {"alice": ALICE, "bob": BOB}
OPENING = {"alice": 350, "bob": 100}
UNIT_NAMES = {"cc_total_octets": "octets", "cc_time": "s", "cc_service_specific_units": "message(s)"}


def run(console: Console | None = None) -> int:
    """Play the whole demonstration; exit status 0 if every number was as expected."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=110)
    with tempfile.TemporaryDirectory(prefix="ocs-demo-") as folder:
        try:
            return _play(console, Path(folder))
        except ServerFailed as error:
            console.print(f"[bold red]The demonstration failed:[/] {error}")
            return 1


def _play(console: Console, home: Path) -> int:
    console.rule("[bold]tollgate-ocs: one session, charged exactly")
    with DemoServer(home, "ocs.example.com", "example.com") as server:
        console.print(f"Server: embedded store in {home}, Diameter on 127.0.0.1:{server.port}")
        _prepare(server)
        for name in OPENING:
            _print_account(console, server, name, "before")
        with Gateway("gw1.example.net", "example.net", server.host, server.realm, server.port) as gateway:
            console.print("Gateway: python-diameter, connected as gw1.example.net\n")
            mistakes = _play_script(console, server, gateway)
        for name in OPENING:
            _print_account(console, server, name, "after")
            _print_ledger(console, server, name)
    return _verdict(console, mistakes)


def _prepare(server: DemoServer) -> None:
    text = files("ocs.demo").joinpath("catalogue.toml").read_text()
    server.post("/v1/catalogue/activate", text=text, filename="catalogue.toml")
    for name, cents in OPENING.items():
        server.post("/v1/accounts", account=name, currency="EUR")
        server.post(f"/v1/accounts/{name}/topup", amount=cents * CENT)
        identity = {"kind": "e164", "value": NUMBERS[name]}
        server.post("/v1/subscribers", subscriber=f"{name}-phone", account=name, plan="standard", identities=[identity])


def _play_script(console: Console, server: DemoServer, gateway: Gateway) -> list[str]:
    table = Table(title="What the gateway asked and was told", title_justify="left")
    for heading in ("who", "request", "asked", "code", "granted", "debited", "balance", "reserved"):
        table.add_column(heading, justify="left" if heading in ("who", "request", "asked") else "right")
    mistakes: list[str] = []
    session, number = gateway.session_id(), 0
    before = dict(OPENING)
    for step in SCRIPT:
        fresh = step.kind == "event"
        answer = gateway.ask(
            step.kind,
            0 if fresh else number,
            gateway.session_id() if fresh else session,
            step.context,
            NUMBERS[step.who],
            rating_group=100 if step.context == DATA else None,
            unit=step.unit,
            requested=step.requested,
            wanted=step.wanted,
            used=step.used,
        )
        number += 0 if fresh else 1
        account = server.get(f"/v1/accounts/{step.who}")
        mistakes += _compare(step, answer, account)
        debited = before[step.who] * CENT - account["balance_micros"]
        before[step.who] = step.balance
        table.add_row(
            step.who, step.kind, step.what, str(answer.command_code), _granted(step, answer), *_money(account, debited)
        )
    console.print(table)
    return mistakes


def _granted(step: Step, answer: Granted) -> str:
    if answer.units is None:
        return "-"
    text = f"{answer.units:,} {UNIT_NAMES[step.unit]}"
    if answer.final_action is not None:
        text += f", final units: {FINAL_ACTIONS[answer.final_action]}"
    return text


def _money(account: dict[str, Any], debited_micros: int) -> tuple[str, str, str]:
    amounts = (debited_micros, account["balance_micros"], account["reserved_micros"])
    first, second, third = (format_micros(amount) for amount in amounts)
    return first, second, third


def _compare(step: Step, answer: Granted, account: dict[str, Any]) -> list[str]:
    found = {
        "Result-Code": (answer.command_code, 2001),
        "granted": (answer.units, step.granted),
        "final units": (answer.final_action is not None, step.final),
        "balance": (account["balance_micros"], step.balance * CENT),
        "reserved": (account["reserved_micros"], step.reserved * CENT),
    }
    return [
        f"{step.who}, {step.what}: {name} is {got}, expected {expected}"
        for name, (got, expected) in found.items()
        if got != expected
    ]


def _print_account(console: Console, server: DemoServer, name: str, when: str) -> None:
    account = server.get(f"/v1/accounts/{name}")
    balance, reserved = format_micros(account["balance_micros"]), format_micros(account["reserved_micros"])
    console.print(f"Account [bold]{name}[/] {when}: balance {balance} EUR, reserved {reserved} EUR")


def _print_ledger(console: Console, server: DemoServer, name: str) -> None:
    table = Table(title=f"Ledger of {name}", title_justify="left")
    for heading in ("request or change", "entry", "cause", "posted", "reserved", "balance after", "reserved after"):
        table.add_column(heading, justify="left" if heading in ("request or change", "entry", "cause") else "right")
    for event in server.get(f"/v1/accounts/{name}/ledger")["items"]:
        label = event["request"] or event["operation"]
        for entry in event["entries"]:
            amounts = [entry[one] for one in ("posted_change", "reserved_change", "posted_after", "reserved_after")]
            table.add_row(label, entry["verb"], entry["cause"], *(format_micros(amount) for amount in amounts))
            label = ""
    console.print(table)


def _verdict(console: Console, mistakes: list[str]) -> int:
    if mistakes:
        console.print("[bold red]Not as expected:")
        for mistake in mistakes:
            console.print(f"  {mistake}")
        return 1
    console.print(f"[bold green]All {len(SCRIPT)} answers, balances and reservations were exactly as expected.")
    return 0
