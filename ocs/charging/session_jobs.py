"""What the engine does to the documents of one account for a session: pure functions over a `Workspace`.

Each is run by the conductor, possibly more than once; the result is given out only after the commit.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from balance.account import Account, Subscriber, SubscriberIdentity
from balance.documents import session_key, subscriber_key
from balance.ledger import Event, UsageLine
from balance.posting import Posting
from balance.reservation import Reservation
from balance.rules import Scope, settle
from ocs.charging import records
from ocs.charging.kept import KeptOutcomes
from ocs.charging.pricing import Catalogues, can_debit
from ocs.charging.requests import ChargingRequest, Identity, Outcome, RequestKind, Result, ServiceRequest
from ocs.charging.session import Session, realm_field
from ocs.charging.settings import ChargingSettings
from ocs.charging.steps import SessionStep, close_session
from ocs.charging.workspace import Workspace

SESSIONS_INDEX = b"sessions"
CAUSE_SUPERVISION = "supervision_timeout"
CAUSE_TERMINATION = "termination"
CAUSE_DENIED = "service_denied"
CAUSE_REOPENED = "reopened_by_initial"


class Answer(NamedTuple):
    """What one request gets, with what the engine must know beside it."""

    outcome: Outcome
    repeated: bool = False
    """Answered from the stored outcome; nothing changed."""
    altered: bool = False
    """The repeat had another content than the original (CC-043)."""
    forgotten: bool = False
    """A repeat whose outcome is no longer kept (CC-042)."""
    refresh_locator: bool = False
    """The locator is past half of its life."""
    absent: bool = False
    """There is no session, not even a tombstone, where the locator leads."""


class Target(NamedTuple):
    """Where a request's documents are."""

    partition: int
    account: str
    subscriber: str

    @property
    def subscriber_key(self) -> bytes:
        """Key of the subscriber's document."""
        return subscriber_key(self.partition, self.subscriber)


class Charger(NamedTuple):
    """What every job needs of its surroundings."""

    catalogues: Catalogues
    settings: ChargingSettings


def account_sessions_index(account: str) -> bytes:
    """Index of an account's open sessions."""
    return b"account-sessions:" + account.encode()


def peer_sessions_index(origin_host: str) -> bytes:
    """Index of a peer's open sessions."""
    return b"peer-sessions:" + origin_host.encode()


def lists(subscriber: Subscriber | None, identities: tuple[Identity, ...]) -> bool:
    """Whether any identity that led to the subscriber still belongs to it (LEDGER §5)."""
    if subscriber is None:
        return False
    return not identities or any(SubscriberIdentity(one.kind, one.value) in subscriber.identities for one in identities)


def rating_time(request: ChargingRequest, settings: ChargingSettings, now_us: int) -> tuple[ChargingRequest, str]:
    """The request with the time it is rated at, and a remark when the client's time was not believed (CC-020)."""
    stated = request.event_time_us
    if stated is None or abs(stated - now_us) <= settings.max_skew_s * 1_000_000:
        return request, ""
    remark = f"event time is {abs(stated - now_us) // 1_000_000} s off; rated at the time of receipt"
    return msgspec.structs.replace(request, event_time_us=None), remark


def repeat_of(session: Session | None, request: ChargingRequest) -> Answer | None:
    """The answer to a repeat, `None` if the request is new (CC-040, CC-042, CC-043)."""
    if session is None or not session.was_seen(request.kind, request.number):
        return None
    kept = session.kept(request.kind, request.number)
    if kept is None:
        return Answer(Outcome(Result.UNABLE_TO_COMPLY, detail="repeat_too_old"), repeated=True, forgotten=True)
    outcome, digest = kept
    return Answer(outcome, repeated=True, altered=digest != request.digest)


ANOTHERS = Outcome(Result.UNABLE_TO_COMPLY, detail="session_of_another_account")


def is_anothers(session: Session, target: Target) -> bool:
    """Whether a document of the session's name belongs to another account or subscriber.

    Its locator has ended under it, or a name was given out again after the locator's end, and whoever asks does not know.
    What it holds must never be settled with this account's money.
    """
    return session.account != target.account or session.subscriber != target.subscriber


