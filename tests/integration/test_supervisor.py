"""The supervisor over workers that do what a file tells them: real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from ocs.config import ConfigError, Problem
from ocs.control.restarts import Policy
from ocs.control.supervisor import Plan, Supervisor, SupervisorFailed
from tests.support.processes import state_of

PROGRAM = Path(__file__).parents[1] / "support" / "worker_program.py"
LIMIT_S = 30.0


class Event(NamedTuple):
    """What a worker noted."""

    worker: int
    what: str
    pid: int


class Stage:
    """A folder that tells the workers what to do, and the supervisor that runs them in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = Plan(2, stop_limit_s=10.0)
        self.policy = Policy(stable_s=60.0, first_pause_s=0.02, most_pause_s=0.05, most_early_deaths=4)
        self.ready_limit_s = 10.0
        self.reload: Callable[[], Plan] = lambda: self.plan
        self.supervisor: Supervisor
        for number in range(3):
            self.tell(number, "serve")

    def tell(self, number: int, word: str) -> None:
        """What a worker is to do from its next start."""
        (self.folder / str(number)).write_text(word)

    def events(self, what: str = "") -> list[Event]:
        """What happened, in order; of one kind if it is named."""
        path = self.folder / "events"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        found = [Event(int(worker), kind, int(pid)) for worker, kind, pid in rows]
        return [event for event in found if what in ("", event.what)]

    async def until(self, worker: int, what: str, times: int = 1) -> Event:
        """Wait until a worker has noted something so many times; the last of them."""
        while True:
            found = [event for event in self.events(what) if event.worker == worker]
            if len(found) >= times:
                return found[times - 1]
            await trio.sleep(0.005)

    async def until_gone(self, worker: int) -> None:
        """Wait until the supervisor knows that the last process of a worker has ended."""
        await self.supervisor._places[worker].run.ended.wait()

    def run(self, play: Callable[[], Awaitable[None]]) -> int:
        """Supervise until `play` is over and SIGTERM was sent; the exit status."""

        async def main() -> int | SupervisorFailed:
            self.supervisor = Supervisor(
                self.plan, self._command, self._reload, policy=self.policy, ready_limit_s=self.ready_limit_s
            )
            with trio.fail_after(LIMIT_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._play_and_stop, play)
                    # Not out of the nursery, which would put it into a group.
                    try:
                        result: int | SupervisorFailed = await self.supervisor.run()
                    except SupervisorFailed as error:
                        result = error
                    nursery.cancel_scope.cancel()
            return result

        try:
            result = trio.run(main)
            if isinstance(result, SupervisorFailed):
                raise result
            return result
        finally:
            assert [event for event in self.events("started") if state_of(event.pid) != "X"] == []

    async def _play_and_stop(self, play: Callable[[], Awaitable[None]]) -> None:
        await play()
        os.kill(os.getpid(), signal.SIGTERM)

    def _reload(self) -> Plan:
        return self.reload()

    def _command(self, worker: int) -> list[str]:
        return [sys.executable, "-I", "-S", str(PROGRAM), str(self.folder), str(worker)]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def forever() -> None:
    await trio.sleep_forever()


