"""`ocs catalogue …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ocs.cli.options import AsJson, Config, Key, Reason, change_of, config_of

app = typer.Typer(help="What is sold, at which price.", no_args_is_help=True, rich_markup_mode=None)

File = Annotated[str, typer.Argument(metavar="FILE", help="A catalogue in TOML.")]


@app.command()
def check(file: File, as_json: AsJson = False) -> None:
    """Check a catalogue: every problem with its line. Changes nothing and needs no store."""
    from ocs.cli.errors import BadInput
    from ocs.cli.output import print_json
    from tariffs.describe import describe
    from tariffs.loader import load
    from tariffs.problems import CatalogueError

    text = read_text(file)
    try:
        found = describe(load(text, file))
    except CatalogueError as error:
        raise BadInput(str(error)) from None
    print_json(found) if as_json else print_catalogue(found, loaded=False)


@app.command()
def activate(file: File, reason: Reason, key: Key = None, config: Config = None, as_json: AsJson = False) -> None:
    """Make a catalogue the current one of all workers; new sessions and new grants are priced by it."""
    from ocs.cli.connection import run
    from ocs.cli.output import line, note, print_json

    body = {"text": read_text(file), "filename": file[-300:], **change_of(key, reason)}
    answer = run(config_of(config), lambda api: api.post("/v1/catalogue/activate", body), create=True)
    if as_json:
        print_json(answer)
        return
    for warning in answer["warnings"]:
        note(f"warning: {warning}")
    if answer["changed"]:
        ready = [f"{one['worker']} ({one['host']})" for one in answer["ready"]]
        line(
            f"catalogue version {answer['version']} is active"
            + (f" in workers {', '.join(ready)}" if ready[1:] else "")
        )
    elif answer["current"] != answer["version"]:
        line(f"version {answer['version']} was made with this key; by now version {answer['current']} is active")
    else:
        line(f"catalogue version {answer['version']} was active already; nothing changed")


@app.command()
def show(config: Config = None, as_json: AsJson = False) -> None:
    """Show the current catalogue."""
    from ocs.cli.connection import run
    from ocs.cli.output import print_json

    found = run(config_of(config), lambda api: api.get("/v1/catalogue"))
    print_json(found) if as_json else print_catalogue(found, loaded=True)


def read_text(file: str) -> str:
    """The text of a file; what cannot be read is bad input."""
    from ocs.cli.errors import BadInput

    try:
        with open(file, encoding="utf-8") as handle:
            return handle.read()
    except UnicodeDecodeError:
        raise BadInput(f"{file}: expected UTF-8 text") from None
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror or error}") from None


def print_catalogue(found: dict[str, Any], loaded: bool) -> None:
    """Tariffs, then the rules of each plan."""
    from ocs.cli.output import facts, line, table

    version = f", version {found['version']}" if loaded else ""
    facts([("catalogue", f"{found['name']}{version}"), ("file", found["file"])])
    rows = [(tariff["name"], tariff["unit"], tariff["text"], tariff["final_unit"]) for tariff in found["tariffs"]]
    table(("tariff", "unit", "price", "when the money ends"), rows)
    for plan in found["plans"]:
        rules = [
            (
                rule["service_context"],
                "any" if rule["rating_groups"] is None else ", ".join(map(str, rule["rating_groups"])),
                "any" if rule["service_identifiers"] is None else ", ".join(map(str, rule["service_identifiers"])),
                rule["tariff"] or rule["action"],
            )
            for rule in plan["rules"]
        ]
        line()
        table(
            ("service context", "rating groups", "services", "tariff"),
            rules,
            f"plan {plan['name']} ({plan['currency']})",
        )
    for warning in found["warnings"]:
        line(f"warning: {warning}", style="yellow")
