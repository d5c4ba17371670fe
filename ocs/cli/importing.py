"""`ocs import …`: many rows of a file, each applied once, however often the command is interrupted and run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocs.cli.options import AsJson, Config, config_of

if TYPE_CHECKING:
    from ocs.cli.import_rows import Form

app = typer.Typer(help="Many rows of a CSV file.", no_args_is_help=True, rich_markup_mode=None)

File = Annotated[Path, typer.Argument(metavar="FILE.csv", help="Rows with a header; see the manual for the columns.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check every row, also against the store; change nothing.")]
Stop = Annotated[bool, typer.Option("--stop-on-error", help="End with the first refused row; slower.")]
Errors = Annotated[
    Path | None,
    typer.Option("--errors", metavar="PATH", help="Where refused rows go.", show_default="FILE.csv.errors.csv"),
]
ImportKey = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="A row is done once under the same key.", show_default="the file's name"),
]
ImportReason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger.", show_default="import FILE.csv"),
]


@app.command()
def subscribers(
    file: File,
    reason: ImportReason = None,
    key: ImportKey = None,
    dry_run: DryRun = False,
    stop_on_error: Stop = False,
    errors: Errors = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Add subscribers, with accounts that are not there yet."""
    from ocs.cli.import_rows import SUBSCRIBERS

    _import(SUBSCRIBERS, file, reason, key, dry_run, stop_on_error, errors, config, as_json)


@app.command()
def balances(
    file: File,
    reason: ImportReason = None,
    key: ImportKey = None,
    dry_run: DryRun = False,
    stop_on_error: Stop = False,
    errors: Errors = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Top up and adjust accounts."""
    from ocs.cli.import_rows import BALANCES

    _import(BALANCES, file, reason, key, dry_run, stop_on_error, errors, config, as_json)


def _import(
    form: Form,
    file: Path,
    reason: str | None,
    key: str | None,
    dry_run: bool,
    stop_on_error: bool,
    errors: Path | None,
    config: str | None,
    as_json: bool,
) -> None:
    from ocs.cli.connection import run
    from ocs.cli.import_run import Import, Wanted, print_summary
    from ocs.cli.output import print_json

    wanted = Wanted(form, file, reason, key, dry_run, stop_on_error, errors)
    with Import(wanted) as one:
        run(config_of(config), one.work, create=not dry_run)
        summary = one.summary()
    print_json(summary) if as_json else print_summary(summary)
    if summary["refused"]:
        raise typer.Exit(1)
