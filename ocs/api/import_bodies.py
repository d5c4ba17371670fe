"""What the import routes take. A row that cannot be meant is refused by itself, so the fields have plain types here."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from balance.account import AccountStatus, BucketKind
from balance.money import MAX_MICROS
from ocs.api.bodies import MAX_KEY_CHARACTERS, MAX_REASON_CHARACTERS, IdentityText, Signed
from ocs.api.common import find_currency, path_name, read_identity
from ocs.charging.account_operations import Adjustment, TopUp
from ocs.charging.bulk import BalanceRow, Opening, SubscriberRow
from ocs.charging.operations import OperationRefused
from ocs.charging.requests import Identity

MAX_ROWS = 500
"""Rows of one request."""

MAX_ROW_KEY_CHARACTERS = MAX_KEY_CHARACTERS - len("/balance")
MAX_IDENTITIES = 32
MAX_NAME_CHARACTERS = 300
MAX_SECONDS = 2**40
MAX_PRIORITY = 1_000_000


class NewImport(Signed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file to be imported under its name."""

    key: Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARACTERS)]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    """Of the file, in hexadecimal."""
    dry_run: bool = False


class OpeningText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An account to create if it is not there."""

    currency: str
    credit_limit_micros: int | None = None
    balance_micros: int = 0


class SubscriberText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A subscriber to add, with its account."""

    line: int
    key: str
    subscriber: str
    account: str
    plan: str
    identities: list[IdentityText] = []
    status: str = "active"
    opening: OpeningText | None = None

    def row(self) -> SubscriberRow:
        """The row; `OperationRefused` if a field cannot be meant."""
        identities = tuple(read_row_identity(one.kind, one.value) for one in self.identities)
        if len(identities) > MAX_IDENTITIES:
            raise OperationRefused("invalid", "identities", f"expected at most {MAX_IDENTITIES} identities")
        if len(set(identities)) != len(identities):
            raise OperationRefused("invalid", "identities", "the same identity stands twice")
        if self.status not in ("active", "suspended"):
            raise OperationRefused("invalid", "status", f"{self.status!r}, expected active or suspended")
        return SubscriberRow(
            self.line,
            checked_key(self.key),
            path_name("subscriber", self.subscriber),
            path_name("account", self.account),
            self.plan,
            identities,
            AccountStatus[self.status.upper()],
            None if self.opening is None else opening_of(self.opening),
        )


class BalanceText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A top-up or an adjustment."""

    line: int
    key: str
    account: str
    amount: int
    """In units of `kind`; of either sign for an adjustment."""
    operation: Literal["topup", "adjust"] = "topup"
    kind: str = "money"
    valid_until_s: int = 0
    valid_for_s: int = 0
    priority: int = 0
    service_context: str = ""
    rating_group: int | None = None
    bucket: int = 0
    reason: str = ""

    def row(self) -> BalanceRow:
        """The row; `OperationRefused` if a field cannot be meant."""
        if self.kind.upper() not in BucketKind.__members__:
            raise OperationRefused("invalid", "kind", f"{self.kind!r}, expected money, octets, seconds or events")
        within("amount", self.amount, -MAX_MICROS, MAX_MICROS)
        if len(self.reason) > MAX_REASON_CHARACTERS or not self.reason.isprintable():
            message = f"expected a printable text of at most {MAX_REASON_CHARACTERS} characters"
            raise OperationRefused("invalid", "reason", message)
        what = self._top_up() if self.operation == "topup" else self._adjustment()
        return BalanceRow(self.line, checked_key(self.key), self.account, what, self.reason.strip())

    def _top_up(self) -> TopUp:
        within("valid_until_s", self.valid_until_s, 0, MAX_SECONDS)
        within("valid_for_s", self.valid_for_s, 0, MAX_SECONDS)
        within("priority", self.priority, -MAX_PRIORITY, MAX_PRIORITY)
        within("rating_group", self.rating_group or 0, 0, 2**32 - 1)
        if self.valid_until_s and self.valid_for_s:
            raise OperationRefused("invalid", "valid_for_s", "expected only one of valid_until_s and valid_for_s")
        if self.bucket:
            raise OperationRefused("invalid", "bucket", "expected with an adjustment only; a top-up finds its bucket")
        if len(self.service_context) > MAX_NAME_CHARACTERS:
            message = f"expected at most {MAX_NAME_CHARACTERS} characters"
            raise OperationRefused("invalid", "service_context", message)
        return TopUp(
            amount=self.amount,
            kind=BucketKind[self.kind.upper()],
            valid_until_s=self.valid_until_s,
            valid_for_s=self.valid_for_s,
            priority=self.priority,
            service_context=self.service_context,
            rating_group=-1 if self.rating_group is None else self.rating_group,
        )

    def _adjustment(self) -> Adjustment:
        within("bucket", self.bucket, 0, 2**31)
        extra = {
            "valid_until_s": self.valid_until_s,
            "valid_for_s": self.valid_for_s,
            "priority": self.priority,
            "service_context": self.service_context,
            "rating_group": self.rating_group is not None,
        }
        for field, value in extra.items():
            if value:
                raise OperationRefused("invalid", field, "expected with a top-up only; an adjustment names its bucket")
        return Adjustment(self.amount, self.bucket, BucketKind[self.kind.upper()])


class Rows(Signed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the rows of a request share."""

    dry_run: bool = False
    """Check each row, also against the store, and change nothing."""
    stop_on_error: bool = False
    """End after the first refused row; rows are then committed one by one."""


class SubscriberRows(Rows, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Subscribers to import."""

    rows: Annotated[list[SubscriberText], Meta(max_length=MAX_ROWS)]


class BalanceRows(Rows, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Top-ups and adjustments to import."""

    rows: Annotated[list[BalanceText], Meta(max_length=MAX_ROWS)]


def opening_of(text: OpeningText) -> Opening:
    """The account that a row opens."""
    currency = find_currency(text.currency)
    if text.credit_limit_micros is not None:
        within("credit_limit_micros", text.credit_limit_micros, 0, MAX_MICROS)
    within("balance_micros", text.balance_micros, 0, MAX_MICROS)
    return Opening(currency.numeric, currency.exponent, text.credit_limit_micros, text.balance_micros)


def read_row_identity(kind: str, value: str) -> Identity:
    """An identity in its one spelling; refused, by the name of its kind, if it cannot be one."""
    try:
        return read_identity(kind, value)
    except OperationRefused as error:
        raise OperationRefused(error.kind, kind, str(error)) from None


def checked_key(key: str) -> str:
    """The key of a row; refused if it is empty, too long or cannot be shown."""
    if not key or len(key) > MAX_ROW_KEY_CHARACTERS or not key.isprintable() or key != key.strip():
        message = f"expected a printable text of 1 to {MAX_ROW_KEY_CHARACTERS} characters"
        raise OperationRefused("invalid", "key", message)
    return key


def within(field: str, value: int, low: int, high: int) -> None:
    """Refuse an integer outside its range."""
    if not low <= value <= high:
        raise OperationRefused("invalid", field, f"{value}, expected {low} to {high}")
