"""A charging step's commit (account, session and event) in each store, sixteen to a call; CPU time of this process.

What Redis itself takes for it: `python -m bench.store`.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import uvloop

from balance.memory_store import MemoryStore
from balance.redis_store import RedisStore
from balance.sqlite_store import SqliteStore
from balance.store import CommitOutcome, Committed
from bench.gy.servers import Redis
from bench.micro.case import Case
from bench.store import PARTITION, StepLoad, commit_all

STEPS = 16
CALLS = 32
"""Calls of Redis of one run of the loop."""


def measured() -> Iterator[Case]:
    """Memory, SQLite in a temporary folder, Redis in another."""
    load = StepLoad()
    memory = MemoryStore()
    yield _case("memory", partial(_commit, memory, load))
    with tempfile.TemporaryDirectory(prefix="ocs-bench-") as folder:
        sqlite, other_load = SqliteStore(Path(folder) / "ocs.sqlite", lambda: time.time_ns() // 1000), StepLoad()
        try:
            yield _case("sqlite", partial(_commit, sqlite, other_load))
        finally:
            sqlite.close()
        with (
            Redis(Path(folder) / "redis", "fast") as redis,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            store, third_load = runner.run(RedisStore.open(redis.url(), "fast")), StepLoad()
            try:
                call = partial(_run_calls, runner, store, third_load)
                yield Case("store", "commit a step", "redis", call, operations=STEPS * CALLS)
            finally:
                runner.run(store.close())


def _case(variant: str, call: Callable[[], object]) -> Case:
    return Case("store", "commit a step", variant, call, operations=STEPS)


def _commit(store: MemoryStore | SqliteStore, load: StepLoad) -> None:
    """Commit once and wait for the outcome, which a thread may bring."""
    outcomes: list[CommitOutcome] = []
    came = threading.Event()

    def done(outcome: CommitOutcome) -> None:
        outcomes.append(outcome)
        came.set()

    store.commit(PARTITION, load.transactions(STEPS), done)
    came.wait()
    (outcome,) = outcomes
    if not isinstance(outcome, list) or any(type(one) is not Committed for one in outcome):
        raise RuntimeError(f"a commit was not applied: {outcome}")


def _run_calls(runner: asyncio.Runner, store: RedisStore, load: StepLoad) -> None:
    runner.run(_commit_calls(store, load))


async def _commit_calls(store: RedisStore, load: StepLoad) -> None:
    """Several calls, a window of them in flight; every outcome is checked."""
    await commit_all(store, [load.transactions(STEPS) for _ in range(CALLS)])
