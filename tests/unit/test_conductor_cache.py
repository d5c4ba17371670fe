"""The conductor with its cache, and with a second process on the same store (LEDGER §1, §6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from balance.account import Account, Subscriber, new_account
from balance.documents import account_key, subscriber_key
from balance.memory_store import MemoryStore
from balance.store import Lease, Leased, ReadOutcome, Transaction
from ocs.charging.conductor import LEASE_MS, LOSSES_BEFORE_LEASE, Conductor, StoreUnavailable
from ocs.charging.workspace import Workspace

PARTITION = 3
ACCOUNT = account_key(PARTITION, "a")
PLANS = {name: subscriber_key(PARTITION, name) for name in ("u1", "u2")}


class Job:
    """Calls a function with the workspace."""

    partition = PARTITION
    account_key = ACCOUNT

    def __init__(self, apply: Callable[[Workspace], object], *keys: bytes, deadline: float = 10.0) -> None:
        self._apply = apply
        self._keys = keys
        self.deadline = deadline
        self.results: list[object] = []
        self.runs = 0

    def keys(self) -> Sequence[bytes]:
        return self._keys

    def apply(self, workspace: Workspace, now_us: int) -> object:
        self.runs += 1
        return self._apply(workspace)

    def done(self, result: object) -> None:
        self.results.append(result)


def add(amount: int, subscriber: str = "") -> Job:
    """Adds to the account; the result is the new balance and the subscriber's plan as the job saw it."""

    def apply(workspace: Workspace) -> object:
        account = workspace.account() or new_account("a", 978, 2, 0, 0)
        account.buckets[0].posted += amount
        workspace.put_account(account)
        return account.buckets[0].posted, plan_of(workspace, subscriber)

    return Job(apply, *([PLANS[subscriber]] if subscriber else []))


def look(subscriber: str = "") -> Job:
    """Changes nothing."""

    def apply(workspace: Workspace) -> object:
        account = workspace.account()
        return None if account is None else account.buckets[0].posted, plan_of(workspace, subscriber)

    return Job(apply, *([PLANS[subscriber]] if subscriber else []))


def give_plan(subscriber: str, plan: str) -> Job:
    """Changes a subscriber, which bumps the account."""
    return Job(lambda workspace: workspace.put(PLANS[subscriber], Subscriber(subscriber, "a", plan)), PLANS[subscriber])


def plan_of(workspace: Workspace, subscriber: str) -> str:
    found = workspace.get(PLANS[subscriber], Subscriber) if subscriber else None
    return "" if found is None else found.plan


class Process:
    """A worker on a store that it may share; what its store answers waits in `held` if it is told to."""

    def __init__(self, shared: MemoryStore, holder: bytes = b"", first_nonce: int = 1) -> None:
        nonces = iter(range(first_nonce, first_nonce + 10_000))
        self.shared = shared
        self.reads = 0
        self.sent: list[Transaction] = []
        self.before_commit: Callable[[], None] = lambda: None
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.now = 0.0
        self.partitions = shared.partitions
        self.forget: Callable[[], None] = lambda: None
        self.conductor = Conductor(
            self,  # type: ignore[arg-type]
            lambda: 0,
            lambda: self.now,
            lambda seconds, call: self.later.append((seconds, call)),
            lambda _job, error: (_ for _ in ()).throw(error),
            lambda: next(nonces).to_bytes(8, "big"),
            holder=holder,
        )

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        self.reads += 1
        self.shared.read(partition, keys, done)

    def commit(self, partition: int, transactions: Sequence[Transaction], done: Callable[..., None]) -> None:
        self.sent.extend(transactions)
        self.before_commit()
        self.shared.commit(partition, transactions, done)

    def run(self, *jobs: Job) -> list[object]:
        for job in jobs:
            self.conductor.submit(job)
        return [result for job in jobs for result in job.results]

    def tick(self) -> float:
        """Ring the oldest timer; how long it was set for."""
        seconds, call = self.later.pop(0)
        call()
        return seconds


def posted(store: MemoryStore) -> int:
    found: list[Mapping[bytes, bytes | None]] = []
    store.read(PARTITION, (ACCOUNT,), found.append)  # type: ignore[arg-type]
    account = Workspace(ACCOUNT, found[0]).get(ACCOUNT, Account)
    assert account is not None
    return account.buckets[0].posted


def test_documents_are_read_once() -> None:
    process = Process(MemoryStore())
    process.run(add(1))
    process.run(give_plan("u1", "p"))
    reads = process.reads
    assert process.run(add(1, "u1"), add(1, "u1")) == [(2, "p"), (3, "p")]
    assert process.reads == reads and posted(process.shared) == 3


