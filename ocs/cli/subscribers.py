"""`ocs subscriber …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ocs.cli.options import (
    All,
    AsJson,
    Config,
    Cursor,
    Identities,
    Imsis,
    Key,
    Limit,
    Msisdns,
    Nais,
    Reason,
    SubscriberName,
    Usernames,
    change_of,
    config_of,
)

app = typer.Typer(help="Who uses the service.", no_args_is_help=True, rich_markup_mode=None)
identity_app = typer.Typer(help="Numbers and names of a subscriber.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(identity_app, name="identity")

IdentityArgument = Annotated[
    str | None, typer.Argument(metavar="[KIND:VALUE]", help="e.g. e164:447700900123.", show_default=False)
]


@app.command()
def add(
    subscriber: Annotated[str, typer.Argument(metavar="SUBSCRIBER", help="Id of the new subscriber.")],
    account: Annotated[str, typer.Option("--account", metavar="ACCOUNT", help="Who pays.")],
    plan: Annotated[str, typer.Option("--plan", metavar="PLAN", help="A plan of the catalogue.")],
    reason: Reason,
    identity: Identities = None,
    msisdn: Msisdns = None,
    imsi: Imsis = None,
    nai: Nais = None,
    username: Usernames = None,
    key: Key = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Add a subscriber to an account."""
    from ocs.cli.values import gather_identities

    identities = gather_identities(
        identity or (), e164=msisdn or (), imsi=imsi or (), nai=nai or (), username=username or ()
    )
    body = {"subscriber": subscriber, "account": account, "plan": plan, "identities": identities}
    _change(config, as_json, None, "", {**body, **change_of(key, reason)})


@app.command()
def show(subscriber: SubscriberName, config: Config = None, as_json: AsJson = False) -> None:
    """Show a subscriber and what its account holds."""
    from ocs.cli.connection import Api, run
    from ocs.cli.output import line, print_json

    async def work(api: Api) -> dict[str, Any]:
        return await api.get(f"/v1/subscribers/{await _segment(api, subscriber)}")

    found = run(config_of(config), work)
    if as_json:
        print_json(found)
        return
    from ocs.cli.accounts import print_account

    print_subscriber(found)
    line()
    print_account(found["balance"])


@app.command("list")
def list_subscribers(
    limit: Limit = 100,
    cursor: Cursor = None,
    every: All = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List subscribers."""
    from ocs.cli.output import next_page, print_json, table
    from ocs.cli.pages import fetch

    page = fetch(config_of(config), "/v1/subscribers", limit, cursor, every)
    if as_json:
        print_json(page)
        return
    rows = [
        (item["subscriber"], item["account"], item["plan"], item["status"], _identities(item)) for item in page["items"]
    ]
    table(("subscriber", "account", "plan", "status", "identities"), rows)
    next_page(page)


@app.command()
def change(
    subscriber: SubscriberName,
    reason: Reason,
    plan: Annotated[str | None, typer.Option("--plan", metavar="PLAN", help="New plan.")] = None,
    status: Annotated[str | None, typer.Option("--status", metavar="STATUS", help="active or suspended.")] = None,
    key: Key = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Change plan or status; running sessions take it over at their next report."""
    from ocs.cli.errors import BadInput
    from ocs.cli.values import without_absent

    if plan is None and status is None:
        raise BadInput("plan: nothing to change, expected --plan or --status")
    if status not in (None, "active", "suspended"):
        raise BadInput(f"status: {status!r}, expected active or suspended")
    body = {**without_absent(plan=plan, status=status), **change_of(key, reason)}
    _change(config, as_json, subscriber, "/change", body)


@app.command()
def remove(
    subscriber: SubscriberName, reason: Reason, key: Key = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Remove a subscriber; its open sessions are closed at their next report."""
    _change(config, as_json, subscriber, "/remove", change_of(key, reason))


@identity_app.command("add")
def identity_add(
    subscriber: SubscriberName,
    reason: Reason,
    identity: IdentityArgument = None,
    msisdn: Msisdns = None,
    imsi: Imsis = None,
    nai: Nais = None,
    username: Usernames = None,
    key: Key = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Give a subscriber one more identity; running sessions go on."""
    _identity_change("add", subscriber, identity, (msisdn, imsi, nai, username), reason, key, config, as_json)


@identity_app.command("remove")
def identity_remove(
    subscriber: SubscriberName,
    reason: Reason,
    identity: IdentityArgument = None,
    msisdn: Msisdns = None,
    imsi: Imsis = None,
    nai: Nais = None,
    username: Usernames = None,
    key: Key = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Take an identity from a subscriber; running sessions go on, new ones under it do not start."""
    _identity_change("remove", subscriber, identity, (msisdn, imsi, nai, username), reason, key, config, as_json)


def _identity_change(
    verb: str,
    subscriber: str,
    identity: str | None,
    options: tuple[list[str] | None, ...],
    reason: str,
    key: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    from ocs.cli.values import one_identity

    msisdn, imsi, nai, username = (option or () for option in options)
    texts = () if identity is None else (identity,)
    body = {"identity": one_identity(texts, e164=msisdn, imsi=imsi, nai=nai, username=username)}
    _change(config, as_json, subscriber, f"/identities/{verb}", {**body, **change_of(key, reason)})


def _change(config: str | None, as_json: bool, subscriber: str | None, verb: str, body: dict[str, Any]) -> None:
    from ocs.cli.accounts import print_key
    from ocs.cli.connection import Api, run
    from ocs.cli.output import print_json

    async def work(api: Api) -> dict[str, Any]:
        path = "/v1/subscribers" if subscriber is None else f"/v1/subscribers/{await _segment(api, subscriber)}"
        return await api.post(path + verb, body)

    answer = run(config_of(config), work, create=True)
    if as_json:
        print_json(answer)
        return
    print_subscriber(answer)
    print_key(answer)


async def _segment(api: Any, subscriber: str) -> str:
    """The name as a segment of a path. An identity with a slash cannot be one: it is looked up for the id first."""
    from ocs.cli.connection import segment

    if "/" in subscriber:
        page = await api.get("/v1/subscribers", identity=subscriber)
        subscriber = page["items"][0]["subscriber"]
    return segment(subscriber)


def _identities(found: dict[str, Any]) -> str:
    return ", ".join(f"{one['kind']}:{one['value']}" for one in found["identities"]) or "none"


def print_subscriber(found: dict[str, Any]) -> None:
    """A subscriber."""
    from ocs.cli.output import facts, moment

    pairs: list[tuple[str, object]] = [(name, found[name]) for name in ("subscriber", "account", "plan", "status")]
    facts([*pairs, ("identities", _identities(found)), ("created", moment(found["created_s"]))])
