"""`ocs serve`, `ocs doctor` and `ocs demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ocs.cli.options import AsJson, Config, config_of

if TYPE_CHECKING:
    from ocs.config import Settings


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
    worker: Annotated[
        int | None,
        typer.Option(
            "--worker", metavar="K", min=0, help="Be this one of several workers, from 0, without the others."
        ),
    ] = None,
) -> None:
    """Serve gateways and operators until SIGTERM or SIGINT; with several workers, SIGHUP restarts one by one."""
    from ocs.cli.connection import settings_of
    from ocs.cli.errors import BadInput

    file = config_of(config)
    settings = settings_of(file)
    if worker is None and settings.workers.count > 1:
        status = _supervise(settings, file, test_clock)
    elif worker is None or worker < settings.workers.count:
        status = _work(settings.for_worker(worker or 0), test_clock, is_numbered=worker is not None)
    else:
        raise BadInput(
            f"worker: {worker}, expected 0 to {settings.workers.count - 1}: workers.count is {settings.workers.count}"
        )
    if status:
        raise typer.Exit(status)


def _work(settings: Settings, test_clock: bool, is_numbered: bool) -> int:
    """Be the only worker, or one of several."""
    import sqlite3

    from balance.store import StoreError
    from ocs.api.unix_server import ControlSocketError
    from ocs.charging.conductor import ChargingError
    from ocs.cli.errors import Unavailable
    from ocs.serve import run
    from ocs.startup import StartupError, check_installation
    from ocs.supervised import SupervisorGone, take_orders

    try:
        check_installation()
        return run(settings, test_clock, take_orders() if is_numbered else None)
    except (StartupError, StoreError, ChargingError, ControlSocketError, SupervisorGone) as error:
        raise Unavailable(str(error)) from None
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"cannot serve: {error}") from None


def _supervise(settings: Settings, file: str | None, test_clock: bool) -> int:
    """Start and watch the workers; nothing of theirs is loaded here."""
    from ocs.cli.errors import Unavailable
    from ocs.config import load_settings
    from ocs.control.main import run
    from ocs.control.supervisor import SupervisorFailed
    from ocs.startup import StartupError

    try:
        return run(settings, lambda: load_settings(file), file, test_clock)
    except (StartupError, SupervisorFailed) as error:
        raise Unavailable(str(error)) from None


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
