"""Many subscribers or balances in one request: each row is exactly what the single operations do, and is done once.

    names        accounts are claimed or looked up, then subscribers and identities, a call of the store per partition
    row          one commit in the account's lane: all operations of the row, each with its own operation document
    refused row  nothing of it is kept; the names that it had claimed are dropped

A row is keyed, so an import that was killed anywhere is run again as it was: what is committed answers as repeated, what
was only claimed is taken over by its row (LEDGER §4, §5). Rows are worked on in bundles, each begun when the one before
has ended, so that charging has the loop in between, in two lanes; rows of one account are applied in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from balance.account import AccountStatus, IdentityRecord
from balance.documents import home_partition, identity_key
from ocs.charging.account_operations import Adjustment, TopUp, adjust_step, create_step, top_up_step
from ocs.charging.conductor import ChargingError, JobFailed, StoreUnavailable
from ocs.charging.engine import Engine
from ocs.charging.identities import claim_many, drop, find_homes
from ocs.charging.operations import OperationRefused, Order, Step, check_name, required_account
from ocs.charging.requests import Identity
from ocs.charging.saga import Apply, Read, Saga, Together
from ocs.charging.session_jobs import Target
from ocs.charging.subscriber_operations import add_step, change_step, check_subscriber, names_of
from ocs.charging.workspace import Workspace

SERVER_BUNDLE = 24
"""Rows that a process which also charges works on at once: a few milliseconds of its loop."""

MAX_BUNDLE = 250
"""The same for a process that does nothing else; no partition is asked for more keys than a page holds."""

LANES = 2
"""Bundles under way at once: the store works on one while the loop works on the other."""


class Opening(NamedTuple):
    """The account of a subscriber's row, to be created if it is not there."""

    currency: int
    """ISO 4217 numeric."""
    exponent: int
    credit_limit_micros: int | None = None
    """`None`: not said; 0 for a new account, whatever it is for one that is there."""
    balance_micros: int = 0
    """What a new account is given."""


class SubscriberRow(NamedTuple):
    """A subscriber to add, and its account."""

    line: int
    """Names the row in refusals."""
    key: str
    """`IMPORT/ROW`: operations of the row are keyed by all of it, those of its account by `IMPORT`."""
    subscriber: str
    account: str
    plan: str
    identities: tuple[Identity, ...]
    status: AccountStatus
    """Active or suspended."""
    opening: Opening | None
    """`None`: the account must be there."""


class BalanceRow(NamedTuple):
    """A top-up or an adjustment of an account."""

    line: int
    key: str
    account: str
    change: TopUp | Adjustment
    reason: str
    """Empty: that of the import."""


class Frame(NamedTuple):
    """What the rows of a request share."""

    who: str
    reason: str
    bundle: int
    lanes: int = LANES
    """Bundles under way at once; rows of one account are all in one of them."""
    stop_on_error: bool = False
    """End after the first refused row; a row is then begun when the one before it has ended."""

    def order(self, key: str, reason: str = "") -> Order:
        """The order of one operation."""
        return Order(key, self.who, reason or self.reason)


class Refusal(NamedTuple):
    """A row that was not applied, and why; nothing of it was changed."""

    line: int
    kind: str
    field: str
    message: str


class Tally(msgspec.Struct):
    """What became of the rows of a request."""

    applied: int = 0
    repeated: int = 0
    """Applied before, under the same key; nothing was changed now."""
    refused: list[Refusal] = []
    stopped: bool = False

    def count(self, line: int, result: dict[str, Any] | ChargingError) -> None:
        """Count the result of a row; errors that are not the row's own are raised, since its outcome is not known."""
        if isinstance(result, OperationRefused):
            self.refused.append(Refusal(line, result.kind, result.field, str(result)))
        elif isinstance(result, JobFailed):
            self.refused.append(Refusal(line, "internal", "", f"{result}; nothing was changed"))
        elif isinstance(result, ChargingError):
            raise result
        elif result["repeated"]:
            self.repeated += 1
        else:
            self.applied += 1


def import_subscribers(engine: Engine, frame: Frame, rows: Sequence[SubscriberRow]) -> Saga[Tally]:
    """Add subscribers, with the accounts that are not there yet; `StoreUnavailable`: run the same rows again."""
    return (yield from _in_bundles(engine, frame, rows, _add_subscribers))


def import_balances(engine: Engine, frame: Frame, rows: Sequence[BalanceRow]) -> Saga[Tally]:
    """Top up and adjust accounts; errors as above."""
    return (yield from _in_bundles(engine, frame, rows, _change_balances))


