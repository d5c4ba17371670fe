"""What operators do to subscribers and their identities; running sessions go on through all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from balance.account import Account, AccountStatus, Subscriber, SubscriberIdentity
from balance.documents import subscriber_key
from balance.ledger import Entry
from ocs.charging.engine import Engine
from ocs.charging.identities import claim_all, drop, find_account, find_subscriber, own_name
from ocs.charging.notice_documents import NoticeKind
from ocs.charging.notices import Wanted
from ocs.charging.operations import Change, OperationRefused, Order, Step, check_name, open_account, required_account
from ocs.charging.requests import Identity
from ocs.charging.saga import Saga
from ocs.charging.session_jobs import Target
from ocs.charging.workspace import Workspace

SUBSCRIBERS_INDEX = b"subscribers"


def account_subscribers_index(account: str) -> bytes:
    """Index of an account's subscribers."""
    return b"account-subscribers:" + account.encode()


def add_subscriber(
    engine: Engine, order: Order, subscriber: str, account: str, plan: str, identities: Sequence[Identity]
) -> Saga[dict[str, Any]]:
    """Add a subscriber to an account: claim its names, then write it; what lost a race is refused."""
    check_subscriber(engine, subscriber, plan)
    partition = yield from find_account(engine, account)
    target = Target(partition, account, subscriber)
    names = names_of(subscriber, identities)
    yield from claim_all(engine, target, names)
    try:
        result: dict[str, Any] = yield add_step(engine, order, target, plan, identities)
    except OperationRefused:
        yield from drop(engine, target, names)
        raise
    return result


def check_subscriber(engine: Engine, subscriber: str, plan: str) -> None:
    """Refuse what could not be added to any account."""
    check_name("subscriber", subscriber)
    _check_plan(engine, plan)


def names_of(subscriber: str, identities: Sequence[Identity]) -> list[SubscriberIdentity]:
    """What is claimed for a new subscriber: its own name first."""
    return [own_name(subscriber), *(SubscriberIdentity(one.kind, one.value) for one in identities)]


