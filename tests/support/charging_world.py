"""A small world of accounts and sessions, and what the requirements say each of its requests must cost.

The expectation is written from the rows, not from the rules under test: prices are added up step by step from the table
below, cumulatively per (session, key, tariff); grants are taken from the answers; who paid is read from the entries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from balance.account import Bucket, BucketKind
from balance.ledger import Cause, Event, UsageLine, Verb, decode_event
from balance.store import Store
from ocs.charging import account_operations, subscriber_operations
from ocs.charging.account_operations import TopUp
from ocs.charging.operations import OperationRefused
from ocs.charging.requests import (
    ChargingRequest,
    EventAction,
    Identity,
    Outcome,
    QuotaKey,
    Reason,
    RequestKind,
    Result,
    ServiceRequest,
    Units,
)
from ocs.charging.settings import ChargingSettings
from tests.support.books import AuditedStore, Replay, audit
from tests.support.charging_kit import Kit

CONTEXT = "32251@3gpp.org"
PARTITION = 5
LIMITS = {"a": 0, "b": 5000}
"""Credit limit of each account in micro-units."""


class Price(NamedTuple):
    """One line of the price table."""

    kind: BucketKind
    step: int
    micros: int
    per: int

    def billed(self, total: int) -> int:
        """Octets exactly, everything else in started steps."""
        return total if self.kind is BucketKind.OCTETS else -(-total // self.step) * self.step

    def cost(self, units: int) -> int:
        """Started steps × price, rounded up once."""
        steps = -(-units // self.step) * self.step
        return -(-steps * self.micros // self.per)


PRICES = {
    "octets": Price(BucketKind.OCTETS, 100, 1000, 100),
    "odd": Price(BucketKind.OCTETS, 30, 700, 1000),
    "seconds": Price(BucketKind.SECONDS, 6, 450, 60),
    "events": Price(BucketKind.EVENTS, 1, 900, 1),
    "dear": Price(BucketKind.OCTETS, 50, 1900, 100),
}
PLANS: dict[str, dict[int, str]] = {
    "p": {10: "octets", 20: "odd", 30: "seconds", 40: "events", 50: "free", 60: "bar"},
    "q": {10: "dear", 20: "octets", 30: "seconds", 40: "bar", 50: "events", 60: "free"},
}
GROUPS = (10, 20, 30, 40, 50, 60, 70)
UNITS = {BucketKind.OCTETS: "octets", BucketKind.SECONDS: "seconds", BucketKind.EVENTS: "events"}


def catalogue_text() -> str:
    """The price table as a catalogue."""
    lines = ['name = "world"', 'currency = "EUR"']
    for name, price in PRICES.items():
        quota = {BucketKind.OCTETS: 1000, BucketKind.SECONDS: 60, BucketKind.EVENTS: 2}[price.kind]
        least = 1 if price.kind is BucketKind.EVENTS else price.step
        unit = UNITS[price.kind]
        lines += ["[[tariff]]", f'name = "{name}"', f'unit = "{unit}"', f'price = "0.{price.micros:06d}"']
        suffix = {"octets": " B", "seconds": " s", "events": ""}[unit]
        lines += [f'per = "{price.per}{suffix}"', f'step = "{price.step}{suffix}"']
        lines += [f'default_quota = "{quota}{suffix}"', f'min_grant = "{least}{suffix}"', 'validity = "100 s"']
    for plan, rules in PLANS.items():
        lines += ["[[plan]]", f'name = "{plan}"']
        for group, what in rules.items():
            lines += ["[[plan.rule]]", f'service_context = "{CONTEXT}"', f"rating_group = {group}"]
            lines += [f'action = "{what}"'] if what in ("free", "bar") else ['action = "charge"', f'tariff = "{what}"']
    return "\n".join(lines) + "\n"


@dataclasses.dataclass
class KeyModel:
    """What a quota key has had so far."""

    tariff: str | None = None
    granted: int = 0
    used: dict[str, int] = dataclasses.field(default_factory=dict)
    paid: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class SessionModel:
    """An open session as the client knows it."""

    account: str
    plan: str
    keys: dict[int, KeyModel] = dataclasses.field(default_factory=dict)


class Done(NamedTuple):
    """A request that was processed, with its answer and when."""

    request: ChargingRequest
    outcome: Outcome
    at_us: int
    recorded: bool


def prepare(kit: Kit) -> None:
    """Two accounts with one subscriber each."""
    for name, limit in LIMITS.items():
        kit.run(account_operations.create_account(kit.engine, kit.order(), name, 978, 2, limit, PARTITION))
        identity = [Identity("e164", name_of(name))]
        kit.run(subscriber_operations.add_subscriber(kit.engine, kit.order(), f"sub-{name}", name, "p", identity))


def name_of(account: str) -> str:
    """The E.164 number of an account's subscriber."""
    return {"a": "447700900001", "b": "447700900002"}[account]