def _in_bundles(
    engine: Engine,
    frame: Frame,
    rows: Sequence[Any],
    work: Callable[[Engine, Frame, Sequence[Any], Tally], Saga[None]],
) -> Saga[Tally]:
    tally = Tally()
    lanes = [rows] if frame.stop_on_error or frame.lanes == 1 else _lanes(rows, frame.lanes)
    size = 1 if frame.stop_on_error else min(frame.bundle, MAX_BUNDLE)

    def lane(rows: Sequence[Any]) -> Saga[None]:
        for start in range(0, len(rows), size):
            if not engine.admitting:
                # The archive has to catch up first: an import must not be what stops new sessions.
                raise StoreUnavailable("the outbox is nearly full; rows that were not done yet have to wait")
            yield from work(engine, frame, rows[start : start + size], tally)
            if tally.refused and frame.stop_on_error:
                tally.stopped = True
                break

    for result in (yield Together(tuple(lane(one) for one in lanes))):
        if isinstance(result, ChargingError):
            raise result
    tally.refused.sort()
    return tally


def _lanes(rows: Sequence[Any], count: int) -> list[list[Any]]:
    """Rows parted so that those of one account stay together, in their order."""
    lanes: list[list[Any]] = [[] for _ in range(count)]
    for row in rows:
        lanes[home_partition("account", row.account, count)].append(row)
    return lanes


# Subscribers


class _Adding:
    """One subscriber's row on its way."""

    __slots__ = ("create", "credit", "names", "result", "row", "steps", "target")

    def __init__(self, engine: Engine, frame: Frame, row: SubscriberRow, partition: int) -> None:
        self.row = row
        self.target = target = Target(partition, row.account, row.subscriber)
        self.names = names_of(row.subscriber, row.identities)
        self.steps = [add_step(engine, frame.order(row.key), target, row.plan, row.identities)]
        if row.status is not AccountStatus.ACTIVE:
            self.steps.append(change_step(engine, frame.order(f"{row.key}/status"), target, None, row.status))
        self.create: Step | None = None
        self.credit: Step | None = None
        if row.opening is not None:
            self._open(engine, frame, row.opening)
        self.result: dict[str, Any] | ChargingError | None = None

    def _open(self, engine: Engine, frame: Frame, opening: Opening) -> None:
        """Keyed by import and account: whichever row of the account comes first opens it, once."""
        account, partition = self.row.account, self.target.partition
        group = self.row.key.rpartition("/")[0] or self.row.key
        limit = opening.credit_limit_micros or 0
        order = frame.order(f"{group}/account")
        self.create = create_step(engine, order, account, opening.currency, opening.exponent, limit, partition)
        if opening.balance_micros:
            what = TopUp(opening.balance_micros)
            self.credit = top_up_step(engine, frame.order(f"{group}/balance"), account, what, partition)

    @property
    def done_key(self) -> bytes:
        """Key of the document that says that the row was done before."""
        return self.steps[0].record_key

    def saga(self) -> Saga[dict[str, Any]]:
        """The row's one commit."""
        steps = [step for step in (self.create, self.credit, *self.steps) if step is not None]
        keys = tuple(dict.fromkeys(key for step in steps for key in step.keys))
        result: dict[str, Any] = yield Apply(self.target.partition, self.target.account, keys, self._apply)
        return result

    def _apply(self, workspace: Workspace, now_us: int) -> dict[str, Any]:
        if self.create is not None and not workspace.present(self.done_key):
            self._apply_opening(workspace, now_us, self.create)
        answer: Any = {}
        repeated = True
        for step in self.steps:
            answer = step.apply(workspace, now_us)
            repeated = repeated and answer["repeated"]
        if repeated and "status" not in answer:
            message = f"subscriber {self.row.subscriber!r} was imported under this key and removed since"
            raise OperationRefused("conflict", "subscriber", f"{message}; expected a new key")
        return {**answer, "repeated": repeated}

    def _apply_opening(self, workspace: Workspace, now_us: int, create: Step) -> None:
        name, opening = self.row.account, self.row.opening
        assert opening is not None
        if workspace.account() is None:
            create.apply(workspace, now_us)
        else:
            self._check_same(workspace, opening)
            if not workspace.present(create.record_key):
                if opening.balance_micros:
                    message = f"account {name!r} was there before this import; import its balance with `balances`"
                    raise OperationRefused("exists", "balance", message)
                return
        if self.credit is not None:
            try:
                self.credit.apply(workspace, now_us)
            except OperationRefused as error:
                if error.field != "key":
                    raise
                message = f"account {name!r} was given another balance by another row of this import"
                raise OperationRefused("conflict", "balance", message) from None

    def _check_same(self, workspace: Workspace, opening: Opening) -> None:
        account = required_account(workspace, self.row.account)
        if account.currency != opening.currency:
            message = f"account {account.id!r} is kept in another currency"
            raise OperationRefused("conflict", "currency", message)
        if opening.credit_limit_micros not in (None, account.credit_limit_micros):
            message = f"account {account.id!r} has another limit, {account.credit_limit_micros} micro-units"
            raise OperationRefused("conflict", "credit_limit_micros", message)