def add_step(engine: Engine, order: Order, target: Target, plan: str, identities: Sequence[Identity]) -> Step:
    """The commit of `add_subscriber`, for a subscriber whose names are claimed."""
    partition, account, subscriber = target
    listed = [SubscriberIdentity(one.kind, one.value) for one in identities]
    change = Change(engine, "subscriber add", order, (subscriber, account, plan, listed))
    key = subscriber_key(partition, subscriber)

    def work(workspace: Workspace, now_us: int) -> tuple[dict[str, Any], Sequence[Entry]]:
        found = open_account(workspace, account)
        _check_currency(engine, plan, found)
        if workspace.present(key):
            raise OperationRefused("exists", "subscriber", f"subscriber {subscriber!r} exists already")
        fresh = Subscriber(subscriber, account, plan, listed, created_s=now_us // 1_000_000)
        workspace.put(key, fresh)
        workspace.put_account(found)
        workspace.index(SUBSCRIBERS_INDEX, subscriber.encode(), True)
        workspace.index(account_subscribers_index(account), subscriber.encode(), True)
        return describe_subscriber(fresh), ()

    return change.step(partition, account, (key,), work, _again(key, subscriber), subscriber)


def change_subscriber(
    engine: Engine, order: Order, name: str, plan: str | None = None, status: AccountStatus | None = None
) -> Saga[dict[str, Any]]:
    """Change plan or status; running sessions take it over at their next report."""
    if plan is not None:
        _check_plan(engine, plan)
    target = yield from find_subscriber(engine, name)
    result: dict[str, Any] = yield change_step(engine, order, target, plan, status)
    return result


def change_step(engine: Engine, order: Order, target: Target, plan: str | None, status: AccountStatus | None) -> Step:
    """The commit of `change_subscriber`."""

    def edit(subscriber: Subscriber) -> None:
        subscriber.plan = subscriber.plan if plan is None else plan
        subscriber.status = subscriber.status if status is None else int(status)

    content = (plan, None if status is None else int(status))
    return _edit_step(engine, order, "subscriber change", target, content, edit, NoticeKind.CHANGED)


def add_identity(engine: Engine, order: Order, name: str, identity: Identity) -> Saga[dict[str, Any]]:
    """Give a subscriber one more identity; its running sessions go on."""
    target = yield from find_subscriber(engine, name)
    fresh = SubscriberIdentity(identity.kind, identity.value)
    yield from claim_all(engine, target, [fresh])

    def edit(subscriber: Subscriber) -> None:
        if fresh not in subscriber.identities:
            subscriber.identities.append(fresh)

    result: dict[str, Any] = yield _edit_step(engine, order, "identity add", target, fresh, edit)
    return result


def remove_identity(engine: Engine, order: Order, name: str, identity: Identity) -> Saga[dict[str, Any]]:
    """Take an identity from a subscriber; its running sessions go on, new ones under it do not start."""
    target = yield from find_subscriber(engine, name)
    gone = SubscriberIdentity(identity.kind, identity.value)

    def edit(subscriber: Subscriber) -> None:
        if gone not in subscriber.identities:
            message = f"subscriber {subscriber.id!r} has no identity {gone.kind}:{gone.value}"
            raise OperationRefused("not_found", "identity", message)
        subscriber.identities.remove(gone)

    answer: dict[str, Any] = yield _edit_step(engine, order, "identity remove", target, gone, edit)
    yield from drop(engine, target, [gone])
    return answer


def remove_subscriber(engine: Engine, order: Order, name: str) -> Saga[dict[str, Any]]:
    """Remove a subscriber; its open sessions are denied, and closed, at their next report."""
    target = yield from find_subscriber(engine, name)
    change = Change(engine, "subscriber remove", order, target.subscriber)
    names: list[SubscriberIdentity] = []

    def work(workspace: Workspace, now_us: int) -> tuple[dict[str, Any], Sequence[Entry]]:
        account = required_account(workspace, target.account)
        subscriber = workspace.get(target.subscriber_key, Subscriber)
        if subscriber is None:
            raise OperationRefused("not_found", "subscriber", f"no subscriber {name!r}")
        names.extend(subscriber.identities)
        workspace.delete(target.subscriber_key)
        workspace.put_account(account)
        workspace.index(SUBSCRIBERS_INDEX, subscriber.id.encode(), False)
        workspace.index(account_subscribers_index(account.id), subscriber.id.encode(), False)
        return describe_subscriber(subscriber), ()

    answer = yield from change.saga(
        target.partition,
        target.account,
        (target.subscriber_key,),
        work,
        _again(target.subscriber_key, target.subscriber),
        target.subscriber,
        Wanted(NoticeKind.ABORT, target.subscriber),
    )
    # Its own name goes last: as long as it leads here, a repeat of a removal that was cut short is answered.
    yield from drop(engine, target, [*names, own_name(target.subscriber)])
    return answer


def _edit_step(
    engine: Engine,
    order: Order,
    name: str,
    target: Target,
    content: object,
    edit: Callable[[Subscriber], None],
    notice: NoticeKind | None = None,
) -> Step:
    change = Change(engine, name, order, (target.subscriber, content))

    def work(workspace: Workspace, now_us: int) -> tuple[dict[str, Any], Sequence[Entry]]:
        account = required_account(workspace, target.account)
        found = workspace.get(target.subscriber_key, Subscriber)
        if found is None:
            raise OperationRefused("not_found", "subscriber", f"no subscriber {target.subscriber!r}")
        edit(found)
        _check_currency(engine, found.plan, account)
        workspace.put(target.subscriber_key, found)
        workspace.put_account(account)
        return describe_subscriber(found), ()

    return change.step(
        target.partition,
        target.account,
        (target.subscriber_key,),
        work,
        _again(target.subscriber_key, target.subscriber),
        target.subscriber,
        None if notice is None else Wanted(notice, target.subscriber),
    )


def _again(key: bytes, subscriber: str) -> Callable[[Workspace], dict[str, Any]]:
    """The answer to a repeat: the subscriber as it is now, its name alone when it is gone."""

    def answer(workspace: Workspace) -> dict[str, Any]:
        found = workspace.get(key, Subscriber)
        return {"subscriber": subscriber} if found is None else describe_subscriber(found)

    return answer


def _check_plan(engine: Engine, plan: str) -> None:
    plans = engine.catalogues.current.plans
    if plan not in plans:
        raise OperationRefused("invalid", "plan", f"no plan {plan!r}; the catalogue has {', '.join(sorted(plans))}")


def _check_currency(engine: Engine, plan: str, account: Account) -> None:
    """A plan prices in its own currency; until rates exist it must be the account's."""
    found = engine.catalogues.current.plans.get(plan)
    if found is not None and found.currency.numeric != account.currency:
        message = (
            f"plan {plan!r} is priced in {found.currency.code}, account {account.id!r} is kept in another currency"
        )
        raise OperationRefused("invalid", "plan", message)


def describe_subscriber(subscriber: Subscriber) -> dict[str, Any]:
    """A subscriber as JSON."""
    return {
        "subscriber": subscriber.id,
        "account": subscriber.account,
        "plan": subscriber.plan,
        "status": AccountStatus(subscriber.status).name.lower(),
        "identities": [{"kind": one.kind, "value": one.value} for one in subscriber.identities],
        "created_s": subscriber.created_s,
    }
