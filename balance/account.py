"""Accounts and their buckets: the documents that hold money.

Amounts of money buckets are micro-units of the account's currency; amounts of unit buckets are octets, seconds or
events. For every bucket, at every moment: `credited - debited - expired == posted` and `0 <= reserved`; a unit bucket
never has `posted < reserved`. Documents are array-like MessagePack: fields are appended, never reordered.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec

ACCOUNT_SCHEMA = 1
SUBSCRIBER_SCHEMA = 2
IDENTITY_SCHEMA = 3
OPERATION_SCHEMA = 4

MAIN_BUCKET = 0
"""Id of the money bucket that every account has; only it may be overdrawn, down to the credit limit or by over-use."""

MAX_BUCKETS = 16
"""Buckets of one account; more would make every commit slow for all."""


class BucketKind(enum.IntEnum):
    """What a bucket holds."""

    MONEY = 0
    OCTETS = 1
    SECONDS = 2
    EVENTS = 3


class AccountStatus(enum.IntEnum):
    """Whether an account may be charged for new usage."""

    ACTIVE = 0
    SUSPENDED = 1
    CLOSED = 2


class Bucket(msgspec.Struct, array_like=True, gc=False):
    """A stock of money or units."""

    id: int
    kind: int
    """A `BucketKind`."""
    posted: int = 0
    reserved: int = 0
    credited: int = 0
    """Everything ever put in: top-ups, refunds, adjustments (negative ones subtract)."""
    debited: int = 0
    expired: int = 0
    priority: int = 0
    """Lower is spent first; then the earlier expiry; then the lower id."""
    valid_until_s: int = 0
    """UTC seconds from which it pays no more; 0: no end."""
    service_context: str = ""
    """Pays only for this context's tail; empty: for any."""
    rating_group: int = -1
    """Pays only for this rating group; -1: for any."""

    @property
    def free(self) -> int:
        """What is neither spent nor reserved."""
        return self.posted - self.reserved

    def pays_for(self, service_context: str, rating_group: int | None) -> bool:
        """Whether the bucket may be spent on a service."""
        if self.service_context and self.service_context != service_context:
            return False
        return self.rating_group in (-1, rating_group)

    def expired_at(self, now_s: int) -> bool:
        """Whether its validity has ended."""
        return self.valid_until_s != 0 and now_s >= self.valid_until_s


class Retired(msgspec.Struct, array_like=True, gc=False):
    """Totals of buckets that are gone, per kind, so that the books balance from the documents alone (LEDGER §7.7)."""

    kind: int
    credited: int
    debited: int
    expired: int


class Account(msgspec.Struct, array_like=True):
    """Who pays; the unit of atomicity."""

    id: str
    currency: int
    """ISO 4217 numeric."""
    exponent: int
    """Decimal digits of the currency's minor unit."""
    status: int = 0
    credit_limit_micros: int = 0
    buckets: list[Bucket] = []
    next_bucket: int = 1
    open_sessions: int = 0
    created_s: int = 0
    expires_s: int = 0
    """UTC seconds from which service is denied; 0: never."""
    parent: str = ""
    retired: list[Retired] = []

    def bucket(self, bucket_id: int) -> Bucket | None:
        """The bucket with an id, `None` if it is gone."""
        for bucket in self.buckets:
            if bucket.id == bucket_id:
                return bucket
        return None

    def money(self) -> Iterator[Bucket]:
        """Its money buckets."""
        return (bucket for bucket in self.buckets if bucket.kind == BucketKind.MONEY)

    @property
    def posted_micros(self) -> int:
        """B of the requirements: posted money."""
        posted = 0
        for bucket in self.buckets:
            if bucket.kind == BucketKind.MONEY:
                posted += bucket.posted
        return posted

    @property
    def reserved_micros(self) -> int:
        """R of the requirements: reserved money."""
        return sum(bucket.reserved for bucket in self.money())

    @property
    def available_micros(self) -> int:
        """A = B - R; the credit limit is not part of it."""
        return self.posted_micros - self.reserved_micros

    def usable(self, now_s: int) -> bool:
        """Whether new service may be given (CC-018)."""
        return self.status == AccountStatus.ACTIVE and (self.expires_s == 0 or now_s < self.expires_s)


class SubscriberIdentity(msgspec.Struct, array_like=True, frozen=True, order=True):
    """One name of a subscriber in the networks."""

    kind: str
    value: str


class Subscriber(msgspec.Struct, array_like=True):
    """Who uses the service. Lives in its account's partition; changing it bumps the account's version (LEDGER §1)."""

    id: str
    account: str
    plan: str
    identities: list[SubscriberIdentity] = []
    status: int = 0
    """An `AccountStatus`."""
    created_s: int = 0


class IdentityRecord(msgspec.Struct, array_like=True, frozen=True):
    """Where an identity leads. It holds only while its subscriber lists it; a claim left behind by a crash does not."""

    partition: int
    account: str
    subscriber: str
    claimed_s: int


class OperationRecord(msgspec.Struct, array_like=True, frozen=True):
    """What a change without a session did, kept under its key so that a repeat does nothing and answers the same."""

    key: str
    digest: bytes
    """Over the content: the same key with other content is refused."""
    outcome: bytes
    """JSON of the answer."""
    at_s: int


def new_account(account_id: str, currency: int, exponent: int, credit_limit_micros: int, now_s: int) -> Account:
    """An active account with an empty main bucket."""
    return Account(
        id=account_id,
        currency=currency,
        exponent=exponent,
        credit_limit_micros=credit_limit_micros,
        buckets=[Bucket(id=MAIN_BUCKET, kind=BucketKind.MONEY)],
        created_s=now_s,
    )
