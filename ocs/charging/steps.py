"""One interrogation of a session, applied to its documents: first all debits, then all grants. Pure.

`SessionStep` is made for one request, used once, and leaves its results in its fields; the engine writes them with one
commit. It implements the server's state table of RFC 8506 §7 (Table 6) and the keys' part of credit-control.md §3 to
§5.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from balance import rules
from balance.account import Account, Subscriber
from balance.ledger import UsageLine
from balance.posting import Posting
from balance.reservation import Reservation
from ocs.charging import quota
from ocs.charging.pricing import Catalogues, TariffPricing, can_debit
from ocs.charging.records import unrated_of, used_of
from ocs.charging.requests import (
    ChargingRequest,
    Outcome,
    QuotaKey,
    Reason,
    Result,
    ServiceOutcome,
    ServiceRequest,
    UnitKind,
)
from ocs.charging.session import KeyState, Session
from ocs.charging.settings import ChargingSettings
from tariffs.model import Action, Catalogue, Plan, Rule, Tariff

SUCCESS = Result.SUCCESS.value

MAX_KEYS = 64
"""Quota keys of one session; a client that opens more gets 5031 for the rest."""

_RULE_RESULTS = {
    Action.FREE: (Result.NOT_APPLICABLE, "the plan makes this key free: no quota control"),
    Action.BAR: (Result.SERVICE_DENIED, "the plan bars this key"),
    Action.DENY: (Result.AUTHORIZATION_REJECTED, "the plan denies this key for good"),
}


class SessionStep:
    """The work of one request on one session."""

    def __init__(
        self,
        account: Account,
        subscriber: Subscriber | None,
        session: Session,
        request: ChargingRequest,
        catalogues: Catalogues,
        settings: ChargingSettings,
        now_us: int,
    ) -> None:
        self.now_s = now_us // 1_000_000
        self.posting = Posting(account, self.now_s)
        self.session = session
        self.request = request
        self._subscriber = subscriber
        self._settings = settings
        self._catalogues = catalogues
        self._services = by_key(request.services)
        self._lines: list[tuple[QuotaKey, UsageLine]] = []

    @property
    def usage(self) -> tuple[UsageLine, ...]:
        """How each key was rated and answered."""
        return tuple([line for _, line in self._lines])

    def served(self) -> bool:
        """Whether account and subscriber may be given service now (CC-018).

        A subscriber that was removed, and is another account's now, is none of this one's; this account's version does not
        tell of its changes either.
        """
        subscriber, account = self._subscriber, self.posting.account
        if subscriber is None or subscriber.status or subscriber.account != account.id:
            return False
        return account.usable(self.now_s)

    def interrogate(self) -> Outcome:
        """INITIAL or UPDATE of an open session: debit, then grant (CC-030, CC-032)."""
        self._debit_all()
        self._move_to_current_catalogue()
        outcomes = tuple(self._grant_all())
        self._set_deadline()
        return self._outcome(Result.SUCCESS, outcomes)

    def end(self, cause: str, result: Result = Result.SUCCESS) -> Outcome:
        """Debit what is reported, release the rest, close (CC-033, CC-034)."""
        self._debit_all()
        self._settle_unreported_events()
        self.close(cause)
        return self._outcome(result, ())

    def close(self, cause: str) -> None:
        """Release every reservation and make the session a tombstone."""
        close_session(self.posting, self.session, cause)

    # Debits

    def _debit_all(self) -> None:
        for service in self._services:
            state = self.session.key(service.key)
            if service.used:
                self._debit(service, state)
            elif state is not None and (service.requested is not None or service.reason is not Reason.NONE):
                # Asking anew, or giving back, without a report voids the old grant all the same.
                self._void(state)

    def _void(self, state: KeyState) -> None:
        rules.release(self.posting, state.reservation)
        state.granted = 0

    def _debit(self, service: ServiceRequest, state: KeyState | None) -> None:
        line = self._line(service.key)
        pricing = self._pinned(state) or self._current(service)
        if pricing is None:
            line.unrated = unrated_of(service, None)
            if state is not None:
                self._void(state)
            return
        state = state or self._new_key(service.key)
        used = used_of(service, pricing.kind)
        total = state.reservation.accumulator(pricing.version, pricing.row).used + used
        if not can_debit(self.posting.account, pricing, total):
            self._void(state)
            line.result, line.why = Result.INVALID_VALUE.value, f"reported use of {used} cannot be priced"
            line.unrated = unrated_of(service, None)
            return
        self._settle(service, state, pricing, used, line)

    def _settle(
        self, service: ServiceRequest, state: KeyState, pricing: TariffPricing, used: int, line: UsageLine
    ) -> None:
        scope, floor = self._scope(service.key), self._settings.overuse_floor_micros
        settled = rules.settle(self.posting, state.reservation, pricing, used, scope, floor)
        state.granted = 0
        self.session.cost_micros += settled.debited_micros
        self._pin(state, pricing, line)
        line.unrated += unrated_of(service, pricing.kind)
        line.money_units_total = state.reservation.accumulator(pricing.version, pricing.row).paid
        line.used, line.billed, line.from_buckets = used, settled.billed, settled.from_buckets
        line.money_units, line.debited_micros = settled.money_units, settled.debited_micros
        line.over_use_units, line.over_use_micros = settled.over_use_units, settled.over_use_micros

    def _pin(self, state: KeyState, pricing: TariffPricing, line: UsageLine) -> None:
        state.version, state.row, state.unit = pricing.version, pricing.row, pricing.unit
        if line.tariff:
            # The line explains the debit; a grant at another tariff is explained by the debit that it leads to.
            return
        line.catalogue_version, line.tariff, line.unit = pricing.version, pricing.tariff.name, pricing.unit

    def _settle_unreported_events(self) -> None:
        """An event session that ends without any report: not delivered, unless the setting says otherwise (CC-151)."""
        if self._settings.ecur_no_usu != "debit" or any(service.used for service in self.request.services):
            return
        for state in self.session.keys:
            if state.unit == UnitKind.EVENTS and state.granted:
                pricing = self._catalogues.pricing(state.version, state.row)
                report = ServiceRequest(state.key)
                self._settle(report, state, pricing, state.granted, self._line(state.key))

    # Grants

    def _move_to_current_catalogue(self) -> None:
        """Take over a change of the subscriber's plan, and a new catalogue after a day at most (LEDGER §11).

        What was granted keeps the price pinned with it; only grants from now on are priced anew.
        """
        current = self._catalogues.current
        session = self.session
        age_s = session.age_s(self.now_s)
        plan = session.plan if self._subscriber is None else self._subscriber.plan
        if plan != session.plan and plan in current.plans:
            session.plan, session.version, session.version_after_s = plan, current.version, age_s
            return
        if session.version == current.version or age_s - session.version_after_s < self._settings.plan_pin_s:
            return
        if session.plan in current.plans:
            session.version = current.version
            session.version_after_s = age_s

    def _grant_all(self) -> list[ServiceOutcome]:
        """Answer each key once, in the order of the request (CC-062, CC-074)."""
        return [self._grant(service) for service in self._services]

    def _grant(self, service: ServiceRequest) -> ServiceOutcome:
        line = self._line(service.key)
        state = self.session.key(service.key)
        if line.result != SUCCESS:
            return ServiceOutcome(service.key, Result(line.result), detail="used_units", in_group=service.in_group)
        if not self._wants_quota(service, state):
            return self._answer_without_quota(service, state)
        rule = self._rule(service.key)
        if rule is None or rule.tariff is None:
            return self._refuse(service, line, rule)
        if state is None and len(self.session.keys) >= MAX_KEYS:
            return self._refuse(service, line, None)
        pricing = self._catalogues.pricing(self.session.version, rule.tariff.index)
        want = quota.wanted_units(service, pricing, self.request.messages)
        if isinstance(want, quota.Refusal):
            line.result, line.why = want.result.value, want.why
            return ServiceOutcome(service.key, want.result, detail=want.detail, in_group=service.in_group)
        return self._reserve(service, state or self._new_key(service.key), pricing, want, line)

    def _wants_quota(self, service: ServiceRequest, state: KeyState | None) -> bool:
        """FINAL never gets a grant; a restricted client that reports nothing must be tried for one (CC-063, CC-111)."""
        if service.reason is Reason.FINAL:
            return False
        if service.requested is not None:
            return True
        return state is not None and state.restricted and not service.used

    def _answer_without_quota(self, service: ServiceRequest, state: KeyState | None) -> ServiceOutcome:
        """Debit only. A client that starts its final action learns how long that lasts (CC-110)."""
        validity_s = None
        if service.reason is Reason.FINAL and state is not None:
            state.final = -1
        elif state is not None and state.restricted and service.used:
            validity_s = self._catalogue().final_unit_policy(self._tariff_of(state)).validity_s
            state.validity_s = validity_s
        return ServiceOutcome(service.key, validity_s=validity_s, in_group=service.in_group)

    def _refuse(self, service: ServiceRequest, line: UsageLine, rule: Rule | None) -> ServiceOutcome:
        result, why = Result.RATING_FAILED, f"plan {self.session.plan} has no rule for this key"
        if rule is not None:
            result, why = _RULE_RESULTS[rule.action]
        elif len(self.session.keys) >= MAX_KEYS:
            why = f"the session already has {MAX_KEYS} quota keys"
        line.result, line.why = result.value, why
        detail = "rating_group" if result is Result.RATING_FAILED else None
        return ServiceOutcome(service.key, result, detail=detail, in_group=service.in_group)

    def _reserve(
        self, service: ServiceRequest, state: KeyState, pricing: TariffPricing, want: int, line: UsageLine
    ) -> ServiceOutcome:
        policy = self._catalogue().final_unit_policy(pricing.tariff)
        decision = quota.decide(self.posting, self.session, state, pricing, policy, want, self._settings)
        self._pin(state, pricing, line)
        state.granted = decision.granted or 0
        state.validity_s = decision.validity_s or 0
        state.final = -1 if decision.final is None else int(decision.final.action)
        state.was_granted = state.was_granted or decision.result is Result.SUCCESS
        line.result, line.why = decision.result.value, decision.why
        line.granted, line.reserved_micros = state.granted, decision.reserved_micros
        line.final = decision.final is not None
        return ServiceOutcome(
            service.key,
            decision.result,
            pricing.kind if decision.granted else None,
            decision.granted,
            decision.validity_s,
            decision.threshold,
            decision.final,
            service.in_group,
        )

    # What the documents and the catalogue say

    def _scope(self, key: QuotaKey) -> rules.Scope:
        return rules.Scope(self.session.service_context, key.rating_group)

    def _line(self, key: QuotaKey) -> UsageLine:
        for known, line in self._lines:
            if known == key:
                return line
        line = UsageLine(key.rating_group, key.service_identifiers, SUCCESS)
        self._lines.append((key, line))
        return line

    def _new_key(self, key: QuotaKey) -> KeyState:
        state = KeyState(key=key, reservation=Reservation())
        self.session.keys.append(state)
        return state

    def _catalogue(self) -> Catalogue:
        return self._catalogues.version(self.session.version)

    def _rule(self, key: QuotaKey) -> Rule | None:
        plan: Plan = self._catalogue().plans[self.session.plan]
        return plan.match(self.session.service_context, key.rating_group, key.service_identifiers)

    def _pinned(self, state: KeyState | None) -> TariffPricing | None:
        if state is None or state.row < 0:
            return None
        return self._catalogues.pricing(state.version, state.row)

    def _current(self, service: ServiceRequest) -> TariffPricing | None:
        rule = self._rule(service.key)
        if rule is None or rule.tariff is None or len(self.session.keys) >= MAX_KEYS:
            return None
        return self._catalogues.pricing(self.session.version, rule.tariff.index)

    def _tariff_of(self, state: KeyState) -> Tariff:
        return self._catalogues.version(state.version).tariff(state.row)

    # The session as a whole

    def _set_deadline(self) -> None:
        """Tcc: twice the longest validity that is running, else the default (CC-036)."""
        longest = 0
        for state in self.session.keys:
            if state.validity_s > longest and (state.granted or state.final >= 0):
                longest = state.validity_s
        tcc_s = min(2 * longest if longest else self._settings.default_tcc_s, self._settings.max_tcc_s)
        self.session.deadline_s = self.now_s + tcc_s

    def _outcome(self, result: Result, services: tuple[ServiceOutcome, ...]) -> Outcome:
        account = self.posting.account
        return Outcome(
            result,
            services,
            cost_micros=self.session.cost_micros,
            balance_micros=account.posted_micros,
            currency=account.currency,
            exponent=account.exponent,
        )


def by_key(services: Sequence[ServiceRequest]) -> list[ServiceRequest]:
    """Each key once, in order of appearance, with all that is reported for it (CC-074).

    Two reports of a key are one: settling them one after the other would release the grant between them, and the second
    would count as over-use. What is asked for is taken from the first that asks.
    """
    if len(services) == 1:
        return list(services)
    joined: dict[QuotaKey, ServiceRequest] = {}
    for service in services:
        known = joined.get(service.key)
        if known is None:
            joined[service.key] = service
            continue
        first = service if known.requested is None and service.requested is not None else known
        joined[service.key] = msgspec.structs.replace(first, used=known.used + service.used)
    return list(joined.values())


def close_session(posting: Posting, session: Session, cause: str) -> None:
    """Release every reservation of a session and make it a tombstone, which holds outcomes only (LEDGER §4)."""
    for state in session.keys:
        rules.release(posting, state.reservation)
    session.keys = []
    session.closed = cause
    session.closed_s = posting.now_s
    session.deadline_s = 0
    posting.account.open_sessions = max(0, posting.account.open_sessions - 1)
