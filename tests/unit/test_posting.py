"""The ledger pen: each verb, its entry, and the strokes that it refuses (LEDGER §7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from balance.account import MAIN_BUCKET, MAX_BUCKETS, Bucket, BucketKind, new_account
from balance.ledger import Cause, Entry, Verb
from balance.posting import BucketsExhausted, InvariantError, Posting

NOW_S = 1000


def a_posting(money: int = 100, units: int = 50, limit: int = 0, ends_s: int = 0) -> Posting:
    account = new_account("a", 978, 2, limit, 0)
    account.buckets[0].posted = account.buckets[0].credited = money
    account.buckets.append(Bucket(1, BucketKind.OCTETS, units, credited=units, valid_until_s=ends_s))
    account.next_bucket = 2
    return Posting(account, NOW_S)


def test_the_account_it_was_given_is_never_touched() -> None:
    original = new_account("a", 978, 2, 0, 0)
    posting = Posting(original, NOW_S)
    posting.credit(posting.bucket(MAIN_BUCKET), 5, Verb.TOP_UP, Cause.OPERATOR)
    posting.add_bucket(Bucket(0, BucketKind.MONEY))
    assert original.buckets == [Bucket(0, BucketKind.MONEY)] and original.next_bucket == 1


def test_each_verb_leaves_one_entry() -> None:
    posting = a_posting()
    main, units = posting.bucket(0), posting.bucket(1)
    posting.reserve(main, 30)
    posting.debit_reserved(main, 10)
    posting.release(main, 20)
    posting.debit_free(units, 5, Cause.EVENT)
    posting.credit(units, 2, Verb.REFUND, Cause.EVENT)
    posting.credit(main, -40, Verb.ADJUST, Cause.OPERATOR)
    money, octets = int(BucketKind.MONEY), int(BucketKind.OCTETS)
    assert posting.entries == [
        Entry(0, money, Verb.RESERVE, Cause.GRANT, 0, 30, 100, 30),
        Entry(0, money, Verb.DEBIT, Cause.USAGE, -10, -10, 90, 20),
        Entry(0, money, Verb.RELEASE, Cause.SETTLED, 0, -20, 90, 0),
        Entry(1, octets, Verb.DEBIT, Cause.EVENT, -5, 0, 45, 0),
        Entry(1, octets, Verb.REFUND, Cause.EVENT, 2, 0, 47, 0),
        Entry(0, money, Verb.ADJUST, Cause.OPERATOR, -40, 0, 50, 0),
    ]
    assert (main.credited, main.debited, main.expired) == (60, 10, 0)


REFUSED: dict[str, Callable[[Posting], None]] = {
    "reserve nothing": lambda p: p.reserve(p.bucket(0), 0),
    "reserve what is not there": lambda p: p.reserve(p.bucket(0), 101),
    "reserve units that are not there": lambda p: p.reserve(p.bucket(1), 51),
    "release what is not held": lambda p: p.release(p.bucket(0), 1),
    "debit what is not held": lambda p: p.debit_reserved(p.bucket(0), 1),
    "debit a negative amount": lambda p: p.debit_free(p.bucket(0), -1, Cause.EVENT),
    "an event below the limit": lambda p: p.debit_free(p.bucket(0), 101, Cause.EVENT),
    "over-use of units below zero": lambda p: p.debit_free(p.bucket(1), 51, Cause.OVER_USE),
    "credit nothing": lambda p: p.credit(p.bucket(0), 0, Verb.TOP_UP, Cause.OPERATOR),
    "adjust below zero": lambda p: p.credit(p.bucket(0), -101, Verb.ADJUST, Cause.OPERATOR),
    "a bucket that is gone": lambda p: p.release(p.bucket(9), 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_stroke_that_breaks_a_rule_is_refused_and_writes_nothing(name: str) -> None:
    posting = a_posting()
    with pytest.raises(InvariantError):
        REFUSED[name](posting)
    assert posting.entries == []
    assert [(b.posted, b.reserved) for b in posting.account.buckets] == [(100, 0), (50, 0)]


def test_only_over_use_passes_the_limit_and_only_of_the_main_bucket() -> None:
    posting = a_posting(limit=10)
    posting.debit_free(posting.bucket(0), 110, Cause.EVENT)
    with pytest.raises(InvariantError):
        posting.debit_free(posting.bucket(0), 1, Cause.EVENT)
    posting.debit_free(posting.bucket(0), 7, Cause.OVER_USE)
    assert posting.bucket(0).posted == -17
    with pytest.raises(InvariantError):
        posting.reserve(posting.bucket(0), 1)


def test_the_limit_belongs_to_the_main_bucket_alone() -> None:
    posting = a_posting(limit=10)
    promo = posting.add_bucket(Bucket(0, BucketKind.MONEY, 5, credited=5))
    with pytest.raises(InvariantError):
        posting.reserve(promo, 6)
    posting.reserve(posting.bucket(0), 110)


def test_expiry_takes_what_is_free_and_never_what_is_held() -> None:
    posting = a_posting(ends_s=NOW_S)
    units = posting.bucket(1)
    posting.reserve(units, 20)
    posting.expire(units)
    posting.expire(units)
    assert (units.posted, units.reserved, units.expired) == (20, 20, 30)
    posting.release(units, 15)  # ended meanwhile: what comes back expires at once
    assert (units.posted, units.reserved, units.expired) == (5, 5, 45)
    assert [entry.verb for entry in posting.entries] == [Verb.RESERVE, Verb.EXPIRE, Verb.RELEASE, Verb.EXPIRE]


def test_ended_and_empty_buckets_retire_with_their_totals() -> None:
    posting = a_posting(ends_s=NOW_S)
    posting.retire_expired()
    assert len(posting.account.buckets) == 2
    posting.expire(posting.bucket(1))
    posting.retire_expired()
    assert [bucket.id for bucket in posting.account.buckets] == [MAIN_BUCKET]
    (row,) = posting.account.retired
    assert (row.kind, row.credited, row.debited, row.expired) == (BucketKind.OCTETS, 50, 0, 50)


def test_retired_totals_add_up_by_kind() -> None:
    posting = a_posting(ends_s=NOW_S)
    posting.add_bucket(Bucket(0, BucketKind.OCTETS, 0, credited=7, debited=7, valid_until_s=NOW_S))
    posting.expire(posting.bucket(1))
    posting.retire_expired()
    (row,) = posting.account.retired
    assert (row.credited, row.debited, row.expired) == (57, 7, 50)


def test_the_main_bucket_never_retires() -> None:
    posting = a_posting(money=0)
    posting.retire_expired()
    assert posting.account.buckets[0].id == MAIN_BUCKET


def test_a_full_account_makes_room_only_from_empty_buckets() -> None:
    posting = a_posting()
    while len(posting.account.buckets) < MAX_BUCKETS:
        posting.add_bucket(Bucket(0, BucketKind.MONEY, 1, credited=1))
    with pytest.raises(BucketsExhausted):
        posting.add_bucket(Bucket(0, BucketKind.MONEY))
    posting.debit_free(posting.bucket(2), 1, Cause.EVENT)
    added = posting.add_bucket(Bucket(0, BucketKind.MONEY))
    assert added.id == MAX_BUCKETS and posting.account.bucket(2) is None


def test_bucket_ids_are_never_used_again() -> None:
    posting = a_posting(units=0)
    posting.account.buckets[1].valid_until_s = NOW_S
    posting.retire_expired()
    assert posting.add_bucket(Bucket(0, BucketKind.MONEY)).id == 2