def test_a_stale_cache_costs_a_conflict_and_nothing_else() -> None:
    store = MemoryStore()
    here, there = Process(store), Process(store, first_nonce=10**6)
    here.run(add(0))
    here.run(add(1))
    there.run(add(10))
    assert here.run(add(100)) == [(111, "")]
    assert here.conductor.conflicts == 1 and posted(store) == 111


def test_what_is_answered_without_a_commit_is_read_afresh() -> None:
    # LEDGER §1: what is read but not written is not protected, so a cached balance must not be told.
    store = MemoryStore()
    here, there = Process(store), Process(store, first_nonce=10**6)
    here.run(add(0))
    here.run(add(1))  # cached from now on: what is made is not, what is read is
    there.run(add(10))
    job = look()
    assert here.run(job) == [(11, "")]
    assert job.runs == 2  # on the cache, then on what was read


def test_a_quiet_job_beside_one_that_writes_is_read_afresh_too() -> None:
    store = MemoryStore()
    here, there = Process(store), Process(store, first_nonce=10**6)
    here.run(add(1))
    quiet = look("u1")

    def queue_both() -> None:
        here.before_commit = lambda: None
        there.run(give_plan("u1", "new"))
        here.run(add(1), quiet)

    here.before_commit = queue_both
    here.run(add(1))
    assert quiet.results == [(3, "new")]


def test_a_changed_subscriber_is_seen_although_another_one_of_the_account_was_read_since() -> None:
    # Both subscribers are cached here; one changes elsewhere. The conflict that tells of it is met by a request of the
    # other one, which reads the account and not the changed subscriber.
    store = MemoryStore()
    here, there = Process(store), Process(store, first_nonce=10**6)
    here.run(add(0), give_plan("u1", "old"), give_plan("u2", "same"))
    assert here.run(add(1, "u1")) == [(1, "old")] and here.run(add(1, "u2")) == [(2, "same")]
    there.run(give_plan("u1", "new"))
    assert here.run(add(1, "u2")) == [(3, "same")]
    assert here.run(add(1, "u1")) == [(4, "new")]


def test_a_store_that_may_have_changed_is_read_again() -> None:
    process = Process(MemoryStore())
    process.run(add(1))
    process.forget()
    reads = process.reads
    process.run(add(1))
    assert process.reads == reads + 1


def test_who_loses_twice_takes_a_lease_and_wins() -> None:
    store = MemoryStore()
    here, there = Process(store, b"here"), Process(store, b"there", 10**6)
    here.run(add(0))

    def rival() -> None:
        # Without the lease it would win forever: it always commits between our read and our commit.
        if len(here.sent) <= LOSSES_BEFORE_LEASE + 2:
            there.conductor.submit(add(1000))

    here.before_commit = rival
    job = add(1)
    here.conductor.submit(job)
    assert job.results
    assert here.conductor.leases_taken >= 1
    taken = [one.lease for one in here.sent if one.lease is not None and one.lease.take_ms]
    assert taken == [Lease(ACCOUNT, b"here", LEASE_MS)] * len(taken)


def test_who_meets_a_lease_waits_and_reads_again_with_all_that_came_meanwhile() -> None:
    store = MemoryStore()
    here, there = Process(store, b"here"), Process(store, b"there", 10**6)
    here.run(add(1))
    hold(store, b"there")
    first = add(10)
    here.conductor.submit(first)
    assert not first.results and here.conductor.leases_met == 1
    there.run(add(100))
    second = add(1000)
    here.conductor.submit(second)
    store._now_us = lambda: LEASE_MS * 1000  # the lease is over
    assert here.tick() == LEASE_MS / 1000
    assert (first.results, second.results) == ([(111, "")], [(1111, "")])
    assert len(here.sent) == 3  # both together, and never what was computed before the wait


def test_a_lease_that_outlasts_the_deadline_fails_the_jobs() -> None:
    store = MemoryStore()
    here = Process(store, b"here")
    here.run(add(1))
    hold(store, b"there")
    job = add(10)
    job.deadline = 1.0
    here.conductor.submit(job)
    here.now = 2.0
    here.tick()
    assert isinstance(job.results[0], StoreUnavailable) and here.conductor.idle and posted(store) == 1


def hold(store: MemoryStore, holder: bytes) -> None:
    """Take the lease as another process does."""
    outcomes: list[object] = []
    store.commit(PARTITION, [Transaction((), lease=Lease(ACCOUNT, holder, LEASE_MS))], outcomes.append)
    assert not isinstance(outcomes[0], Leased)
