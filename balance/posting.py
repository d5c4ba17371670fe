"""The ledger pen: every change of a bucket goes through one of these verbs and leaves one entry.

A `Posting` works on a copy of the account, so that a caller which gives up has changed nothing. It checks the
invariants of LEDGER §7 at every stroke; a broken one is our bug and stops the request.
"""

from __future__ import annotations

from copy import copy

from balance.account import MAIN_BUCKET, MAX_BUCKETS, Account, Bucket, BucketKind, Retired
from balance.ledger import Cause, Entry, Verb


class InvariantError(AssertionError):
    """A rule of money would be broken; nothing of the request may be committed."""


class BucketsExhausted(Exception):
    """The account already has as many buckets as one document may hold."""


class Posting:
    """Changes to one account, with the entries that explain them."""

    def __init__(self, account: Account, now_s: int) -> None:
        self.account = account = copy(account)
        account.buckets = [copy(bucket) for bucket in account.buckets]
        if account.retired:
            account.retired = [copy(row) for row in account.retired]
        self.now_s = now_s
        self.entries: list[Entry] = []

    def bucket(self, bucket_id: int) -> Bucket:
        """The bucket with an id; a reservation keeps its bucket alive, so a missing one is our bug."""
        bucket = self.account.bucket(bucket_id)
        if bucket is None:
            raise InvariantError(f"account {self.account.id}: bucket {bucket_id} is gone")
        return bucket

    def reserve(self, bucket: Bucket, amount: int) -> None:
        """Hold an amount of what is free; the main bucket may be held down to the credit limit."""
        floor = -self.account.credit_limit_micros if bucket.id == MAIN_BUCKET else 0
        if amount <= 0 or bucket.free - amount < floor:
            raise InvariantError(f"account {self.account.id}: reserve {amount} of {bucket.free}, floor {floor}")
        self._write(bucket, Verb.RESERVE, Cause.GRANT, 0, amount)

    def release(self, bucket: Bucket, amount: int) -> None:
        """Give back what was held and not used; what an expired bucket gets back expires at once (LEDGER §7.4)."""
        if amount <= 0 or amount > bucket.reserved:
            raise InvariantError(f"account {self.account.id}: release {amount} of {bucket.reserved} reserved")
        self._write(bucket, Verb.RELEASE, Cause.SETTLED, 0, -amount)
        if bucket.expired_at(self.now_s):
            self.expire(bucket)

    def debit_reserved(self, bucket: Bucket, amount: int) -> None:
        """Spend what was held."""
        if amount <= 0 or amount > bucket.reserved:
            raise InvariantError(f"account {self.account.id}: debit {amount} of {bucket.reserved} reserved")
        bucket.debited += amount
        self._write(bucket, Verb.DEBIT, Cause.USAGE, -amount, -amount)

    def debit_free(self, bucket: Bucket, amount: int, cause: Cause) -> None:
        """Spend what is free. Only over-use may take the main bucket below the limit; units never go below 0."""
        overdraft = cause is Cause.OVER_USE and bucket.id == MAIN_BUCKET
        floor = -self.account.credit_limit_micros if bucket.id == MAIN_BUCKET else 0
        if amount <= 0 or (not overdraft and bucket.free - amount < floor):
            raise InvariantError(f"account {self.account.id}: debit {amount} of {bucket.free}, floor {floor}")
        bucket.debited += amount
        self._write(bucket, Verb.DEBIT, cause, -amount, 0)

    def uncollected(self, amount_micros: int) -> None:
        """Record usage that `overuse_floor` keeps from being debited."""
        bucket = self.bucket(MAIN_BUCKET)
        self.entries.append(
            Entry(
                bucket=bucket.id,
                kind=bucket.kind,
                verb=Verb.UNCOLLECTED,
                cause=Cause.OVER_USE,
                posted_change=0,
                reserved_change=0,
                posted_after=bucket.posted,
                reserved_after=bucket.reserved,
                amount=amount_micros,
            )
        )

    def credit(self, bucket: Bucket, amount: int, verb: Verb, cause: Cause) -> None:
        """Put in: top up, refund, or an adjustment of either sign (negative never below the floor)."""
        floor = -self.account.credit_limit_micros if bucket.id == MAIN_BUCKET else 0
        if amount == 0 or (amount < 0 and bucket.free + amount < floor):
            raise InvariantError(f"account {self.account.id}: {verb} {amount} with {bucket.free} free")
        bucket.credited += amount
        self._write(bucket, verb, cause, amount, 0)

    def expire(self, bucket: Bucket) -> None:
        """Take the unreserved part of a bucket whose validity has ended; never what is held."""
        amount = bucket.free
        if amount <= 0:
            return
        bucket.expired += amount
        self._write(bucket, Verb.EXPIRE, Cause.VALIDITY, -amount, 0)

    def add_bucket(self, bucket: Bucket) -> Bucket:
        """Open a new bucket under the account's next id; `BucketsExhausted` when the document is full."""
        if len(self.account.buckets) >= MAX_BUCKETS:
            self._retire(keep_empty=False)
        if len(self.account.buckets) >= MAX_BUCKETS:
            raise BucketsExhausted(f"account {self.account.id} has {MAX_BUCKETS} buckets in use")
        bucket.id = self.account.next_bucket
        self.account.next_bucket += 1
        self.account.buckets.append(bucket)
        return bucket

    def retire_expired(self) -> None:
        """Drop buckets that ended and hold nothing; their totals stay with the account."""
        self._retire(keep_empty=True)

    def _retire(self, keep_empty: bool) -> None:
        kept: list[Bucket] = []
        for bucket in self.account.buckets:
            empty = bucket.id != MAIN_BUCKET and bucket.posted == 0 and bucket.reserved == 0
            if empty and (not keep_empty or bucket.expired_at(self.now_s)):
                self._remember(bucket)
            else:
                kept.append(bucket)
        self.account.buckets = kept

    def _remember(self, bucket: Bucket) -> None:
        for row in self.account.retired:
            if row.kind == bucket.kind:
                row.credited += bucket.credited
                row.debited += bucket.debited
                row.expired += bucket.expired
                return
        self.account.retired.append(Retired(bucket.kind, bucket.credited, bucket.debited, bucket.expired))

    def _write(self, bucket: Bucket, verb: Verb, cause: Cause, posted: int, reserved: int) -> None:
        bucket.posted += posted
        bucket.reserved += reserved
        if bucket.reserved < 0 or (bucket.kind != BucketKind.MONEY and bucket.posted < bucket.reserved):
            raise InvariantError(f"account {self.account.id}: bucket {bucket.id} would hold {bucket}")
        if bucket.credited - bucket.debited - bucket.expired != bucket.posted:
            raise InvariantError(f"account {self.account.id}: bucket {bucket.id} does not add up: {bucket}")
        self.entries.append(
            Entry(bucket.id, bucket.kind, verb, cause, posted, reserved, bucket.posted, bucket.reserved)
        )
