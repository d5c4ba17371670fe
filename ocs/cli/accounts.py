"""`ocs account …` and `ocs ledger`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ocs.cli.options import (
    AccountName,
    All,
    AsJson,
    Config,
    Cursor,
    Key,
    Limit,
    Reason,
    change_of,
    config_of,
)

app = typer.Typer(help="Who pays: balances, buckets, limits.", no_args_is_help=True, rich_markup_mode=None)

# `-5.00` is an amount, not an option.
_SIGNED = {"ignore_unknown_options": True}


@app.command()
def create(
    account: AccountName,
    reason: Reason,
    currency: Annotated[str, typer.Option("--currency", metavar="CODE", help="ISO 4217 code, e.g. EUR.")],
    credit_limit: Annotated[str, typer.Option("--credit-limit", metavar="AMOUNT", help="May be overdrawn by.")] = "0",
    key: Key = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Create an account."""
    from ocs.cli.errors import BadInput
    from ocs.cli.values import parse_money

    limit = parse_money("credit-limit", credit_limit)
    if limit < 0:
        raise BadInput(f"credit-limit: {credit_limit!r} is negative, expected 0 or more")
    body = {"account": account, "currency": currency, "credit_limit_micros": limit, **change_of(key, reason)}
    _change(config, as_json, "/v1/accounts", body)


@app.command()
def topup(
    account: AccountName,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="5.00 money; 15MiB, 100min or 50events units.")],
    reason: Reason,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="WHEN", help="3600s, 30d, 2026-12-31 (its end, UTC) or a full time."),
    ] = None,
    priority: Annotated[int, typer.Option("--priority", help="Lower is spent first.")] = 0,
    rating_group: Annotated[int | None, typer.Option("--rating-group", min=0, help="Pays only for this one.")] = None,
    service_context: Annotated[
        str | None, typer.Option("--service-context", metavar="CONTEXT", help="Pays only for this one.")
    ] = None,
    key: Key = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Put money or units into an account."""
    from ocs.cli.connection import segment
    from ocs.cli.errors import BadInput
    from ocs.cli.values import parse_amount, parse_expiry, without_absent

    kind, number = parse_amount(amount)
    if number <= 0:
        raise BadInput(f"amount: {amount!r}, expected an amount above zero")
    body = {
        **change_of(key, reason),
        **without_absent(rating_group=rating_group, service_context=service_context),
        **({} if expires is None else parse_expiry(expires)),
        "amount": number,
        "kind": kind,
        "priority": priority,
    }
    _change(config, as_json, f"/v1/accounts/{segment(account)}/topup", body)


@app.command(context_settings=_SIGNED)
def adjust(
    account: AccountName,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="5.00 or -5.00; units with a suffix.")],
    reason: Reason,
    bucket: Annotated[int, typer.Option("--bucket", min=0, help="Which one; 0 is the account's money.")] = 0,
    key: Key = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Correct a bucket by an amount of either sign."""
    from ocs.cli.connection import segment
    from ocs.cli.errors import BadInput
    from ocs.cli.values import parse_amount

    kind, number = parse_amount(amount)
    if number == 0:
        raise BadInput(f"amount: {amount!r}, expected an amount other than zero")
    body = {**change_of(key, reason), "amount": number, "kind": kind, "bucket": bucket}
    _change(config, as_json, f"/v1/accounts/{segment(account)}/adjust", body)


