"""What a worker and its supervisor agree on, and the rule of restarts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ocs.config import Settings, WorkersSettings
from ocs.control.main import plan_of, worker_command
from ocs.control.process import told
from ocs.control.restarts import GivenUp, Policy, Restarts
from ocs.supervised import Orders, say_ready, take_orders, tell_service_manager

POLICY = Policy(stable_s=10.0, first_pause_s=0.25, most_pause_s=2.0, most_early_deaths=5)


@pytest.mark.parametrize("clock_start_us", [None, 1_772_449_400_000_000])
def test_orders_reach_the_worker_and_stay_there(clock_start_us: int | None) -> None:
    orders = Orders(41, 7, clock_start_us)
    environment = orders.environment({"PATH": "/bin", "NOTIFY_SOCKET": "/run/systemd/notify"})
    assert take_orders(environment) == orders
    assert environment == {"PATH": "/bin"}


def test_a_process_without_a_supervisor_has_no_orders() -> None:
    assert take_orders({}) is None


def test_a_worker_whose_supervisor_has_gone_does_not_start() -> None:
    # In a process of its own: what is asked of the kernel holds for the rest of a process's life.
    program = "from ocs.supervised import *; die_with_supervisor(Orders(0, 1))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1
    assert "SupervisorGone: the supervisor ended while this worker started" in found.stderr


def test_readiness_is_said_once_and_the_pipe_closed() -> None:
    read_fd, write_fd = os.pipe()
    say_ready(Orders(1, write_fd))
    assert (os.read(read_fd, 100), os.read(read_fd, 100)) == (b"ready\n", b"")
    os.close(read_fd)


def test_readiness_for_nobody_is_no_error() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    say_ready(Orders(1, write_fd))


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_service_manager_hears_a_line(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"\0ocs-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        tell_service_manager("READY=1", {"NOTIFY_SOCKET": name.replace("\0", "@")})
        assert manager.recv(100) == b"READY=1"


def test_a_service_manager_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    tell_service_manager("READY=1", {})
    tell_service_manager("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "none")})
    tell_service_manager("READY=1", {"NOTIFY_SOCKET": "relative"})


def test_pauses_grow_to_the_most() -> None:
    restarts = Restarts(POLICY._replace(most_early_deaths=99))
    assert [restarts.pause_s(0.5, True, 1) for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_a_worker_that_served_for_a_while_begins_anew() -> None:
    restarts = Restarts(POLICY)
    for _ in range(10):
        assert [restarts.pause_s(1.0, True, -9) for _ in range(4)] == [0.25, 0.5, 1.0, 2.0]
        assert restarts.pause_s(10.0, True, -9) == 0.0


def test_the_fifth_early_death_in_a_row_is_the_last() -> None:
    restarts = Restarts(POLICY)
    for _ in range(4):
        restarts.pause_s(9.9, True, 0)
    with pytest.raises(GivenUp, match="5 times in a row"):
        restarts.pause_s(9.9, True, 0)


def test_a_long_start_without_readiness_is_an_early_death() -> None:
    restarts = Restarts(POLICY)
    assert restarts.pause_s(60.0, False, -9) == 0.25


def test_what_cannot_be_used_is_waited_for_without_end_but_faults_still_count() -> None:
    restarts = Restarts(POLICY)
    for _ in range(4):
        restarts.pause_s(0.1, False, 1)
    for _ in range(10_000):
        assert restarts.pause_s(0.1, False, 3) == 2.0
    with pytest.raises(GivenUp):
        restarts.pause_s(0.1, False, 1)


def test_a_worker_runs_the_same_interpreter_and_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-P", "-m", "ocs.cli.main", "serve", "--worker", "3"]
    assert worker_command(3, None, False) == command
    assert worker_command(3, "a.toml", True) == [*command, "--config", "a.toml", "--test-clock"]
    # Run from its own folder, without being installed, that folder is where the packages are found.
    monkeypatch.chdir(Path(__file__).parents[2])
    assert "-P" not in worker_command(3, None, False)


def test_a_drain_has_time_for_all_its_waits() -> None:
    settings = Settings(workers=WorkersSettings(count=4))
    plan = plan_of(settings)
    assert plan.workers == 4
    # 5 s requests in flight + 5 s DPR and 2 s closing + 5 s operators' requests, by the settings' defaults.
    assert plan.stop_limit_s > 5 + 5 + 2 + 5


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "exit status 0"), (3, "exit status 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")],
)
def test_how_a_process_ended_is_told(status: int, text: str) -> None:
    assert told(status) == text
