"""What operators do to accounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from balance.account import MAIN_BUCKET, Account, AccountStatus, Bucket, BucketKind, IdentityRecord, new_account
from balance.documents import identity_key
from balance.ledger import Cause, Entry, Verb
from balance.money import MAX_MICROS, format_micros
from balance.posting import BucketsExhausted, Posting
from ocs.charging.engine import Engine
from ocs.charging.expiry import arm_expiry
from ocs.charging.identities import claim, find_account
from ocs.charging.notice_documents import NoticeKind
from ocs.charging.notices import Wanted
from ocs.charging.operations import Change, OperationRefused, Order, Step, check_name, open_account, required_account
from ocs.charging.saga import Saga
from ocs.charging.workspace import Workspace

ACCOUNTS_INDEX = b"accounts"

_TOPPED_UP = Wanted(NoticeKind.TOPPED_UP)
_CHANGED = Wanted(NoticeKind.CHANGED)


class TopUp(msgspec.Struct, frozen=True):
    """What is put in. Money without an end goes to the main bucket, anything else into a bucket of its own."""

    amount: int
    kind: int = BucketKind.MONEY
    valid_until_s: int = 0
    """UTC seconds from which it pays no more; 0: no end."""
    valid_for_s: int = 0
    """The same, counted from the commit: so that a repeat under the same key is the same change."""
    priority: int = 0
    service_context: str = ""
    rating_group: int = -1


def create_account(
    engine: Engine, order: Order, account: str, currency: int, exponent: int, credit_limit_micros: int, partition: int
) -> Saga[dict[str, Any]]:
    """Create an account in a partition of the caller's choice; a claim that is there already decides it instead."""
    check_name("account", account)
    at = identity_key("account", account, engine.store.partitions)
    record = yield from claim(engine, at, IdentityRecord(partition, account, "", 0))
    step = create_step(engine, order, account, currency, exponent, credit_limit_micros, record.partition)
    result: dict[str, Any] = yield step
    return result


