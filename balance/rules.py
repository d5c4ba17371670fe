"""The rules of money (LEDGER §7): settle usage, reserve the next grant, debit an event, expire. Pure.

A price is anything that answers `Pricing`; this package knows no tariff. Units of a `Pricing` are octets, seconds or
events; *billed* units are cumulative and rounded to the tariff's step, money is cumulative over the billed units that
money pays for. So a report never rounds twice.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from balance.account import MAIN_BUCKET, Account, Bucket, BucketKind
from balance.integers import div_floor
from balance.ledger import Cause
from balance.posting import InvariantError, Posting
from balance.reservation import Hold, Reservation

MONEY = int(BucketKind.MONEY)
OCTETS = int(BucketKind.OCTETS)


class Pricing(Protocol):
    """One price row as the rules see it."""

    version: int
    """Catalogue version."""
    row: int
    unit: int
    """A `BucketKind`, never MONEY."""
    step: int
    """Billing step in units; partial grants that money pays for are whole steps."""

    def billed(self, total: int) -> int:
        """Cumulative billed units of `total` reported units, as unit buckets pay them (octets: exact)."""

    def cost_micros(self, units: int) -> int:
        """Cumulative cost of `units` billed units that money pays for."""

    def affordable(self, before: int, money_micros: int, most: int) -> int:
        """`most` if money pays for it on top of `before`, else the largest whole number of steps that it pays for."""


class Scope(NamedTuple):
    """What is being paid for; selects the buckets that may pay."""

    service_context: str
    rating_group: int | None


class Settlement(NamedTuple):
    """What `settle` did."""

    billed: int
    from_buckets: tuple[tuple[int, int], ...]
    """(bucket, units) taken from unit buckets, over-use included."""
    money_units: int
    debited_micros: int
    """All money debited, over-use included."""
    over_use_units: int
    """Billed units beyond what was held."""
    over_use_micros: int
    uncollected_micros: int


class Grant(NamedTuple):
    """What `reserve` held."""

    units: int
    reserved_micros: int
    valid_until_s: int
    """Earliest end of a held bucket; 0: none ends."""


def _order(bucket: Bucket) -> tuple[int, int, int]:
    return bucket.priority, bucket.valid_until_s or 2**62, bucket.id


def drawable(account: Account, kind: int, scope: Scope, now_s: int) -> list[Bucket]:
    """Buckets of a kind that may pay for `scope` now, in the order of spending."""
    context, group = scope
    found: list[Bucket] = []
    # Conditions written out: this loop is where a rich account spends its time.
    for bucket in account.buckets:
        if bucket.kind != kind:
            continue
        if bucket.valid_until_s and now_s >= bucket.valid_until_s:
            continue
        if bucket.service_context and bucket.service_context != context:
            continue
        if bucket.rating_group not in (-1, group):
            continue
        found.append(bucket)
    if len(found) > 1:
        found.sort(key=_order)
    return found


def _free(buckets: list[Bucket]) -> int:
    free = 0
    for bucket in buckets:
        free += bucket.posted - bucket.reserved
    return free


def free_units(account: Account, kind: int, scope: Scope, now_s: int) -> int:
    """Units of a kind that are neither spent nor reserved."""
    return _free(drawable(account, kind, scope, now_s))


def free_money(account: Account, scope: Scope, now_s: int) -> int:
    """Micro-units that may be reserved now: A of the buckets that may pay, plus the credit limit; never negative."""
    return max(0, _free(drawable(account, MONEY, scope, now_s)) + account.credit_limit_micros)


def settle(
    posting: Posting,
    reservation: Reservation,
    pricing: Pricing,
    used: int,
    scope: Scope,
    overuse_floor_micros: int | None = None,
) -> Settlement:
    """Debit reported usage in full and release the rest of the key's reservation (CC-071, LEDGER §7.2, §7.3).

    Consumes what the key had reserved, in the order reserved and at the price pinned with it, then free stock in bucket
    order. Use beyond the reservation is debited as entries of its own, from the main bucket below the limit if need be;
    with `overuse_floor_micros` money stops at that posted balance and the excess is an `uncollected` entry.
    """
    accumulator = reservation.accumulator(pricing.version, pricing.row)
    billed = pricing.billed(accumulator.used + used) - pricing.billed(accumulator.used)
    accumulator.used += used
    taken, rest = _take_held_units(posting, reservation, billed)
    inside = min(rest, reservation.money_units)
    beyond = rest - inside
    cost = 0
    if inside:
        cost = pricing.cost_micros(accumulator.paid + inside) - pricing.cost_micros(accumulator.paid)
        accumulator.paid += inside
        _pay_from_holds(posting, reservation, cost)
    release(posting, reservation)
    if not beyond:
        return Settlement(billed, tuple(taken), inside, cost, 0, 0, 0)
    over_taken, over_units = _take_free_units(posting, pricing.unit, scope, beyond)
    over_cost = pricing.cost_micros(accumulator.paid + over_units) - pricing.cost_micros(accumulator.paid)
    accumulator.paid += over_units
    uncollected = _pay_over_use(posting, scope, over_cost, overuse_floor_micros)
    return Settlement(
        billed=billed,
        from_buckets=tuple(taken + over_taken),
        money_units=inside + over_units,
        debited_micros=cost + over_cost - uncollected,
        over_use_units=beyond,
        over_use_micros=over_cost - uncollected,
        uncollected_micros=uncollected,
    )


def release(posting: Posting, reservation: Reservation) -> None:
    """Give back all that a key still holds."""
    for hold in reservation.holds:
        if hold.amount:
            posting.release(posting.bucket(hold.bucket), hold.amount)
    reservation.holds = []
    reservation.money_units = 0


def _take_held_units(posting: Posting, reservation: Reservation, billed: int) -> tuple[list[tuple[int, int]], int]:
    """Consume unit holds in the order reserved; gives what was taken and the units left to pay."""
    taken: list[tuple[int, int]] = []
    rest = billed
    for hold in reservation.holds:
        bucket = posting.bucket(hold.bucket)
        amount = min(rest, hold.amount)
        if bucket.kind == MONEY or amount == 0:
            continue
        posting.debit_reserved(bucket, amount)
        hold.amount -= amount
        rest -= amount
        taken.append((bucket.id, amount))
    return taken, rest


def _pay_from_holds(posting: Posting, reservation: Reservation, cost_micros: int) -> None:
    rest = cost_micros
    for hold in reservation.holds:
        bucket = posting.bucket(hold.bucket)
        amount = min(rest, hold.amount)
        if bucket.kind != MONEY or amount == 0:
            continue
        posting.debit_reserved(bucket, amount)
        hold.amount -= amount
        rest -= amount
    if rest:
        # The hold was sized for these very units at this very price, so it cannot be short.
        raise InvariantError(f"account {posting.account.id}: reservation short by {rest} micro-units")


def _take_free_units(posting: Posting, unit: int, scope: Scope, units: int) -> tuple[list[tuple[int, int]], int]:
    taken: list[tuple[int, int]] = []
    rest = units
    for bucket in drawable(posting.account, unit, scope, posting.now_s):
        amount = min(rest, bucket.free)
        if amount > 0:
            posting.debit_free(bucket, amount, Cause.OVER_USE)
            rest -= amount
            taken.append((bucket.id, amount))
    return taken, rest


def _pay_over_use(posting: Posting, scope: Scope, cost_micros: int, floor_micros: int | None) -> int:
    """Debit over-use from free money, the remainder from the main bucket; gives what the floor kept uncollected."""
    rest = cost_micros
    for bucket in drawable(posting.account, MONEY, scope, posting.now_s):
        amount = min(rest, bucket.free)
        if amount > 0:
            posting.debit_free(bucket, amount, Cause.OVER_USE)
            rest -= amount
    main = posting.bucket(MAIN_BUCKET)
    payable = rest if floor_micros is None else max(0, min(rest, main.posted - floor_micros))
    if payable > 0:
        posting.debit_free(main, payable, Cause.OVER_USE)
    if rest > payable:
        posting.uncollected(rest - payable)
    return rest - payable


def reserve(
    posting: Posting, reservation: Reservation, pricing: Pricing, want: int, least: int, scope: Scope
) -> Grant | None:
    """Hold what pays for up to `want` units, at least `least`; `None`: not even that is covered (CC-084…CC-087).

    Unit buckets pay first, exactly; money pays for the rest in whole steps unless it covers all of it. The key must
    hold nothing: a report or `release` comes first. Never takes A below minus the credit limit.
    """
    if reservation.holds:
        raise InvariantError(f"account {posting.account.id}: reserve over an open reservation")
    accumulator = reservation.accumulator(pricing.version, pricing.row)
    now_s = posting.now_s
    units_buckets = drawable(posting.account, pricing.unit, scope, now_s)
    money_buckets = drawable(posting.account, MONEY, scope, now_s)
    stock = _free(units_buckets)
    money = max(0, _free(money_buckets) + posting.account.credit_limit_micros)
    owed = pricing.billed(accumulator.used)
    demand = pricing.billed(accumulator.used + want) - owed
    from_stock = min(stock, demand)
    from_money = pricing.affordable(accumulator.paid, money, demand - from_stock)
    units = want
    if from_stock + from_money < demand:
        units = _partial_units(pricing, accumulator.used, from_stock, from_money)
        demand = pricing.billed(accumulator.used + units) - owed
        from_stock = min(stock, demand)
        from_money = demand - from_stock
    if units < least or units <= 0:
        return None
    cost = 0
    held: list[Bucket] = []
    if from_stock:
        _hold_units(posting, reservation, units_buckets, from_stock, held)
    if from_money:
        cost = pricing.cost_micros(accumulator.paid + from_money) - pricing.cost_micros(accumulator.paid)
        _hold_money(posting, reservation, money_buckets, cost, held)
    reservation.money_units = from_money
    valid_until_s = 0
    for bucket in held:
        end_s = bucket.valid_until_s
        if end_s and (valid_until_s == 0 or end_s < valid_until_s):
            valid_until_s = end_s
    return Grant(units, cost, valid_until_s)


def _partial_units(pricing: Pricing, used: int, from_stock: int, from_money: int) -> int:
    """Units that stock and money cover together; octets take stock exactly, stepped units in whole steps.

    A step that is covered in part buys nothing, since the whole of it would be billed.
    """
    if pricing.unit == OCTETS:
        return from_stock + from_money
    covered = div_floor(pricing.billed(used) + from_stock + from_money, pricing.step) * pricing.step
    return div_floor(covered - used, pricing.step) * pricing.step


def _hold_units(
    posting: Posting, reservation: Reservation, buckets: list[Bucket], units: int, held: list[Bucket]
) -> None:
    """Hold units in bucket order; what was taken from is added to `held`."""
    rest = _hold(posting, reservation, buckets, units, held)
    if rest:
        raise InvariantError(f"account {posting.account.id}: {rest} units promised and not there")


def _hold_money(
    posting: Posting, reservation: Reservation, buckets: list[Bucket], cost_micros: int, held: list[Bucket]
) -> None:
    """Hold money in bucket order; what is still short comes out of the main bucket's credit limit."""
    rest = _hold(posting, reservation, buckets, cost_micros, held)
    if rest:
        posting.reserve(posting.bucket(MAIN_BUCKET), rest)
        reservation.holds.append(Hold(MAIN_BUCKET, rest))


