"""`ocs cdr …`: charging data records from the archive. Reads files only; a server may run or not."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ocs.cli.options import AsJson, Config, config_of

if TYPE_CHECKING:
    from ocs.archive.cdr_export import CdrExport, Done, ExportOrder
    from ocs.archive.reader import ArchiveReader

app = typer.Typer(help="Charging data records: export and check.", no_args_is_help=True, rich_markup_mode=None)

T = TypeVar("T")

PROGRESS_S = 2.0
"""Pause between two lines of progress."""

_NAME = re.compile(r"[a-z0-9_]{1,32}")

Folder = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where the files appear.")]
Form = Annotated[str, typer.Option("--format", metavar="FORM", help="jsonl or csv.")]


@app.command()
def export(
    folder: Folder,
    form: Form = "jsonl",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Which export to go on with; begins the files' names.")
    ] = "cdr",
    once: Annotated[bool, typer.Option("--once", help="What the archive holds now, then end (the default).")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until SIGTERM or SIGINT.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Only from this UTC day or time on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Only before this UTC day or time.")
    ] = None,
    max_octets: Annotated[str, typer.Option("--max-octets", metavar="SIZE", help="Largest file.")] = "64MiB",
    max_age: Annotated[
        str, typer.Option("--max-age", metavar="SPAN", help="With --follow: a file is published after so long.")
    ] = "300s",
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Go on behind events that were deleted unexported.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write new CDR files: each event once, also after a crash. Goes on where the export of this name ended."""
    from ocs.archive.cdr_export import ExportOrder, opened
    from ocs.cli.errors import BadInput
    from ocs.cli.output import print_json
    from ocs.cli.values import parse_moment, parse_octets, parse_span

    if once and follow:
        raise BadInput("once: expected only one of --once and --follow")
    if not _NAME.fullmatch(name):
        raise BadInput(f"name: {name!r}, expected 1 to 32 of a-z, 0-9 and _")
    since_us = 0 if since is None else parse_moment("since", since)
    until_us = 0 if until is None else parse_moment("until", until)
    if until_us and until_us <= since_us:
        raise BadInput(f"until: {until!r} is not after --since {since!r}")
    octets, age_s = parse_octets("max-octets", max_octets), parse_span("max-age", max_age)
    order = ExportOrder(name, folder, _form(form), octets, since_us, until_us, accept_gap)
    reader = _reader(config)

    def work() -> dict[str, Any]:
        with opened(reader, order) as running:
            _run(running, order, age_s if follow else 0, quiet=as_json)
            return _summary(running)

    found = _told(work)
    print_json(found) if as_json else _print_summary(found)
    if found["mismatches"]:
        raise typer.Exit(1)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of CDR files.")],
    as_json: AsJson = False,
) -> None:
    """Check sequence numbers, checksums and records of all files; status 1 if anything is wrong."""
    from ocs.archive.cdr_verify import verify as check
    from ocs.cli.output import line, print_json

    found = _told(lambda: check(folder))
    if as_json:
        spans = {name: {"first": low, "last": high} for name, (low, high) in found.exports.items()}
        print_json({**found._asdict(), "exports": spans})
    else:
        for name, (low, high) in found.exports.items():
            line(f"{name}: files {low} to {high}")
        line(f"{found.files} files, {found.records} records, {found.octets} octets")
        for problem in found.problems:
            line(f"problem: {problem}", style="bold red")
        if not found.problems:
            line("no problem found", style="green")
    if found.problems:
        raise typer.Exit(1)


@app.command("list")
def list_exports(config: Config = None, as_json: AsJson = False) -> None:
    """Show the exports of the archive and how far each has come."""
    from ocs.archive.exports import states
    from ocs.cli.output import print_json, table

    reader = _reader(config)
    facts = _told(reader.facts)
    last = 0 if facts is None else facts.last_position
    items = [
        {
            "export": state.name,
            "folder": state.folder,
            "format": state.form,
            "since_us": state.since_us or None,
            "until_us": state.until_us or None,
            "next_file": state.sequence,
            "position": state.position,
            "behind": last - state.position,
        }
        for state in _told(lambda: states(reader.folder))
    ]
    if as_json:
        print_json({"archive": None if facts is None else facts._asdict(), "exports": items})
        return
    rows = [tuple(item[name] for name in ("export", "format", "next_file", "behind", "folder")) for item in items]
    table(("export", "format", ">next file", ">events behind", "folder"), rows)


def _reader(config: str | None) -> ArchiveReader:
    from ocs.archive.reader import ArchiveReader
    from ocs.cli.connection import settings_of
    from ocs.cli.errors import Refused

    settings = settings_of(config_of(config))
    if not settings.archive.enabled:
        raise Refused("the archive is off ([archive] enabled), and CDRs are made from it")
    return ArchiveReader(settings.archive_path)


def _form(text: str) -> str:
    from ocs.archive.cdr_form import FORMS
    from ocs.cli.errors import BadInput

    if text not in FORMS:
        raise BadInput(f"format: {text!r}, expected {' or '.join(FORMS)}")
    return text


def _told(work: Callable[[], T]) -> T:
    """The result of work on files; what is wrong as a command tells it."""
    from ocs.archive.cdr_export import ExportRefused
    from ocs.archive.segments import ArchiveError
    from ocs.cli.errors import Refused, Unavailable

    try:
        return work()
    except ExportRefused as error:
        raise Refused(str(error)) from None
    except ArchiveError as error:
        raise Unavailable(str(error)) from None
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}") from None


def _run(running: CdrExport, order: ExportOrder, age_s: int, quiet: bool) -> None:
    import signal
    import threading
    import time

    from ocs.archive.cdr_export import follow, run_once

    progress = _Progress(running, quiet)
    if not age_s:
        run_once(running, progress)
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    follow(running, age_s, stop.wait, time.monotonic, progress)


class _Progress:
    """A line on standard error now and then, while there is something to tell."""

    def __init__(self, running: CdrExport, quiet: bool) -> None:
        import time

        self._running = running
        self._quiet = quiet
        self._monotonic = time.monotonic
        self._next = self._monotonic() + PROGRESS_S
        self._told = running.position

    def __call__(self, done: Done) -> None:
        from ocs.cli.output import note

        now = self._monotonic()
        if self._quiet or now < self._next or self._running.position == self._told:
            return
        self._next, self._told = now + PROGRESS_S, self._running.position
        note(
            f"at event {self._told} of {self._running.last_position()}: {len(done.files)} files, {done.records} records"
        )
        sys.stderr.flush()


def _summary(running: CdrExport) -> dict[str, Any]:
    done = running.done
    return {
        "files": list(done.files),
        "records": done.records,
        "events": done.events,
        "position": done.position,
        "skipped": done.skipped,
        "mismatches": running.mismatches,
    }


def _print_summary(found: dict[str, Any]) -> None:
    from ocs.cli.output import line, note

    for name in found["files"]:
        line(name)
    line(f"{len(found['files'])} files, {found['records']} records of {found['events']} events")
    if found["skipped"]:
        note(f"{found['skipped']} events were deleted before they were exported")
    if found["mismatches"]:
        note(f"{found['mismatches']} events have usage that does not add up to the money that was taken")
