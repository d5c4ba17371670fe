"""What a charging step costs in Redis and in the worker: `python -m bench.store --url redis://127.0.0.1:6390/0`.

A step writes an account, a session and an event, as an update of a session with one rating group does. Calls carry as many
steps as the columns say, with a window of calls in flight. CPU only: that of Redis' main thread from INFO, that of this
process from the system. The database must be empty; it is emptied afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from typing import Any, NamedTuple

import uvloop

from balance.redis_connection import accepted, info_fields
from balance.redis_link import RedisLink
from balance.redis_store import RedisStore
from balance.store import CommitOutcome, Committed, Transaction, Write
from bench.measure import describe_machine

ACCOUNT_OCTETS, SESSION_OCTETS, EVENT_OCTETS = 200, 330, 300
ACCOUNTS = 20_000
WINDOW = 8
PARTITION = 42


class Result(NamedTuple):
    """CPU microseconds per step."""

    calls: str
    steps_per_call: int
    redis_us: float
    function_us: float
    """Of `redis_us`, what Redis itself counts inside the call."""
    worker_us: float
    """This process, with the making of the transactions taken off."""


class StepLoad:
    """Documents of many accounts, each written with the version that it has."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._bodies = [os.urandom(size - 16) for size in (ACCOUNT_OCTETS, SESSION_OCTETS)]
        self._event = os.urandom(EVENT_OCTETS)
        self._counters = [0] * ACCOUNTS

    def keys(self, number: int) -> tuple[bytes, bytes]:
        """Keys of an account and its session."""
        tag = b"{p%03d}:" % PARTITION
        return tag + b"a:%08d" % number, tag + b"s:%032d" % number

    def transactions(self, count: int) -> tuple[Transaction, ...]:
        """Steps of as many different accounts."""
        return tuple(self._one(number) for number in self._random.sample(range(ACCOUNTS), count))

    def _one(self, number: int) -> Transaction:
        before = self._counters[number]
        self._counters[number] = before + 1
        old = before.to_bytes(16, "big") if before else None
        new = (before + 1).to_bytes(16, "big")
        writes = [Write(key, old, new + body) for key, body in zip(self.keys(number), self._bodies, strict=True)]
        return Transaction(tuple(writes), (self._event,))


async def commit_all(store: RedisStore, calls: list[tuple[Transaction, ...]]) -> None:
    """Commit with a window of calls in flight; every outcome is checked."""
    finished = asyncio.get_running_loop().create_future()
    waiting = iter(calls)
    left = len(calls)

    def done(outcome: CommitOutcome) -> None:
        nonlocal left
        if not isinstance(outcome, list) or any(type(one) is not Committed for one in outcome):
            finished.set_exception(RuntimeError(f"a commit was not applied: {outcome}"))
            return
        left -= 1
        if left == 0:
            finished.set_result(None)
        else:
            start()

    def start() -> None:
        transactions = next(waiting, None)
        if transactions is not None:
            store.commit(PARTITION, transactions, done)

    for _ in range(WINDOW):
        start()
    await finished


def _link(store: RedisStore) -> RedisLink:
    link = store._connection.link
    assert link is not None
    return link


async def _redis_cpu_us(store: RedisStore) -> float:
    fields = info_fields(accepted(await _link(store).ask(b"INFO", b"cpu"), "INFO"))
    return 1e6 * (float(fields["used_cpu_user_main_thread"]) + float(fields["used_cpu_sys_main_thread"]))


async def _function_us(store: RedisStore) -> float:
    fields = info_fields(accepted(await _link(store).ask(b"INFO", b"commandstats"), "INFO"))
    found = [fields.get(f"cmdstat_{name}", "usec=0,") for name in ("fcall", "evalsha")]
    return sum(float(one.split("usec=")[1].split(",")[0]) for one in found)


async def _measure(url: str, level: Any, evalsha: bool, steps_per_call: int, steps: int) -> Result:
    store = await RedisStore.open(url, level, evalsha=evalsha)
    try:
        load = StepLoad()
        warm = [load.transactions(64) for _ in range(ACCOUNTS // 64)]
        await commit_all(store, warm)
        calls = [load.transactions(steps_per_call) for _ in range(steps // steps_per_call)]
        await _link(store).ask(b"CONFIG", b"RESETSTAT")
        redis_before, worker_before = await _redis_cpu_us(store), time.process_time()
        await commit_all(store, calls)
        worker_us = 1e6 * (time.process_time() - worker_before)
        redis_us = await _redis_cpu_us(store) - redis_before
        done = len(calls) * steps_per_call
        inside_us = await _function_us(store)
        kind = "evalsha" if evalsha else "function"
        return Result(kind, steps_per_call, redis_us / done, inside_us / done, worker_us / done)
    finally:
        await _link(store).ask(b"FLUSHDB")
        await store.close()


def main() -> int:
    """Measure each way and size of call; print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.store", description=__doc__)
    parser.add_argument("--url", required=True, help="an empty database of a Redis configured for the level")
    parser.add_argument("--level", choices=("fast", "safe"), default="fast")
    parser.add_argument("--steps", type=int, default=40_000, help="charging steps of each case (40000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    results = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for evalsha in (False, True):
            for count in (1, 2, 4, 8, 16, 64):
                results.append(runner.run(_measure(options.url, options.level, evalsha, count, options.steps)))
    if options.json:
        rows = [result._asdict() for result in results]
        print(json.dumps({"benchmark": "store", "machine": describe_machine(), "results": rows}, indent=2))
    else:
        print(f"{'CPU µs per step':18}{'steps/call':>12}{'Redis':>9}{'in call':>9}{'worker':>9}")
        for one in results:
            print(f"{one.calls:18}{one.steps_per_call:12}{one.redis_us:9.2f}{one.function_us:9.2f}{one.worker_us:9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