@app.command()
def suspend(
    account: AccountName, reason: Reason, key: Key = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Deny service until it is resumed; nothing is taken."""
    _set_status(account, "suspend", reason, key, config, as_json)


@app.command()
def resume(
    account: AccountName, reason: Reason, key: Key = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Give service again."""
    _set_status(account, "resume", reason, key, config, as_json)


@app.command()
def close(
    account: AccountName, reason: Reason, key: Key = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Close an account without sessions and without stock, for good."""
    _set_status(account, "close", reason, key, config, as_json)


@app.command()
def show(account: AccountName, config: Config = None, as_json: AsJson = False) -> None:
    """Show an account with its buckets."""
    from ocs.cli.connection import run, segment
    from ocs.cli.output import print_json

    found = run(config_of(config), lambda api: api.get(f"/v1/accounts/{segment(account)}"))
    print_json(found) if as_json else print_account(found)


@app.command("list")
def list_accounts(
    limit: Limit = 100,
    cursor: Cursor = None,
    every: All = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List accounts."""
    from ocs.cli.output import money, next_page, print_json, table
    from ocs.cli.pages import fetch

    page = fetch(config_of(config), "/v1/accounts", limit, cursor, every)
    if as_json:
        print_json(page)
        return
    rows = []
    for item in page["items"]:
        amounts = (item[name] for name in ("balance_micros", "reserved_micros", "available_micros"))
        shown = [money(micros, item["currency_code"], item["exponent"]) for micros in amounts]
        rows.append((item["account"], item["status"], *shown, item["open_sessions"]))
    table(("account", "status", ">balance", ">reserved", ">available", ">sessions"), rows)
    next_page(page)


def register(root: typer.Typer) -> None:
    """Put `ledger` beside the groups."""
    root.command()(ledger)


def ledger(
    account: AccountName,
    limit: Limit = 100,
    cursor: Cursor = None,
    every: All = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what moved an account's money and units, oldest first, with who and why."""
    from ocs.cli.connection import segment
    from ocs.cli.ledger import print_ledger
    from ocs.cli.output import next_page, print_json
    from ocs.cli.pages import fetch

    page = fetch(config_of(config), f"/v1/accounts/{segment(account)}/ledger", limit, cursor, every)
    if as_json:
        print_json(page)
        return
    print_ledger(page)
    next_page(page)


def _set_status(account: str, verb: str, reason: str, key: str | None, config: str | None, as_json: bool) -> None:
    from ocs.cli.connection import segment

    _change(config, as_json, f"/v1/accounts/{segment(account)}/{verb}", change_of(key, reason))


def _change(config: str | None, as_json: bool, path: str, body: dict[str, Any]) -> None:
    from ocs.cli.connection import run
    from ocs.cli.output import print_json

    answer = run(config_of(config), lambda api: api.post(path, body), create=True)
    if as_json:
        print_json(answer)
        return
    print_account(answer)
    print_key(answer)


def print_key(answer: dict[str, Any]) -> None:
    """The key of a change, and whether it had been done before."""
    from ocs.cli.output import line

    line(
        f"key: {answer['key']}" + ("  (done before under this key; nothing changed now)" if answer["repeated"] else "")
    )


def print_account(found: dict[str, Any]) -> None:
    """An account: what it is worth, then its buckets."""
    from ocs.cli.output import amount, facts, moment, money, table

    code, exponent = found["currency_code"], found["exponent"]
    pairs: list[tuple[str, object]] = [("account", found["account"]), ("status", found["status"])]
    for name in ("balance", "reserved", "available", "credit_limit"):
        pairs.append((name.replace("_", " "), money(found[f"{name}_micros"], code, exponent)))
    pairs += [("open sessions", found["open_sessions"]), ("created", moment(found["created_s"]))]
    if "subscribers" in found:
        pairs.append(("subscribers", ", ".join(found["subscribers"]) or "none"))
    facts(pairs)
    rows = []
    for bucket in found["buckets"]:
        amounts = [amount(bucket[name], bucket["kind"], code, exponent) for name in ("posted", "reserved", "free")]
        group = bucket["rating_group"]
        only = [bucket["service_context"] or "", "" if group is None else f"rating group {group}"]
        pays_for = ", ".join(filter(None, only)) or "anything"
        ends = moment(bucket["valid_until_s"]) or "never"
        rows.append((bucket["bucket"], bucket["kind"], *amounts, bucket["priority"], ends, pays_for))
    table((">bucket", "kind", ">posted", ">reserved", ">free", ">priority", "expires", "pays for"), rows)