class SessionJob:
    """One INITIAL, UPDATE or TERMINATION on the documents of its account."""

    __slots__ = ("_keys", "charger", "identities", "request", "session_key", "target")

    def __init__(
        self,
        charger: Charger,
        target: Target,
        request: ChargingRequest,
        identities: tuple[Identity, ...] = (),
        keys: tuple[bytes, bytes] | None = None,
    ) -> None:
        """`identities` are those that led to the subscriber; only INITIAL has any. `keys`: `keys()` if known already."""
        self.charger = charger
        self.target = target
        self.request = request
        self.identities = identities
        self._keys = keys or (target.subscriber_key, session_key(target.partition, request.session_id))
        self.session_key = self._keys[1]

    def keys(self) -> tuple[bytes, bytes]:
        """Documents beside the account: those of the subscriber and of the session."""
        return self._keys

    def apply(self, workspace: Workspace, now_us: int) -> Answer:
        """Answer a repeat, or process the request."""
        session = workspace.get(self.session_key, Session)
        if session is not None and is_anothers(session, self.target):
            if self.request.kind is RequestKind.INITIAL:
                return Answer(ANOTHERS)
            # What this process remembers has ended since, and its name leads elsewhere now.
            return Answer(Outcome(Result.UNKNOWN_SESSION), absent=True)
        repeat = repeat_of(session, self.request)
        if repeat is not None:
            return repeat
        request, remark = rating_time(self.request, self.charger.settings, now_us)
        if session is not None and not session.closed and now_us >= session.deadline_s * 1_000_000:
            self._supervise(workspace, session, now_us)
        if request.kind is RequestKind.INITIAL:
            return self._initial(workspace, session, request, now_us, remark)
        if session is None:
            return Answer(Outcome(Result.UNKNOWN_SESSION), absent=True)
        if session.closed:
            return self._after_the_end(workspace, session, request, now_us)
        return self._running(workspace, session, request, now_us, remark)

    def _supervise(self, workspace: Workspace, session: Session, now_us: int) -> None:
        """Tcc ended and the sweeper has not come yet: it ends now, before the request is looked at (CC-035)."""
        account = workspace.account()
        if account is not None:
            end_by_supervision(workspace, account, session, self.session_key, now_us, self.charger.settings)

    def _initial(
        self, workspace: Workspace, session: Session | None, request: ChargingRequest, now_us: int, remark: str
    ) -> Answer:
        account, subscriber = workspace.account(), workspace.get(self.target.subscriber_key, Subscriber)
        if account is None or subscriber is None or not lists(subscriber, self.identities):
            return Answer(Outcome(Result.USER_UNKNOWN))
        plan = self.charger.catalogues.current.plans.get(subscriber.plan)
        if plan is None:
            return Answer(Outcome(Result.RATING_FAILED, detail="plan"))
        if not plan.has_priced_rule:
            return Answer(Outcome(Result.NOT_APPLICABLE))
        if session is not None and not session.closed:
            if not self.charger.settings.reopen_on_initial:
                return Answer(Outcome(Result.UNABLE_TO_COMPLY, detail="session_open"))
            self._close_old(workspace, account, session, request, now_us)
            account = workspace.account() or account
        fresh = self._open(session, account, subscriber, request, now_us)
        step = self._step(account, subscriber, fresh, request, now_us)
        if not step.served():
            return Answer(Outcome(Result.SERVICE_DENIED))
        step.posting.account.open_sessions += 1
        outcome = step.interrogate()
        self._write(workspace, step, request, outcome, now_us, remark)
        index_session(workspace, fresh, True)
        return Answer(outcome)

    def _open(
        self,
        tombstone: Session | None,
        account: Account,
        subscriber: Subscriber,
        request: ChargingRequest,
        now_us: int,
    ) -> Session:
        now_s = now_us // 1_000_000
        return Session(
            id=request.session_id,
            account=account.id,
            subscriber=subscriber.id,
            origin_host=request.origin_host,
            realm=realm_field(request.origin_host, request.origin_realm),
            service_context=request.service_context,
            plan=subscriber.plan,
            version=self.charger.catalogues.current.version,
            opened_s=now_s,
            seen=[] if tombstone is None else tombstone.seen,
            outcomes=KeptOutcomes() if tombstone is None else tombstone.outcomes.later(now_s - tombstone.opened_s),
            currency=account.currency,
            exponent=account.exponent,
        )

    def _close_old(
        self, workspace: Workspace, account: Account, session: Session, request: ChargingRequest, now_us: int
    ) -> None:
        posting = Posting(account, now_us // 1_000_000)
        index_session(workspace, session, False)
        close_session(posting, session, CAUSE_REOPENED)
        # Written although a session that is opened anew replaces it: the new one may be refused.
        workspace.put(self.session_key, session, self.charger.settings.tombstone_s)
        workspace.due(self.session_key, None)
        workspace.put_account(posting.account)
        workspace.event(
            records.session_event(
                request,
                account=account.id,
                subscriber=session.subscriber,
                kind="session",
                at_us=now_us,
                entries=tuple(posting.entries),
                close_cause=CAUSE_REOPENED,
            )
        )

    def _running(
        self, workspace: Workspace, session: Session, request: ChargingRequest, now_us: int, remark: str
    ) -> Answer:
        account = workspace.account()
        if account is None:
            return Answer(Outcome(Result.UNABLE_TO_COMPLY, detail="account"))
        subscriber = workspace.get(self.target.subscriber_key, Subscriber)
        step = self._step(account, subscriber, session, request, now_us)
        if request.kind is RequestKind.TERMINATION:
            outcome = step.end(CAUSE_TERMINATION)
        elif not step.served():
            outcome = step.end(CAUSE_DENIED, Result.SERVICE_DENIED)
        else:
            outcome = step.interrogate()
        age_s = session.age_s(step.now_s)
        refresh = age_s - session.located_after_s > self.charger.settings.locator_s // 2
        if refresh:
            session.located_after_s = age_s
        self._write(workspace, step, request, outcome, now_us, remark)
        return Answer(outcome, refresh_locator=refresh)

    def _after_the_end(self, workspace: Workspace, session: Session, request: ChargingRequest, now_us: int) -> Answer:
        """5002; usage that comes too late is recorded once (CC-048, CC-049, S24)."""
        outcome = Outcome(Result.UNKNOWN_SESSION)
        account = workspace.account()
        if not any(service.used for service in request.services) or account is None:
            return Answer(outcome)
        record_orphan(workspace, account, None, request, self.charger, now_us)
        self._remember(workspace, session, request, outcome, now_us)
        return Answer(outcome)

    def _step(
        self,
        account: Account,
        subscriber: Subscriber | None,
        session: Session,
        request: ChargingRequest,
        now_us: int,
    ) -> SessionStep:
        return SessionStep(
            account, subscriber, session, request, self.charger.catalogues, self.charger.settings, now_us
        )

    def _write(
        self,
        workspace: Workspace,
        step: SessionStep,
        request: ChargingRequest,
        outcome: Outcome,
        now_us: int,
        remark: str,
    ) -> None:
        session = step.session
        workspace.put_account(step.posting.account)
        workspace.event(
            records.session_event(
                request,
                account=session.account,
                subscriber=session.subscriber,
                kind="session",
                at_us=now_us,
                entries=tuple(step.posting.entries),
                usage=step.usage,
                result=outcome.result.value,
                close_cause=session.closed,
                reason=remark,
            )
        )
        if session.closed:
            index_session(workspace, session, False)
            workspace.due(self.session_key, None)
        elif not session.armed_after_s or session.deadline_s < session.opened_s + session.armed_after_s:
            # A later deadline leaves the due item alone: the sweeper reads the document and arms it anew (LEDGER §8).
            session.armed_after_s = session.age_s(session.deadline_s)
            workspace.due(self.session_key, session.deadline_s * 1_000_000)
        self._remember(workspace, session, request, outcome, now_us)

    def _remember(
        self, workspace: Workspace, session: Session, request: ChargingRequest, outcome: Outcome, now_us: int
    ) -> None:
        session.note(request.kind, request.number)
        session.keep(request.kind, request.number, request.digest, now_us, outcome)
        workspace.put(self.session_key, session, self.charger.settings.tombstone_s if session.closed else 0)


def index_session(workspace: Workspace, session: Session, present: bool) -> None:
    """Enter a session into, or take it out of, the indexes of open sessions (LEDGER §2)."""
    member = session.id.encode()
    workspace.index(SESSIONS_INDEX, member, present)
    workspace.index(account_sessions_index(session.account), member, present)
    workspace.index(peer_sessions_index(session.origin_host), member, present)


def end_by_supervision(
    workspace: Workspace,
    account: Account,
    session: Session,
    key: bytes,
    now_us: int,
    settings: ChargingSettings,
) -> None:
    """Tcc ended: release, close, charge nothing that was not reported (CC-035, F34)."""
    index_session(workspace, session, False)
    posting = Posting(account, now_us // 1_000_000)
    close_session(posting, session, CAUSE_SUPERVISION)
    workspace.put_account(posting.account)
    workspace.put(key, session, settings.tombstone_s)
    workspace.due(key, None)
    workspace.event(
        Event(
            account=account.id,
            at_us=now_us,
            kind="sweep",
            entries=tuple(posting.entries),
            session_id=session.id,
            subscriber=session.subscriber,
            peer=session.origin_host,
            service_context=session.service_context,
            close_cause=CAUSE_SUPERVISION,
        )
    )


def record_orphan(
    workspace: Workspace,
    account: Account,
    subscriber: Subscriber | None,
    request: ChargingRequest,
    charger: Charger,
    now_us: int,
) -> None:
    """Record usage of a session that is not open; debit it only if the setting says so (CC-038, CC-049)."""
    usage = records.orphan_usage(request, Result.UNKNOWN_SESSION.value)
    posting = Posting(account, now_us // 1_000_000)
    if charger.settings.debit_orphans and subscriber is not None:
        usage = tuple(
            _debit_orphan(posting, subscriber, request, service, charger)
            for service in request.services
            if service.used
        )
        workspace.put_account(posting.account)
    workspace.event(
        records.session_event(
            request,
            account=account.id,
            subscriber="" if subscriber is None else subscriber.id,
            kind="orphan",
            at_us=now_us,
            entries=tuple(posting.entries),
            usage=usage,
            result=Result.UNKNOWN_SESSION.value,
        )
    )


def _debit_orphan(
    posting: Posting, subscriber: Subscriber, request: ChargingRequest, service: ServiceRequest, charger: Charger
) -> UsageLine:
    key, context = service.key, request.service_context
    line = UsageLine(key.rating_group, key.service_identifiers, Result.UNKNOWN_SESSION.value)
    plan = charger.catalogues.current.plans.get(subscriber.plan)
    rule = None if plan is None else plan.match(context, key.rating_group, key.service_identifiers)
    if rule is None or rule.tariff is None:
        line.why, line.unrated = "no price for this key; recorded, not debited", records.unrated_of(service, None)
        return line
    pricing = charger.catalogues.pricing(charger.catalogues.current.version, rule.tariff.index)
    used = records.used_of(service, pricing.kind)
    line.unrated = records.unrated_of(service, pricing.kind)
    if not can_debit(posting.account, pricing, used):
        line.why = f"reported use of {used} cannot be priced"
        return line
    scope = Scope(context, key.rating_group)
    settled = settle(posting, Reservation(), pricing, used, scope, charger.settings.overuse_floor_micros)
    line.why = "orphan usage, debited by setting"
    line.catalogue_version, line.tariff, line.unit = pricing.version, pricing.tariff.name, pricing.unit
    line.used, line.billed, line.from_buckets = used, settled.billed, settled.from_buckets
    line.money_units, line.debited_micros = settled.money_units, settled.debited_micros
    line.over_use_units, line.over_use_micros = settled.over_use_units, settled.over_use_micros
    return line