def _hold(posting: Posting, reservation: Reservation, buckets: list[Bucket], amount: int, held: list[Bucket]) -> int:
    rest = amount
    for bucket in buckets:
        part = min(rest, bucket.posted - bucket.reserved)
        if part > 0:
            posting.reserve(bucket, part)
            reservation.holds.append(Hold(bucket.id, part))
            held.append(bucket)
            rest -= part
    return rest


def can_buy(account: Account, reservation: Reservation, pricing: Pricing, units: int, scope: Scope, now_s: int) -> bool:
    """Whether what is left after the grant covers `units` more (first half of the final-unit rule, CC-086)."""
    need = units - free_units(account, pricing.unit, scope, now_s)
    if need <= 0:
        return True
    before = reservation.accumulator(pricing.version, pricing.row).paid + reservation.money_units
    price = pricing.cost_micros(before + need) - pricing.cost_micros(before)
    return price <= free_money(account, scope, now_s)


def others_hold(account: Account, own: dict[int, int], unit: int, scope: Scope, now_s: int) -> bool:
    """Whether another session holds part of a bucket this key may draw from; `own`: bucket -> amount of this session.

    Every drawable bucket is looked at: when a grant was cut, all of them together are what limited it (LEDGER §7.5).
    """
    for kind in (unit, MONEY):
        for bucket in drawable(account, kind, scope, now_s):
            if bucket.reserved > own.get(bucket.id, 0):
                return True
    return False


