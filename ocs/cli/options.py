"""Options and arguments that commands share. Imports nothing heavy: `ocs --help` reads this."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from ocs.cli.errors import BadInput

Config = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Configuration file.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger.")]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="The same key does the same change once.", show_default="made"),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Lines of a page at most.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="Every page, not only one.")]
AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id of the account.")]
SubscriberName = Annotated[
    str, typer.Argument(metavar="SUBSCRIBER", help="Id of the subscriber, or an identity such as e164:447700900123.")
]
SessionName = Annotated[str, typer.Argument(metavar="SESSION", help="The Session-Id.")]
Identities = Annotated[
    list[str] | None,
    typer.Option(
        "--identity", metavar="KIND:VALUE", help="e164, imsi, nai, sip, private or username; may be repeated."
    ),
]
Msisdns = Annotated[list[str] | None, typer.Option("--msisdn", metavar="E164", help="Telephone number.")]
Imsis = Annotated[list[str] | None, typer.Option("--imsi", metavar="DIGITS", help="IMSI.")]
Nais = Annotated[list[str] | None, typer.Option("--nai", metavar="USER@REALM", help="Network access identifier.")]
Usernames = Annotated[list[str] | None, typer.Option("--username", metavar="NAME", help="User name.")]

_default_config: list[str | None] = [None]


def set_default_config(path: str | None) -> None:
    """What `ocs --config FILE COMMAND` said, for commands that are not told otherwise."""
    _default_config[0] = path


def config_of(path: str | None) -> str | None:
    """The configuration file of a command: its own option, else that of `ocs`."""
    return _default_config[0] if path is None else path


def checked_reason(reason: str) -> str:
    """The reason of a change; it must not be empty."""
    if not reason.strip():
        raise BadInput("reason: expected a text that is not empty")
    return reason


def change_of(key: str | None, reason: str) -> dict[str, str]:
    """`key` and `reason` of a change; the key is made here, so that it is known even if no answer comes."""
    if key is not None and not key.strip():
        raise BadInput("key: expected a text that is not empty")
    return {"key": secrets.token_hex(8) if key is None else key, "reason": checked_reason(reason)}
