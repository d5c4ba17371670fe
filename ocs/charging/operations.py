"""The frame of every change by an operator: keyed, with a reason and a name, one commit.

The change itself runs in the account's lane through the pen of `balance.posting`, together with an operation document,
so that a repeat under the same key answers the same and does nothing (LEDGER §4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from balance.account import Account, AccountStatus, OperationRecord
from balance.documents import operation_key
from balance.ledger import Entry, Event
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.notices import Wanted, notice_keys, order_notice
from ocs.charging.saga import Apply, Saga
from ocs.charging.workspace import Workspace


class OperationRefused(ChargingError):
    """The change cannot be made; nothing was changed. `kind`: not_found, exists, conflict or invalid."""

    def __init__(self, kind: str, field: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field


class Order(msgspec.Struct, frozen=True):
    """Who asks for a change, why, and under which key."""

    key: str
    who: str
    reason: str


class Step(Apply):
    """A keyed change in an account's lane, alone or as a part of a larger one of the same account.

    The first of its keys is that of its operation document.
    """

    __slots__ = ()

    @property
    def record_key(self) -> bytes:
        """Key of the document that says that it was done."""
        return self.keys[0]


class Change:
    """One keyed change in an account's lane: the frame that every operation shares."""

    def __init__(self, engine: Engine, name: str, order: Order, content: object) -> None:
        self.name = name
        self.order = order
        self.digest = hashlib.blake2b(msgspec.json.encode((name, content)), digest_size=8).digest()
        self._engine = engine
        self._kept_s = engine.settings.operation_kept_s

    def saga(
        self,
        partition: int,
        account: str,
        keys: Sequence[bytes],
        work: Callable[[Workspace, int], tuple[dict[str, Any], Sequence[Entry]]],
        again: Callable[[Workspace], dict[str, Any]],
        subscriber: str = "",
        notice: Wanted | None = None,
    ) -> Saga[dict[str, Any]]:
        """Run `work` once under the key; see `step`."""
        result: dict[str, Any] = yield self.step(partition, account, keys, work, again, subscriber, notice)
        return result

    def step(
        self,
        partition: int,
        account: str,
        keys: Sequence[bytes],
        work: Callable[[Workspace, int], tuple[dict[str, Any], Sequence[Entry]]],
        again: Callable[[Workspace], dict[str, Any]],
        subscriber: str = "",
        notice: Wanted | None = None,
    ) -> Step:
        """What runs `work` once under the key; a repeat changes nothing and is answered by `again`, marked `repeated`.

        `notice`: what the gateways of the account's sessions are told, if they are told anything (LEDGER §10).

        The record holds no copy of the answer: what a repeat wants to know is that the change was made, and how things
        are now. So it stays small, as one is kept for 30 days for every change.
        """
        record_key = operation_key(partition, f"{account}:{self.order.key}")
        noticed = notice_keys(self._engine, partition, account, notice)

        def apply(workspace: Workspace, now_us: int) -> dict[str, Any]:
            record = workspace.get(record_key, OperationRecord)
            if record is not None:
                self._check(record)
                return {**again(workspace), "key": self.order.key, "repeated": True}
            answer, entries = work(workspace, now_us)
            stored = OperationRecord(self.order.key, self.digest, b"", now_us // 1_000_000)
            workspace.put(record_key, stored, self._kept_s)
            workspace.event(self._event(account, subscriber, entries, now_us))
            if noticed and notice is not None:
                order_notice(workspace, noticed[0], required_account(workspace, account), notice, now_us)
            return {**answer, "key": self.order.key, "repeated": False}

        return Step(partition, account, (record_key, *noticed, *keys), apply)

    def _check(self, record: OperationRecord) -> None:
        if record.digest != self.digest:
            message = f"key {self.order.key!r} was used for another change; expected a new key"
            raise OperationRefused("conflict", "key", message)

    def _event(self, account: str, subscriber: str, entries: Sequence[Entry], now_us: int) -> Event:
        return Event(
            account=account,
            at_us=now_us,
            kind="operation",
            entries=tuple(entries),
            subscriber=subscriber,
            operation=self.name,
            key=self.order.key,
            who=self.order.who,
            reason=self.order.reason,
        )


def required_account(workspace: Workspace, name: str) -> Account:
    """The lane's account; refused if there is none."""
    account = workspace.account()
    if account is None:
        raise OperationRefused("not_found", "account", f"no account {name!r}")
    return account


def open_account(workspace: Workspace, name: str) -> Account:
    """The lane's account; refused if there is none or it is closed."""
    account = required_account(workspace, name)
    if account.status == AccountStatus.CLOSED:
        raise OperationRefused("conflict", "account", f"account {name!r} is closed")
    return account


def check_name(field: str, name: str) -> None:
    """Refuse a name that could not be typed, shown or kept in a key."""
    if not name or len(name) > 64 or any(c.isspace() or not c.isprintable() or c in "{}:" for c in name):
        message = f"{name!r} is no {field} id: expected 1 to 64 printable characters without space, colon or braces"
        raise OperationRefused("invalid", field, message)
