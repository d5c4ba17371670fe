"""Any sequence of calls on a store gives what a plain dictionary gives (`balance.store`)."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balance.memory_store import MemoryStore
from balance.sqlite_store import SqliteStore
from balance.store import (
    CommitOutcome,
    Committed,
    Conflict,
    DueChange,
    DueItem,
    IndexChange,
    Lease,
    Leased,
    OutboxItem,
    Store,
    StoreFailure,
    Transaction,
    Write,
)
from tests.support.redis_server import RedisServer
from tests.support.redis_store import RedisClock, ThreadedRedisStore
from tests.support.store_kit import Calls, key

PARTITIONS = 2
NAMES = ("a", "b", "c")
MEMBERS = (b"m", b"\x00", b"\xff\xff", b"mm")
INDEXES = (b"i", b"j")
END_US = 2**62


# What a test does, without knowing what the store holds: the versions are filled in from the model

Guess = Literal["right", "absent", "old", "foreign"]


@dataclass(frozen=True)
class WritePlan:
    name: str
    guess: Guess
    body: bytes | None
    ttl_s: int


@dataclass(frozen=True)
class TransactionPlan:
    writes: tuple[WritePlan, ...]
    events: tuple[bytes, ...]
    due: tuple[DueChange, ...]
    indexes: tuple[IndexChange, ...]
    lease: Lease | None = None


@dataclass(frozen=True)
class CommitStep:
    partition: int
    transactions: tuple[TransactionPlan, ...]


@dataclass(frozen=True)
class PassStep:
    """Time passes."""

    seconds: int


@dataclass(frozen=True)
class TrimStep:
    partition: int
    upto: int


@dataclass(frozen=True)
class PageStep:
    """Ask for a page of everything."""

    partition: int
    after: int
    member: bytes
    now_us: int
    limit: int


@dataclass(frozen=True)
class ReopenStep:
    """Close and open a store that outlives its process."""


Step = CommitStep | PassStep | TrimStep | PageStep | ReopenStep

guesses: st.SearchStrategy[Guess] = st.sampled_from(["right", "right", "right", "right", "absent", "old", "foreign"])
write_plans = st.builds(
    WritePlan, st.sampled_from(NAMES), guesses, st.none() | st.binary(max_size=3), st.sampled_from([0, 0, 2, 5])
)
due_changes = st.builds(DueChange, st.sampled_from(MEMBERS), st.none() | st.integers(0, 20))
leases = st.builds(
    Lease, st.sampled_from([b"r", b"ro"]), st.sampled_from([b"one", b"two"]), st.sampled_from([0, 0, 2000, 5000])
)
index_changes = st.builds(IndexChange, st.sampled_from(INDEXES), st.sampled_from(MEMBERS), st.booleans())
transaction_plans = st.builds(
    TransactionPlan,
    st.lists(write_plans, max_size=3, unique_by=lambda plan: plan.name).map(tuple),
    st.lists(st.binary(max_size=2), max_size=3).map(tuple),
    st.lists(due_changes, max_size=3).map(tuple),
    st.lists(index_changes, max_size=3).map(tuple),
    st.none() | leases,
)
partitions = st.integers(0, PARTITIONS - 1)
commit_steps = st.builds(CommitStep, partitions, st.lists(transaction_plans, min_size=1, max_size=4).map(tuple))
steps: st.SearchStrategy[Step] = st.one_of(
    commit_steps,
    commit_steps,
    commit_steps,
    st.builds(PassStep, st.integers(0, 4)),
    st.builds(TrimStep, partitions, st.integers(0, 30)),
    st.builds(
        PageStep,
        partitions,
        st.integers(0, 30),
        st.sampled_from([b"", *MEMBERS]),
        st.integers(0, 20),
        st.integers(1, 4),
    ),
    st.just(ReopenStep()),
)


@dataclass
class Model:
    """One partition as the contract says it, in the plainest way: no care for speed, everything spelled out."""

    documents: dict[str, bytes] = field(default_factory=dict)
    ends_us: dict[str, int] = field(default_factory=dict)
    old: dict[str, bytes] = field(default_factory=dict)
    """Some version that each document once had."""
    outbox: dict[int, bytes] = field(default_factory=dict)
    told: int = 0
    due: dict[bytes, int] = field(default_factory=dict)
    indexes: set[tuple[bytes, bytes]] = field(default_factory=set)
    leases: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    """root -> (holder, end)"""

    def forget_expired(self, now_us: int) -> None:
        for name in [name for name, end_us in self.ends_us.items() if end_us <= now_us]:
            del self.documents[name], self.ends_us[name]

    def ask(self, lease: Lease | None, now_us: int) -> int:
        """Microseconds to wait; 0: the lease lets this one pass."""
        if lease is None:
            return 0
        holder, end_us = self.leases.get(lease.root, (lease.holder, 0))
        if holder != lease.holder and end_us > now_us:
            return end_us - now_us
        if lease.take_ms:
            mine_us = end_us if holder == lease.holder else 0
            self.leases[lease.root] = (lease.holder, max(mine_us, now_us + lease.take_ms * 1000))
        return 0

    def expected(self, plan: WritePlan) -> bytes | None:
        present = self.documents.get(plan.name)
        right = None if present is None else present[:16]
        if plan.guess == "right":
            return right
        if plan.guess == "absent":
            return None
        if plan.guess == "old":
            return self.old.get(plan.name, b"\0" * 16)
        return (right or b"\0" * 16)[:8] + b"stranger"

    def wins(self, writes: Sequence[Write], plans: Sequence[WritePlan]) -> bool:
        found = [self.documents.get(plan.name) for plan in plans]
        return all(
            write.expected is None if document is None else write.expected == document[:16]
            for write, document in zip(writes, found, strict=True)
        )

    def apply(self, transaction: Transaction, plans: Sequence[WritePlan], now_us: int) -> None:
        for write, plan in zip(transaction.writes, plans, strict=True):
            previous = self.documents.pop(plan.name, None)
            self.ends_us.pop(plan.name, None)
            if previous is not None:
                self.old[plan.name] = previous[:16]
            if write.data is not None:
                self.documents[plan.name] = write.data
                if write.ttl_s:
                    self.ends_us[plan.name] = now_us + write.ttl_s * 1_000_000
        for event in transaction.events:
            self.told += 1
            self.outbox[self.told] = event
        for member, at_us in transaction.due:
            self.due.pop(member, None)
            if at_us is not None:
                self.due[member] = at_us
        for name, member, present in transaction.indexes:
            self.indexes.discard((name, member))
            if present:
                self.indexes.add((name, member))


class Run:
    """A store beside its model."""

    def __init__(self, kind: str, path: Path, server: RedisServer | None) -> None:
        self.kind = kind
        self.path = path
        self.now_us = 1_000_000_000
        self.models = [Model() for _ in range(PARTITIONS)]
        self.nonces = itertools.count(1)
        self.resources = ExitStack()
        self.real_time: RedisClock | None = None
        self.server = server
        if server is not None:
            client = self.resources.enter_context(server.client())
            client.flushall()
            self.real_time = RedisClock(client, self.now_us)
        self.store: Store = self.open()
        self.calls = Calls(self.store)

    def open(self) -> Store:
        if self.kind == "memory":
            return MemoryStore(PARTITIONS, lambda: self.now_us)
        if self.kind == "sqlite":
            return SqliteStore(self.path, lambda: self.now_us, partitions=PARTITIONS)
        assert self.server is not None
        return ThreadedRedisStore(
            self.server.url, level="fast", partitions=PARTITIONS, evalsha=self.kind == "redis by scripts"
        )

    def close(self) -> None:
        self.close_store()
        self.resources.close()

    def close_store(self) -> None:
        if not isinstance(self.store, MemoryStore):
            self.store.close()  # type: ignore[attr-defined]

    def step(self, step: Step) -> None:
        if isinstance(step, CommitStep):
            self.commit(step)
        elif isinstance(step, PassStep):
            self.now_us += step.seconds * 1_000_000
            if self.real_time is not None:
                self.real_time[0] = self.now_us
            for model in self.models:
                model.forget_expired(self.now_us)
        elif isinstance(step, TrimStep):
            assert self.calls.trim(step.partition, step.upto) is None
            model = self.models[step.partition]
            model.outbox = {number: event for number, event in model.outbox.items() if number > step.upto}
        elif isinstance(step, PageStep):
            self.compare_pages(step)
        elif self.kind != "memory":
            self.close_store()
            self.store = self.open()
            self.calls = Calls(self.store)
            if self.kind == "sqlite":
                # They live in its process, which has the file for itself.
                for model in self.models:
                    model.leases.clear()

    def commit(self, step: CommitStep) -> None:
        model = self.models[step.partition]
        transactions: list[Transaction] = []
        wanted: list[Committed | Conflict | Leased] = []
        for plan in step.transactions:
            writes = tuple(self.write(step.partition, one) for one in plan.writes)
            transaction = Transaction(writes, plan.events, plan.due, plan.indexes, plan.lease)
            transactions.append(transaction)
            wait_us = model.ask(plan.lease, self.now_us)
            if wait_us:
                wanted.append(Leased(wait_us // 1000))
            elif model.wins(writes, plan.writes):
                model.apply(transaction, plan.writes, self.now_us)
                wanted.append(Committed())
            else:
                present = {key(one.name, step.partition): model.documents.get(one.name) for one in plan.writes}
                wanted.append(Conflict(present))
        outcome: CommitOutcome = self.calls.commit(step.partition, transactions)
        if self.real_time and not isinstance(outcome, StoreFailure):
            # A real clock has gone on by some milliseconds since the lease was taken.
            outcome = [self.rounded(one) for one in outcome]
        assert outcome == wanted

    def rounded(self, verdict: Committed | Conflict | Leased) -> Committed | Conflict | Leased:
        return Leased(-(-verdict.wait_ms // 1000) * 1000) if isinstance(verdict, Leased) else verdict

    def write(self, partition: int, plan: WritePlan) -> Write:
        expected = self.models[partition].expected(plan)
        data = None
        if plan.body is not None:
            counter = 1 if expected is None else int.from_bytes(expected[:8], "big") + 1
            data = counter.to_bytes(8, "big") + next(self.nonces).to_bytes(8, "big") + b"\0\1" + plan.body
        return Write(key(plan.name, partition), expected, data, plan.ttl_s)

    def compare_pages(self, step: PageStep) -> None:
        model, partition, limit = self.models[step.partition], step.partition, step.limit
        events = [OutboxItem(number, event) for number, event in model.outbox.items() if number > step.after]
        assert self.calls.events(step.after, limit, partition) == sorted(events)[:limit]
        ripe = sorted((at_us, member) for member, at_us in model.due.items() if at_us <= step.now_us)
        found = self.calls.ripe(step.now_us, limit, partition)
        assert [item.at_us for item in found] == [at_us for at_us, _ in ripe[:limit]]
        assert {(item.at_us, item.member) for item in found} <= set(ripe)
        for index in INDEXES:
            members = sorted(member for name, member in model.indexes if name == index and member > step.member)
            assert self.calls.members(index, step.member, limit, partition) == members[:limit]

    def compare_everything(self) -> None:
        for partition, model in enumerate(self.models):
            names = [key(name, partition) for name in NAMES]
            wanted = [model.documents.get(name) for name in NAMES]
            assert self.calls.read(partition, names) == dict(zip(names, wanted, strict=True))
            assert self.calls.events(partition=partition) == [
                OutboxItem(*item) for item in sorted(model.outbox.items())
            ]
            ripe = [DueItem(*item) for item in model.due.items()]
            assert sorted(self.calls.ripe(END_US, partition=partition)) == sorted(ripe)
            self.compare_pages(PageStep(partition, 0, b"", END_US, 100))


@contextmanager
def running(kind: str, server: RedisServer | None) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="store-model-") as folder:
        run = Run(kind, Path(folder) / "store", server)
        try:
            yield run
        finally:
            run.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(deadline=None, max_examples=100)
@given(plan=st.lists(steps, min_size=1, max_size=25))
def test_any_sequence_of_calls_gives_what_the_model_gives(kind: str, plan: list[Step]) -> None:
    play(kind, plan, None)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer("fast") as found:
        yield found


@pytest.mark.parametrize("kind", ["redis by functions", "redis by scripts"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(plan=st.lists(steps, min_size=1, max_size=25))
def test_any_sequence_of_calls_to_redis_gives_what_the_model_gives(
    kind: str, server: RedisServer, plan: list[Step]
) -> None:
    play(kind, plan, server)


def play(kind: str, plan: Sequence[Step], server: RedisServer | None) -> None:
    with running(kind, server) as run:
        for step in plan:
            run.step(step)
        run.compare_everything()
