"""The conductor: one commit per account in flight, nothing answered before it, nothing done twice (LEDGER §1, §4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from balance.account import Account, new_account
from balance.documents import account_key
from balance.memory_store import MemoryStore
from balance.store import CommitOutcome, ReadOutcome, StoreFailure, Transaction
from ocs.charging import conductor as module
from ocs.charging.conductor import (
    Conductor,
    DeadlinePassed,
    JobFailed,
    LaneFull,
    StoreUnavailable,
)
from ocs.charging.workspace import Workspace

PARTITION = 3


class Add:
    """Adds to the main bucket of an account; optionally does something when it is done."""

    def __init__(self, amount: int, account: str = "a", deadline: float = 10.0) -> None:
        self.partition = PARTITION
        self.account = account
        self.account_key = account_key(PARTITION, account)
        self.deadline = deadline
        self.amount = amount
        self.results: list[object] = []
        self.runs = 0
        self.then: Callable[[], None] = lambda: None

    def keys(self) -> Sequence[bytes]:
        return ()

    def apply(self, workspace: Workspace, now_us: int) -> object:
        self.runs += 1
        account = workspace.account() or new_account(self.account, 978, 2, 0, 0)
        account.buckets[0].posted += self.amount
        workspace.put_account(account)
        return account.buckets[0].posted

    def done(self, result: object) -> None:
        self.results.append(result)
        self.then()


class Raises(Add):
    def apply(self, workspace: Workspace, now_us: int) -> object:
        super().apply(workspace, now_us)
        raise ValueError("a bug")


class Looks(Add):
    def apply(self, workspace: Workspace, now_us: int) -> object:
        account = workspace.account()
        return None if account is None else account.buckets[0].posted


class House:
    """A conductor over a memory store whose answers wait until they are let through."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], None]] = []
        self.later: list[Callable[[], None]] = []
        self.reported: list[Exception] = []
        self.now = 0.0
        self.store = MemoryStore(deliver=self.pending.append)
        nonces = iter(range(1, 10_000))
        self.conductor = Conductor(
            self.store,
            lambda: 0,
            lambda: self.now,
            lambda _seconds, call: self.later.append(call),
            lambda _job, error: self.reported.append(error),
            lambda: next(nonces).to_bytes(8, "big"),
        )

    def let(self, calls: int = 1000) -> None:
        for _ in range(calls):
            if self.pending:
                self.pending.pop(0)()
            elif self.later:
                self.later.pop(0)()
            else:
                return

    def submit(self, *jobs: Add) -> None:
        for job in jobs:
            self.conductor.submit(job)

    def posted(self, account: str = "a") -> int:
        got: list[Any] = []
        key = account_key(PARTITION, account)
        self.store.read(PARTITION, (key,), got.append)
        self.pending.pop()()
        found = Workspace(key, got[0]).get(key, Account)
        return 0 if found is None else found.buckets[0].posted


def test_what_arrives_during_a_commit_shares_the_next_one() -> None:
    house = House()
    commits: list[int] = []
    inner = house.store.commit

    def counted(partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]) -> None:
        commits.append(len(transactions))
        inner(partition, transactions, done)

    house.store.commit = counted  # type: ignore[method-assign]
    jobs = [Add(1) for _ in range(10)]
    house.submit(*jobs)
    house.let()
    assert [job.results for job in jobs] == [[n] for n in range(1, 11)]
    assert len(commits) == 2  # the first alone, the nine that waited together
    assert house.conductor.idle


def test_nothing_is_answered_before_its_commit() -> None:
    house = House()
    job = Add(1)
    house.submit(job)
    house.let(1)  # the read
    assert job.runs == 1 and job.results == []
    house.let(1)  # the commit
    assert job.results == [1]


def test_a_job_that_raises_changes_nothing_and_leaves_its_neighbours_alone() -> None:
    house = House()
    first, bad, good = Add(0), Raises(100), Add(5)
    house.submit(first, bad, good)
    house.let()
    assert isinstance(bad.results[0], JobFailed)
    assert good.results == [5] and house.posted() == 5
    assert [str(error) for error in house.reported] == ["a bug"]


def test_a_job_that_changes_nothing_commits_nothing() -> None:
    house = House()
    house.submit(Looks(0))
    house.let(1)
    assert house.pending == [] and house.conductor.idle


