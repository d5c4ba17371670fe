"""From the columns of a row to what the interface takes; the rules of the single commands, column by column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ocs.api.bodies import IdentityText
from ocs.api.import_bodies import (
    MAX_ROW_KEY_CHARACTERS,
    BalanceText,
    OpeningText,
    SubscriberText,
    read_row_identity,
)
from ocs.charging.identity_text import KINDS
from ocs.charging.operations import OperationRefused
from ocs.cli.errors import BadInput
from ocs.cli.import_files import ERROR_COLUMNS, KEY_COLUMN, Row, RowProblem
from ocs.cli.values import parse_amount, parse_expiry, parse_money

RowText = SubscriberText | BalanceText

IDENTITY_COLUMNS = {"msisdn": "e164", **{kind: kind for kind in KINDS}}
"""Column -> kind of identity; `|` stands between several."""

UNITS = ("octets", "seconds", "events")


class Form(NamedTuple):
    """What a kind of import looks like."""

    name: str
    columns: tuple[str, ...]
    required: tuple[tuple[str, ...], ...]
    parse: Callable[[Row], RowText]
    """Everything but the key; raises `RowProblem`."""
    fields: Mapping[str, str]
    """Field of the interface -> column, where they differ."""


def _parse_subscriber(row: Row) -> SubscriberText:
    values = row.values
    subscriber, plan = _required(values, "subscriber"), _required(values, "plan")
    return SubscriberText(
        line=row.line,
        key="",
        subscriber=subscriber,
        account=values.get("account") or subscriber,
        plan=plan,
        identities=_identities(values),
        status=_word(values, "status", ("active", "suspended")),
        opening=_opening(values),
    )


def _identities(values: Mapping[str, str]) -> list[IdentityText]:
    found = []
    for column, kind in IDENTITY_COLUMNS.items():
        for text in values.get(column, "").split("|"):
            if text.strip():
                try:
                    identity = read_row_identity(kind, text)
                except OperationRefused as error:
                    raise RowProblem(column, str(error)) from None
                found.append(IdentityText(identity.kind, identity.value))
    return found


def _opening(values: Mapping[str, str]) -> OpeningText | None:
    currency, limit, balance = (values.get(column, "") for column in ("currency", "credit_limit", "balance"))
    if not currency:
        if limit or balance:
            raise RowProblem("currency", "empty, expected a code such as EUR beside credit_limit and balance")
        return None
    return OpeningText(
        currency=currency,
        credit_limit_micros=_money("credit_limit", limit) if limit else None,
        balance_micros=_money("balance", balance) if balance else 0,
    )


def _parse_balance(row: Row) -> BalanceText:
    values = row.values
    kind, amount = _amount(values)
    operation = _word(values, "operation", ("topup", "adjust"))
    if amount == 0 or (amount < 0 and operation == "topup"):
        raise RowProblem(
            _amount_column(values), f"expected an amount {'above' if operation == 'topup' else 'other than'} zero"
        )
    return BalanceText(
        line=row.line,
        key="",
        account=_required(values, "account"),
        amount=amount,
        operation="topup" if operation == "topup" else "adjust",
        kind=kind,
        priority=_integer(values, "priority") or 0,
        service_context=values.get("service_context", ""),
        rating_group=_integer(values, "rating_group"),
        bucket=_integer(values, "bucket") or 0,
        reason=values.get("reason", ""),
        **_expiry(values),
    )


def _amount(values: Mapping[str, str]) -> tuple[str, int]:
    """(kind, amount) of the columns amount or amount_micros, and kind."""
    micros, text, kind = (values.get(column, "") for column in ("amount_micros", "amount", "kind"))
    if kind and kind not in ("money", *UNITS):
        raise RowProblem("kind", f"expected money, {', '.join(UNITS)}")
    if bool(micros) == bool(text):
        raise RowProblem(_amount_column(values), "expected exactly one of amount and amount_micros")
    if micros:
        if kind not in ("", "money"):
            raise RowProblem("kind", "expected money beside amount_micros")
        return "money", _whole("amount_micros", micros)
    if kind in UNITS and text.lstrip("+-").isdecimal():
        return kind, _whole("amount", text)
    try:
        found, amount = parse_amount(text)
    except BadInput as error:
        raise _problem_of("amount", error) from None
    if kind and kind != found:
        raise RowProblem("amount", f"{found}, expected {kind} as the column kind says")
    return found, amount


def _amount_column(values: Mapping[str, str]) -> str:
    return "amount_micros" if values.get("amount_micros") or "amount" not in values else "amount"


def _expiry(values: Mapping[str, str]) -> dict[str, int]:
    text = values.get("expires", "")
    try:
        return parse_expiry(text) if text else {}
    except BadInput as error:
        raise _problem_of("expires", error) from None


def _money(column: str, text: str) -> int:
    try:
        amount = parse_money(column, text)
    except BadInput as error:
        raise _problem_of(column, error) from None
    if amount < 0:
        raise RowProblem(column, "negative, expected 0 or more")
    return amount


def _problem_of(column: str, error: BadInput) -> RowProblem:
    return RowProblem(column, str(error).removeprefix(f"{column}: "))


def _required(values: Mapping[str, str], column: str) -> str:
    text = values.get(column, "")
    if not text:
        raise RowProblem(column, "empty, expected a value")
    return text


def _word(values: Mapping[str, str], column: str, words: Sequence[str]) -> str:
    """One of some words; empty: the first."""
    text = values.get(column, "") or words[0]
    if text not in words:
        raise RowProblem(column, f"expected {' or '.join(words)}")
    return text


def _integer(values: Mapping[str, str], column: str) -> int | None:
    text = values.get(column, "")
    return _whole(column, text) if text else None


def _whole(column: str, text: str) -> int:
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 20:
        raise RowProblem(column, "expected a whole number")
    return int(text)


SUBSCRIBERS = Form(
    "subscribers",
    (
        *("subscriber", "account", "plan", "currency", "credit_limit", "balance"),
        *(*IDENTITY_COLUMNS, "status", KEY_COLUMN, *ERROR_COLUMNS),
    ),
    (("subscriber",), ("plan",)),
    _parse_subscriber,
    {"credit_limit_micros": "credit_limit", "balance_micros": "balance"},
)
BALANCES = Form(
    "balances",
    (
        *("account", "amount", "amount_micros", "kind", "operation", "bucket", "expires", "priority"),
        *("rating_group", "service_context", "reason", KEY_COLUMN, *ERROR_COLUMNS),
    ),
    (("account",), ("amount", "amount_micros")),
    _parse_balance,
    {"valid_until_s": "expires", "valid_for_s": "expires"},
)


class RowKeys:
    """Keys of rows: a row's own, else made of the import's name and the row's content, so that lines may move.

    The second of two equal rows has another key than the first. An own key that ends with `/` stands for an import's
    name: a row that could not be read when it was refused has no content yet.
    """

    def __init__(self, name: str, is_named: bool) -> None:
        """`is_named`: the operator gave the name; without it a file with keys must have one in each row."""
        self.name = name
        self._is_named = is_named
        self._seen: dict[str, int] = {}

    def keyed(self, text: RowText, values: Mapping[str, str]) -> RowText:
        """The row with its key; `RowProblem` if its own cannot be one."""
        own = values.get(KEY_COLUMN, "")
        if len(own) > MAX_ROW_KEY_CHARACTERS:
            raise RowProblem(KEY_COLUMN, f"expected at most {MAX_ROW_KEY_CHARACTERS} characters")
        if not own and KEY_COLUMN in values and not self._is_named:
            raise RowProblem(KEY_COLUMN, "empty, expected a key in every row of a file with keys, or --key")
        if own.endswith("/"):
            return msgspec.structs.replace(text, key=self._made(own[:-1], text))
        return msgspec.structs.replace(text, key=own or self._made(self.name, text))

    def _made(self, name: str, text: RowText) -> str:
        content = msgspec.json.encode(msgspec.structs.replace(text, line=0))
        key = f"{name}/{hashlib.blake2b(content, digest_size=8).hexdigest()}"
        count = self._seen[key] = self._seen.get(key, 0) + 1
        return key if count == 1 else f"{key}.{count}"


class Names:
    """Subscribers and identities of a file: each may stand in one row only."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}

    def check(self, text: RowText, values: Mapping[str, str]) -> None:
        """`RowProblem` for a name that an earlier row has."""
        if isinstance(text, BalanceText):
            return
        names = {"subscriber=" + text.subscriber: "subscriber"}
        for one in text.identities:
            names[f"{one.kind}={one.value}"] = column_of(one.kind, values)
        for name, column in names.items():
            if name in self._lines:
                raise RowProblem(column, f"stands in line {self._lines[name]}, too")
        for name in names:
            self._lines[name] = text.line


def column_of(field: str, values: Mapping[str, str]) -> str:
    """The column behind a kind of identity in this file."""
    return "msisdn" if field == "e164" and values.get("msisdn") else field
