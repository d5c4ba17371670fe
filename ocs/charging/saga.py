"""Work that needs several reads and commits, written as a generator that never touches a loop.

A saga yields what it needs and is sent the result; `start` drives it with the store's and the conductor's callbacks. A
store that fails is raised inside the saga as `StoreUnavailable`. So a saga runs unchanged under a loop, in the
simulator and in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from balance.documents import account_key
from balance.store import CommitOutcome, ReadOutcome, Store, StoreFailure, Transaction
from ocs.charging.conductor import ChargingError, Conductor, JobFailed, StoreUnavailable

T = TypeVar("T")


class Read(NamedTuple):
    """Read keys of several partitions at once; the result maps key -> document."""

    wanted: tuple[tuple[int, bytes], ...]


class Commit(NamedTuple):
    """One transaction outside any account's lane; the result is `Committed` or `Conflict`."""

    partition: int
    transaction: Transaction


class Scan(NamedTuple):
    """A page of an index; the result is a sequence of members."""

    partition: int
    name: bytes
    after: bytes
    limit: int


class Outbox(NamedTuple):
    """A page of the outbox; the result is a sequence of `OutboxItem`."""

    partition: int
    after: int
    limit: int


class Apply(NamedTuple):
    """A change of one account's documents in its lane; the result is what `apply` returned."""

    partition: int
    account: str
    keys: tuple[bytes, ...]
    apply: Callable[[Any, int], object]


class Calls(NamedTuple):
    """Several calls of the store at once, each with its own `done`; the result is the list of their outcomes."""

    calls: tuple[Callable[[Store, Callable[[Any], None]], None], ...]


class Offload(NamedTuple):
    """Work that would block the loop, such as reading files; the result is what it returned.

    What it raises is raised inside the saga.
    """

    work: Callable[[], object]


class Together(NamedTuple):
    """Several sagas at once; the result is the list of what each returned, or of the `ChargingError` that ended it."""

    sagas: tuple[Generator[Any, Any, Any], ...]


Request = Read | Commit | Scan | Outbox | Apply | Calls | Offload | Together
Saga = Generator[Request, Any, T]


Offloader = Callable[[Callable[[], object], Callable[[object], None]], None]
"""Runs work off the loop, then calls back on the loop with what it returned, or with the exception that it raised."""


def run_at_once(work: Callable[[], object], done: Callable[[object], None]) -> None:
    """The `Offloader` of those who have no loop."""
    try:
        result = work()
    except Exception as error:
        result = error
    done(result)


class _SagaJob:
    """An `Apply` on its way through the conductor."""

    __slots__ = ("_done", "_step", "account_key", "deadline", "partition")

    def __init__(self, step: Apply, deadline: float, done: Callable[[object], None]) -> None:
        self.partition = step.partition
        self.account_key = account_key(step.partition, step.account)
        self.deadline = deadline
        self._step = step
        self._done = done

    def keys(self) -> Sequence[bytes]:
        """Documents beside the account."""
        return self._step.keys

    def apply(self, workspace: Any, now_us: int) -> object:
        """Run the saga's function."""
        return self._step.apply(workspace, now_us)

    def done(self, result: object) -> None:
        """Give the result back to the saga."""
        self._done(result)


class _Run:
    """One saga under way."""

    __slots__ = ("_conductor", "_deadline", "_done", "_got", "_missing", "_offload", "_saga", "_store")

    def __init__(
        self,
        saga: Saga[Any],
        store: Store,
        conductor: Conductor,
        deadline: float,
        done: Callable[[Any], None],
        offload: Offloader,
    ) -> None:
        self._saga = saga
        self._offload = offload
        self._store = store
        self._conductor = conductor
        self._deadline = deadline
        self._done = done
        self._missing = 0
        self._got: dict[bytes, bytes | None] = {}

    def resume(self, value: object) -> None:
        """Send the saga what it waited for; errors are raised inside it."""
        try:
            if isinstance(value, StoreFailure):
                request = self._saga.throw(StoreUnavailable(value.detail))
            elif isinstance(value, Exception):
                request = self._saga.throw(value)
            else:
                request = self._saga.send(value)
        except StopIteration as end:
            self._done(end.value)
        except ChargingError as error:
            self._done(error)
        except Exception as error:
            # Our bug or a damaged document: this saga ends, loudly; the callback that brought us here goes on.
            self._conductor.report(self._saga, error)
            self._done(JobFailed(f"{type(error).__name__}: {error}"))
        else:
            self._perform(request)

    def _perform(self, request: Request) -> None:
        store = self._store
        if isinstance(request, Read):
            self._read(request)
        elif isinstance(request, Apply):
            self._conductor.submit(_SagaJob(request, self._deadline, self.resume))
        elif isinstance(request, Commit):
            store.commit(request.partition, (request.transaction,), self._on_commit)
        elif isinstance(request, Scan):
            store.scan(request.partition, request.name, request.after, request.limit, self.resume)
        elif isinstance(request, Outbox):
            store.outbox(request.partition, request.after, request.limit, self.resume)
        elif isinstance(request, Calls):
            self._call_all(request)
        elif isinstance(request, Together):
            self._run_all(request)
        else:
            self._offload(request.work, self.resume)

    def _call_all(self, request: Calls) -> None:
        """All at once; the saga goes on when the last has answered, also where an early one failed."""

        def answered(outcomes: list[Any]) -> None:
            failed = [one for one in outcomes if isinstance(one, StoreFailure)]
            self.resume(failed[0] if failed else outcomes)

        for call, receive in zip(request.calls, _gather(len(request.calls), answered), strict=True):
            call(self._store, receive)

    def _run_all(self, request: Together) -> None:
        """All at once, in their order up to the first thing that each waits for."""
        for saga, receive in zip(request.sagas, _gather(len(request.sagas), self.resume), strict=True):
            start(saga, self._store, self._conductor, self._deadline, receive, self._offload)

    def _read(self, request: Read) -> None:
        by_partition: dict[int, list[bytes]] = {}
        for partition, key in request.wanted:
            by_partition.setdefault(partition, []).append(key)
        self._missing = len(by_partition)
        self._got = {}
        if not by_partition:
            self.resume({})
        for partition, keys in by_partition.items():
            self._store.read(partition, tuple(keys), self._on_read)

    def _on_read(self, outcome: ReadOutcome) -> None:
        if self._missing == 0:
            return
        if isinstance(outcome, StoreFailure):
            self._missing = 0
            self.resume(outcome)
            return
        self._got.update(outcome)
        self._missing -= 1
        if self._missing == 0:
            self.resume(self._got)

    def _on_commit(self, outcome: CommitOutcome) -> None:
        self.resume(outcome if isinstance(outcome, StoreFailure) else outcome[0])


def _gather(count: int, done: Callable[[list[Any]], None]) -> list[Callable[[Any], None]]:
    """Receivers of so many outcomes; `done` gets them, in the order of the receivers, when the last has come."""
    outcomes: list[Any] = [None] * count
    missing = count

    def receiver(place: int) -> Callable[[Any], None]:
        def receive(outcome: Any) -> None:
            nonlocal missing
            outcomes[place] = outcome
            missing -= 1
            if missing == 0:
                done(outcomes)

        return receive

    if not count:
        done(outcomes)
    return [receiver(place) for place in range(count)]


def start(
    saga: Saga[T],
    store: Store,
    conductor: Conductor,
    deadline: float,
    done: Callable[[T | ChargingError], None],
    offload: Offloader = run_at_once,
) -> None:
    """Run a saga; `done` gets its return value or the `ChargingError` that ended it."""
    _Run(saga, store, conductor, deadline, done, offload).resume(None)
