"""One runtime on its loop: what it is among the workers, what a stepped clock and a catalogue do to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from ocs.charging.catalogue_rollout import CatalogueBlocked
from ocs.clock import SystemClock
from ocs.config import ControlSettings, Settings, StoreSettings
from ocs.runtime import StoreRuntime, open_runtime
from tests.support.charging_kit import CATALOGUE_PATH
from tests.support.redis_server import RedisServer

T = TypeVar("T")
TEXT = CATALOGUE_PATH.read_text()


def with_runtimes(settings: Settings, work: Callable[..., Awaitable[T]], *clocks: SystemClock, count: int = 1) -> T:
    """The result of work on runtimes over one store, each as a server would have it."""

    async def main() -> T:
        runtimes: list[StoreRuntime] = []
        try:
            for number in range(count):
                clock = clocks[number] if clocks else None
                runtimes.append(await open_runtime(settings.for_worker(number), "server", clock))
            return await work(*runtimes)
        finally:
            for runtime in runtimes:
                await runtime.close()

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_alone_a_catalogue_is_active_at_once(tmp_path: Path) -> None:
    async def work(runtime: StoreRuntime) -> None:
        runtime.start_sweeping()
        start = time.monotonic()
        done = await runtime.activate_catalogue(TEXT, "c.toml", "tester", "a test", "k")
        assert time.monotonic() - start < 1
        assert (done.version, done.changed, [one.number for one in done.ready]) == (1, True, [0])
        assert runtime.engine.catalogues.current.version == 1
        again = await runtime.activate_catalogue(TEXT, "c.toml", "tester", "a test", "k")
        assert (again.version, again.changed, again.repeated) == (1, False, True)
        await runtime.activate_catalogue(TEXT + "\n# two\n", "c.toml", "tester", "a test")
        late = await runtime.activate_catalogue(TEXT, "c.toml", "tester", "a test", "k")
        assert (late.version, late.current, late.changed, late.repeated) == (1, 2, False, True)
        (entry,) = (await runtime.workers())["workers"]
        assert entry["catalogue"] == {"current": 2, "loaded": [[1, 2]], "failed": []}

    with_runtimes(Settings(home=str(tmp_path)), work)


def test_after_a_step_of_the_wall_clock_nothing_is_swept_and_others_take_over(tmp_path: Path) -> None:
    ahead_ns = 0
    clock = SystemClock(wall_ns=lambda: time.time_ns() + ahead_ns)

    async def work(runtime: StoreRuntime) -> None:
        nonlocal ahead_ns
        passes: list[object] = []
        runtime.sweeper.sweep_mine = passes.append  # type: ignore[method-assign, assignment]
        runtime.start_sweeping()
        await asyncio.sleep(1.2)
        assert len(passes) == 1
        (entry,) = (await runtime.workers())["workers"]
        assert entry["sweeping"] is True
        runtime._sweeping = False
        ahead_ns = 6_000_000_000
        await asyncio.sleep(1.2)
        assert len(passes) == 1
        (entry,) = (await runtime.workers())["workers"]
        assert (entry["serving"], entry["sweeping"]) == (True, False)
        (problem,) = runtime.problems()
        assert "the wall clock was stepped" in problem

    with_runtimes(Settings(home=str(tmp_path)), work, clock)


def test_a_worker_that_never_loads_is_named_and_the_old_catalogue_stays(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    store = StoreSettings(engine="redis", url=redis_server.url)
    settings = Settings(home=str(tmp_path), store=store, control=ControlSettings(deadline_s=1))

    async def work(one: StoreRuntime, two: StoreRuntime) -> None:
        one.start_sweeping()
        two.start_sweeping()
        await one.activate_catalogue(TEXT, "c.toml", "tester", "a test")
        await asyncio.sleep(0.5)
        assert two.engine.catalogues.current.version == 1
        # Its loader is stuck: it goes on renewing its lease, so it lives.
        await two.membership._following.acquire()
        with pytest.raises(CatalogueBlocked, match=r"worker 1 \(process \d+ on .*\) has not loaded it within 1 s"):
            await one.activate_catalogue(TEXT + "\n# two\n", "c.toml", "tester", "a test", "k")
        assert one.engine.catalogues.current.version == two.engine.catalogues.current.version == 1
        assert any("version 2 is published and not active" in warning for warning in one.warnings())
        two.membership._following.release()
        done = await one.activate_catalogue(TEXT + "\n# two\n", "c.toml", "tester", "a test", "k")
        assert (done.version, done.changed, done.repeated) == (2, True, True)
        await asyncio.sleep(0.5)
        assert one.engine.catalogues.current.version == two.engine.catalogues.current.version == 2
        assert one.warnings() == []

    with_runtimes(settings, work, count=2)


def test_a_process_that_is_no_server_is_no_worker(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = Settings(home=str(tmp_path), store=StoreSettings(engine="redis", url=redis_server.url))

    async def work(server: StoreRuntime) -> None:
        server.start_sweeping()
        command = await open_runtime(settings, "command")
        try:
            done = await command.activate_catalogue(TEXT, "c.toml", "tester", "a test")
            assert [one.worker_id for one in done.ready] == [server.worker_id]
            found = await command.workers()
            assert [one["worker_id"] for one in found["workers"]] == [server.worker_id]
        finally:
            await command.close()
        await asyncio.sleep(0.5)
        assert server.engine.catalogues.current.version == 1

    with_runtimes(settings, work)
