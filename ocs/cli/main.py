"""The command `ocs`.

Statuses: 0 done; 1 refused (not found, exists, not in this state); 2 usage or bad input; 3 store or server unavailable.
A command that fails has changed nothing and says why in one line on standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from ocs.cli import accounts, catalogue, cdr, importing, process, sessions, subscribers, workers
from ocs.cli.errors import BAD_INPUT, OK, UNAVAILABLE, CommandError
from ocs.cli.options import Config, set_default_config

INTERRUPTED = 130

# Some releases of typer carry a click of their own, so its errors are found from what typer exports.
_ClickException: Any = typer.BadParameter.__bases__[0].__bases__[0]

app = typer.Typer(
    name="ocs",
    help="Real-time online charging: serve gateways, keep accounts, explain every charge.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
process.register(app)
workers.register(app)
app.add_typer(accounts.app, name="account")
app.add_typer(subscribers.app, name="subscriber")
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(sessions.app, name="session")
app.add_typer(cdr.app, name="cdr")
app.add_typer(importing.app, name="import")
accounts.register(app)
sessions.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tollgate-ocs {version('tollgate-ocs')}")
        raise typer.Exit


@app.callback()
def root(
    config: Config = None,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Keep what stands before the command's name."""
    set_default_config(config)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status."""
    set_default_config(None)
    try:
        status = typer.main.get_command(app).main(args=arguments, prog_name="ocs", standalone_mode=False)
        # Here and not at the interpreter's end, where a reader that has gone could not be caught any more.
        sys.stdout.flush()
    except CommandError as error:
        return _fail(str(error), error.status)
    except _ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(error.format_message() + "\n")
            return BAD_INPUT
        return _fail(_worded(error), BAD_INPUT)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, e.g. `ocs ledger A --all | head`; keep the interpreter from telling so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except ModuleNotFoundError as error:
        return _fail(f"this installation is not complete: {error}", UNAVAILABLE)
    return status if isinstance(status, int) else OK


def _worded(error: Any) -> str:
    """What is wrong with the command line, and where its help is."""
    message: str = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message}; see `{context.command_path} --help`"


def _fail(message: str, status: int) -> int:
    for one in message.splitlines():
        sys.stderr.write(f"ocs: {one}\n")
    return status


def main() -> None:
    """Entry point of the script `ocs`."""
    sys.exit(run())


if __name__ == "__main__":
    main()
