"""One commit per account in flight; what arrives meanwhile waits and is applied together (LEDGER §1, §6).

A job says which documents it needs and changes them in a `Workspace`; it is pure, so that it can be run again with the
documents that a conflict brought back. Nothing is answered before the commit that it rests on. After an unknown outcome
the account is read back: our nonce in it means committed, else the jobs run again and find their keys or do their work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from balance.documents import account_key, header_of
from balance.store import CommitOutcome, Committed, Conflict, ReadOutcome, Store, StoreFailure
from ocs.charging.workspace import Workspace

MAX_JOBS_PER_COMMIT = 32
"""Jobs of one account that share a commit."""

MAX_JOBS_WAITING = 1024
"""Jobs that may wait for one account; more are refused at once."""

MAX_ATTEMPTS = 50
"""Conflicts or read-backs in a row before the jobs are failed; the deadline normally comes first."""


class ChargingError(Exception):
    """Root of the operating errors of charging: StoreUnavailable, LaneFull, DeadlinePassed, JobFailed."""


class StoreUnavailable(ChargingError):
    """The store did not answer, or not with success, before the deadline. Nothing is known to be lost."""


class LaneFull(ChargingError):
    """Too many requests wait for this account."""


class DeadlinePassed(ChargingError):
    """The request waited too long and was not processed."""


class JobFailed(ChargingError):
    """The job raised: an invariant would break or a document is damaged. Nothing of it was committed."""


class Job(Protocol):
    """A change of one account's documents."""

    partition: int
    account: str
    deadline: float
    """Monotonic seconds after which the job is dropped unprocessed."""

    def keys(self) -> Sequence[bytes]:
        """Documents that it needs beside the account, all of the account's partition."""

    def apply(self, workspace: Workspace, now_us: int) -> object:
        """Do it; the result goes to `done` after the commit. May run more than once, each time on fresh documents."""

    def done(self, result: object) -> None:
        """Called once, with the result of `apply` or a `ChargingError`."""


class _Lane:
    """What waits for and runs on one account."""

    __slots__ = ("attempts", "key", "nonce", "partition", "running", "waiting")

    def __init__(self, partition: int, key: bytes) -> None:
        self.partition = partition
        self.key = key
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.nonce = b""
        self.attempts = 0


