"""The session state machine and repeats, row by row (docs/requirements/credit-control.md §1, §2), asked of the engine.

Amounts are cents; D10 costs 10 for each started MiB and is granted 10 MiB at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from balance.account import AccountStatus, BucketKind
from balance.store import ReadOutcome, StoreFailure
from ocs.charging import account_operations, subscriber_operations
from ocs.charging.conductor import Conductor, StoreUnavailable
from ocs.charging.engine import Engine
from ocs.charging.pricing import Catalogues
from ocs.charging.requests import (
    ChargingRequest,
    EventAction,
    Identity,
    Outcome,
    QuotaKey,
    RequestKind,
    Result,
    ServiceRequest,
    Units,
)
from ocs.charging.session import Session
from ocs.charging.settings import ChargingSettings
from tests.support.books import AuditedStore, audit
from tests.support.charging_kit import MIB, SMS, START_US, Kit, messages, only, report, want

HOUR_US = 3_600_000_000


def a_kit(settings: ChargingSettings | None = None) -> tuple[Kit, AuditedStore]:
    store = AuditedStore(now_us=lambda: kit.now_us)
    kit = Kit(store, settings)
    return kit, store


def session_of(store: AuditedStore, name: str = "s") -> Session:
    return next(one for one in store.sessions() if one.id == name)


def suspend(kit: Kit, name: str = "a", status: AccountStatus = AccountStatus.SUSPENDED) -> None:
    kit.run(account_operations.set_status(kit.engine, kit.order(), name, status))


def test_cc_017_updates_are_found_by_session_id_alone() -> None:
    # CC-017: UPDATE/TERMINATION are located by Session-Id; identity in them is not required and, if different from the
    # session's, ignored.
    kit, store = a_kit()
    kit.initial(kit.account("a", cents=1000), want())
    other = kit.account("b", cents=1000)
    assert only(kit.update(1, want(used=10 * MIB))).granted == 10 * MIB
    assert only(kit.update(2, want(used=10 * MIB), who=other)).granted == 10 * MIB
    kit.terminate(3, report(used=MIB), who=other)
    assert (kit.balance("a"), kit.balance("b")) == ((790, 0), (1000, 0))
    audit(store)


def test_cc_018_a_suspended_account_gets_4010() -> None:
    # CC-018: Subscriber state: barred / suspended / expired account -> service restriction. cmd 4010.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    suspend(kit)
    assert kit.initial(who, want()).result is Result.SERVICE_DENIED
    assert store.sessions() == [] and kit.balance() == (1000, 0)
    assert kit.event(who, messages(1)).result is Result.SERVICE_DENIED
    suspend(kit, status=AccountStatus.ACTIVE)
    assert kit.initial(who, want()).result is Result.SUCCESS


def test_cc_018_a_barred_subscriber_gets_4010_and_its_neighbour_does_not() -> None:
    kit, _ = a_kit()
    who = kit.account(cents=1000)
    other = Identity("e164", "447700900777")
    kit.run(subscriber_operations.add_subscriber(kit.engine, kit.order(), "other", "a", "d10", [other]))
    change = subscriber_operations.change_subscriber
    kit.run(change(kit.engine, kit.order(), "sub-a", status=AccountStatus.SUSPENDED))
    assert kit.initial(who, want()).result is Result.SERVICE_DENIED
    assert kit.initial(other, want(), session="t").result is Result.SUCCESS


def test_cc_020_event_time_is_the_rating_time_and_skew_is_flagged() -> None:
    # CC-020: Event-Timestamp is the rating time of the event; absent -> receive time. Reject nothing because of skew;
    # beyond a configured skew (24 h) use receive time and flag the CDR.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    two_hours_ago = START_US - 2 * HOUR_US
    assert kit.initial(who, want(), event_time_us=two_hours_ago).result is Result.SUCCESS
    assert (store.events("a")[-1].event_time_us, store.events("a")[-1].reason) == (two_hours_ago, "")
    long_ago = START_US - 25 * HOUR_US
    assert kit.update(1, want(used=MIB), event_time_us=long_ago).result is Result.SUCCESS
    flagged = store.events("a")[-1]
    assert flagged.event_time_us == 0 and "90000 s off" in flagged.reason
    assert kit.update(2, want(used=MIB)).result is Result.SUCCESS
    assert (store.events("a")[-1].event_time_us, store.events("a")[-1].reason) == (0, "")


def test_cc_030_initial_reserves_and_opens() -> None:
    # CC-030: Idle + INITIAL, processed -> reserve, start Tcc, Open. 2001.
    kit, store = a_kit()
    outcome = kit.initial(kit.account(cents=1000), want())
    assert outcome.result is Result.SUCCESS and only(outcome).granted == 10 * MIB
    assert kit.balance() == (1000, 100)
    assert session_of(store).deadline_s == START_US // 1_000_000 + 7200
    audit(store)


def test_cc_031_an_initial_that_is_not_processed_leaves_nothing() -> None:
    # CC-031: Idle + INITIAL, not processed -> no reservation, stay Idle. != 2001.
    kit, store = a_kit()
    kit.account(cents=1000)
    outcome = kit.initial(Identity("e164", "15550000"), want())
    assert outcome.result is Result.USER_UNKNOWN
    assert store.sessions() == [] and kit.balance() == (1000, 0)
    assert kit.update(1, want()).result is Result.UNKNOWN_SESSION


def test_cc_032_update_debits_reserves_and_restarts_tcc() -> None:
    # CC-032: Open + UPDATE, processed -> debit used, reserve new, restart Tcc. 2001.
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want())
    kit.now_us += 1000_000_000
    outcome = kit.update(1, want(used=4 * MIB))
    assert outcome.result is Result.SUCCESS and only(outcome).granted == 10 * MIB
    assert kit.balance() == (960, 100)
    assert session_of(store).deadline_s == START_US // 1_000_000 + 1000 + 7200


def test_cc_033_a_refused_update_still_debits_and_closes() -> None:
    # CC-033: Open + UPDATE, not processed -> answer error, still debit reported usage, session goes Idle, rest released.
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want(), want(200))
    assert kit.balance() == (1000, 200)
    suspend(kit)
    outcome = kit.update(1, want(used=3 * MIB))
    assert outcome.result is Result.SERVICE_DENIED and outcome.services == ()
    assert kit.balance() == (970, 0)
    assert session_of(store).closed == "service_denied"
    again = kit.update(1, want(used=3 * MIB))
    assert again == outcome and kit.balance() == (970, 0)
    assert kit.update(2, want()).result is Result.UNKNOWN_SESSION
    audit(store)


def test_cc_034_termination_debits_and_releases() -> None:
    # CC-034: Open + TERMINATION -> debit, release remainder, stop Tcc, Idle. Even if it fails, usage is debited.
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want())
    assert kit.terminate(1, report(used=3 * MIB)).result is Result.SUCCESS
    assert kit.balance() == (970, 0)
    assert all(not data.due for data in store._data)
    audit(store)


def test_cc_034_termination_of_a_suspended_or_removed_subscriber_debits_too() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want(), session="s1")
    kit.initial(who, want(), session="s2")
    suspend(kit)
    kit.terminate(1, report(used=MIB), session="s1")
    assert kit.balance() == (990, 100)
    suspend(kit, status=AccountStatus.ACTIVE)
    kit.run(subscriber_operations.remove_subscriber(kit.engine, kit.order(), "sub-a"))
    kit.terminate(1, report(used=MIB), session="s2")
    assert kit.balance() == (980, 0)
    audit(store)


def test_cc_035_tcc_expiry_releases_and_charges_nothing() -> None:
    # CC-035: Tcc expiry -> release reservation, Idle. Unreported usage is not charged; CDR "supervision timeout".
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want())
    kit.advance(7199)
    assert kit.balance() == (1000, 100)
    kit.advance(1)
    assert kit.balance() == (1000, 0)
    assert store.events("a")[-1].close_cause == "supervision_timeout"
    assert kit.update(1, want()).result is Result.UNKNOWN_SESSION
    audit(store)


def test_cc_036_tcc_is_twice_the_validity() -> None:
    # CC-036: Tcc = 2 x Validity-Time when one was granted; otherwise a configured default, max 24 h. Restarted by CCR-U.
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000, plan="d10-300s"), want())
    assert session_of(store).deadline_s - START_US // 1_000_000 == 600
    kit.advance(500)
    kit.update(1)  # names no key: the grant runs on, Tcc starts anew
    kit.advance(599)
    assert kit.balance() == (1000, 100)
    kit.advance(1)
    assert kit.balance() == (1000, 0)


def test_cc_036_without_a_grant_the_default_holds_and_24_h_are_the_most() -> None:
    kit, store = a_kit(ChargingSettings(default_tcc_s=1800, max_tcc_s=3000, locator_s=604_800))
    kit.initial(kit.account(cents=1000), session="empty")
    assert session_of(store, "empty").deadline_s - START_US // 1_000_000 == 1800
    kit.initial(kit.account("b", cents=1000), want(), session="long")  # Validity 3600 would make it 7200
    assert session_of(store, "long").deadline_s - START_US // 1_000_000 == 3000


def test_cc_037_update_of_an_unknown_session_is_5002() -> None:
    # CC-037: UPDATE for an unknown or closed session. cmd 5002.
    kit, store = a_kit()
    kit.account(cents=1000)
    before = store.state()
    assert kit.update(1, want(), session="never") == Outcome(Result.UNKNOWN_SESSION)
    assert store.state() == before


def test_cc_038_usage_of_an_unknown_session_is_recorded_once_and_not_debited() -> None:
    # CC-038: TERMINATION for an unknown session. Reported usage with an identity is stored as "orphan" record; debit
    # only if policy says so. cmd 5002.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    for _ in range(2):
        outcome = kit.terminate(7, report(used=5 * MIB), session="never", who=who)
        assert outcome.result is Result.UNKNOWN_SESSION
    orphans = [event for event in store.events("a") if event.kind == "orphan"]
    assert len(orphans) == 1 and orphans[0].entries == ()
    assert orphans[0].usage[0].unrated == ((BucketKind.OCTETS, 5 * MIB),)
    assert kit.balance() == (1000, 0)


def test_cc_038_the_setting_debits_orphan_usage_once() -> None:
    kit, store = a_kit(ChargingSettings(debit_orphans=True))
    who = kit.account(cents=1000)
    for _ in range(2):
        kit.terminate(7, report(used=5 * MIB), session="never", who=who)
    assert kit.balance() == (950, 0)
    audit(store)


def test_cc_039_an_event_makes_no_session_and_may_not_take_an_open_ones_id() -> None:
    # CC-039: EVENT never creates a session; Session-Id of an event may not equal an open session's. 2001 / 5012.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.event(who, messages(1), session="e")
    assert store.accounts()["a"].open_sessions == 0
    assert store.members(b"sessions") == set()
    assert kit.update(1, want(), session="e").result is Result.UNKNOWN_SESSION
    kit.initial(who, want(), session="s")
    before = store.state()
    assert kit.event(who, messages(1), session="s").result is Result.UNABLE_TO_COMPLY
    assert store.state() == before


def test_cc_040_a_repeat_gets_the_stored_answer_and_changes_nothing() -> None:
    # CC-040: Duplicate key = (Session-Id, type, number). A repeat returns the stored answer and changes nothing.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    first = kit.initial(who, want())
    second = kit.update(1, want(used=3 * MIB))
    before = store.state()
    assert kit.initial(who, want()) == first
    assert kit.update(1, want(used=3 * MIB)) == second
    assert store.state() == before and kit.balance() == (970, 100)
    last = kit.terminate(1, report(used=MIB))  # another type with the same number is another request
    assert kit.balance() == (960, 0)
    before = store.state()
    assert kit.terminate(1, report(used=MIB)) == last
    assert kit.update(1, want(used=3 * MIB)) == second
    assert store.state() == before
    assert kit.engine.counters.repeats == 4 and kit.engine.counters.altered_repeats == 0


@pytest.mark.parametrize("kind", [RequestKind.INITIAL, RequestKind.EVENT])
def test_cc_040_a_repeat_is_a_repeat_after_the_identity_has_gone(kind: RequestKind) -> None:
    # CC-040: A repeat returns the stored answer and changes nothing.
    kit, store = a_kit()
    who, other = kit.account("a", cents=1000), kit.account("b", cents=1000)
    service, more = want(), dict[str, Any](session="s", who=who)
    if kind is RequestKind.EVENT:
        service, more = messages(1), {**more, "context": SMS, "action": EventAction.DIRECT_DEBIT}
    first = kit.ask(kind, 0, service, **more)
    assert first.result is Result.SUCCESS
    before = (kit.balance("a"), kit.balance("b"))
    kit.run(subscriber_operations.remove_identity(kit.engine, kit.order(), "sub-a", who))
    assert kit.ask(kind, 0, service, **more) == first
    kit.run(subscriber_operations.add_identity(kit.engine, kit.order(), "sub-b", who))
    assert kit.ask(kind, 0, service, **more) == first
    assert kit.ask(kind, 0, service, **{**more, "who": other}) == first
    assert (kit.balance("a"), kit.balance("b")) == before
    # Another request under this Session-Id is another subscriber's, and no repeat.
    assert kit.ask(kind, 7, service, **more).result is Result.UNABLE_TO_COMPLY
    audit(store)


def test_cc_040_a_repeat_over_another_peer_is_a_repeat() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    sent: list[Outcome] = []
    for peer in ("gw1.example.net", "gw2.example.net"):
        base = msgspec.structs.replace(request_of(1, want(used=MIB)), origin_host=peer)
        sent.append(kit.charge(base))
    assert sent[0] == sent[1] and kit.balance() == (990, 100)
    audit(store)


def request_of(number: int, *services: ServiceRequest, digest: bytes = b"") -> ChargingRequest:
    return ChargingRequest(
        "s", RequestKind.UPDATE, number, "gw1.example.net", "example.net", "32251@3gpp.org", services, digest=digest
    )


def test_cc_041_the_answer_is_in_the_commit_of_the_debit() -> None:
    # CC-041: The stored answer and the balance change are committed in one transaction, before the CCA leaves.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    answers: list[object] = []
    commits: list[tuple[int, int]] = []
    inner: Any = store._apply

    def watched(partition: int, transaction: Any) -> Any:
        verdict = inner(partition, transaction)
        session = session_of(store)
        posted = store.accounts()["a"].posted_micros
        commits.append((posted, int(session.was_seen(RequestKind.UPDATE, 1))))
        assert answers == []
        return verdict

    store._apply = watched  # type: ignore[method-assign]
    kit.engine.charge(request_of(1, want(used=MIB)), kit.monotonic() + 5, answers.append)
    assert commits == [(9_900_000, 1)] and len(answers) == 1


def test_cc_042_numbers_are_kept_for_life_and_old_outcomes_are_not_guessed() -> None:
    # CC-042: Keep the set of processed request numbers for the life of the session, and the outcomes of the last ones;
    # a repeat older than the kept outcomes is answered 5012, counted, never processed.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    answers = []
    for number in range(1, 7):
        kit.now_us += 61_000_000
        answers.append(kit.update(number, want(used=MIB)))
    before = store.state()
    for number in (3, 4, 5, 6):
        assert kit.update(number, want(used=MIB)) == answers[number - 1]
    for number in (1, 2):
        assert kit.update(number, want(used=MIB)).result is Result.UNABLE_TO_COMPLY
    assert store.state() == before and kit.balance() == (940, 100)
    assert kit.engine.counters.forgotten_repeats == 2


def test_cc_042_outcomes_of_the_last_minute_are_all_kept() -> None:
    kit, _ = a_kit()
    kit.initial(kit.account(cents=1000), want())
    answers = [kit.update(number, want(used=MIB)) for number in range(1, 20)]
    kit.now_us += 59_000_000
    assert [kit.update(number, want(used=MIB)) for number in range(1, 20)] == answers


def test_cc_042_outcomes_outlive_the_session_by_ten_minutes_and_an_events_by_an_hour() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    last = kit.terminate(1, report(used=MIB))
    event = kit.event(who, messages(1))
    kit.advance(600)
    assert kit.terminate(1, report(used=MIB)) == last
    kit.advance(2900)
    assert kit.event(who, messages(1)) == event
    assert kit.balance() == (981, 0)
    with pytest.raises(ValueError, match="CC-042"):
        ChargingSettings(tombstone_s=599)
    with pytest.raises(ValueError, match="CC-042"):
        ChargingSettings(event_kept_s=599)
    audit(store)


def test_cc_043_an_altered_repeat_gets_the_stored_answer_and_an_alarm() -> None:
    # CC-043: Same key, different content: answer from store, raise an alarm counter; never process.
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want())
    first = kit.charge(request_of(1, want(used=MIB), digest=b"aaaa"))
    before = store.state()
    assert kit.charge(request_of(1, want(used=9 * MIB), digest=b"bbbb")) == first
    assert store.state() == before
    assert (kit.engine.counters.repeats, kit.engine.counters.altered_repeats) == (1, 1)


def test_cc_044_validity_is_replayed_unchanged() -> None:
    # CC-044: ... Validity-Time is sent unchanged.
    kit, _ = a_kit()
    kit.initial(kit.account(cents=1000), want())
    assert only(kit.update(1, want(used=MIB))).validity_s == 3600
    kit.now_us += 1800_000_000
    assert only(kit.update(1, want(used=MIB))).validity_s == 3600


def test_cc_045_a_lower_number_never_seen_is_processed() -> None:
    # CC-045: a number lower than one already seen but itself never seen is processed. send #3 before #2.
    kit, _ = a_kit()
    kit.initial(kit.account(cents=1000), want())
    kit.update(1, want(used=MIB))
    kit.update(3, want(used=MIB))
    late = kit.update(2, want(used=MIB))
    assert late.result is Result.SUCCESS and kit.balance() == (970, 100)
    assert kit.update(2, want(used=MIB)) == late and kit.balance() == (970, 100)


def test_cc_046_gaps_and_any_first_number_are_accepted() -> None:
    # CC-046: Gaps in CC-Request-Number are accepted. Number need not start at 0.
    kit, _ = a_kit()
    who = kit.account(cents=1000)
    assert kit.ask(RequestKind.INITIAL, 1, want(), who=who).result is Result.SUCCESS
    assert kit.update(17, want(used=MIB)).result is Result.SUCCESS
    assert kit.update(2**32 - 1, want(used=MIB)).result is Result.SUCCESS
    assert kit.update(18, want(used=MIB)).result is Result.SUCCESS
    assert kit.balance() == (970, 100)


def test_cc_047_another_initial_closes_and_opens_anew() -> None:
    # CC-047: INITIAL for an already open Session-Id with a different request number: close the old session (release),
    # then treat as new, or reject 5012; default close+new.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want(), want(200))
    kit.update(1, want(used=MIB))
    assert kit.balance() == (990, 200)
    again = kit.ask(RequestKind.INITIAL, 5, want(), who=who)
    assert only(again).granted == 10 * MIB and kit.balance() == (990, 100)
    assert [event.close_cause for event in store.events("a")].count("reopened_by_initial") == 1
    audit(store)


def test_cc_047_the_old_session_is_closed_even_when_the_new_one_is_refused() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    suspend(kit)
    assert kit.ask(RequestKind.INITIAL, 5, want(), who=who).result is Result.SERVICE_DENIED
    assert kit.balance() == (1000, 0)
    audit(store)
    suspend(kit, status=AccountStatus.ACTIVE)
    assert kit.update(6, want()).result is Result.UNKNOWN_SESSION
    assert kit.advance(7200) == 0
    audit(store)


def test_cc_047_the_setting_rejects_instead() -> None:
    kit, store = a_kit(ChargingSettings(reopen_on_initial=False))
    who = kit.account(cents=1000)
    kit.initial(who, want())
    before = store.state()
    assert kit.ask(RequestKind.INITIAL, 5, want(), who=who).result is Result.UNABLE_TO_COMPLY
    assert store.state() == before


def test_cc_048_update_after_termination_is_5002() -> None:
    # CC-048: UPDATE arriving after TERMINATION of the same session. cmd 5002.
    kit, _ = a_kit()
    kit.initial(kit.account(cents=1000), want())
    kit.terminate(2, report(used=MIB))
    assert kit.update(3, want()).result is Result.UNKNOWN_SESSION
    assert kit.balance() == (990, 0)


def test_cc_049_late_usage_is_recorded_once_and_not_debited() -> None:
    # CC-049: an UPDATE with a lower number after TERMINATION that carries USU: record as orphan usage, no debit. 5002.
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want())
    kit.terminate(2, report(used=MIB))
    for _ in range(2):
        assert kit.update(1, want(used=5 * MIB)).result is Result.UNKNOWN_SESSION
    orphans = [event for event in store.events("a") if event.kind == "orphan"]
    assert [event.usage[0].unrated for event in orphans] == [((BucketKind.OCTETS, 5 * MIB),)]
    assert kit.balance() == (990, 0)
    audit(store)


def test_cc_050_a_hundred_sessions_at_once_lose_no_update() -> None:
    # CC-050: All balance changes of one account are serialised. 100 parallel sessions, sum check.
    pending: list[Callable[[], None]] = []
    store = AuditedStore(now_us=lambda: START_US)
    kit = Kit(store)
    who = kit.account(cents=100_000)
    store._deliver = pending.append
    answers: list[object] = []
    for number in range(100):
        request = msgspec.structs.replace(
            request_of(0, want()),
            session_id=f"s{number}",
            kind=RequestKind.INITIAL,
            identities=(who,),
        )
        kit.engine.charge(request, kit.monotonic() + 5, answers.append)
    drain(pending)
    for number in range(100):
        request = msgspec.structs.replace(request_of(1, want(used=3 * MIB)), session_id=f"s{number}")
        kit.engine.charge(request, kit.monotonic() + 5, answers.append)
    drain(pending)
    assert len(answers) == 200 and all(isinstance(one, Outcome) for one in answers)
    account = store.accounts()["a"]
    assert (account.posted_micros, account.reserved_micros) == ((100_000 - 3000) * 10_000, 10_000 * 10_000)
    audit(store)


def drain(pending: list[Callable[[], None]]) -> None:
    while pending:
        pending.pop(0)()


def second_engine(kit: Kit) -> Engine:
    """Another worker over the same store."""
    nonces = itertools.count(2**40)

    def nonce() -> bytes:
        return next(nonces).to_bytes(8, "big")

    conductor = Conductor(
        kit.store,
        lambda: kit.now_us,
        kit.monotonic,
        lambda _seconds, call: kit.later.append(call),
        lambda _job, error: kit.raised.append(error),
        nonce,
    )
    catalogues = Catalogues({1: kit.catalogue}, 1)
    return Engine(kit.store, conductor, ChargingSettings(), catalogues, b"k" * 32, lambda: kit.now_us, nonce)


def test_cc_051_any_node_finds_session_and_repeats() -> None:
    # CC-051: With CC-Session-Failover=1 any node of the cluster must find session and duplicate state.
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    first = kit.engine
    kit.engine = second_engine(kit)
    answer = kit.update(1, want(used=3 * MIB))
    assert only(answer).granted == 10 * MIB and kit.balance() == (970, 100)
    kit.engine = first
    before = store.state()
    assert kit.update(1, want(used=3 * MIB)) == answer
    assert store.state() == before
    kit.terminate(2, report(used=MIB))
    assert kit.balance() == (960, 0)
    audit(store)


# What may happen to a subscriber in mid-session


def test_a_session_goes_on_after_a_sim_swap() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    kit.initial(who, want())
    fresh = Identity("imsi", "234150000000001")
    kit.run(subscriber_operations.add_identity(kit.engine, kit.order(), "sub-a", fresh))
    kit.run(subscriber_operations.remove_identity(kit.engine, kit.order(), "sub-a", who))
    assert kit.update(1, want(used=MIB)).result is Result.SUCCESS
    assert kit.initial(who, want(), session="t").result is Result.USER_UNKNOWN
    assert kit.initial(fresh, want(), session="u").result is Result.SUCCESS
    assert kit.balance() == (990, 200)
    audit(store)


def test_a_removed_subscriber_is_denied_at_its_next_report_and_pays_for_it() -> None:
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want())
    kit.run(subscriber_operations.remove_subscriber(kit.engine, kit.order(), "sub-a"))
    assert kit.update(1, want(used=2 * MIB)).result is Result.SERVICE_DENIED
    assert kit.balance() == (980, 0)
    audit(store)


def test_a_plan_change_prices_the_next_grant_and_not_the_running_one() -> None:
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want(200))  # RG 200 costs 20, quota 5 MiB
    change = subscriber_operations.change_subscriber
    kit.run(change(kit.engine, kit.order(), "sub-a", plan="d10-redirect"))  # has no rule for RG 200
    outcome = kit.update(1, want(200, used=2 * MIB), want(100))
    assert kit.balance()[0] == 960
    assert [one.result for one in outcome.services] == [Result.RATING_FAILED, Result.SUCCESS]
    audit(store)


def test_a_grant_keeps_its_price_after_another_key_took_over_the_new_plan() -> None:
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want(100), want(200))
    change = subscriber_operations.change_subscriber
    kit.run(change(kit.engine, kit.order(), "sub-a", plan="d10-redirect"))  # has no rule for RG 200
    kit.update(1, want(100, used=MIB))
    kit.update(2, report(200, used=2 * MIB))
    assert kit.balance() == (950, 100)
    (line,) = store.events("a")[-1].usage
    assert (line.tariff, line.debited_micros) == ("D20-5", 400_000)
    audit(store)


def test_a_plan_change_starts_a_new_total() -> None:
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000, plan="two"), want())  # D10-5
    change = subscriber_operations.change_subscriber
    kit.run(change(kit.engine, kit.order(), "sub-a", plan="d10"))
    kit.update(1, want(used=MIB // 2))  # half a MiB at the old tariff: one started step
    assert kit.balance() == (990, 100)
    kit.terminate(2, report(used=MIB // 2))  # half a MiB at the new one: another
    assert kit.balance() == (980, 0)
    audit(store)


def test_initial_after_the_end_with_the_same_number_is_a_repeat_and_with_another_a_new_session() -> None:
    kit, store = a_kit()
    who = kit.account(cents=1000)
    first = kit.initial(who, want())
    kit.terminate(1, report(used=MIB))
    assert kit.initial(who, want()) == first and kit.balance() == (990, 0)
    assert kit.ask(RequestKind.INITIAL, 2, want(), who=who).result is Result.SUCCESS
    assert kit.balance() == (990, 100)
    assert kit.update(3, want(used=MIB)).result is Result.SUCCESS
    assert kit.balance() == (980, 100)
    audit(store)


def test_a_session_under_an_events_id_lives_on_after_the_events_locator() -> None:
    kit, store = a_kit()
    who = kit.account(cents=100_000)
    kit.event(who, messages(1), session="x", action=EventAction.CHECK_BALANCE)
    kit.initial(who, want(), session="x")
    for number in range(1, 6):
        kit.advance(3000)
        assert kit.update(number, want(used=0), session="x").result is Result.SUCCESS
    audit(store)


def test_another_accounts_session_id_is_refused() -> None:
    kit, store = a_kit()
    kit.initial(kit.account(cents=1000), want())
    other = kit.account("b", cents=1000)
    assert kit.ask(RequestKind.INITIAL, 3, want(), who=other).result is Result.UNABLE_TO_COMPLY
    assert kit.balance("b") == (1000, 0) and kit.balance("a") == (1000, 100)
    audit(store)


def test_a_store_without_answer_is_an_error_and_no_grant() -> None:
    class Silent(AuditedStore):
        def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
            done(StoreFailure("no answer", False))

    kit, _ = a_kit()
    who = kit.account(cents=1000)
    kit.use(Silent())
    with pytest.raises(StoreUnavailable):
        kit.initial(who, want())


def test_keys_of_services_are_told_apart() -> None:
    kit, _ = a_kit()
    who = kit.account(cents=1000)
    plain = ServiceRequest(QuotaKey(100), Units())
    named = ServiceRequest(QuotaKey(100, (7,)), Units())
    outcome = kit.initial(who, plain, named)
    assert [one.granted for one in outcome.services] == [10 * MIB, 10 * MIB]
    assert kit.balance() == (1000, 200)
