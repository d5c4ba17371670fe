"""The conductor of a request: find its documents, run its job in the account's lane, count what happened.

The engine is in no protocol's words and touches no socket: `charge` takes a `ChargingRequest` and calls back with an
`Outcome`, after the commit that it rests on, or with a `ChargingError` when there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from balance.account import IDENTITY_SCHEMA, IdentityRecord, Subscriber
from balance.documents import account_key, identity_key, locator_key, operation_key, session_key
from balance.store import Conflict, Store, Transaction, Write
from ocs.charging.cache import LocatorCache
from ocs.charging.conductor import ChargingError, Conductor
from ocs.charging.event_jobs import EventJob
from ocs.charging.history import History
from ocs.charging.parking import Parking
from ocs.charging.pricing import CatalogueNotLoaded, Catalogues
from ocs.charging.requests import ChargingRequest, Identity, Outcome, RequestKind, Result
from ocs.charging.saga import Apply, Commit, Offloader, Read, Saga, run_at_once, start
from ocs.charging.session import LOCATOR_SCHEMA, Locator, Session
from ocs.charging.session_jobs import ANOTHERS, Answer, Charger, SessionJob, Target, record_orphan, repeat_of
from ocs.charging.settings import ChargingSettings
from ocs.charging.workspace import SCHEMAS, Workspace, decode_document, encode_document

T = TypeVar("T")

LOCATED_SESSIONS = 300_000
"""Sessions of which it is remembered where they are; the answer of the locator never changes while it lives."""

RENEWALS_MOST = 60
RENEW_AGAIN_S = 5.0
"""How often, and after which pause, it is tried to write a locator anew: a store that fails is back within minutes."""

IDENTITIES_MOST = 8
"""Identities of one request that are looked up; a client that sends more is looked up by the first ones."""


class Found:
    """Where the identities of a request lead."""

    __slots__ = ("identities", "result", "target")

    def __init__(self, result: Result, target: Target | None = None, identities: tuple[Identity, ...] = ()) -> None:
        self.result = result
        self.target = target
        self.identities = identities


class Opening(NamedTuple):
    """Where a session or an event is about to be opened."""

    target: Target
    identities: tuple[Identity, ...]
    """Those that led there."""
    located: bool
    """The locator was there already."""


class Counters:
    """What an operator wants to see of charging; plain integers, gathered at scrape."""

    __slots__ = ("altered_repeats", "failed_jobs", "forgotten_repeats", "orphans", "repeats", "results")

    def __init__(self) -> None:
        self.repeats = 0
        self.altered_repeats = 0
        self.forgotten_repeats = 0
        self.orphans = 0
        self.failed_jobs = 0
        self.results: dict[tuple[RequestKind, Result], int] = {}

    def count(self, request: ChargingRequest, answer: Answer) -> None:
        """Count one answer."""
        if answer.repeated:
            self.repeats += 1
            self.altered_repeats += answer.altered
            self.forgotten_repeats += answer.forgotten
        key = (request.kind, answer.outcome.result)
        self.results[key] = self.results.get(key, 0) + 1


Place = tuple[int, str, str, tuple[bytes, bytes], bytes]
"""Of a session: partition, account, subscriber, the keys of the documents of subscriber and session, the account's key.

A plain tuple of plain values: there may be hundreds of thousands, and the collector of garbage skips them.
"""


def place_of(target: Target, keys: tuple[bytes, bytes]) -> Place:
    """Where a session is."""
    return (*target, keys, account_key(target.partition, target.account))


class _Located(SessionJob):
    """An UPDATE or a TERMINATION of a session that this process knows: straight to its account's lane."""

    __slots__ = ("_done", "_engine", "account_key", "deadline", "partition")

    def __init__(
        self,
        engine: Engine,
        place: Place,
        request: ChargingRequest,
        deadline: float,
        done: Callable[[Outcome | ChargingError], None],
    ) -> None:
        partition, account, subscriber, keys, self.account_key = place
        super().__init__(engine.charger, Target(partition, account, subscriber), request, (), keys)
        self.partition = partition
        self.deadline = deadline
        self._engine = engine
        self._done = done

    def done(self, result: object) -> None:
        """Answer; a session that is not where it was is looked for anew."""
        if isinstance(result, Answer):
            if result.absent:
                self._engine.lost(self.request, self.deadline, self._done)
            else:
                self._engine.answered(self.request, self.deadline, self._done, result)
        elif isinstance(result, ChargingError):
            self._engine.failed(self.request, self.deadline, self._done, result)