class EventDebit(NamedTuple):
    """What `debit_event` took."""

    billed: int
    from_buckets: tuple[tuple[int, int], ...]
    money_units: int
    debited_micros: int
    split: tuple[tuple[int, int], ...]
    """(bucket, amount) over all buckets, for a later refund."""


def debit_event(posting: Posting, pricing: Pricing, units: int, scope: Scope) -> EventDebit | None:
    """Debit a one-time event at once; `None`: not covered, and then nothing is taken (CC-140, CC-141)."""
    billed = pricing.billed(units)
    stock = drawable(posting.account, pricing.unit, scope, posting.now_s)
    from_stock = min(billed, sum(bucket.free for bucket in stock))
    cost = pricing.cost_micros(billed - from_stock)
    if cost > free_money(posting.account, scope, posting.now_s):
        return None
    taken: list[tuple[int, int]] = []
    rest = from_stock
    for bucket in stock:
        amount = min(rest, bucket.free)
        if amount > 0:
            posting.debit_free(bucket, amount, Cause.EVENT)
            taken.append((bucket.id, amount))
            rest -= amount
    money = debit_money(posting, cost, scope, Cause.EVENT)
    return EventDebit(billed, tuple(taken), billed - from_stock, cost, tuple(taken + money))


def debit_money(posting: Posting, micros: int, scope: Scope, cause: Cause) -> list[tuple[int, int]]:
    """Debit an amount that is known to be covered, in bucket order, the credit limit last; gives (bucket, amount)."""
    taken: list[tuple[int, int]] = []
    rest = micros
    for bucket in drawable(posting.account, MONEY, scope, posting.now_s):
        amount = min(rest, bucket.free)
        if amount > 0:
            posting.debit_free(bucket, amount, cause)
            taken.append((bucket.id, amount))
            rest -= amount
    if rest:
        posting.debit_free(posting.bucket(MAIN_BUCKET), rest, cause)
        taken.append((MAIN_BUCKET, rest))
    return taken


def expire(posting: Posting) -> None:
    """End every bucket whose validity has passed: its unreserved part goes, the reserved part stays (LEDGER §7.4)."""
    for bucket in posting.account.buckets:
        if bucket.expired_at(posting.now_s):
            posting.expire(bucket)
    posting.retire_expired()


def next_expiry_s(account: Account, now_s: int) -> int:
    """When the sweeper must look at the account next: the earliest end of a bucket with something to expire; 0: never.

    What an ended bucket still has reserved expires with its release and needs no look; what it has free does.
    """
    ends = [b.valid_until_s for b in account.buckets if b.valid_until_s and b.posted and _may_expire(b, now_s)]
    return min(ends, default=0)


def _may_expire(bucket: Bucket, now_s: int) -> bool:
    return bucket.free > 0 or not bucket.expired_at(now_s)