def test_worker_0_is_ready_before_others_start_and_all_drain(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()

    assert stage.run(play) == 0
    assert [event[:2] for event in stage.events()[:4]] == [(0, "started"), (0, "ready"), (1, "started"), (1, "ready")]
    assert sorted(event[:2] for event in stage.events()[4:]) == [(0, "drained"), (1, "drained")]


@pytest.mark.parametrize("status", [2, 3])
def test_a_start_that_fails_ends_all_with_its_status(stage: Stage, status: int) -> None:
    stage.tell(0, f"exit-{status}")
    assert stage.run(forever) == status
    assert [event[:2] for event in stage.events()] == [(0, "started")]


def test_a_later_worker_that_cannot_start_ends_the_first(stage: Stage) -> None:
    stage.tell(1, "exit-3")
    assert stage.run(forever) == 3
    assert [event.worker for event in stage.events("drained")] == [0]


@pytest.mark.parametrize(("word", "how"), [("kill-11", "SIGSEGV"), ("exit-0", "exit status 0"), ("mute", "SIGKILL")])
def test_a_start_without_a_word_is_told(stage: Stage, word: str, how: str) -> None:
    stage.tell(0, word)
    stage.ready_limit_s = 0.5
    with pytest.raises(SupervisorFailed, match=f"worker 0 ended before it served: .*{how}"):
        stage.run(forever)


def test_a_command_that_does_not_exist_is_no_start(stage: Stage) -> None:
    stage._command = lambda worker: ["/nonexistent/ocs"]  # type: ignore[method-assign]
    assert stage.run(forever) == 3


def test_a_worker_that_dies_is_replaced(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        for times in (1, 2):
            os.kill((await stage.until(1, "ready", times)).pid, signal.SIGKILL)
            await stage.until(1, "ready", times + 1)

    assert stage.run(play) == 0
    assert [event.worker for event in stage.events("started")] == [0, 1, 1, 1]
    assert [event.worker for event in stage.events("drained")].count(0) == 1


def test_a_worker_that_dies_again_and_again_ends_all(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        victim = await stage.until(1, "ready")
        stage.tell(1, "exit-1")
        os.kill(victim.pid, signal.SIGKILL)
        await forever()

    with pytest.raises(SupervisorFailed, match=r"worker 1 is given up: it died 4 times in a row .* exit status 1"):
        stage.run(play)
    assert [event.worker for event in stage.events("started")] == [0, 1, 1, 1, 1]
    assert [event.worker for event in stage.events("drained")] == [0]


def test_a_store_that_is_away_is_waited_for(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        victim = await stage.until(1, "ready")
        stage.tell(1, "exit-3")
        os.kill(victim.pid, signal.SIGKILL)
        # The first death is one of ours; these eight are the store's.
        await stage.until(1, "started", 9)
        stage.tell(1, "serve")
        await stage.until(1, "ready", 2)

    assert stage.run(play) == 0


def test_a_worker_that_does_not_drain_is_killed(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()

    stage.tell(1, "deaf")
    stage.plan = Plan(2, stop_limit_s=0.3)
    assert stage.run(play) == 1
    assert [event.worker for event in stage.events("drained")] == [0]


def test_rolling_restart_keeps_one_ready(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await stage.until(1, "ready", 2)

    assert stage.run(play) == 0
    rolled = [event[:2] for event in stage.events()[4:10]]
    assert rolled == [(k, what) for k in (0, 1) for what in ("drained", "started", "ready")]


def test_a_rolling_restart_that_was_asked_for_twice_more_comes_once_more(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await stage.until(0, "drained")
        # At once: a roll of these workers takes no longer than some milliseconds.
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        await stage.until(1, "ready", 3)
        await trio.sleep(0.2)

    assert stage.run(play) == 0
    assert [event.worker for event in stage.events("started")] == [0, 1] * 3


def test_a_rolling_restart_stops_at_a_worker_that_does_not_serve(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        stage.tell(0, "exit-2")
        os.kill(os.getpid(), signal.SIGHUP)
        await stage.until(0, "started", 2)
        stage.tell(0, "serve")
        await stage.until(0, "ready", 2)
        await trio.sleep(0.2)

    assert stage.run(play) == 0
    assert [event.worker for event in stage.events("started")] == [0, 1, 0, 0]


def test_a_configuration_that_is_refused_restarts_nobody(stage: Stage) -> None:
    def refuse() -> Plan:
        asked.set()
        raise ConfigError([Problem("ocs.toml", 1, "workers.count", "expected an integer")])

    async def play() -> None:
        await stage.supervisor.serving.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await asked.wait()
        await trio.sleep(0.2)

    asked = trio.Event()
    stage.reload = refuse
    assert stage.run(play) == 0
    assert [event.worker for event in stage.events("started")] == [0, 1]


def test_a_rolling_restart_follows_the_number_of_workers(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        stage.reload = lambda: Plan(3, stop_limit_s=10.0)
        os.kill(os.getpid(), signal.SIGHUP)
        await stage.until(2, "ready")
        stage.reload = lambda: Plan(1, stop_limit_s=10.0)
        os.kill(os.getpid(), signal.SIGHUP)
        await stage.until(1, "drained", 2)

    assert stage.run(play) == 0
    assert [event.worker for event in stage.events("started")] == [0, 1, 0, 1, 2, 0]
    assert [event.worker for event in stage.events("drained")] == [0, 1, 0, 2, 1, 0]


def test_a_stop_during_a_rolling_restart_ends_all(stage: Stage) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        stage.tell(0, "mute")
        os.kill(os.getpid(), signal.SIGHUP)
        await stage.until(0, "started", 2)

    assert stage.run(play) == 0
    assert sorted(event.worker for event in stage.events("drained")) == [0, 0, 1]


def test_a_stop_during_the_first_start_ends_all(stage: Stage) -> None:
    async def play() -> None:
        await stage.until(0, "started")

    stage.tell(0, "mute")
    assert stage.run(play) == 0
    assert [event[:2] for event in stage.events()] == [(0, "started"), (0, "drained")]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["roll", "stop"])
def test_nobody_waits_for_the_end_of_a_pause(stage: Stage, number: signal.Signals) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        os.kill((await stage.until(1, "ready")).pid, signal.SIGKILL)
        # Until the pause of ten minutes has begun.
        await stage.until_gone(1)
        if number == signal.SIGHUP:
            os.kill(os.getpid(), number)
            await stage.until(1, "ready", 2)

    stage.policy = Policy(first_pause_s=600.0, most_pause_s=600.0)
    assert stage.run(play) == 0
    assert [event.worker for event in stage.events("started")] == ([0, 1, 0, 1] if number == signal.SIGHUP else [0, 1])


def test_the_service_manager_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        await stage.supervisor.serving.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await stage.until(1, "ready", 2)
        while True:
            if heard().count(b"READY=1") == 2:
                return
            await trio.sleep(0.005)

    def heard() -> list[bytes]:
        with contextlib.suppress(BlockingIOError):
            while True:
                said.append(manager.recv(1000))
        return [one.split(b"\n")[0] for one in said]

    said: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.bind(str(stage.folder / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(stage.folder / "notify"))
        assert stage.run(play) == 0
        assert heard() == [b"READY=1", b"RELOADING=1", b"READY=1", b"STOPPING=1"]
    assert said[1].split(b"\n")[1].startswith(b"MONOTONIC_USEC=")
