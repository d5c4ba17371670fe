"""A store that loses commits, and two workers on one account: the money and the answers are those of a quiet day.

Each case plays a random session twice: once undisturbed, once with a fault at every step, or with the requests dealt to
two engines whose reads and commits overlap. Documents, entries and answers must be the same (LEDGER §1, §4; CC-041,
CC-050, CC-220).
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ocs.charging.conductor import ChargingError, Conductor, StoreUnavailable
from ocs.charging.engine import Engine
from ocs.charging.pricing import Catalogues
from ocs.charging.requests import (
    ChargingRequest,
    EventAction,
    Identity,
    Outcome,
    QuotaKey,
    RequestKind,
    ServiceRequest,
    Units,
)
from ocs.charging.settings import ChargingSettings
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import Kit
from tests.support.charging_world import CONTEXT, catalogue_text, name_of, prepare
from tests.support.faulty_store import Fault, FaultyStore

FAULTS: tuple[Fault, ...] = ("refused", "lost before", "lost after")


def requests_of(chance: random.Random, length: int) -> list[ChargingRequest]:
    """Two sessions and some events of one account, each session in order, interleaved at random."""
    plays: list[list[ChargingRequest]] = []
    for session in ("s1", "s2"):
        play = [_request(session, RequestKind.INITIAL, 0, chance)]
        play += [_request(session, RequestKind.UPDATE, number, chance) for number in range(1, length)]
        plays.append([*play, _request(session, RequestKind.TERMINATION, length, chance)])
    plays.append([_event(f"e{number}", chance) for number in range(3)])
    order = [place for place, play in enumerate(plays) for _ in play]
    chance.shuffle(order)
    return [plays[place].pop(0) for place in order]


def _request(session: str, kind: RequestKind, number: int, chance: random.Random) -> ChargingRequest:
    services = []
    for group in chance.sample([10, 20, 30], chance.randint(1, 2)):
        used = (
            ()
            if kind is RequestKind.INITIAL
            else (Units(octets=chance.randint(0, 1500), seconds=chance.randint(0, 80)),)
        )
        services.append(ServiceRequest(QuotaKey(group), Units() if chance.random() < 0.8 else None, used))
    who = (Identity("e164", name_of("a")),) if kind is RequestKind.INITIAL else ()
    return ChargingRequest(session, kind, number, "gw1", "net", CONTEXT, tuple(services), who)


def _event(session: str, chance: random.Random) -> ChargingRequest:
    services = (ServiceRequest(QuotaKey(40), Units(events=chance.randint(1, 4))),)
    who = (Identity("e164", name_of("a")),)
    direct = EventAction.DIRECT_DEBIT
    return ChargingRequest(session, RequestKind.EVENT, 0, "gw1", "net", CONTEXT, services, who, action=direct)


@dataclasses.dataclass
class Place:
    """A prepared store with one engine."""

    store: AuditedStore
    kit: Kit


def a_place() -> Place:
    store = AuditedStore(now_us=lambda: place.kit.now_us)
    place = Place(store, Kit(store, None, catalogue_text()))
    prepare(place.kit)
    place.kit.top_up("a", amount=40_000)
    place.kit.top_up("a", amount=2500, kind=1, rating_group=10)
    return place


def books(store: AuditedStore) -> tuple[Any, ...]:
    """The documents without their versions, and the entries without the versions of their events."""
    accounts = {name: msgspec.to_builtins(account) for name, account in store.accounts().items()}
    sessions = sorted(msgspec.json.encode(session) for session in store.sessions())
    return accounts, sessions


def entries(store: AuditedStore) -> list[tuple[str, str, Any]]:
    """What was done, in order."""
    return [(e.session_id, e.request, e.entries) for e in store.events("a")]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(FAULTS), st.integers(1, 3))
def test_cc_041_every_commit_may_be_lost_and_nothing_is_lost_or_done_twice(seed: int, fault: Fault, times: int) -> None:
    """CC-041, LEDGER §4: after an unknown outcome the truth is read back, never guessed."""
    chance = random.Random(seed)
    requests = requests_of(chance, 6)
    quiet, loud = a_place(), a_place()
    expected = [quiet.kit.charge(request) for request in requests]
    faulty = FaultyStore(loud.store)
    loud.kit.use(faulty)
    for request, answer in zip(requests, expected, strict=True):
        faulty.fail_commits(fault, chance.randint(0, times))
        assert _until_answered(loud.kit, request, times) == answer
        assert not loud.kit.raised
        audit(loud.store)
    assert books(loud.store) == books(quiet.store)
    assert entries(loud.store) == entries(quiet.store)


def _until_answered(kit: Kit, request: ChargingRequest, times: int) -> Outcome:
    """The client repeats after 5012. Only the locator's commit is not retried by the engine itself."""
    for _ in range(times):
        try:
            return kit.charge(request)
        except StoreUnavailable:
            assert request.kind in (RequestKind.INITIAL, RequestKind.EVENT)
    return kit.charge(request)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(FAULTS))
