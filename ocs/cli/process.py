"""`ocs serve`, `ocs doctor` and `ocs demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from ocs.cli.options import AsJson, Config, config_of


def register(root: typer.Typer) -> None:
    """Put the commands beside the groups."""
    root.command()(serve)
    root.command()(doctor)
    root.command()(demo)


def serve(
    config: Config = None,
    test_clock: Annotated[
        bool, typer.Option("--test-clock", help="Time stands still until it is stepped over the socket. For tests.")
    ] = False,
) -> None:
    """Serve gateways and operators until SIGTERM or SIGINT."""
    import sqlite3

    from balance.store import StoreError
    from ocs.api.unix_server import ControlSocketError
    from ocs.charging.conductor import ChargingError
    from ocs.cli.connection import settings_of
    from ocs.cli.errors import Unavailable
    from ocs.serve import run
    from ocs.startup import StartupError, check_installation

    settings = settings_of(config_of(config))
    try:
        check_installation()
        status = run(settings, test_clock=test_clock)
    except (StartupError, StoreError, ChargingError, ControlSocketError) as error:
        raise Unavailable(str(error)) from None
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"cannot serve: {error}") from None
    if status:
        raise typer.Exit(status)


def doctor(config: Config = None, as_json: AsJson = False) -> None:
    """Show what is loaded, configured and wrong; status 1 if anything is."""
    from ocs.cli.doctor import examine, print_findings
    from ocs.cli.output import print_json

    found = examine(config_of(config))
    print_json(found) if as_json else print_findings(found)
    if found["problems"]:
        raise typer.Exit(1)


def demo() -> None:
    """Play whole sessions against a server of its own and show what was charged."""
    from ocs.cli.errors import Unavailable

    try:
        from ocs.demo.main import run
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] not in ("diameter", "ocs"):
            raise
        message = "the demo needs the extra [demo]: pip install 'tollgate-ocs[demo]'"
        raise Unavailable(message) from None
    status = run()
    if status:
        raise typer.Exit(status)