def create_step(
    engine: Engine, order: Order, account: str, currency: int, exponent: int, credit_limit_micros: int, partition: int
) -> Step:
    """The commit of `create_account`, for an account whose name is claimed."""
    change = Change(engine, "create", order, (account, currency, exponent, credit_limit_micros))

    def work(workspace: Workspace, now_us: int) -> tuple[dict[str, Any], Sequence[Entry]]:
        if workspace.account() is not None:
            raise OperationRefused("exists", "account", f"account {account!r} exists already")
        fresh = new_account(account, currency, exponent, credit_limit_micros, now_us // 1_000_000)
        workspace.put_account(fresh)
        workspace.index(ACCOUNTS_INDEX, account.encode(), True)
        return describe_account(fresh), ()

    return change.step(partition, account, (), work, _again(account))


def top_up(engine: Engine, order: Order, account: str, what: TopUp) -> Saga[dict[str, Any]]:
    """Put money or units in."""
    partition = yield from find_account(engine, account)
    result: dict[str, Any] = yield top_up_step(engine, order, account, what, partition)
    return result


def top_up_step(engine: Engine, order: Order, account: str, what: TopUp, partition: int) -> Step:
    """The commit of `top_up`."""
    change = Change(engine, "topup", order, (account, what))

    def work(workspace: Workspace, now_us: int) -> tuple[dict[str, Any], Sequence[Entry]]:
        posting = Posting(open_account(workspace, account), now_us // 1_000_000)
        if what.amount <= 0:
            raise OperationRefused("invalid", "amount", "expected an amount above zero")
        if what.valid_until_s and what.valid_until_s <= posting.now_s:
            raise OperationRefused("invalid", "expires", "expected a time to come")
        ends_s = posting.now_s + what.valid_for_s if what.valid_for_s else what.valid_until_s
        bucket = _bucket_for(posting, what, ends_s)
        _check_width(bucket, what.amount)
        posting.credit(bucket, what.amount, Verb.TOP_UP, Cause.OPERATOR)
        return _write(workspace, posting), posting.entries

    return change.step(partition, account, (), work, _again(account), notice=_TOPPED_UP)


class Adjustment(msgspec.Struct, frozen=True):
    """A correction of one bucket."""

    amount: int
    """Of either sign, not zero."""
    bucket: int = MAIN_BUCKET
    kind: int | None = None
    """What the bucket must hold, a `BucketKind`; `None`: whatever it holds."""


def adjust(
    engine: Engine, order: Order, account: str, bucket_id: int, amount: int, kind: int | None = None
) -> Saga[dict[str, Any]]:
    """Correct a bucket by an amount of either sign; never below zero, or below minus the limit for the main bucket."""
    partition = yield from find_account(engine, account)
    result: dict[str, Any] = yield adjust_step(engine, order, account, Adjustment(amount, bucket_id, kind), partition)
    return result


def adjust_step(engine: Engine, order: Order, account: str, what: Adjustment, partition: int) -> Step:
    """The commit of `adjust`."""
    bucket_id, amount = what.bucket, what.amount
    change = Change(engine, "adjust", order, (account, bucket_id, amount))

    def work(workspace: Workspace, now_us: int) -> tuple[dict[str, Any], Sequence[Entry]]:
        posting = Posting(open_account(workspace, account), now_us // 1_000_000)
        bucket = posting.account.bucket(bucket_id)
        if bucket is None:
            raise OperationRefused("not_found", "bucket", f"account {account!r} has no bucket {bucket_id}")
        if what.kind is not None and bucket.kind != what.kind:
            held, asked = (BucketKind(one).name.lower() for one in (bucket.kind, what.kind))
            raise OperationRefused("invalid", "amount", f"bucket {bucket_id} holds {held}, not {asked}")
        _check_adjustment(posting.account, bucket, amount)
        posting.credit(bucket, amount, Verb.ADJUST, Cause.OPERATOR)
        return _write(workspace, posting), posting.entries

    notice = _TOPPED_UP if amount > 0 else None
    return change.step(partition, account, (), work, _again(account), notice=notice)


def _again(account: str) -> Callable[[Workspace], dict[str, Any]]:
    """The answer to a repeat: the account as it is now."""
    return lambda workspace: describe_account(required_account(workspace, account))


def _check_width(bucket: Bucket, amount: int) -> None:
    """Refuse what documents and wires of 64 bits could not hold."""
    if abs(bucket.credited + amount) > MAX_MICROS:
        raise OperationRefused("conflict", "amount", f"bucket {bucket.id} would have been given more than it can count")


def _check_adjustment(account: Account, bucket: Bucket, amount: int) -> None:
    if amount == 0:
        raise OperationRefused("invalid", "amount", "expected an amount other than zero")
    _check_width(bucket, amount)
    limit = account.credit_limit_micros if bucket.id == MAIN_BUCKET else 0
    if amount < 0 and bucket.free + limit + amount < 0:
        free = bucket.free + limit
        text = format_micros(free, account.exponent) if bucket.kind == BucketKind.MONEY else str(free)
        raise OperationRefused("conflict", "amount", f"only {text} of bucket {bucket.id} is free")


def set_status(engine: Engine, order: Order, account: str, status: AccountStatus) -> Saga[dict[str, Any]]:
    """Suspend, resume or close an account. Closing needs an account without sessions and without stock."""
    partition = yield from find_account(engine, account)
    name = {AccountStatus.ACTIVE: "resume", AccountStatus.SUSPENDED: "suspend", AccountStatus.CLOSED: "close"}[status]
    change = Change(engine, name, order, (account, int(status)))

    def work(workspace: Workspace, now_us: int) -> tuple[dict[str, Any], Sequence[Entry]]:
        found = open_account(workspace, account)
        if status is AccountStatus.CLOSED:
            _check_closable(found)
        found.status = status
        workspace.put_account(found)
        return describe_account(found), ()

    return (yield from change.saga(partition, account, (), work, _again(account), notice=_CHANGED))


def _check_closable(account: Account) -> None:
    if account.open_sessions or any(bucket.reserved for bucket in account.buckets):
        message = f"account {account.id!r} has {account.open_sessions} open sessions; suspend it and wait for their end"
        raise OperationRefused("conflict", "account", message)
    left = [bucket for bucket in account.buckets if bucket.posted]
    if left:
        buckets = ", ".join(str(bucket.id) for bucket in left)
        raise OperationRefused("conflict", "account", f"buckets {buckets} are not empty; adjust them to zero first")


def _bucket_for(posting: Posting, what: TopUp, valid_until_s: int) -> Bucket:
    plain = not (valid_until_s or what.priority or what.service_context or what.rating_group != -1)
    if what.kind == BucketKind.MONEY and plain:
        return posting.bucket(MAIN_BUCKET)
    bucket = Bucket(
        id=0,
        kind=what.kind,
        priority=what.priority,
        valid_until_s=valid_until_s,
        service_context=what.service_context,
        rating_group=what.rating_group,
    )
    try:
        return posting.add_bucket(bucket)
    except BucketsExhausted as error:
        raise OperationRefused("conflict", "account", str(error)) from error


def _write(workspace: Workspace, posting: Posting) -> dict[str, Any]:
    """Write the account and have the sweeper look at it when its next bucket ends."""
    account = posting.account
    workspace.put_account(account)
    arm_expiry(workspace, account, posting.now_s)
    return describe_account(account)


def describe_account(account: Account) -> dict[str, Any]:
    """An account as JSON: money in micro-units and as text, units as integers."""
    return {
        "account": account.id,
        "status": AccountStatus(account.status).name.lower(),
        "currency": account.currency,
        "exponent": account.exponent,
        "credit_limit_micros": account.credit_limit_micros,
        "balance_micros": account.posted_micros,
        "reserved_micros": account.reserved_micros,
        "available_micros": account.available_micros,
        "open_sessions": account.open_sessions,
        "created_s": account.created_s,
        "buckets": [describe_bucket(bucket) for bucket in account.buckets],
    }


def describe_bucket(bucket: Bucket) -> dict[str, Any]:
    """A bucket as JSON."""
    return {
        "bucket": bucket.id,
        "kind": BucketKind(bucket.kind).name.lower(),
        "posted": bucket.posted,
        "reserved": bucket.reserved,
        "free": bucket.free,
        "priority": bucket.priority,
        "valid_until_s": bucket.valid_until_s or None,
        "service_context": bucket.service_context or None,
        "rating_group": None if bucket.rating_group == -1 else bucket.rating_group,
    }
