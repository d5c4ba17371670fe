"""The rules of money one by one, against arithmetic done by hand or step by step (LEDGER §7)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balance import rules
from balance.account import MAIN_BUCKET, Account, Bucket, BucketKind, new_account
from balance.ledger import Cause, Verb
from balance.posting import InvariantError, Posting
from balance.reservation import Hold, Reservation
from balance.rules import Scope

NOW_S = 1_000_000
SCOPE = Scope("data", 10)


class Price:
    """`micros` for every started step; octets are billed exactly, seconds and events in steps."""

    def __init__(self, unit: int = BucketKind.OCTETS, step: int = 10, micros: int = 7, row: int = 0) -> None:
        self.version = 1
        self.row = row
        self.unit = unit
        self.step = step
        self.micros = micros

    def billed(self, total: int) -> int:
        return total if self.unit == BucketKind.OCTETS else -(-total // self.step) * self.step

    def cost_micros(self, units: int) -> int:
        return -(-units // self.step) * self.micros

    def affordable(self, before: int, money_micros: int, most: int) -> int:
        """Step after step while the money lasts."""
        if self.cost_micros(before + most) - self.cost_micros(before) <= money_micros:
            return most
        units = 0
        while self.cost_micros(before + units + self.step) - self.cost_micros(before) <= money_micros:
            units += self.step
        return units


SECONDS = Price(BucketKind.SECONDS, 60, 60)
EVENTS = Price(BucketKind.EVENTS, 1, 9)


def an_account(money: int = 0, *buckets: Bucket, limit: int = 0) -> Posting:
    account = new_account("a", 978, 2, limit, NOW_S)
    account.buckets[0].posted = account.buckets[0].credited = money
    for place, bucket in enumerate(buckets, 1):
        bucket.id, bucket.credited = place, bucket.posted
        account.buckets.append(bucket)
    account.next_bucket = len(account.buckets)
    return Posting(account, NOW_S)


def stock(units: int, kind: int = BucketKind.OCTETS, **more: int | str) -> Bucket:
    return Bucket(0, kind, posted=units, **more)  # type: ignore[arg-type]


def state(posting: Posting) -> list[tuple[int, int]]:
    return [(bucket.posted, bucket.reserved) for bucket in posting.account.buckets]


def test_reserve_holds_the_price_of_the_grant() -> None:
    posting, reservation = an_account(100), Reservation()
    grant = rules.reserve(posting, reservation, Price(), 95, 10, SCOPE)
    assert grant == rules.Grant(95, 70, 0)  # ten started steps of 7
    assert state(posting) == [(100, 70)]
    assert reservation.holds == [Hold(MAIN_BUCKET, 70)]


def test_partial_grant_is_whole_steps() -> None:
    posting = an_account(69)
    grant = rules.reserve(posting, Reservation(), Price(), 95, 10, SCOPE)
    assert grant == rules.Grant(90, 63, 0)  # nine steps of 7 fit 69


def test_less_than_the_least_holds_nothing() -> None:
    posting = an_account(20)
    assert rules.reserve(posting, Reservation(), Price(), 95, 30, SCOPE) is None
    assert state(posting) == [(20, 0)]


def test_the_credit_limit_bounds_reserving() -> None:
    posting = an_account(-10, limit=31)
    grant = rules.reserve(posting, Reservation(), Price(), 95, 10, SCOPE)
    assert grant == rules.Grant(30, 21, 0)  # 31 - 10 = 21 micro-units are free
    assert state(posting) == [(-10, 21)]


def test_stock_pays_before_money_and_exactly() -> None:
    posting, reservation = an_account(100, stock(33)), Reservation()
    grant = rules.reserve(posting, reservation, Price(), 50, 10, SCOPE)
    assert grant == rules.Grant(50, 14, 0)  # 33 from stock, 17 octets of money are two started steps
    assert reservation.holds == [Hold(1, 33), Hold(MAIN_BUCKET, 14)]
    assert reservation.money_units == 17


def test_buckets_in_order_of_priority_then_expiry_then_age() -> None:
    late, soon = stock(10, valid_until_s=NOW_S + 50), stock(10, valid_until_s=NOW_S + 20)
    first, endless = stock(10, priority=-1), stock(10)
    posting, reservation = an_account(0, late, soon, first, endless), Reservation()
    grant = rules.reserve(posting, reservation, Price(), 35, 1, SCOPE)
    assert grant is not None and grant.valid_until_s == NOW_S + 20
    assert reservation.holds == [Hold(3, 10), Hold(2, 10), Hold(1, 10), Hold(4, 5)]


def test_buckets_of_another_service_or_ended_do_not_pay() -> None:
    other = [stock(9, rating_group=11), stock(9, service_context="voice"), stock(9, valid_until_s=NOW_S)]
    posting = an_account(0, *other, stock(9, BucketKind.SECONDS))
    assert rules.free_units(posting.account, BucketKind.OCTETS, SCOPE, NOW_S) == 0
    assert rules.reserve(posting, Reservation(), Price(), 5, 1, SCOPE) is None


def test_a_report_consumes_what_was_reserved_and_releases_the_rest() -> None:
    posting, reservation = an_account(100), Reservation()
    rules.reserve(posting, reservation, Price(), 100, 10, SCOPE)
    settled = rules.settle(posting, reservation, Price(), 31, SCOPE)
    assert (settled.debited_micros, settled.over_use_units, settled.over_use_micros) == (28, 0, 0)
    assert state(posting) == [(72, 0)]
    assert reservation.holds == [] and reservation.money_units == 0
    assert [(e.verb, e.cause, e.posted_change, e.reserved_change) for e in posting.entries] == [
        (Verb.RESERVE, Cause.GRANT, 0, 70),
        (Verb.DEBIT, Cause.USAGE, -28, -28),
        (Verb.RELEASE, Cause.SETTLED, 0, -42),
    ]


def test_reports_round_once_over_the_session() -> None:
    posting, reservation = an_account(100), Reservation()
    for used, debit in ((15, 14), (5, 0), (1, 7), (9, 0)):
        rules.reserve(posting, reservation, Price(), 50, 1, SCOPE)
        assert rules.settle(posting, reservation, Price(), used, SCOPE).debited_micros == debit
    assert state(posting) == [(79, 0)]  # 30 octets are three steps


def test_a_new_price_row_starts_its_own_total() -> None:
    posting, reservation = an_account(100), Reservation()
    assert rules.settle(posting, reservation, Price(row=0), 15, SCOPE).debited_micros == 14
    assert rules.settle(posting, reservation, Price(row=1), 5, SCOPE).debited_micros == 7
    assert rules.settle(posting, reservation, Price(row=0), 5, SCOPE).debited_micros == 0


def test_over_use_passes_the_limit_by_exactly_itself() -> None:
    posting, reservation = an_account(50, limit=3), Reservation()
    rules.reserve(posting, reservation, Price(), 70, 10, SCOPE)
    settled = rules.settle(posting, reservation, Price(), 105, SCOPE)
    assert (settled.debited_micros, settled.over_use_units, settled.over_use_micros) == (77, 35, 28)
    assert state(posting) == [(-27, 0)]
    over = [e.posted_change for e in posting.entries if e.cause is Cause.OVER_USE]
    assert sum(over) == -28


def test_over_use_takes_free_stock_first_and_never_below_zero() -> None:
    posting, reservation = an_account(0, stock(30)), Reservation()
    rules.reserve(posting, reservation, Price(), 20, 10, SCOPE)
    settled = rules.settle(posting, reservation, Price(), 45, SCOPE)
    assert settled.from_buckets == ((1, 20), (1, 10))
    assert (settled.over_use_units, settled.over_use_micros) == (25, 14)
    assert state(posting) == [(-14, 0), (0, 0)]


def test_the_floor_leaves_the_excess_uncollected() -> None:
    posting = an_account(10)
    settled = rules.settle(posting, Reservation(), Price(), 40, SCOPE, overuse_floor_micros=-5)
    assert (settled.debited_micros, settled.over_use_micros, settled.uncollected_micros) == (15, 15, 13)
    assert state(posting) == [(-5, 0)]
    assert posting.entries[-1].verb is Verb.UNCOLLECTED and posting.entries[-1].amount == 13


def test_an_account_below_the_floor_pays_no_more_over_use() -> None:
    posting = an_account(-20)
    settled = rules.settle(posting, Reservation(), Price(), 10, SCOPE, overuse_floor_micros=-5)
    assert (settled.debited_micros, settled.uncollected_micros) == (0, 7)
    assert state(posting) == [(-20, 0)]


def test_another_sessions_hold_is_not_touched_by_over_use_of_units() -> None:
    posting, mine, other = an_account(0, stock(30)), Reservation(), Reservation()
    rules.reserve(posting, other, Price(), 25, 1, SCOPE)
    settled = rules.settle(posting, mine, Price(), 20, SCOPE)
    assert settled.from_buckets == ((1, 5),) and settled.debited_micros == 14
    assert state(posting) == [(-14, 0), (25, 25)]


def test_seconds_come_out_of_stock_in_billed_steps() -> None:
    posting, reservation = an_account(0, stock(180, BucketKind.SECONDS)), Reservation()
    rules.reserve(posting, reservation, SECONDS, 120, 60, SCOPE)
    settled = rules.settle(posting, reservation, SECONDS, 61, SCOPE)
    assert (settled.billed, settled.from_buckets) == (120, ((1, 120),))
    again = rules.settle(posting, reservation, SECONDS, 59, SCOPE)
    assert again.billed == 0


def test_a_step_that_stock_covers_in_part_is_not_granted() -> None:
    # 59 s used have paid the first 60; the next step costs 60 s and only 59 are left, and no money.
    posting, reservation = an_account(0, stock(119, BucketKind.SECONDS)), Reservation()
    rules.settle(posting, reservation, SECONDS, 59, SCOPE)
    assert state(posting)[1] == (59, 0)
    assert rules.reserve(posting, reservation, SECONDS, 120, 60, SCOPE) is None
    assert state(posting)[1] == (59, 0)


def test_what_a_step_has_paid_already_is_granted_without_money() -> None:
    posting, reservation = an_account(60), Reservation()
    rules.settle(posting, reservation, SECONDS, 1, SCOPE)
    grant = rules.reserve(posting, reservation, SECONDS, 59, 1, SCOPE)
    assert grant == rules.Grant(59, 0, 0)


def test_an_ended_bucket_pays_what_it_holds_and_the_rest_expires() -> None:
    posting, reservation = an_account(0, stock(50, valid_until_s=NOW_S + 10)), Reservation()
    rules.reserve(posting, reservation, Price(), 40, 1, SCOPE)
    posting.now_s = NOW_S + 10
    rules.expire(posting)
    assert state(posting)[1] == (40, 40)  # the free part goes, the held part stays
    rules.settle(posting, reservation, Price(), 25, SCOPE)
    assert state(posting)[1] == (0, 0)
    assert posting.account.buckets[1].expired == 25
    rules.expire(posting)
    assert len(posting.account.buckets) == 1
    (retired,) = posting.account.retired
    assert (retired.credited, retired.debited, retired.expired) == (50, 25, 25)


def test_reserving_over_an_open_reservation_is_our_bug() -> None:
    posting, reservation = an_account(100), Reservation()
    rules.reserve(posting, reservation, Price(), 10, 1, SCOPE)
    with pytest.raises(InvariantError):
        rules.reserve(posting, reservation, Price(), 10, 1, SCOPE)


def test_an_event_is_paid_whole_or_not_at_all() -> None:
    posting = an_account(26, stock(1, BucketKind.EVENTS))
    assert rules.debit_event(posting, EVENTS, 4, SCOPE) is None  # 1 from stock, 27 for three
    assert state(posting) == [(26, 0), (1, 0)] and posting.entries == []
    debit = rules.debit_event(posting, EVENTS, 3, SCOPE)
    assert debit == rules.EventDebit(3, ((1, 1),), 2, 18, ((1, 1), (MAIN_BUCKET, 18)))
    assert state(posting) == [(8, 0), (0, 0)]


def test_an_event_does_not_touch_what_is_reserved() -> None:
    posting = an_account(20)
    rules.reserve(posting, Reservation(), Price(), 20, 1, SCOPE)
    assert rules.debit_event(posting, EVENTS, 1, SCOPE) is None  # 20 - 14 = 6 free, 9 needed


def test_money_buckets_pay_in_order_and_the_limit_last() -> None:
    promo = stock(10, BucketKind.MONEY, priority=-1)
    posting = an_account(5, promo, limit=6)
    debit = rules.debit_event(posting, EVENTS, 2, SCOPE)
    assert debit is not None and debit.split == ((1, 10), (MAIN_BUCKET, 5), (MAIN_BUCKET, 3))
    assert state(posting) == [(-3, 0), (0, 0)]


def test_can_buy_counts_what_is_left_after_the_grant() -> None:
    posting, reservation = an_account(20), Reservation()
    rules.reserve(posting, reservation, Price(), 20, 1, SCOPE)
    assert not rules.can_buy(posting.account, reservation, Price(), 10, SCOPE, NOW_S)  # 6 left, 7 needed
    posting.account.buckets[0].posted += 1
    assert rules.can_buy(posting.account, reservation, Price(), 10, SCOPE, NOW_S)


def test_others_hold_looks_at_drawable_buckets_only() -> None:
    posting = an_account(100, stock(50, rating_group=11))
    rules.reserve(posting, Reservation(), Price(), 20, 1, Scope("data", 11))
    assert not rules.others_hold(posting.account, {}, BucketKind.OCTETS, SCOPE, NOW_S)
    rules.reserve(posting, Reservation(), Price(), 20, 1, SCOPE)
    assert rules.others_hold(posting.account, {}, BucketKind.OCTETS, SCOPE, NOW_S)
    assert not rules.others_hold(posting.account, {MAIN_BUCKET: 14}, BucketKind.OCTETS, SCOPE, NOW_S)


PRICES = st.builds(
    Price,
    unit=st.sampled_from([BucketKind.OCTETS, BucketKind.SECONDS, BucketKind.EVENTS]),
    step=st.integers(1, 12),
    micros=st.integers(0, 9),
)


@settings(max_examples=300, deadline=None)
@given(
    PRICES,
    st.integers(0, 90),
    st.integers(0, 30),
    st.integers(0, 60),
    st.integers(1, 60),
    st.integers(1, 12),
    st.integers(0, 30),
)
def test_a_grant_is_what_stock_and_money_cover(
    price: Price, money: int, units: int, used: int, want: int, least: int, limit: int
) -> None:
    """All of what is wanted if it is covered; else no more than is covered, and what is held pays for all of it."""
    posting, reservation = an_account(10_000, stock(units, price.unit), limit=limit), Reservation()
    rules.settle(posting, reservation, price, used, SCOPE)
    posting.account.buckets[0].posted = posting.account.buckets[0].credited = money
    posting.account.buckets[0].debited = 0
    left, paid = posting.account.buckets[1].posted, reservation.accumulators[0].paid

    def price_of(more: int) -> tuple[int, int]:
        billed = price.billed(used + more) - price.billed(used)
        from_money = max(0, billed - left)
        return min(billed, left), price.cost_micros(paid + from_money) - price.cost_micros(paid)

    grant = rules.reserve(posting, reservation, price, want, least, SCOPE)
    covered = [more for more in range(1, want + 1) if price_of(more)[1] <= money + limit]
    if want in covered:
        assert (grant is not None and grant.units == want) or want < least
    if grant is None:
        # A rest of a started step may be left over; a whole step that is covered must have been granted.
        whole = [more for more in covered if more % price.step == 0 and price.unit != BucketKind.OCTETS]
        assert want < least or not [more for more in whole if more >= least]
        return
    assert least <= grant.units <= want and grant.units in covered
    held_units, held_money = price_of(grant.units)
    assert grant.reserved_micros == held_money
    assert sum(hold.amount for hold in reservation.holds if hold.bucket == 1) == held_units
    settled = rules.settle(posting, reservation, price, grant.units, SCOPE)
    assert settled.over_use_units == 0 and settled.debited_micros == held_money


@settings(max_examples=200, deadline=None)
@given(PRICES, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), max_size=12), st.integers(0, 200))
def test_a_session_costs_what_its_total_costs(price: Price, reports: list[tuple[int, int]], units: int) -> None:
    """However it is cut into reports: billed = billed(total), money = cost(what stock did not pay)."""
    posting, reservation = an_account(10_000, stock(units, price.unit)), Reservation()
    total = 0
    for want, used in reports:
        if want:
            rules.reserve(posting, reservation, price, want, 1, SCOPE)
        rules.settle(posting, reservation, price, used, SCOPE)
        total += used
    from_stock = min(units, price.billed(total))
    assert posting.account.buckets[1].posted == units - from_stock
    assert 10_000 - posting.account.buckets[0].posted == price.cost_micros(price.billed(total) - from_stock)


def balance_of(account: Account) -> int:
    return account.posted_micros


def test_widest_amounts_stay_exact() -> None:
    # 2^63 - 1 octets at 7 per 10: the product passes 64 bits, the debit must not.
    posting = an_account(2**62)
    used = 2**62
    settled = rules.settle(posting, Reservation(), Price(), used, SCOPE)
    assert settled.debited_micros == -(-used // 10) * 7
    assert balance_of(posting.account) == 2**62 - -(-used // 10) * 7
