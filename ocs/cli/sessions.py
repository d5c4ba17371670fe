"""`ocs session …` and `ocs explain`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ocs.cli.options import All, AsJson, Config, Cursor, Limit, SessionName, config_of

app = typer.Typer(help="What is under way.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_sessions(
    account: Annotated[str | None, typer.Option("--account", metavar="ACCOUNT", help="Only of this account.")] = None,
    peer: Annotated[str | None, typer.Option("--peer", metavar="HOST", help="Only of this Origin-Host.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    every: All = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List open sessions."""
    from ocs.cli.output import moment, next_page, print_json, table
    from ocs.cli.pages import fetch

    page = fetch(config_of(config), "/v1/sessions", limit, cursor, every, account=account, peer=peer)
    if as_json:
        print_json(page)
        return
    rows = [
        (
            item["session"],
            item["account"],
            item["subscriber"],
            item["peer"],
            item["service_context"],
            moment(item["opened_s"]),
            moment(item["deadline_s"]),
        )
        for item in page["items"]
    ]
    table(("session", "account", "subscriber", "peer", "service context", "opened", "ends without a report"), rows)
    next_page(page)


@app.command()
def show(session: SessionName, config: Config = None, as_json: AsJson = False) -> None:
    """Show a session, open or closed not long ago."""
    from ocs.cli.connection import run
    from ocs.cli.output import print_json

    found = run(config_of(config), lambda api: api.get("/v1/session", session=session))
    print_json(found) if as_json else print_session(found)


def register(root: typer.Typer) -> None:
    """Put `explain` beside the groups."""
    root.command()(explain)


def explain(session: SessionName, config: Config = None, as_json: AsJson = False) -> None:
    """Show which tariff, bucket and rounding gave each charge of a session."""
    from ocs.cli.connection import run
    from ocs.cli.explain import print_explanation
    from ocs.cli.output import print_json

    found = run(config_of(config), lambda api: api.get("/v1/session/explain", session=session))
    print_json(found) if as_json else print_explanation(found)


def print_session(found: dict[str, Any]) -> None:
    """A session and what each of its keys holds."""
    from ocs.cli.output import amount, facts, moment, table

    state = found["state"] if not found["close_cause"] else f"{found['state']} ({found['close_cause']})"
    pairs: list[tuple[str, object]] = [("session", found["session"]), ("state", state)]
    for name in ("account", "subscriber", "peer", "service_context", "plan", "catalogue_version"):
        pairs.append((name.replace("_", " "), found[name]))
    pairs.append(("opened", moment(found["opened_s"])))
    if found["closed_s"]:
        pairs.append(("closed", moment(found["closed_s"])))
    if found["deadline_s"]:
        pairs.append(("ends without a report", moment(found["deadline_s"])))
    facts(pairs)
    rows = []
    for key in found["keys"]:
        holds = ", ".join(f"bucket {hold['bucket']}: {hold['amount']:,}" for hold in key["holds"]) or "nothing"
        shown = [amount(key[name], key["unit"]) if key["unit"] != "money" else "" for name in ("used", "granted")]
        group = "" if key["rating_group"] is None else key["rating_group"]
        services = " ".join(map(str, key["service_identifiers"]))
        rows.append((group, services, *shown, holds, f"{key['validity_s']} s", "yes" if key["final"] else ""))
    if rows:
        table((">rating group", "services", ">used", ">granted", "holds", ">validity", "final"), rows)