def test_jobs_that_waited_too_long_are_not_begun() -> None:
    house = House()
    first, late = Add(1), Add(1, deadline=1.0)
    house.submit(first, late)
    house.now = 2.0
    house.let()
    assert first.results == [1]
    assert isinstance(late.results[0], DeadlinePassed) and late.runs == 0
    assert house.conductor.idle


def test_a_caller_may_submit_while_it_is_told_of_a_missed_deadline() -> None:
    # Its next request for the same account must neither start the lane twice nor be done twice.
    house = House()
    first, late, waiting, following = Add(1), Add(1, deadline=1.0), Add(10), Add(100)
    late.then = lambda: house.submit(following)
    house.submit(first, late, waiting)
    house.now = 2.0
    house.let()
    assert [len(job.results) for job in (first, late, waiting, following)] == [1, 1, 1, 1]
    assert house.posted() == 111
    assert house.conductor.idle


def test_a_caller_may_submit_while_it_is_answered() -> None:
    house = House()
    first, following = Add(1), Add(10)
    first.then = lambda: house.submit(following)
    house.submit(first)
    house.let()
    assert following.results == [11] and house.conductor.idle


def test_a_full_lane_refuses_at_once() -> None:
    house = House()
    jobs = [Add(1) for _ in range(module.MAX_JOBS_WAITING + 2)]
    house.submit(*jobs)
    assert isinstance(jobs[-1].results[0], LaneFull)
    house.let(5000)
    assert house.posted() == module.MAX_JOBS_WAITING + 1


def test_a_conflict_is_recomputed_from_what_came_back() -> None:
    house, job = House(), Add(1)
    house.submit(job)
    house.let(1)  # read and sent; before it lands, another worker commits
    other = House()
    other.store = house.store
    other.conductor.use(house.store)
    pending, house.pending[:] = list(house.pending), []
    rival = Add(100)
    other.conductor.submit(rival)
    house.let()
    assert rival.results  # the rival's read saw the first commit, which the memory store applies at once
    house.pending.extend(pending)
    house.let()
    assert {job.results[0], rival.results[0]} == {1, 101}


class Unsure:
    """Fails commits by a script: `lost` never arrives, `unknown` is applied, both are reported as unknown."""

    def __init__(self, inner: MemoryStore, script: list[str]) -> None:
        self.inner = inner
        self.script = script
        self.partitions = inner.partitions

    def _next(self, wanted: set[str]) -> str:
        return self.script.pop(0) if self.script and self.script[0] in wanted else ""

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        if self._next({"read fails"}):
            done(StoreFailure("no answer", False))
        else:
            self.inner.read(partition, keys, done)

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        fault = self._next({"lost", "unknown", "refused"})
        if fault == "unknown":
            self.inner.commit(partition, transactions, lambda _: done(StoreFailure("no answer", True)))
        elif fault:
            done(StoreFailure("no answer", fault == "lost"))
        else:
            self.inner.commit(partition, transactions, done)


def under(script: list[str]) -> tuple[House, Add]:
    house, job = House(), Add(1)
    house.conductor.use(Unsure(house.store, script))  # type: ignore[arg-type]
    house.submit(job)
    house.let()
    return house, job


def test_an_unknown_commit_that_was_applied_is_found_by_its_nonce() -> None:
    house, job = under(["unknown"])
    assert job.results == [1] and job.runs == 1 and house.posted() == 1


def test_an_unknown_commit_that_was_lost_is_done_again() -> None:
    house, job = under(["lost"])
    assert job.results == [1] and job.runs == 2 and house.posted() == 1


def test_a_read_back_that_fails_is_tried_again() -> None:
    house, job = under(["unknown", "read fails", "read fails"])
    assert job.results == [1] and job.runs == 1 and house.posted() == 1


def test_a_refused_commit_is_done_again() -> None:
    house, job = under(["refused", "refused"])
    assert job.results == [1] and house.posted() == 1


def test_a_store_that_never_answers_fails_the_job_after_its_deadline() -> None:
    house, job = House(), Add(1, deadline=1.0)
    house.conductor.use(Unsure(house.store, ["read fails"] * 9))  # type: ignore[arg-type]
    house.submit(job)
    house.now = 2.0
    house.let()
    assert isinstance(job.results[0], StoreUnavailable) and house.conductor.idle


def test_other_accounts_do_not_wait() -> None:
    house, here, there = House(), Add(1), Add(1, account="b")
    house.submit(here, there)
    assert len(house.pending) == 2