class Conductor:
    """Runs jobs against a store."""

    def __init__(
        self,
        store: Store,
        utc_us: Callable[[], int],
        monotonic: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
        report: Callable[[object, Exception], None],
        nonce: Callable[[], bytes] = lambda: os.urandom(8),
    ) -> None:
        """`later(seconds, call)` is the loop's timer; `report` is told of every job or saga that raised."""
        self._store = store
        self._utc_us = utc_us
        self._monotonic = monotonic
        self._later = later
        self.report = report
        self._nonce = nonce
        self._lanes: dict[bytes, _Lane] = {}
        self.conflicts = 0
        self.read_backs = 0

    def submit(self, job: Job) -> None:
        """Queue a job on its account's lane."""
        key = account_key(job.partition, job.account)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(job.partition, key)
        if len(lane.waiting) >= MAX_JOBS_WAITING:
            job.done(LaneFull(f"{MAX_JOBS_WAITING} requests wait for account {job.account}"))
            return
        lane.waiting.append(job)
        if not lane.running:
            self._start(lane)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or in flight."""
        return not self._lanes

    def _start(self, lane: _Lane) -> None:
        now = self._monotonic()
        late: list[Job] = []
        lane.running = []
        while lane.waiting and len(lane.running) < MAX_JOBS_PER_COMMIT:
            job = lane.waiting.pop(0)
            if job.deadline < now:
                late.append(job)
            else:
                lane.running.append(job)
        lane.attempts = 0
        if lane.running:
            self._read(lane)
        else:
            del self._lanes[lane.key]
        # Told last: whoever is told may submit again at once, and must find the lane in order.
        for job in late:
            self._tell(job, DeadlinePassed("waited too long for its account"))

    def _read(self, lane: _Lane) -> None:
        keys = {lane.key}
        for job in lane.running:
            keys.update(job.keys())
        self._store.read(lane.partition, tuple(keys), lambda outcome: self._on_read(lane, outcome))

    def _on_read(self, lane: _Lane, outcome: ReadOutcome) -> None:
        if isinstance(outcome, StoreFailure):
            self._again(lane, outcome.detail)
        else:
            self._apply(lane, outcome)

    def _apply(self, lane: _Lane, documents: Mapping[bytes, bytes | None]) -> None:
        workspace = Workspace(lane.key, documents)
        results: list[tuple[Job, object]] = []
        now_us = self._utc_us()
        for job in lane.running:
            results.append((job, self._run(job, workspace, now_us)))
        if not workspace.changed:
            self._finish(lane, results)
            return
        lane.nonce = self._nonce()
        transaction = workspace.transaction(lane.nonce)
        self._store.commit(lane.partition, (transaction,), lambda outcome: self._on_commit(lane, results, outcome))

    def _run(self, job: Job, workspace: Workspace, now_us: int) -> object:
        overlay = workspace.child()
        try:
            result = job.apply(overlay, now_us)
        except ChargingError as error:
            return error
        except Exception as error:
            # Whatever a job raises is our bug or a damaged document: it must not take its neighbours down.
            self.report(job, error)
            return JobFailed(f"{type(error).__name__}: {error}")
        workspace.merge(overlay)
        return result

    def _on_commit(self, lane: _Lane, results: list[tuple[Job, object]], outcome: CommitOutcome) -> None:
        if isinstance(outcome, StoreFailure):
            if outcome.unknown:
                self.read_backs += 1
                self._read_back(lane, results)
            else:
                self._again(lane, outcome.detail)
            return
        verdict = outcome[0]
        if isinstance(verdict, Committed):
            self._finish(lane, results)
        elif isinstance(verdict, Conflict):
            self.conflicts += 1
            lane.attempts += 1
            if lane.attempts > MAX_ATTEMPTS:
                self._fail(lane, "too many conflicts")
            else:
                # Read everything again: the conflict brings back what we wrote, and what we only read (the subscriber)
                # may have changed in the same commit that bumped the account.
                self._read(lane)

    def _read_back(self, lane: _Lane, results: list[tuple[Job, object]]) -> None:
        """Find out whether a commit of unknown outcome was applied."""

        def on_read(outcome: ReadOutcome) -> None:
            if isinstance(outcome, StoreFailure):
                self._retry_later(lane, outcome.detail, lambda: self._read_back(lane, results))
                return
            data = outcome[lane.key]
            if data is not None and header_of(data).nonce == lane.nonce:
                self._finish(lane, results)
            else:
                self._again(lane, "the outcome of a commit was lost")

        self._store.read(lane.partition, (lane.key,), on_read)

    def _again(self, lane: _Lane, detail: str) -> None:
        self._retry_later(lane, detail, lambda: self._read(lane))

    def _retry_later(self, lane: _Lane, detail: str, call: Callable[[], None]) -> None:
        lane.attempts += 1
        now = self._monotonic()
        if lane.attempts > MAX_ATTEMPTS or all(job.deadline < now for job in lane.running):
            self._fail(lane, detail)
        else:
            self._later(min(0.005 * 2**lane.attempts, 0.2), call)

    def _fail(self, lane: _Lane, detail: str) -> None:
        self._finish(lane, [(job, StoreUnavailable(detail)) for job in lane.running])

    def _finish(self, lane: _Lane, results: list[tuple[Job, object]]) -> None:
        lane.running = []
        if lane.waiting:
            self._start(lane)
        else:
            del self._lanes[lane.key]
        for job, result in results:
            self._tell(job, result)

    def _tell(self, job: Job, result: object) -> None:
        try:
            job.done(result)
        except Exception as error:
            # The commit stands; the others that it answers must hear of it all the same.
            self.report(job, error)
