"""One-time events: direct debit, refund, balance check, price enquiry (credit-control.md §8). Pure.

A direct debit and a refund leave a tombstone under their Session-Id, so that a repeat finds its outcome; a check and an
enquiry change nothing and leave nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

import msgspec

from balance import rules
from balance.account import MAIN_BUCKET, Account, BucketKind, Subscriber
from balance.documents import operation_key, session_key
from balance.ledger import Cause, UsageLine, Verb
from balance.posting import Posting
from ocs.charging import records
from ocs.charging.expiry import arm_expiry
from ocs.charging.pricing import TariffPricing
from ocs.charging.requests import (
    ChargingRequest,
    EventAction,
    Identity,
    Outcome,
    QuotaKey,
    RequestKind,
    Result,
    ServiceOutcome,
    ServiceRequest,
    UnitKind,
    Units,
)
from ocs.charging.session import Session, realm_field
from ocs.charging.session_jobs import (
    ANOTHERS,
    Answer,
    Charger,
    Target,
    is_anothers,
    lists,
    rating_time,
    repeat_of,
)
from ocs.charging.workspace import Workspace
from tariffs.model import Action, Rule

CAUSE_EVENT = "event"
TOKEN_SIGNATURE_OCTETS = 16


class RefundToken(msgspec.Struct, array_like=True, frozen=True):
    """What Refund-Information says once its signature is checked (LEDGER §7.6)."""

    account: str
    entry: str
    """Key of the debit: its Session-Id, request number and service."""
    split: tuple[tuple[int, int, int], ...]
    """(bucket, kind, amount) that the debit took."""
    until_s: int
    """UTC seconds until which it may be refunded."""


def seal_token(token: RefundToken, secret: bytes) -> bytes:
    """Signed octets of a token."""
    body = msgspec.msgpack.encode(token)
    return hashlib.blake2b(body, key=secret, digest_size=TOKEN_SIGNATURE_OCTETS).digest() + body


def open_token(data: bytes, secret: bytes) -> RefundToken | None:
    """The token, `None` if it was not signed with our secret or is damaged."""
    signature, body = data[:TOKEN_SIGNATURE_OCTETS], data[TOKEN_SIGNATURE_OCTETS:]
    expected = hashlib.blake2b(body, key=secret, digest_size=TOKEN_SIGNATURE_OCTETS).digest()
    if not hmac.compare_digest(signature, expected):
        return None
    try:
        return msgspec.msgpack.decode(body, type=RefundToken)
    except msgspec.MsgspecError:
        return None


class _Priced(NamedTuple):
    """One service of an event with what it would take."""

    service: ServiceRequest
    pricing: TariffPricing | None
    """`None`: free."""
    units: int


class _Refused(NamedTuple):
    result: Result
    service: ServiceRequest | None
    why: str
    detail: str | None = None


class EventJob:
    """One EVENT on the documents of its account."""

    def __init__(
        self,
        charger: Charger,
        target: Target,
        request: ChargingRequest,
        identities: tuple[Identity, ...],
        secret: bytes,
    ) -> None:
        self.charger = charger
        self.target = target
        self.request = request
        self.identities = identities
        self.secret = secret
        self.session_key = session_key(target.partition, request.session_id)
        self.token = None if request.refund_token is None else open_token(request.refund_token, secret)

    def keys(self) -> tuple[bytes, ...]:
        """Documents beside the account."""
        keys = [self.target.subscriber_key, self.session_key]
        if self.token is not None:
            keys.append(self._refund_key(self.token))
        return tuple(keys)

    def _refund_key(self, token: RefundToken) -> bytes:
        return operation_key(self.target.partition, "refund:" + token.entry)

    def apply(self, workspace: Workspace, now_us: int) -> Answer:
        """Answer a repeat, or do what is asked."""
        session = workspace.get(self.session_key, Session)
        if session is not None and is_anothers(session, self.target):
            return Answer(ANOTHERS)
        repeat = repeat_of(session, self.request)
        if repeat is not None:
            return repeat
        if session is not None and not session.closed:
            return Answer(Outcome(Result.UNABLE_TO_COMPLY, detail="session_open"))
        account, subscriber = workspace.account(), workspace.get(self.target.subscriber_key, Subscriber)
        if account is None or subscriber is None or not lists(subscriber, self.identities):
            return Answer(Outcome(Result.USER_UNKNOWN))
        now_s = now_us // 1_000_000
        action = self.request.action
        if action is not EventAction.PRICE_ENQUIRY and (not account.usable(now_s) or subscriber.status):
            return Answer(Outcome(Result.SERVICE_DENIED))
        if action is EventAction.REFUND:
            return self._refund(workspace, account, session, now_us)
        priced = self._price(subscriber)
        if isinstance(priced, _Refused):
            return Answer(self._refusal(priced))
        if action is EventAction.CHECK_BALANCE:
            return Answer(self._check(account, priced, now_s))
        if action is EventAction.PRICE_ENQUIRY:
            return Answer(self._enquire(account, priced))
        return self._debit(workspace, account, session, priced, now_us)

    # Pricing

    def _price(self, subscriber: Subscriber) -> list[_Priced] | _Refused:
        """Every service with its tariff and its units; a free event ends the whole request with 4011 (CC-143)."""
        catalogue = self.charger.catalogues.current
        plan = catalogue.plans.get(subscriber.plan)
        priced: list[_Priced] = []
        for service in self.request.services or (ServiceRequest(key=QuotaKey(), requested=Units(), in_group=False),):
            key = service.key
            context = self.request.service_context
            rule = None if plan is None else plan.match(context, key.rating_group, key.service_identifiers)
            one = self._price_one(service, rule, catalogue.version)
            if isinstance(one, _Refused):
                return one
            priced.append(one)
        if all(one.pricing is None for one in priced):
            return _Refused(Result.NOT_APPLICABLE, None, "the plan makes this event free")
        return priced

    def _price_one(self, service: ServiceRequest, rule: Rule | None, version: int) -> _Priced | _Refused:
        if rule is None:
            return _Refused(Result.RATING_FAILED, service, "the plan has no rule for this event", "rating_group")
        if rule.action is Action.BAR:
            return _Refused(Result.SERVICE_DENIED, service, "the plan bars this event")
        if rule.action is Action.DENY:
            return _Refused(Result.AUTHORIZATION_REJECTED, service, "the plan denies this event for good")
        if rule.tariff is None:
            return _Priced(service, None, 0)
        pricing = self.charger.catalogues.pricing(version, rule.tariff.index)
        unit = pricing.kind
        asked = service.requested or Units()
        if asked.money_micros is not None:
            return _Refused(Result.INVALID_VALUE, service, "money was requested", "requested_money")
        if asked.kinds() and unit not in asked.kinds():
            return _Refused(Result.RATING_FAILED, service, f"tariff counts {unit.name.lower()}", "requested_unit")
        units = asked.of(unit) or 0
        if unit is UnitKind.EVENTS:
            units = units or self.request.messages or 1
        units = units or rule.tariff.default_quota
        if not pricing.accepts(units):
            return _Refused(Result.INVALID_VALUE, service, f"{units} units cannot be priced", "requested_unit")
        return _Priced(service, pricing, units)

    def _refusal(self, refused: _Refused) -> Outcome:
        if refused.service is None:
            return Outcome(refused.result, detail=refused.detail)
        service = ServiceOutcome(
            refused.service.key, refused.result, detail=refused.detail, in_group=refused.service.in_group
        )
        return Outcome(refused.result, (service,), detail=refused.detail)

    # The four actions

    def _check(self, account: Account, priced: list[_Priced], now_s: int) -> Outcome:
        """Whether A and the unit buckets cover all of it; nothing is kept (CC-147)."""
        posting = Posting(account, now_s)
        enough = all(self._take(posting, one) is not None for one in priced)
        services = tuple(ServiceOutcome(one.service.key, in_group=one.service.in_group) for one in priced)
        return Outcome(Result.SUCCESS, services, enough_credit=enough)

    def _enquire(self, account: Account, priced: list[_Priced]) -> Outcome:
        """The price in money, whatever the balance (CC-148, S16)."""
        cost = sum(one.pricing.cost_micros(one.pricing.billed(one.units)) for one in priced if one.pricing)
        services = tuple(ServiceOutcome(one.service.key, in_group=one.service.in_group) for one in priced)
        return Outcome(Result.SUCCESS, services, cost_micros=cost, currency=account.currency, exponent=account.exponent)

    def _take(self, posting: Posting, one: _Priced) -> rules.EventDebit | None:
        scope = rules.Scope(self.request.service_context, one.service.key.rating_group)
        if one.pricing is None:
            return rules.EventDebit(0, (), 0, 0, ())
        return rules.debit_event(posting, one.pricing, one.units, scope)

    def _debit(
        self, workspace: Workspace, account: Account, session: Session | None, priced: list[_Priced], now_us: int
    ) -> Answer:
        """All of it or nothing (CC-140…CC-142, S13). A denial is kept too, so that its repeat agrees."""
        posting = Posting(account, now_us // 1_000_000)
        services: list[ServiceOutcome] = []
        lines: list[UsageLine] = []
        for place, one in enumerate(priced):
            debit = self._take(posting, one)
            if debit is None:
                return self._denied(workspace, account, session, one, now_us)
            services.append(self._debited(one, debit, place, now_us))
            lines.append(_line(one, debit))
        outcome = Outcome(
            Result.SUCCESS,
            tuple(services),
            cost_micros=sum(line.debited_micros for line in lines),
            balance_micros=posting.account.posted_micros,
            currency=account.currency,
            exponent=account.exponent,
        )
        workspace.put_account(posting.account)
        self._keep(workspace, session, outcome, posting, tuple(lines), now_us)
        return Answer(outcome)

    def _debited(self, one: _Priced, debit: rules.EventDebit, place: int, now_us: int) -> ServiceOutcome:
        key, in_group = one.service.key, one.service.in_group
        if one.pricing is None:
            return ServiceOutcome(key, Result.NOT_APPLICABLE, in_group=in_group)
        token = RefundToken(
            self.target.account,
            f"{self.request.session_id}#{self.request.number}/{place}",
            _split(one.pricing, debit),
            now_us // 1_000_000 + self.charger.settings.refund_window_s,
        )
        return ServiceOutcome(
            key,
            unit=UnitKind(one.pricing.unit),
            granted=one.units,
            in_group=in_group,
            refund_token=seal_token(token, self.secret) if debit.split else None,
        )

    def _denied(
        self, workspace: Workspace, account: Account, session: Session | None, one: _Priced, now_us: int
    ) -> Answer:
        outcome = self._refusal(_Refused(Result.CREDIT_LIMIT_REACHED, one.service, "not covered"))
        line = UsageLine(one.service.key.rating_group, one.service.key.service_identifiers, outcome.result.value)
        scope = rules.Scope(self.request.service_context, one.service.key.rating_group)
        free = rules.free_money(account, scope, now_us // 1_000_000)
        if one.pricing is not None:
            cost = one.pricing.cost_micros(one.pricing.billed(one.units))
            line.why = f"{one.units} units cost {cost} micro-units, {free} are free (limit included)"
            line.catalogue_version, line.tariff = one.pricing.version, one.pricing.tariff.name
            line.unit = one.pricing.unit
        self._keep(workspace, session, outcome, Posting(account, now_us // 1_000_000), (line,), now_us)
        return Answer(outcome)

    def _refund(self, workspace: Workspace, account: Account, session: Session | None, now_us: int) -> Answer:
        """Give back what a debit took, to the buckets it came from, once (CC-144…CC-146, S15)."""
        token, now_s = self.token, now_us // 1_000_000
        invalid = Outcome(Result.INVALID_VALUE, detail="refund_information")
        if token is None or token.account != account.id or now_s > token.until_s:
            return Answer(invalid)
        key = self._refund_key(token)
        if workspace.present(key):
            return Answer(invalid)
        posting = Posting(account, now_s)
        for bucket_id, kind, amount in token.split:
            bucket = posting.account.bucket(bucket_id)
            if bucket is None and kind == BucketKind.MONEY:
                bucket = posting.bucket(MAIN_BUCKET)
            if bucket is None:
                # Units have no bucket to go back to, and there is no rate to turn them into money.
                return Answer(Outcome(Result.UNABLE_TO_COMPLY, detail="bucket_gone"))
            posting.credit(bucket, amount, Verb.REFUND, Cause.EVENT)
        micros = sum(amount for _, kind, amount in token.split if kind == BucketKind.MONEY)
        outcome = Outcome(
            Result.SUCCESS,
            tuple(ServiceOutcome(one.key, in_group=one.in_group) for one in self.request.services),
            cost_micros=-micros,
            balance_micros=posting.account.posted_micros,
            currency=account.currency,
            exponent=account.exponent,
        )
        name = "refund:" + token.entry
        workspace.put_record(key, name, now_us, self.charger.settings.refund_window_s)
        workspace.put_account(posting.account)
        # The bucket may have been empty, and so without a due time, or may have ended meanwhile.
        arm_expiry(workspace, posting.account, now_s)
        self._keep(workspace, session, outcome, posting, (), now_us, key=name)
        return Answer(outcome)

    # What is kept

    def _keep(
        self,
        workspace: Workspace,
        session: Session | None,
        outcome: Outcome,
        posting: Posting,
        usage: tuple[UsageLine, ...],
        now_us: int,
        key: str = "",
    ) -> None:
        """Tombstone and event, in the commit of the debit (CC-041)."""
        request, remark = rating_time(self.request, self.charger.settings, now_us)
        tombstone = session or self._tombstone(posting.account, now_us)
        tombstone.note(RequestKind.EVENT, request.number)
        tombstone.keep(RequestKind.EVENT, request.number, request.digest, now_us, outcome)
        workspace.put(self.session_key, tombstone, self.charger.settings.event_kept_s)
        workspace.event(
            records.session_event(
                request,
                account=self.target.account,
                subscriber=self.target.subscriber,
                kind="event",
                at_us=now_us,
                entries=tuple(posting.entries),
                usage=usage,
                result=outcome.result.value,
                reason=remark,
                key=key,
            )
        )

    def _tombstone(self, account: Account, now_us: int) -> Session:
        request, now_s = self.request, now_us // 1_000_000
        return Session(
            id=request.session_id,
            account=self.target.account,
            subscriber=self.target.subscriber,
            origin_host=request.origin_host,
            realm=realm_field(request.origin_host, request.origin_realm),
            service_context=request.service_context,
            plan="",
            version=self.charger.catalogues.current.version,
            opened_s=now_s,
            closed=CAUSE_EVENT,
            closed_s=now_s,
            currency=account.currency,
            exponent=account.exponent,
        )


def _split(pricing: TariffPricing, debit: rules.EventDebit) -> tuple[tuple[int, int, int], ...]:
    """The debit with the kind of each bucket: units were taken first, then money."""
    units = len(debit.from_buckets)
    kinds = [pricing.unit if place < units else int(BucketKind.MONEY) for place in range(len(debit.split))]
    return tuple((bucket, kind, amount) for (bucket, amount), kind in zip(debit.split, kinds, strict=True))


def _line(one: _Priced, debit: rules.EventDebit) -> UsageLine:
    key = one.service.key
    line = UsageLine(key.rating_group, key.service_identifiers, Result.SUCCESS.value)
    if one.pricing is None:
        line.result, line.why = Result.NOT_APPLICABLE.value, "the plan makes this service free"
        return line
    line.catalogue_version, line.tariff, line.unit = one.pricing.version, one.pricing.tariff.name, one.pricing.unit
    line.used, line.billed, line.from_buckets = one.units, debit.billed, debit.from_buckets
    line.money_units = line.money_units_total = debit.money_units
    line.debited_micros = debit.debited_micros
    return line
