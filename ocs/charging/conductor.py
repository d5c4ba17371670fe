"""One commit per account in flight; what arrives meanwhile waits and is applied together (LEDGER §1, §6).

A job says which documents it needs and changes them in a `Workspace`; it is pure, so that it can be run again with the
documents as they are after a conflict. Documents come from the cache where it has all of them: what is written is
compared by the store, and a job that writes nothing is run again on a fresh read. Nothing is answered before the commit
that it rests on. After an unknown outcome the account is read back: our nonce in it means committed, else the jobs run
again and find their keys or do their work. Who loses an account twice to another process takes a short lease on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from balance.documents import header_of
from balance.store import (
    MAX_LEASE_NAME_OCTETS,
    Committed,
    Conflict,
    Lease,
    Leased,
    ReadOutcome,
    Store,
    StoreFailure,
    Transaction,
)
from ocs.charging.batching import Batcher, TransactionOutcome
from ocs.charging.cache import DocumentCache, Group
from ocs.charging.workspace import Workspace

MAX_JOBS_PER_COMMIT = 32
"""Jobs of one account that share a commit."""

MAX_JOBS_WAITING = 1024
"""Jobs that may wait for one account; more are refused at once."""

LOSSES_BEFORE_LEASE = 2
"""Conflicts in a row after which a lane takes a lease on its account (LEDGER §6)."""

LEASE_MS = 20
"""How long others are refused while the loser catches up (LEDGER §6)."""

CACHED_DOCUMENTS = 300_000
"""Documents that are cached unless said otherwise."""

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
    account_key: bytes
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

    __slots__ = ("attempts", "documents", "key", "losses", "nonce", "partition", "results", "running", "waiting")

    def __init__(self, partition: int, key: bytes) -> None:
        self.partition = partition
        self.key = key
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.results: list[tuple[Job, object]] = []
        self.documents: Mapping[bytes, bytes | None] = {}
        """What the commit in flight was computed from."""
        self.nonce = b""
        self.attempts = 0
        self.losses = 0
        """Conflicts in a row."""


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
        *,
        soon: Callable[[Callable[[], None]], object] | None = None,
        holder: bytes = b"",
        cached_documents: int = CACHED_DOCUMENTS,
    ) -> None:
        """`later(seconds, call)` is the loop's timer; `report` is told of every job or saga that raised.

        `nonce` gives 8 random octets for each commit. `soon(call)` runs a call at the end of the loop's turn, so that
        commits travel together; `holder` names this process to others that work on the same store (empty: there are
        none).
        """
        self._store = store
        self._utc_us = utc_us
        self._monotonic = self.monotonic = monotonic
        self._later = self.later = later
        self.report = report
        self._nonce = nonce
        self._holder = holder
        self._lanes: dict[bytes, _Lane] = {}
        self.cache = DocumentCache(cached_documents)
        self.batcher = Batcher(store, report, soon)
        self.conflicts = 0
        self.read_backs = 0
        self.leases_taken = 0
        self.leases_met = 0
        """Commits that waited for the lease of another process."""
        self.forgotten = 0
        """Times that the store may have lost or changed what was read before."""
        store.forget = self.forget

    def use(self, store: Store) -> None:
        """Work on another store from now on."""
        self._store = self.batcher.store = store
        store.forget = self.forget
        self.forget()

    def forget(self) -> None:
        """The store may have lost or changed anything since it was read: read all of it again (LEDGER §1)."""
        self.forgotten += 1
        self.cache.clear()

    def submit(self, job: Job) -> None:
        """Queue a job on its account's lane."""
        key = job.account_key
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(job.partition, key)
        elif len(lane.waiting) >= MAX_JOBS_WAITING:
            job.done(LaneFull(f"{MAX_JOBS_WAITING} requests wait for account {key.decode()}"))
            return
        lane.waiting.append(job)
        if not lane.running:
            self._start(lane)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or in flight."""
        return not self._lanes

    @property
    def waiting(self) -> int:
        """Accounts with work queued or in flight."""
        return len(self._lanes)

    def _start(self, lane: _Lane) -> None:
        now = self._monotonic()
        late: list[Job] = []
        running: list[Job] = []
        # Behind so many that are late there may be one that is not.
        while lane.waiting and not running:
            running = lane.waiting[:MAX_JOBS_PER_COMMIT]
            del lane.waiting[:MAX_JOBS_PER_COMMIT]
            missed = [job for job in running if job.deadline < now]
            if missed:
                late += missed
                running = [job for job in running if job.deadline >= now]
        lane.running = running
        lane.attempts = 0
        if running:
            self._begin(lane)
        else:
            del self._lanes[lane.key]
        # Told last: whoever is told may submit again at once, and must find the lane in order.
        for job in late:
            self._tell(job, DeadlinePassed("waited too long for its account"))

    def _begin(self, lane: _Lane) -> None:
        """Apply the jobs to what is cached, if that is all they need."""
        group = self.cache.get(lane.key)
        if group and _has_all(group, lane.running):
            self._apply(lane, group, fresh=False)
        else:
            self._read(lane)

    def _read(self, lane: _Lane) -> None:
        keys = {lane.key}
        for job in lane.running:
            keys.update(job.keys())
        self._store.read(lane.partition, tuple(keys), lambda outcome: self._on_read(lane, outcome))

    def _on_read(self, lane: _Lane, outcome: ReadOutcome) -> None:
        if isinstance(outcome, StoreFailure):
            self._again(lane, outcome.detail)
        else:
            self.cache.read(lane.key, outcome)
            self._apply(lane, outcome, fresh=True)

    def _apply(self, lane: _Lane, documents: Mapping[bytes, bytes | None], fresh: bool, careful: bool = False) -> None:
        """`careful`: something that a job left cannot be encoded; find out whose it is."""
        workspace = Workspace(lane.key, documents)
        results: list[tuple[Job, object]] = []
        now_us = self._utc_us()
        quiet = False
        if len(lane.running) == 1:
            # Nobody else's work has to be kept if it fails.
            job = lane.running[0]
            result, failed = self._run(job, workspace, now_us, careful)
            if failed:
                workspace = Workspace(lane.key, documents)
            results.append((job, result))
        else:
            for job in lane.running:
                overlay = workspace.child()
                result, failed = self._run(job, overlay, now_us, careful)
                if not failed:
                    quiet = quiet or not overlay.changed
                    workspace.merge(overlay)
                results.append((job, result))
        changed = workspace.changed
        if not fresh and (quiet or not changed):
            # What is answered without a commit is not compared by anybody, so it must not rest on what was cached.
            self._read(lane)
            return
        if not changed:
            self._finish(lane, results)
            return
        lane.results = results
        lane.documents = documents
        lane.nonce = self._nonce()
        try:
            transaction = workspace.transaction(lane.nonce, self._lease(lane))
        except Exception:
            if careful:
                raise
            # The jobs must be told all the same: once more, each encoded by itself.
            self._apply(lane, documents, fresh, careful=True)
            return
        self.batcher.commit(lane.partition, transaction, lambda outcome: self._on_commit(lane, transaction, outcome))

    def _lease(self, lane: _Lane) -> Lease | None:
        if not self._holder:
            return None
        # Accounts whose long names begin alike share a lease, which costs a wait at most.
        root = lane.key[:MAX_LEASE_NAME_OCTETS]
        if lane.losses < LOSSES_BEFORE_LEASE:
            return Lease(root, self._holder)
        self.leases_taken += 1
        return Lease(root, self._holder, LEASE_MS)

    def _run(self, job: Job, workspace: Workspace, now_us: int, careful: bool) -> tuple[object, bool]:
        """The job's result, and whether what it wrote must be thrown away."""
        try:
            result = job.apply(workspace, now_us)
            if careful:
                workspace.transaction(self._nonce())
            return result, False
        except ChargingError as error:
            return error, True
        except Exception as error:
            # Whatever a job raises is our bug or a damaged document: it must not take its neighbours down.
            self.report(job, error)
            return JobFailed(f"{type(error).__name__}: {error}"), True

    def _on_commit(self, lane: _Lane, transaction: Transaction, outcome: TransactionOutcome) -> None:
        if isinstance(outcome, Committed):
            self.cache.wrote(lane.key, lane.documents, transaction.writes)
            lane.losses = 0
            self._finish(lane, lane.results)
            return
        self.cache.drop(lane.key)
        if isinstance(outcome, StoreFailure):
            if outcome.unknown:
                self.read_backs += 1
                self._read_back(lane)
            else:
                self._again(lane, outcome.detail)
        elif isinstance(outcome, Conflict):
            self.conflicts += 1
            lane.attempts += 1
            lane.losses += 1
            if lane.attempts > MAX_ATTEMPTS or self._expired(lane):
                self._fail(lane, "too many conflicts")
            else:
                # Read everything again: the conflict brings back what we wrote, and what we only read (the subscriber)
                # may have changed in the same commit that bumped the account.
                self._read(lane)
        else:
            self._wait_for_lease(lane, outcome)

    def _wait_for_lease(self, lane: _Lane, outcome: Leased) -> None:
        """Another process catches up. It has changed the account when its lease ends, so all is read anew then."""
        self.leases_met += 1
        if self._expired(lane):
            self._fail(lane, "another process held the account")
        else:
            self._later(outcome.wait_ms / 1000, lambda: self._rejoin(lane))

    def _rejoin(self, lane: _Lane) -> None:
        """Go on after a wait, with what has arrived meanwhile."""
        room = MAX_JOBS_PER_COMMIT - len(lane.running)
        lane.running += lane.waiting[:room]
        del lane.waiting[:room]
        self._read(lane)

    def _expired(self, lane: _Lane) -> bool:
        now = self._monotonic()
        return all(job.deadline < now for job in lane.running)

    def _read_back(self, lane: _Lane) -> None:
        """Find out whether a commit of unknown outcome was applied."""

        def on_read(outcome: ReadOutcome) -> None:
            if isinstance(outcome, StoreFailure):
                self._retry_later(lane, outcome.detail, lambda: self._read_back(lane))
                return
            data = outcome[lane.key]
            if data is not None and header_of(data).nonce == lane.nonce:
                self._finish(lane, lane.results)
            else:
                self._again(lane, "the outcome of a commit was lost")

        self._store.read(lane.partition, (lane.key,), on_read)

    def _again(self, lane: _Lane, detail: str) -> None:
        self._retry_later(lane, detail, lambda: self._read(lane))

    def _retry_later(self, lane: _Lane, detail: str, call: Callable[[], None]) -> None:
        lane.attempts += 1
        if lane.attempts > MAX_ATTEMPTS or self._expired(lane):
            self._fail(lane, detail)
        else:
            self._later(min(0.005 * 2**lane.attempts, 0.2), call)

    def _fail(self, lane: _Lane, detail: str) -> None:
        self._finish(lane, [(job, StoreUnavailable(detail)) for job in lane.running])

    def _finish(self, lane: _Lane, results: list[tuple[Job, object]]) -> None:
        lane.running = []
        lane.results = []
        lane.documents = {}
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


def _has_all(group: Group, jobs: list[Job]) -> bool:
    # Plain loops: this runs for every request.
    for job in jobs:
        for key in job.keys():  # noqa: SIM118 - a job is no mapping
            if key not in group:
                return False
    return True
