"""Leases over the store contract: one holder at a time, taken over after the end, given back at once."""

from __future__ import annotations

from typing import Any

import pytest

from balance.store import CommitOutcome, StoreFailure
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.leases import CLOCK_ERROR_US, KEPT_BEYOND_S, Leasehold
from ocs.charging.saga import Commit
from tests.support.charging_kit import Kit

SECOND = 1_000_000


def _acquire(kit: Kit, hold: Leasehold) -> bool:
    taken: bool = kit.run(hold.acquire(kit.now_us, kit.engine.nonce))
    assert taken == hold.held(kit.now_us)
    return taken


def _two() -> tuple[Kit, Leasehold, Leasehold]:
    return Kit(), Leasehold(0, "work", "one", 10 * SECOND), Leasehold(0, "work", "two", 10 * SECOND)


def test_one_holder_at_a_time() -> None:
    kit, one, two = _two()
    assert _acquire(kit, one)
    assert not _acquire(kit, two)
    assert one.held(kit.now_us)


def test_names_and_partitions_are_leases_of_their_own() -> None:
    kit, one, _ = _two()
    assert _acquire(kit, one)
    assert _acquire(kit, Leasehold(0, "other", "two", 10 * SECOND))
    assert _acquire(kit, Leasehold(1, "work", "two", 10 * SECOND))


def test_a_renewal_moves_the_end() -> None:
    kit, one, two = _two()
    for _ in range(5):
        assert _acquire(kit, one)
        kit.now_us += 6 * SECOND
        assert one.held(kit.now_us)
        assert not _acquire(kit, two)


def test_a_lease_that_ended_is_taken_over_and_its_old_holder_learns_it() -> None:
    kit, one, two = _two()
    assert _acquire(kit, one)
    kit.now_us += 10 * SECOND - CLOCK_ERROR_US
    assert not one.held(kit.now_us)
    assert not _acquire(kit, two), "the first holder's clock may be behind"
    kit.now_us += 2 * CLOCK_ERROR_US
    assert _acquire(kit, two)
    assert not _acquire(kit, one)
    assert two.held(kit.now_us)


def test_a_document_that_was_forgotten_is_a_free_lease() -> None:
    kit, one, two = _two()
    assert _acquire(kit, one)
    kit.now_us += (KEPT_BEYOND_S + 11) * SECOND
    assert _acquire(kit, two)
    assert not _acquire(kit, one)


def test_a_lease_given_back_is_free_at_once() -> None:
    kit, one, two = _two()
    assert _acquire(kit, one)
    kit.run(one.release(kit.engine.nonce))
    assert not one.held(kit.now_us)
    assert _acquire(kit, two)
    kit.run(one.release(kit.engine.nonce))
    assert not _acquire(kit, one), "giving back what is another's changes nothing"


def test_two_that_ask_at_the_same_moment_get_one_lease() -> None:
    kit, one, two = _two()
    first, second = one.acquire(kit.now_us, kit.engine.nonce), two.acquire(kit.now_us, kit.engine.nonce)
    # Both have read that it is free before either writes.
    nothing = {one.key: None}
    next(first), next(second)
    commits = [first.send(nothing), second.send(nothing)]
    verdicts: list[Any] = []

    def done(outcome: CommitOutcome) -> None:
        assert not isinstance(outcome, StoreFailure)
        verdicts.append(outcome[0])

    for commit in commits:
        assert isinstance(commit, Commit)
        kit.store.commit(commit.partition, (commit.transaction,), done)
    taken = []
    for saga, verdict in zip((first, second), verdicts, strict=True):
        with pytest.raises(StopIteration) as end:
            saga.send(verdict)
        taken.append(end.value.value)
    assert taken == [True, False]
    assert (one.held(kit.now_us), two.held(kit.now_us)) == (True, False)


def test_a_store_that_fails_takes_nothing_away() -> None:
    kit, one, _ = _two()
    assert _acquire(kit, one)
    saga = one.acquire(kit.now_us, kit.engine.nonce)
    next(saga)
    with pytest.raises(StoreUnavailable):
        saga.throw(StoreUnavailable("gone"))
    assert one.held(kit.now_us)


def test_a_lease_shorter_than_the_clocks_error_is_refused() -> None:
    with pytest.raises(ValueError, match="expected more than"):
        Leasehold(0, "work", "one", 2 * CLOCK_ERROR_US)
