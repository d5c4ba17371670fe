"""An engine over the memory store with a stepped clock: what engine tests share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from balance.memory_store import MemoryStore
from balance.store import Store
from ocs.charging import account_operations, queries, subscriber_operations
from ocs.charging.account_operations import TopUp
from ocs.charging.conductor import ChargingError, Conductor
from ocs.charging.engine import Engine
from ocs.charging.notice_documents import NoticeKind
from ocs.charging.notices import NoticeDesk
from ocs.charging.operations import Order
from ocs.charging.pricing import Catalogues
from ocs.charging.registry import PeersHeld, Registry, WorkerEntry
from ocs.charging.requests import (
    ChargingRequest,
    EventAction,
    Identity,
    Outcome,
    QuotaKey,
    Reason,
    RequestKind,
    ServiceOutcome,
    ServiceRequest,
    Units,
)
from ocs.charging.saga import Saga
from ocs.charging.settings import ChargingSettings
from ocs.charging.sweeper import Sweeper
from tariffs.loader import load

MIB = 1_048_576
CENT = 10_000
DATA, VOICE, SMS = "32251@3gpp.org", "32260@3gpp.org", "32274@3gpp.org"
START_US = 1_772_450_000_000_000
"""2026-03-02T11:13:20Z."""

CATALOGUE_PATH = Path(__file__).with_name("catalogue.toml")
"""The plans of the scenarios."""


class Kit:
    """One engine, its store, its clock, and the shortest way to ask it things."""

    def __init__(
        self,
        store: Store | None = None,
        settings: ChargingSettings | None = None,
        catalogue: str | None = None,
        number: int = 0,
        alone: bool = True,
    ) -> None:
        """`catalogue` is the text of another catalogue than the scenarios'; engines of one store differ in `number`."""
        self.now_us = START_US
        self.store: Store = store if store is not None else MemoryStore(now_us=lambda: self.now_us)
        self.raised: list[Exception] = []
        self._numbers = itertools.count(1)
        self._msisdns = itertools.count(1)
        nonces = itertools.count((number << 48) + 1)

        def nonce() -> bytes:
            return next(nonces).to_bytes(8, "big")

        self.later: list[Callable[[], None]] = []
        self.conductor = Conductor(
            self.store,
            lambda: self.now_us,
            self.monotonic,
            lambda _seconds, call: self.later.append(call),
            lambda _where, error: self.raised.append(error),
            nonce,
        )
        self.catalogue = load(catalogue or CATALOGUE_PATH.read_text(), CATALOGUE_PATH.name, 1)
        self.engine = Engine(
            self.store,
            self.conductor,
            settings or ChargingSettings(),
            Catalogues({1: self.catalogue}, 1),
            b"k" * 32,
            lambda: self.now_us,
            nonce,
        )
        self.sweeper = Sweeper(self.engine, lambda: self.now_us, self.monotonic)
        self.number = number
        self.sweeping = True
        self.peers = PeersHeld()
        self.registry = Registry(self.entry, nonce, self.monotonic, alone)
        self.peers.changed = self.registry.note_change
        self.desk = NoticeDesk(self.engine, self.registry, lambda: self.now_us, self.monotonic, self.deliver)
        self.sweeper.notices = self.desk
        self.told: list[tuple[str, NoticeKind]] = []
        """Notices that were delivered here."""
        self.unanswered: list[Callable[[bool], None]] | None = None
        """A list: notices stay without an answer until a test takes one from here. `None`: all are heard at once."""

    def entry(self) -> WorkerEntry:
        """How this engine stands in the registry."""
        return WorkerEntry(
            f"worker{self.number}",
            self.number,
            "host",
            1000 + self.number,
            START_US // 1_000_000,
            peers=self.peers.listed(),
            loaded=((0, 1),),
            current=1,
            serving=True,
            sweeping=self.sweeping,
        )

    def deliver(self, session_id: str, kind: NoticeKind, done: Callable[[bool], None]) -> None:
        """The port of notices."""
        self.told.append((session_id, kind))
        if self.unanswered is None:
            done(True)
        else:
            self.unanswered.append(done)

    def use(self, store: Store) -> None:
        """Put another store under the running engine."""
        self.store = self.engine.store = store
        self.conductor.use(store)

    def monotonic(self) -> float:
        """Seconds that go with the clock."""
        return self.now_us / 1e6

    def advance(self, seconds: int) -> int:
        """Step the clock and let the sweeper finish; the number of items that it handled."""
        self.now_us += seconds * 1_000_000
        handled = 0
        for _ in range(1000):
            passes: list[int] = []
            self.sweeper.sweep(passes.append)
            handled += passes[0]
            if passes[0] == 0:
                return handled
        raise AssertionError("the sweeper never comes to rest")

    def run(self, saga: Saga[Any]) -> Any:
        """Result of a saga; a `ChargingError` is raised."""
        results: list[Any] = []
        self.engine.run(saga, self.monotonic() + 5, results.append)
        self._retry_until(results)
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    def _retry_until(self, results: list[Any]) -> None:
        while not results and self.later:
            self.later.pop(0)()

    def order(self, key: str | None = None) -> Order:
        """An operator's order with a key of its own."""
        return Order(key or f"key-{next(self._numbers)}", "tester", "a test")

    def account(
        self, name: str = "a", cents: int = 0, plan: str = "d10", msisdn: str | None = None, limit: int = 0
    ) -> Identity:
        """An account with money and one subscriber; its identity."""
        identity = Identity("e164", msisdn or f"44770090{next(self._msisdns):04d}")
        self.run(account_operations.create_account(self.engine, self.order(), name, 978, 2, limit * CENT, 5))
        if cents:
            self.top_up(name, cents)
        self.run(subscriber_operations.add_subscriber(self.engine, self.order(), f"sub-{name}", name, plan, [identity]))
        return identity

    def top_up(self, name: str, cents: int = 0, key: str | None = None, **what: Any) -> dict[str, Any]:
        """Top up money (in cents) or, with `amount` and `kind`, units."""
        content = TopUp(**{"amount": cents * CENT, **what})
        answer: dict[str, Any] = self.run(account_operations.top_up(self.engine, self.order(key), name, content))
        return answer

    def balance(self, name: str = "a") -> tuple[int, int]:
        """(B, R) in cents; exact, or the test fails."""
        found = self.run(queries.show_account(self.engine, name))
        posted, reserved = found["balance_micros"], found["reserved_micros"]
        assert posted % CENT == 0 and reserved % CENT == 0
        return posted // CENT, reserved // CENT

    def buckets(self, name: str = "a") -> list[dict[str, Any]]:
        """The account's buckets as JSON."""
        buckets: list[dict[str, Any]] = self.run(queries.show_account(self.engine, name))["buckets"]
        return buckets

    def events(self, name: str = "a") -> list[dict[str, Any]]:
        """The account's events as JSON, oldest first."""
        found: list[dict[str, Any]] = self.run(queries.ledger(self.engine, name, limit=1000))["items"]
        return found

    def entries(self, name: str = "a") -> list[dict[str, Any]]:
        """The account's ledger entries as JSON, oldest first."""
        return [entry for event in self.events(name) for entry in event["entries"]]

    def sessions(self) -> list[dict[str, Any]]:
        """The open sessions as JSON."""
        found: list[dict[str, Any]] = self.run(queries.list_sessions(self.engine))["items"]
        return found

    def charge(self, request: ChargingRequest) -> Outcome:
        """The outcome of a request; a `ChargingError` is raised."""
        results: list[Outcome | ChargingError] = []
        self.engine.charge(request, self.monotonic() + 5, results.append)
        self._retry_until(results)
        assert len(results) == 1
        if isinstance(results[0], ChargingError):
            raise results[0]
        return results[0]

    def ask(
        self,
        kind: RequestKind,
        number: int,
        *services: ServiceRequest,
        session: str = "s",
        who: Identity | Sequence[Identity] = (),
        context: str = DATA,
        **more: Any,
    ) -> Outcome:
        """Build a request and charge it."""
        identities = (who,) if isinstance(who, Identity) else tuple(who)
        request = ChargingRequest(
            session, kind, number, "gw1.example.net", "example.net", context, services, identities, **more
        )
        return self.charge(request)

    def initial(self, who: Identity, *services: ServiceRequest, session: str = "s", **more: Any) -> Outcome:
        """CCR-I number 0."""
        return self.ask(RequestKind.INITIAL, 0, *services, session=session, who=who, **more)

    def update(self, number: int, *services: ServiceRequest, session: str = "s", **more: Any) -> Outcome:
        """CCR-U."""
        return self.ask(RequestKind.UPDATE, number, *services, session=session, **more)

    def terminate(self, number: int, *services: ServiceRequest, session: str = "s", **more: Any) -> Outcome:
        """CCR-T."""
        return self.ask(RequestKind.TERMINATION, number, *services, session=session, **more)

    def event(self, who: Identity, *services: ServiceRequest, session: str = "e", **more: Any) -> Outcome:
        """An EVENT in the SMS context; direct debit unless said otherwise."""
        more = {"context": SMS, "action": EventAction.DIRECT_DEBIT, "number": 0, **more}
        number = more.pop("number")
        return self.ask(RequestKind.EVENT, number, *services, session=session, who=who, **more)


def want(group: int = 100, *, used: int | None = None, reason: Reason = Reason.NONE, **asked: int) -> ServiceRequest:
    """A key that wants quota, after reporting octets if `used` is given."""
    reports = () if used is None else (Units(octets=used),)
    return ServiceRequest(QuotaKey(group), Units(**asked), reports, reason)


def report(group: int = 100, used: int | None = None, reason: Reason = Reason.NONE, **units: int) -> ServiceRequest:
    """A key that reports only."""
    reports = (Units(octets=used),) if used is not None else ((Units(**units),) if units else ())
    return ServiceRequest(QuotaKey(group), None, reports, reason)


def messages(asked: int | None = 1, used: int | None = None) -> ServiceRequest:
    """An event key without rating group: n messages asked for, or reported."""
    wanted = None if asked is None else Units(events=asked)
    return ServiceRequest(QuotaKey(), wanted, () if used is None else (Units(events=used),))


def only(outcome: Outcome) -> ServiceOutcome:
    """The one key of an answer."""
    assert len(outcome.services) == 1, outcome
    return outcome.services[0]
