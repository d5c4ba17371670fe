"""What the HTTP interface takes: one struct for each request body. Amounts are integers; unknown fields are refused."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from balance.money import MAX_MICROS
from ocs.charging.operations import OperationRefused, Order

MAX_REASON_CHARACTERS = 500
MAX_KEY_CHARACTERS = 128
MAX_ADVANCE_S = 10 * 366 * 86_400
"""Longest single step of a test clock: ten years."""

Kind = Literal["money", "octets", "seconds", "events"]
"""Unit of an amount: micro-units of the account's currency, octets, seconds or events."""

Micros = Annotated[int, Meta(ge=0, le=MAX_MICROS)]
Amount = Annotated[int, Meta(ge=-MAX_MICROS, le=MAX_MICROS)]
Seconds = Annotated[int, Meta(ge=1, le=2**40)]
Name = Annotated[str, Meta(max_length=300)]


class Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every request that changes something states."""

    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARACTERS)]
    """Why; kept with the change."""

    def checked_reason(self) -> str:
        """The reason; refused if it is empty or cannot be shown."""
        reason = self.reason.strip()
        if not reason or not reason.isprintable():
            raise OperationRefused("invalid", "reason", "expected a printable text that is not empty")
        return reason


class Change(Signed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every change of an account or a subscriber states beside its content."""

    key: Annotated[str, Meta(max_length=MAX_KEY_CHARACTERS)] | None = None
    """The same key with the same content is done once; made if absent."""

    def order(self, who: str) -> Order:
        """Who asks for the change, why and under which key; refused if a text is empty or cannot be shown."""
        reason = self.checked_reason()
        key = secrets.token_hex(8) if self.key is None else self.key
        if not key or not key.isprintable() or key != key.strip():
            raise OperationRefused("invalid", "key", "expected a printable text that is not empty")
        return Order(key, who, reason)


class NewAccount(Change, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to create."""

    account: Name
    currency: Annotated[str, Meta(max_length=3)]
    """ISO 4217 code, e.g. `EUR`."""
    credit_limit_micros: Micros = 0


class NewTopUp(Change, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is put into an account."""

    amount: Amount
    """In units of `kind`, above zero."""
    kind: Kind = "money"
    valid_until_s: Seconds | None = None
    """UTC seconds from which the bucket pays no more."""
    valid_for_s: Seconds | None = None
    """The same, counted from the moment of the change."""
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    """Lower is spent first."""
    service_context: Name = ""
    """Pays only for this context, e.g. `32251@3gpp.org`; empty: for any."""
    rating_group: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None
    """Pays only for this rating group."""


class NewAdjustment(Change, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A correction of one bucket."""

    amount: Amount
    """In units of `kind`, of either sign, not zero."""
    kind: Kind = "money"
    """Must be the bucket's."""
    bucket: Annotated[int, Meta(ge=0, le=2**31)] = 0


class IdentityText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One name of a subscriber in the networks."""

    kind: Name
    """`e164`, `imsi`, `nai`, `sip`, `private` or `username`."""
    value: Name


class NewSubscriber(Change, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscriber to add."""

    subscriber: Name
    account: Name
    plan: Name
    identities: Annotated[list[IdentityText], Meta(max_length=32)] = []


class SubscriberEdit(Change, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of a subscriber; what is absent stays."""

    plan: Name | None = None
    status: Literal["active", "suspended"] | None = None


class IdentityEdit(Change, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An identity to add or remove."""

    identity: IdentityText


class CatalogueFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A catalogue to check."""

    text: str
    filename: Name = "catalogue.toml"
    """Stands in messages."""


class Activation(Change, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A catalogue to make current."""

    text: str
    filename: Name = "catalogue.toml"


class Advance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step of a test clock."""

    seconds: Annotated[int, Meta(ge=1, le=MAX_ADVANCE_S)]