class World:
    """Runs commands against an engine and checks after each that the books and the expectation agree."""

    def __init__(
        self, settings: ChargingSettings | None = None, wrap: Callable[[AuditedStore], Store] | None = None
    ) -> None:
        """`wrap` puts another store (a faulty one) between the engine and the audited store, after the preparation."""
        self.store = AuditedStore(now_us=lambda: self.kit.now_us)
        self.kit = Kit(self.store, settings, catalogue_text())
        prepare(self.kit)
        if wrap is not None:
            self.kit.use(wrap(self.store))
        self.plans = dict.fromkeys(LIMITS, "p")
        self.sessions: dict[str, SessionModel] = {}
        self.done: list[Done] = []
        self.tokens: list[bytes] = []
        self.replays = {name: Replay(name, limit) for name, limit in LIMITS.items()}
        self._seen = 0
        self._touched: dict[str, int] = {}
        self._definitions: dict[tuple[str, int], Bucket] = {}
        self._fresh()

    # Commands

    def request(
        self, session: str, kind: RequestKind, number: int, services: Sequence[ServiceRequest], account: str
    ) -> None:
        """One INITIAL, UPDATE or TERMINATION."""
        identities = (Identity("e164", name_of(account)),) if kind is RequestKind.INITIAL else ()
        self._charge(
            ChargingRequest(
                session,
                kind,
                number,
                "gw1.example.net",
                "example.net",
                CONTEXT,
                tuple(services),
                identities,
                digest=digest_of(services),
            )
        )

    def step(self, session: str, services: Sequence[ServiceRequest], account: str, die: int) -> None:
        """The likely next request of a session: INITIAL if it is closed, else UPDATE, or TERMINATION if the die is 7."""
        sent = [one.request.number for one in self.done if one.request.session_id == session]
        number = max(sent, default=-1) + 1
        if session not in self.sessions:
            self.request(session, RequestKind.INITIAL, number, services, account)
        else:
            kind = RequestKind.TERMINATION if die == 7 else RequestKind.UPDATE
            self.request(session, kind, number, services, account)

    def event(self, session: str, account: str, action: EventAction, group: int, units: int) -> None:
        """One EVENT."""
        services = (ServiceRequest(QuotaKey(group), Units(events=units) if units else Units()),)
        self._charge(
            ChargingRequest(
                session,
                RequestKind.EVENT,
                0,
                "gw1.example.net",
                "example.net",
                CONTEXT,
                services,
                (Identity("e164", name_of(account)),),
                action=action,
                digest=digest_of(services),
            )
        )

    def refund(self, session: str, account: str, which: int) -> None:
        """Give an event back by its token; the second time must change nothing."""
        if not self.tokens:
            return
        token = self.tokens[which % len(self.tokens)]
        self._charge(
            ChargingRequest(
                session,
                RequestKind.EVENT,
                0,
                "gw1.example.net",
                "example.net",
                CONTEXT,
                (),
                (Identity("e164", name_of(account)),),
                action=EventAction.REFUND,
                refund_token=token,
                digest=b"fund",
            )
        )

    def repeat(self, which: int, altered: bool) -> None:
        """Send an earlier request again: nothing may change, and the answer agrees (CC-040, CC-042, CC-043)."""
        if not self.done:
            return
        self._forget()
        first = self.done[which % len(self.done)]
        if not first.recorded:
            return
        request = first.request
        if altered:
            more = (ServiceRequest(QuotaKey(10), Units(), (Units(octets=12345),)),)
            request = msgspec.structs.replace(request, services=more, digest=b"new!")
        before = self.store.state()
        outcome = self.kit.charge(request)
        assert self.store.state() == before, f"a repeat of {request.kind.name} #{request.number} changed something"
        later = [one for one in self.done if one.request.session_id == request.session_id and one.recorded]
        young = self.kit.now_us - first.at_us < 60_000_000 and len(later) <= 32
        last = any(one is first for one in later[-4:])
        if young or last or outcome.detail != "repeat_too_old":
            assert outcome == first.outcome, (outcome, first.outcome)
        else:
            assert outcome.result is Result.UNABLE_TO_COMPLY

    def operate(self, saga: Callable[[], Any]) -> None:
        """One change by an operator; a refusal changes nothing."""
        before = self.store.state()
        try:
            self.kit.run(saga())
        except OperationRefused:
            assert self.store.state() == before
        self._check(self._fresh())

    def top_up(self, account: str, what: TopUp) -> None:
        """Money or units in."""
        self.operate(lambda: account_operations.top_up(self.kit.engine, self.kit.order(), account, what))

    def adjust(self, account: str, which: int, amount: int) -> None:
        """A correction of one bucket."""
        buckets = self.store.accounts()[account].buckets
        bucket = buckets[which % len(buckets)].id
        self.operate(lambda: account_operations.adjust(self.kit.engine, self.kit.order(), account, bucket, amount))

    def status(self, account: str, status: Any) -> None:
        """Suspend or resume."""
        self.operate(lambda: account_operations.set_status(self.kit.engine, self.kit.order(), account, status))

    def plan(self, account: str, plan: str) -> None:
        """Another plan for the account's subscriber."""
        change = subscriber_operations.change_subscriber
        self.operate(lambda: change(self.kit.engine, self.kit.order(), f"sub-{account}", plan=plan))
        self.plans[account] = plan

    def clock(self, seconds: int, sweep: bool) -> None:
        """Time goes on; the sweeper may be late."""
        if sweep:
            self.kit.advance(seconds)
        else:
            self.kit.now_us += seconds * 1_000_000
        self._check(self._fresh())
        if sweep:
            for account in self.store.accounts().values():
                overdue = [one for one in account.buckets if one.expired_at(self.kit.now_us // 1_000_000)]
                assert all(one.free == 0 for one in overdue), "an ended bucket was not swept"

    # Expectation

    def _forget(self) -> None:
        """What became of a session may be forgotten ten minutes after its end, not earlier (CC-042)."""
        now_us = self.kit.now_us
        stored = {session.id: session for session in self.store.sessions()}
        for session_id, session in stored.items():
            self._touched[session_id] = max(self._touched.get(session_id, 0), session.closed_s * 1_000_000)
            if not session.closed:
                self._touched[session_id] = now_us
        for place, one in enumerate(self.done):
            if one.recorded and one.request.session_id not in stored:
                assert now_us - self._touched[one.request.session_id] >= 600_000_000
                self.done[place] = one._replace(recorded=False)

    def _is_repeat(self, request: ChargingRequest) -> bool:
        key = (request.session_id, request.kind, request.number)
        return any((d.request.session_id, d.request.kind, d.request.number) == key for d in self.done if d.recorded)

    def _charge(self, request: ChargingRequest) -> None:
        self._forget()
        if self._is_repeat(request):
            return
        seen = {one.id for one in self.store.sessions() if not one.closed}
        outcome = self.kit.charge(request)
        assert not self.kit.raised, self.kit.raised
        events = self._fresh()
        expected = (request.session_id in seen) and self._closed_meanwhile(request.session_id, events)
        if expected:
            self.sessions.pop(request.session_id, None)
        mine = [e for e in events if e.session_id == request.session_id and e.request == _request_name(request)]
        recorded = [e for e in mine if e.kind in ("session", "event") and e.close_cause != "reopened_by_initial"]
        late = [e for e in mine if e.kind == "orphan"]
        for event in late:
            assert not event.entries
        stored = {one.id for one in self.store.sessions()}
        self.done.append(
            Done(request, outcome, self.kit.now_us, bool(recorded or late) and request.session_id in stored)
        )
        for event in recorded:
            if event.kind == "session":
                self._expect_session(request, outcome, event)
            else:
                self._expect_event(request, outcome, event)
        self._check(events)

    @staticmethod
    def _closed_meanwhile(session: str, events: Iterable[Event]) -> bool:
        return any(e.session_id == session and e.close_cause in ("supervision_timeout",) for e in events)

    def _expect_session(self, request: ChargingRequest, outcome: Outcome, event: Event) -> None:
        if request.kind is RequestKind.INITIAL:
            self.sessions[request.session_id] = SessionModel(event.account, self.plans[event.account])
        session = self.sessions[request.session_id]
        lines = {line.rating_group: line for line in event.usage}
        self._expect_debits(session, request, event, lines)
        if request.kind is RequestKind.TERMINATION or outcome.result is Result.SERVICE_DENIED:
            assert not outcome.services
            del self.sessions[request.session_id]
            return
        self._expect_grants(session, request, outcome)

    def _expect_debits(
        self, session: SessionModel, request: ChargingRequest, event: Event, lines: dict[int | None, UsageLine]
    ) -> None:
        """Each report costs cost(total now) - cost(total before); only use beyond the grant is over-use."""
        money = over_use = 0
        for group in dict.fromkeys(service.key.rating_group for service in request.services):
            assert group is not None
            asked = [service for service in request.services if service.key.rating_group == group]
            reports = [units for service in asked for units in service.used]
            key = session.keys.setdefault(group, KeyModel())
            if not reports:
                continue
            tariff = key.tariff or _priced(session.plan, group)
            if tariff is None:
                assert lines[group].debited_micros == 0
                continue
            m, o = self._expect_report(key, tariff, reports, lines[group])
            money, over_use = money + m, over_use + o
        debits = [e for e in event.entries if e.verb is Verb.DEBIT and e.kind == BucketKind.MONEY]
        assert -sum(e.posted_change for e in debits) == money
        assert -sum(e.posted_change for e in debits if e.cause is Cause.OVER_USE) == over_use
        for kind in UNITS:
            stock = -sum(e.posted_change for e in event.entries if e.verb is Verb.DEBIT and e.kind == kind)
            assert stock == sum(
                sum(amount for _, amount in line.from_buckets) for line in lines.values() if line.unit == kind
            )

    def _expect_report(self, key: KeyModel, tariff: str, reports: list[Units], line: UsageLine) -> tuple[int, int]:
        price = PRICES[tariff]
        used = sum(_reported(units, price.kind) for units in reports)
        before, paid = key.used.get(tariff, 0), key.paid.get(tariff, 0)
        billed = price.billed(before + used) - price.billed(before)
        covered = price.billed(before + key.granted) - price.billed(before)
        stock = sum(amount for _, amount in line.from_buckets)
        assert line.tariff == tariff
        assert line.used == used
        assert line.billed == billed
        assert line.over_use_units == max(0, billed - covered)
        assert line.money_units == billed - stock
        cost = price.cost(paid + line.money_units) - price.cost(paid)
        assert line.debited_micros == cost
        assert line.over_use_micros <= cost
        if line.over_use_units == 0:
            assert line.over_use_micros == 0
        key.tariff, key.granted = tariff, 0
        key.used[tariff], key.paid[tariff] = before + used, paid + line.money_units
        return cost, line.over_use_micros

    def _expect_grants(self, session: SessionModel, request: ChargingRequest, outcome: Outcome) -> None:
        """One answer to each key, a grant only where it was asked for (CC-062, CC-063, CC-074, CC-075, CC-079)."""
        session.plan = self.plans[session.account]
        groups = list(dict.fromkeys(service.key.rating_group for service in request.services))
        assert [one.key.rating_group for one in outcome.services] == groups
        for answer in outcome.services:
            group = answer.key.rating_group
            assert group is not None
            asked = [service for service in request.services if service.key.rating_group == group]
            key = session.keys.setdefault(group, KeyModel())
            wanted = any(one.requested is not None for one in asked)
            if wanted or any(one.reason is not Reason.NONE or one.used for one in asked):
                key.granted = 0
            first = next((one for one in asked if one.requested is not None), asked[0])
            if first.requested is None or first.reason is Reason.FINAL:
                assert answer.granted is None, "no grant without Requested-Service-Unit, none after FINAL"
                continue
            what = PLANS[session.plan].get(group)
            refusals = {None: Result.RATING_FAILED, "free": Result.NOT_APPLICABLE, "bar": Result.SERVICE_DENIED}
            if what in refusals:
                assert answer.result is refusals[what] and answer.granted is None
                continue
            key.tariff, key.granted = what, answer.granted or 0
            assert (answer.result is Result.SUCCESS) == bool(answer.granted), answer
            assert answer.result in (Result.SUCCESS, Result.CREDIT_LIMIT_REACHED)

    def _expect_event(self, request: ChargingRequest, outcome: Outcome, event: Event) -> None:
        debits = [e for e in event.entries if e.verb is Verb.DEBIT]
        money = -sum(e.posted_change for e in debits if e.kind == BucketKind.MONEY)
        units = -sum(e.posted_change for e in debits if e.kind != BucketKind.MONEY)
        if request.action is EventAction.REFUND:
            assert all(e.verb is Verb.REFUND for e in event.entries)
            return
        assert len(event.entries) == len(debits)
        if outcome.result is not Result.SUCCESS:
            assert not event.entries, "a denied event takes nothing"
            return
        (answer,) = outcome.services
        price = PRICES[event.usage[0].tariff]
        billed = price.billed(answer.granted or 0)
        assert money == price.cost(billed - units) == outcome.cost_micros
        if answer.refund_token is not None:
            self.tokens.append(answer.refund_token)

    # Books

    def _fresh(self) -> list[Event]:
        """Events since the last look; all accounts share a partition, so that the outbox is one list."""
        items = self.store._data[PARTITION].outbox
        assert all(not data.outbox for place, data in enumerate(self.store._data) if place != PARTITION)
        events = [decode_event(item.event) for item in items[self._seen :]]
        self._seen = len(items)
        return events

    def _check(self, events: Iterable[Event]) -> None:
        audit(self.store)
        self._forget()
        accounts = self.store.accounts()
        for account in accounts.values():
            for bucket in account.buckets:
                self._definitions[(account.id, bucket.id)] = bucket
        for event in events:
            self._walk(event)

    def _walk(self, event: Event) -> None:
        """Units are spent and held before money (conventions of scenarios.md)."""
        replay = self.replays[event.account]
        groups = {line.unit: line.rating_group for line in event.usage if line.tariff}
        for entry in event.entries:
            spends = entry.verb is Verb.RESERVE or entry.cause is Cause.OVER_USE or entry.cause is Cause.EVENT
            if entry.kind == BucketKind.MONEY and spends and entry.verb is not Verb.REFUND and len(event.usage) == 1:
                for kind, group in groups.items():
                    left = self._stock(event, replay, kind, group)
                    assert left == 0, f"money was spent with {left} units left"
            replay.take(entry)

    def _stock(self, event: Event, replay: Replay, kind: int, group: int | None) -> int:
        now_s = event.at_us // 1_000_000
        return sum(
            replay.free(bucket)
            for (account, _), bucket in self._definitions.items()
            if account == event.account
            and bucket.kind == kind
            and bucket.rating_group in (-1, group)
            and not bucket.expired_at(now_s)
        )


def _request_name(request: ChargingRequest) -> str:
    return f"{request.kind.name.lower()} #{request.number}"


def digest_of(services: Sequence[ServiceRequest]) -> bytes:
    """Four octets that differ with the content."""
    return hash(tuple(services)).to_bytes(9, "big", signed=True)[-4:]


def _priced(plan: str, group: int) -> str | None:
    what = PLANS[plan].get(group)
    return None if what in ("free", "bar") else what


def _reported(units: Units, kind: BucketKind) -> int:
    """The total if it is stated, else both directions (CC-069)."""
    if kind is BucketKind.OCTETS and units.octets is None:
        return (units.input_octets or 0) + (units.output_octets or 0)
    amount: int | None = getattr(units, UNITS[kind])
    return amount or 0
