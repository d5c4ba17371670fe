"""A session's locator outlives it, also where the store fails in the moment in which it is written anew (LEDGER §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from balance.memory_store import MemoryStore
from balance.store import CommitOutcome, Transaction
from ocs.charging.requests import Identity, RequestKind, Result
from ocs.charging.subscriber_operations import add_subscriber, remove_subscriber
from tests.support.charging_kit import MIB, START_US, Kit, messages, report, want
from tests.support.faulty_store import FaultyStore

HOUR_S = 3600


def two_workers() -> tuple[Kit, Kit, FaultyStore]:
    """Two workers on one store; that of the first one fails when it is told to."""
    clock: list[Kit] = []
    shared = MemoryStore(now_us=lambda: clock[0].now_us if clock else START_US)
    faulty = FaultyStore(shared)
    here, there = Kit(faulty, number=1), Kit(shared, number=2)
    clock.append(here)
    return here, there, faulty


def ring(kit: Kit) -> None:
    """All timers that are set now."""
    timers, kit.later[:] = list(kit.later), []
    for call in timers:
        call()


def test_a_long_session_is_found_by_others_although_its_locator_could_not_be_written_once() -> None:
    here, there, store = two_workers()
    here.initial(here.account(cents=1000), want())
    settings, number = here.engine.settings, 0
    while here.now_us < START_US + (settings.locator_s + 2 * HOUR_S) * 1_000_000:
        here.now_us += HOUR_S * 1_000_000
        number += 1
        if here.now_us == START_US + (settings.locator_s // 2 + HOUR_S) * 1_000_000:
            # The update itself needs no read: its documents are cached.
            store.fail_reads()
        assert here.update(number, want()).result is Result.SUCCESS
        ring(here)
    there.now_us = here.now_us
    assert there.update(number + 1, want()).result is Result.SUCCESS


def test_a_session_under_an_events_locator_is_opened_although_that_could_not_be_written_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there, store = two_workers()
    who = here.account(cents=1000)
    here.event(who, messages(), session="both")
    commits: list[int] = []

    def commit(partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]) -> None:
        commits.append(partition)
        if len(commits) == 2:
            # The first commit is the session's, the second is that of its locator.
            store.fail_commits("refused")
        FaultyStore.commit(store, partition, transactions, done)

    monkeypatch.setattr(store, "commit", commit)
    assert here.ask(RequestKind.INITIAL, 1, want(), session="both", who=who).result is Result.SUCCESS
    ring(here)
    for number in range(2, 5):
        # The event's locator lives for little more than an hour.
        here.now_us += HOUR_S // 2 * 1_000_000
        there.now_us = here.now_us
        assert there.update(number, want(), session="both").result is Result.SUCCESS


@pytest.mark.parametrize("same_account", [False, True])
def test_a_remembered_session_whose_name_another_subscriber_has_taken_is_looked_for_anew(same_account: bool) -> None:
    # Both lie in one partition, so the document of the new session is found under the key of the old one.
    here, there, _ = two_workers()
    first = here.account("a", cents=1000)
    if same_account:
        second = Identity("e164", "447700999999")
        here.run(add_subscriber(here.engine, here.order("b"), "sub-b", "a", "d10-300s", [second]))
    else:
        second = here.account("b", cents=1000, plan="d10-300s")
    here.initial(first, want())
    here.update(1, want(used=0))
    here.terminate(2, report(used=0))
    here.initial(first, want(), session="another")  # what it holds could pay for the use of the other account
    here.now_us += 2 * here.engine.settings.locator_s * 1_000_000
    there.now_us = here.now_us
    payer = "a" if same_account else "b"
    assert there.ask(RequestKind.INITIAL, 1, want(), who=second).result is Result.SUCCESS
    before = there.balance("a")
    assert here.update(2, want(used=MIB)).result is Result.SUCCESS
    assert there.balance(payer)[0] == 1000 - 10
    if not same_account:
        assert there.balance("a") == before
    [session] = [one for one in there.sessions() if one["session"] == "s"]
    assert (session["account"], session["subscriber"], session["plan"]) == (payer, "sub-b", "d10-300s")


def test_initial_under_the_name_of_another_accounts_open_session_changes_neither() -> None:
    here, there, _ = two_workers()
    here.initial(here.account("a", cents=1000), want())
    other = here.account("b", cents=1000)
    here.initial(other, want(), session="another")
    for documents in there.store._data:  # type: ignore[attr-defined]
        for key in [key for key in documents.documents if key.split(b":")[1] == b"l"]:
            del documents.documents[key]
    before = there.balance("a"), there.balance("b")
    assert there.event(other, messages(), session="s").result is Result.UNABLE_TO_COMPLY
    for number in (0, 7):  # as a repeat of the other's request, and as a new one
        assert there.ask(RequestKind.INITIAL, number, want(), who=other).result is Result.UNABLE_TO_COMPLY
    assert (there.balance("a"), there.balance("b")) == before and not there.raised


def test_a_session_ends_although_its_subscriber_was_added_to_another_account_of_the_partition() -> None:
    # Their documents have one key, and a change of the new one bumps the other account.
    here, _, _ = two_workers()
    who = here.account("a", cents=1000)
    here.account("b", cents=1000)
    here.initial(who, want())
    here.run(remove_subscriber(here.engine, here.order("gone"), "sub-a"))
    here.run(add_subscriber(here.engine, here.order("back"), "sub-a", "b", "d10", [who]))
    assert here.update(1, want(used=MIB)).result is Result.SERVICE_DENIED
    assert here.balance("a") == (990, 0) and here.balance("b") == (1000, 0)
    assert here.sessions() == []