def test_cc_220_what_failed_is_done_by_its_repeat(seed: int, fault: Fault) -> None:
    """CC-220: an internal error records no key that was not done; the repeat agrees with what was done."""
    chance = random.Random(seed)
    requests = requests_of(chance, 6)
    quiet, loud = a_place(), a_place()
    expected = [quiet.kit.charge(request) for request in requests]
    faulty = FaultyStore(loud.store)
    for request, answer in zip(requests, expected, strict=True):
        _try_once(loud, faulty, request, fault, chance.random() < 0.5)
        assert loud.kit.charge(request) == answer
        done = loud.store.state()
        assert loud.kit.charge(request) == answer and loud.store.state() == done
        audit(loud.store)
    assert books(loud.store) == books(quiet.store)
    assert entries(loud.store) == entries(quiet.store)


def _try_once(place: Place, faulty: FaultyStore, request: ChargingRequest, fault: Fault, blind: bool) -> None:
    """One attempt whose deadline is over when the commit fails; `blind`: the read-back fails too."""
    kit = place.kit
    kit.use(faulty)
    faulty.fail_commits(fault)
    results: list[Outcome | ChargingError] = []
    kit.engine.charge(request, kit.monotonic(), results.append)
    if not results:
        kit.now_us += 1
        if blind:
            faulty.fail_reads(1)
        while kit.later and not results:
            kit.later.pop(0)()
    assert len(results) == 1
    faulty._commit_faults.clear()
    faulty._read_faults = 0
    kit.use(place.store)


class Worker:
    """An engine over a store that others share, its outcomes delivered when the test decides."""

    def __init__(self, kit: Kit, store: FaultyStore, first_nonce: int) -> None:
        nonces = itertools.count(first_nonce)
        self.store = store
        self.later: list[Callable[[], None]] = []

        def nonce() -> bytes:
            return next(nonces).to_bytes(8, "big")

        self.conductor = Conductor(
            store,
            lambda: kit.now_us,
            kit.monotonic,
            lambda _seconds, call: self.later.append(call),
            lambda _job, error: kit.raised.append(error),
            nonce,
        )
        catalogues = Catalogues({1: kit.catalogue}, 1)
        self.engine = Engine(
            store, self.conductor, ChargingSettings(), catalogues, b"k" * 32, lambda: kit.now_us, nonce
        )

    def turn(self) -> bool:
        """Deliver one outcome; whether there was any."""
        if self.store.held:
            self.store.release_one()
            return True
        if self.later:
            self.later.pop(0)()
            return True
        return False


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_cc_050_two_workers_on_one_account_conflict_and_agree_with_one(seed: int) -> None:
    """CC-050: the same result as one worker that takes the requests in the order in which they were committed."""
    chance = random.Random(seed)
    requests = requests_of(chance, 5)
    place = a_place()
    workers = [Worker(place.kit, FaultyStore(place.store), 2**50 * (1 + n)) for n in range(2)]
    for worker in workers:
        worker.store.hold()
    answers: dict[tuple[str, int, int], Outcome] = {}
    waiting: dict[str, list[ChargingRequest]] = {}
    for request in requests:
        waiting.setdefault(request.session_id, []).append(request)

    def send(session: str) -> None:
        """The next request of a session, to either worker, once the one before is answered."""
        if not waiting[session]:
            return
        request = waiting[session].pop(0)

        def told(outcome: Outcome | ChargingError) -> None:
            assert isinstance(outcome, Outcome), outcome
            answers[(request.session_id, request.kind, request.number)] = outcome
            send(session)

        chance.choice(workers).engine.charge(request, place.kit.monotonic() + 5, told)

    for session in list(waiting):
        send(session)
    resting = 0
    while resting < 50:
        resting = 0 if chance.choice(workers).turn() else resting + 1
    assert not place.kit.raised and len(answers) == len(requests)
    audit(place.store)
    _agrees_with_one(place, requests, answers)


def _agrees_with_one(
    place: Place, requests: list[ChargingRequest], answers: dict[tuple[str, int, int], Outcome]
) -> None:
    """Play the requests again on one worker, in the order of the events that they left."""
    names = {(r.session_id, f"{r.kind.name.lower()} #{r.number}"): r for r in requests}
    order = [names[(e.session_id, e.request)] for e in place.store.events("a") if (e.session_id, e.request) in names]
    silent = [request for request in requests if request not in order]
    one = a_place()
    for request in [*order, *silent]:
        assert one.kit.charge(request) == answers[(request.session_id, request.kind, request.number)]
    assert books(one.store) == books(place.store)
    assert entries(one.store) == entries(place.store)


def test_top_ups_of_unknown_outcome_are_done_once() -> None:
    for fault in FAULTS:
        place = a_place()
        faulty = FaultyStore(place.store)
        place.kit.use(faulty)
        before = place.kit.balance()[0]
        faulty.fail_commits(fault, 2)
        place.kit.top_up("a", 5, key="once")
        place.kit.top_up("a", 5, key="once")
        assert place.kit.balance()[0] == before + 5
        audit(place.store)