class Engine:
    """Charging over one store."""

    def __init__(
        self,
        store: Store,
        conductor: Conductor,
        settings: ChargingSettings,
        catalogues: Catalogues,
        secret: bytes,
        utc_us: Callable[[], int],
        nonce: Callable[[], bytes],
    ) -> None:
        """`secret` signs refund tokens; `nonce` gives 8 random octets for each document written outside a lane."""
        self.store = store
        self.conductor = conductor
        self.settings = settings
        self.catalogues = catalogues
        self.counters = Counters()
        self.secret = secret
        self.utc_us = utc_us
        """The charging clock."""
        self.nonce = nonce
        self._charger = Charger(catalogues, settings)
        self.parking = Parking(conductor.monotonic, conductor.later)
        """Requests of sessions under a catalogue version that is not loaded here yet."""
        self._located: LocatorCache[Place] = LocatorCache(LOCATED_SESSIONS)
        self.admitting = True
        """Off: nothing new is begun, since the outbox is nearly full; open sessions go on, repeats are answered."""
        self.offload: Offloader = run_at_once
        self.history: History | None = None
        """The archive; `None`: there is none, and the outbox holds every event."""

    @property
    def charger(self) -> Charger:
        """What jobs need; made anew when there is another catalogue."""
        if self._charger.catalogues is not self.catalogues:
            self._charger = Charger(self.catalogues, self.settings)
        return self._charger

    def lost(self, request: ChargingRequest, deadline: float, done: Callable[[Outcome | ChargingError], None]) -> None:
        """A session was not where this process knew it to be: forget that, and read its locator."""
        self._located.drop(request.session_id)
        self._charge(request, deadline, done)

    def now_s(self) -> int:
        """UTC seconds of the charging clock."""
        return self.utc_us() // 1_000_000

    def charge(
        self, request: ChargingRequest, deadline: float, done: Callable[[Outcome | ChargingError], None]
    ) -> None:
        """Process one request. `deadline`: monotonic seconds after which it is not begun any more."""

        if request.kind is not RequestKind.INITIAL and request.kind is not RequestKind.EVENT:
            place = self._located.get(request.session_id)
            if place is not None:
                self.conductor.submit(_Located(self, place, request, deadline, done))
                return
        self._charge(request, deadline, done)

    def _charge(
        self, request: ChargingRequest, deadline: float, done: Callable[[Outcome | ChargingError], None]
    ) -> None:
        """Process a request whose documents have to be found first."""

        def finish(answer: Answer | ChargingError) -> None:
            if isinstance(answer, ChargingError):
                self.failed(request, deadline, done, answer)
            else:
                self.answered(request, deadline, done, answer)

        if not self.admitting and request.kind in (RequestKind.INITIAL, RequestKind.EVENT):
            saga = self._turn_away(request)
        else:
            saga = self._event(request) if request.kind is RequestKind.EVENT else self._session(request)
        self.run(saga, deadline, finish)

    def _turn_away(self, request: ChargingRequest) -> Saga[Answer]:
        """Refuse what is new while the outbox is nearly full; a repeat gets its outcome (LEDGER §9)."""
        at = self._locator_at(request.session_id)
        documents = yield Read((at,))
        data = documents[at[1]]
        repeat = None if data is None else (yield from self._repeat_at(data, request))
        return repeat or Answer(Outcome(Result.TOO_BUSY, detail="outbox_full"))

    def answered(
        self,
        request: ChargingRequest,
        deadline: float,
        done: Callable[[Outcome | ChargingError], None],
        answer: Answer,
    ) -> None:
        """Tell an answer, and do what goes with it."""
        self.counters.count(request, answer)
        if answer.refresh_locator:
            self._renew_locator(request, RENEWALS_MOST)
        done(answer.outcome)

    def failed(
        self,
        request: ChargingRequest,
        deadline: float,
        done: Callable[[Outcome | ChargingError], None],
        error: ChargingError,
    ) -> None:
        """Tell an error; but what only lacks a catalogue version waits for it until the deadline (LEDGER §11)."""
        if isinstance(error, CatalogueNotLoaded):
            self.parking.park(deadline, lambda: self._charge(request, deadline, done), lambda: done(error))
        else:
            done(error)

    def use_catalogues(self, catalogues: Catalogues) -> None:
        """Rate under other catalogues from now on."""
        self.catalogues = catalogues
        self.parking.resume()

    def run(self, saga: Saga[T], deadline: float, done: Callable[[T | ChargingError], None]) -> None:
        """Run any saga over this engine's store and lanes."""
        start(saga, self.store, self.conductor, deadline, done, self.offload)

    # Where things are

    def _locator_at(self, session_id: str) -> tuple[int, bytes]:
        return locator_key(session_id, self.store.partitions)

    def _session(self, request: ChargingRequest) -> Saga[Answer]:
        at = self._locator_at(request.session_id)
        if request.kind is RequestKind.INITIAL:
            return (yield from self._initial(request, at))
        documents = yield Read((at,))
        data = documents[at[1]]
        if data is None:
            return (yield from self._unknown(request))
        locator = decode_document(data, Locator, LOCATOR_SCHEMA)
        target = Target(locator.partition, locator.account, locator.subscriber)
        job = SessionJob(self.charger, target, request)
        self._located.put(request.session_id, place_of(target, job.keys()))
        answer: Answer = yield self._job(job, target)
        if answer.outcome.result is Result.UNKNOWN_SESSION and not answer.repeated:
            yield from self._orphan(request, target)
        return answer

    def _initial(self, request: ChargingRequest, at: tuple[int, bytes]) -> Saga[Answer]:
        opening = yield from self._open(request, at, self.settings.locator_s)
        if isinstance(opening, Answer):
            return opening
        job = SessionJob(self.charger, opening.target, request, opening.identities)
        self._located.put(request.session_id, place_of(opening.target, job.keys()))
        answer: Answer = yield self._job(job, opening.target)
        # A locator that was there may be that of an event or of a session long gone, with little time left to live.
        return answer._replace(refresh_locator=True) if opening.located and not answer.repeated else answer

    def _event(self, request: ChargingRequest) -> Saga[Answer]:
        at = self._locator_at(request.session_id)
        opening = yield from self._open(request, at, self.settings.event_kept_s + 600)
        if isinstance(opening, Answer):
            return opening
        job = EventJob(self.charger, opening.target, request, opening.identities, self.secret)
        answer: Answer = yield self._job(job, opening.target)
        return answer

    def _open(self, request: ChargingRequest, at: tuple[int, bytes], ttl_s: int) -> Saga[Opening | Answer]:
        """Whose session or event it is, with a locator in place; else the answer to it.

        A Session-Id that leads to another subscriber, or whose identity has gone since, may still be a repeat: its
        outcome is looked up where the locator says before it is refused.
        """
        documents, found = yield from self._look_up(request.identities, (at,))
        data = documents[at[1]]
        if found.target is not None:
            target = yield from self._locate(at, data, found.target, ttl_s)
            if target is not None:
                return Opening(target, found.identities, data is not None)
        if data is not None:
            repeat = yield from self._repeat_at(data, request)
            if repeat is not None:
                return repeat
        if found.target is not None:
            return Answer(ANOTHERS)
        result = found.result if request.identities else Result.IDENTITY_MISSING
        return Answer(Outcome(result, detail="identity"))

    def _repeat_at(self, data: bytes, request: ChargingRequest) -> Saga[Answer | None]:
        locator = decode_document(data, Locator, LOCATOR_SCHEMA)
        key = session_key(locator.partition, request.session_id)

        def apply(workspace: Workspace, _now_us: int) -> Answer | None:
            return repeat_of(workspace.get(key, Session), request)

        answer: Answer | None = yield Apply(locator.partition, locator.account, (key,), apply)
        return answer

    def _job(self, job: SessionJob | EventJob, target: Target) -> Apply:
        return Apply(target.partition, target.account, job.keys(), job.apply)

    def _locate(self, at: tuple[int, bytes], data: bytes | None, target: Target, ttl_s: int) -> Saga[Target | None]:
        """Create the locator before the session's first commit (LEDGER §3); `None`: it leads to another subscriber."""
        if data is None:
            locator = Locator(target.partition, target.account, target.subscriber)
            data = encode_document(None, self.nonce(), LOCATOR_SCHEMA, locator)
            verdict = yield Commit(at[0], Transaction((Write(at[1], None, data, ttl_s),)))
            if not isinstance(verdict, Conflict):
                return target
            data = verdict.documents[at[1]]
            if data is None:
                return None
        known = decode_document(data, Locator, LOCATOR_SCHEMA)
        same = (known.account, known.subscriber) == (target.account, target.subscriber)
        return Target(known.partition, known.account, known.subscriber) if same else None

    def _renew_locator(self, request: ChargingRequest, tries: int) -> None:
        """Write a locator anew, again after a while if the store fails: nobody else does before it ends."""

        def told(result: ChargingError | None) -> None:
            if result is not None and tries > 1:
                self.conductor.later(RENEW_AGAIN_S, lambda: self._renew_locator(request, tries - 1))

        self.run(self._refresh_locator(request), self.conductor.monotonic() + RENEW_AGAIN_S, told)

    def _refresh_locator(self, request: ChargingRequest) -> Saga[None]:
        """Write a locator anew before its time to live runs out under a session that lives on."""
        at = self._locator_at(request.session_id)
        documents = yield Read((at,))
        data = documents[at[1]]
        if data is not None:
            locator = decode_document(data, Locator, LOCATOR_SCHEMA)
            fresh = encode_document(data[:16], self.nonce(), LOCATOR_SCHEMA, locator)
            yield Commit(at[0], Transaction((Write(at[1], data[:16], fresh, self.settings.locator_s),)))

    def _look_up(
        self, identities: Sequence[Identity], beside: tuple[tuple[int, bytes], ...]
    ) -> Saga[tuple[dict[bytes, bytes | None], Found]]:
        """Read the identities, and what stands `beside` them, at once; then decide whom they name (CC-012…CC-014)."""
        places = [(one, identity_key(one.kind, one.value, self.store.partitions)) for one in identities]
        places = places[:IDENTITIES_MOST]
        documents = yield Read((*beside, *(at for _, at in places)))
        hits: list[tuple[Identity, Target]] = []
        for identity, at in places:
            data = documents[at[1]]
            if data is not None:
                record = decode_document(data, IdentityRecord, IDENTITY_SCHEMA)
                hits.append((identity, Target(record.partition, record.account, record.subscriber)))
        if len({target for _, target in hits}) > 1:
            hits = yield from self._really_listed(hits)
        if not hits:
            return documents, Found(Result.USER_UNKNOWN)
        if len({target for _, target in hits}) > 1:
            return documents, Found(Result.CONTRADICTING_IDENTITIES)
        return documents, Found(Result.SUCCESS, hits[0][1], tuple(identity for identity, _ in hits))

    def _really_listed(self, hits: list[tuple[Identity, Target]]) -> Saga[list[tuple[Identity, Target]]]:
        """Drop claims that no subscriber lists: they were left behind by a change that never finished."""
        documents = yield Read(tuple((target.partition, target.subscriber_key) for _, target in hits))
        listed = []
        for identity, target in hits:
            data = documents[target.subscriber_key]
            if data is None:
                continue
            subscriber = decode_document(data, Subscriber, SCHEMAS[Subscriber])
            if any((one.kind, one.value) == (identity.kind, identity.value) for one in subscriber.identities):
                listed.append((identity, target))
        return listed

    # Usage of sessions that are not open

    def _unknown(self, request: ChargingRequest) -> Saga[Answer]:
        """No locator: 5002; usage with a known identity is recorded once (CC-037, CC-038)."""
        answer = Answer(Outcome(Result.UNKNOWN_SESSION))
        if request.identities and any(service.used for service in request.services):
            _, found = yield from self._look_up(request.identities, ())
            if found.target is not None:
                yield from self._orphan(request, found.target)
        return answer

    def _orphan(self, request: ChargingRequest, target: Target) -> Saga[None]:
        """Record usage under a key of its own; a session that has a tombstone did so itself."""
        if not any(service.used for service in request.services):
            return
        name = f"orphan:{request.session_id}:{int(request.kind)}:{request.number}"
        key = operation_key(target.partition, name)
        job = SessionJob(self.charger, target, request)
        charger = self.charger

        def apply(workspace: Workspace, now_us: int) -> None:
            account = workspace.account()
            if account is None or workspace.present(key) or workspace.present(job.session_key):
                return
            subscriber = workspace.get(target.subscriber_key, Subscriber)
            record_orphan(workspace, account, subscriber, request, charger, now_us)
            self.counters.orphans += 1
            workspace.put_record(key, name, now_us, charger.settings.tombstone_s)

        yield Apply(target.partition, target.account, (*job.keys(), key), apply)