def _add_subscribers(engine: Engine, frame: Frame, rows: Sequence[SubscriberRow], tally: Tally) -> Saga[None]:
    checked = []
    for row in rows:
        try:
            check_subscriber(engine, row.subscriber, row.plan)
            check_name("account", row.account)
        except OperationRefused as error:
            tally.count(row.line, error)
        else:
            checked.append(row)
    homes = yield from _homes_of(engine, checked)
    adding = []
    for row in checked:
        home = homes[row.account]
        if home is None:
            tally.count(row.line, OperationRefused("not_found", "account", f"no account {row.account!r}"))
        else:
            adding.append(_Adding(engine, frame, row, home))
    documents = yield Read(tuple((one.target.partition, one.done_key) for one in adding))
    yield from _claim_names(engine, [one for one in adding if documents[one.done_key] is None])
    ready = [one for one in adding if one.result is None]
    results = yield Together(tuple(one.saga() for one in ready))
    for one, result in zip(ready, results, strict=True):
        one.result = result
    lost = [one for one in adding if isinstance(one.result, OperationRefused)]
    yield Together(tuple(drop(engine, one.target, one.names) for one in lost))
    for one in adding:
        assert one.result is not None
        tally.count(one.row.line, one.result)


def _homes_of(engine: Engine, rows: Sequence[SubscriberRow]) -> Saga[dict[str, int | None]]:
    """Partition of each account: of the one that is there, else of the one that its row opens."""
    partitions = engine.store.partitions
    opened = list(dict.fromkeys(row.account for row in rows if row.opening is not None))
    wanted = [IdentityRecord(home_partition("account", name, partitions), name, "", 0) for name in opened]
    places = [identity_key("account", name, partitions) for name in opened]
    records = yield from claim_many(engine, list(zip(places, wanted, strict=True)))
    homes: dict[str, int | None] = {name: record.partition for name, record in zip(opened, records, strict=True)}
    others = dict.fromkeys(row.account for row in rows if row.account not in homes)
    homes.update((yield from find_homes(engine, tuple(others))))
    return homes


def _claim_names(engine: Engine, adding: Sequence[_Adding]) -> Saga[None]:
    """Claim what each row names; the row that comes second to a name is refused."""
    partitions = engine.store.partitions
    claims = []
    for one in adding:
        wanted = IdentityRecord(*one.target, claimed_s=0)
        claims += [(identity_key(name.kind, name.value, partitions), wanted) for name in one.names]
    records = iter((yield from claim_many(engine, claims)))
    for one in adding:
        for name in one.names:
            record = next(records)
            if one.result is None and (record.account, record.subscriber) != one.target[1:]:
                owner = f"subscriber {record.subscriber!r}"
                if name is one.names[0]:
                    message = f"subscriber {one.row.subscriber!r} exists already"
                    one.result = OperationRefused("exists", "subscriber", message)
                else:
                    message = f"{name.kind}:{name.value} belongs to {owner}"
                    one.result = OperationRefused("exists", name.kind, message)


# Balances


def _change_balances(engine: Engine, frame: Frame, rows: Sequence[BalanceRow], tally: Tally) -> Saga[None]:
    homes = yield from find_homes(engine, tuple(dict.fromkeys(row.account for row in rows)))
    found = []
    for row in rows:
        if homes[row.account] is None:
            tally.count(row.line, OperationRefused("not_found", "account", f"no account {row.account!r}"))
        else:
            found.append(row)
    results = yield Together(tuple(_balance(engine, frame, row, homes[row.account]) for row in found))
    for row, result in zip(found, results, strict=True):
        tally.count(row.line, result)


def _balance(engine: Engine, frame: Frame, row: BalanceRow, partition: int | None) -> Saga[dict[str, Any]]:
    assert partition is not None
    order = frame.order(row.key, row.reason)
    if isinstance(row.change, TopUp):
        step = top_up_step(engine, order, row.account, row.change, partition)
    else:
        step = adjust_step(engine, order, row.account, row.change, partition)
    result: dict[str, Any] = yield step
    return result
