"""`ocs serve` with several workers on one Redis: deaths, drains, rolling restarts, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.crowd import Asked, Crowd
from tests.support.fleet import OCS, Fleet, adjacent_ports
from tests.support.processes import DYING_WITH_THE_TEST, state_of
from tests.support.redis_server import RedisServer
from tests.support.server_process import Server

ANSWERED_WITHIN_S = 2.0
CENTS = 1_000_000


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer) -> Iterator[Fleet]:
    """Two workers on the first free ports that are neighbours."""
    with Fleet(tmp_path, redis_server.url, port=adjacent_ports()) as running:
        yield running


@pytest.fixture
def crowd(fleet: Fleet) -> Iterator[Crowd]:
    """Ten sessions of five accounts, open, with money."""
    ports = [fleet.port_of(worker) for worker in (0, 1)]
    with Crowd([lambda: ports[0], lambda: ports[1]], seed=1) as gateways:
        gateways.settle(fleet, accounts=5, sessions=2, cents=CENTS)
        openings = gateways.openings()
        gateways.ask(openings, (0, 1))
        gateways.receive()
        assert all(one.first is not None for one in openings)
        yield gateways


def assert_books(fleet: Fleet, crowd: Crowd) -> None:
    """Every request was charged once: sums that the server did not make."""
    endings = crowd.endings()
    crowd.insist(endings, (0, 1))
    assert {name: fleet.balance(name) for name in crowd.cents} == {
        name: (cents, 0) for name, cents in crowd.expected_cents().items()
    }


def test_workers_have_neighbouring_ports_and_are_shown_and_stepped_together(fleet: Fleet) -> None:
    assert fleet.port_of(1) == fleet.port_of(0) + 1
    found = json.loads(fleet.ocs("status", "--json").stdout)
    assert (found["running"], found["count"]) == (2, 2)
    assert [one["pid"] for one in found["workers"]] == [fleet.told(0)["pid"], fleet.told(1)["pid"]]
    assert sorted(one["pid"] for one in found["workers"]) == sorted(fleet.worker_pids())
    assert found["workers"][0]["worker_id"] != found["workers"][1]["worker_id"]
    shown = fleet.ocs("status")
    assert (shown.returncode, shown.stdout.count("serves")) == (0, 2)
    up = [line for line in fleet.ocs("metrics").stdout.splitlines() if line.startswith("ocs_worker_up{")]
    assert up == ['ocs_worker_up{worker="0"} 1.0', 'ocs_worker_up{worker="1"} 1.0']
    # The test clock is stepped in all.
    before = json.loads(fleet.ocs("clock", "show", "--json").stdout)["workers"]
    assert before[0]["now_us"] == before[1]["now_us"]
    after = json.loads(fleet.ocs("clock", "advance", "3600", "--json").stdout)["workers"]
    assert [one["now_us"] - before[0]["now_us"] for one in after] == [3_600_000_000] * 2
    # A line of the log tells whose it is.
    serving = [json.loads(line) for line in fleet.log().splitlines() if '"event": "serving"' in line]
    assert sorted(line["worker"] for line in serving) == [0, 1]


def test_a_killed_worker_comes_back_and_every_request_is_charged_once(fleet: Fleet, crowd: Crowd) -> None:
    killed = fleet.told(0)
    assert fleet.ocs("clock", "advance", "90").returncode == 0
    updates = crowd.updates(each=20)
    crowd.ask(updates, (0, 1))
    crowd.receive(lambda: sum(one.told for one in updates) > 50)
    os.kill(killed["pid"], signal.SIGKILL)
    crowd.receive(patient=True, seconds=2)
    # Meanwhile the other one works for operators and gateways.
    fleet.wait(lambda: state_of(killed["pid"]) == "X", "the killed worker is still there")
    alone = fleet.ocs("account", "show", "crowd0-0", "--json")
    assert (alone.returncode, json.loads(alone.stdout)["account"]) == (0, "crowd0-0")
    crowd.insist(updates, (1,))
    fleet.wait(lambda: fleet.status(0), "the killed worker does not come back")
    born = fleet.told(0)
    assert born["worker_id"] != killed["worker_id"]
    crowd.leave(0)
    crowd.repeat(updates[:40], (0,))
    assert_books(fleet, crowd)
    # Test clocks agree also after a restart.
    times = [one["now_us"] for one in json.loads(fleet.ocs("clock", "show", "--json").stdout)["workers"]]
    assert times[0] == times[1]


def test_sigterm_drains_and_no_request_is_lost(fleet: Fleet, crowd: Crowd) -> None:
    updates = crowd.updates(each=30)
    crowd.ask(updates, (0, 1))
    crowd.receive(lambda: any(one.told for one in updates))
    pids = fleet.worker_pids()
    fleet.terminate()
    crowd.receive(seconds=10)
    # Each was answered before its connection ended: charged, or told to go elsewhere.
    assert [one for one in updates if not one.told and one.errors != [3002]] == []
    assert fleet.stop_status() == 0
    assert [pid for pid in pids if state_of(pid) != "X"] == []
    assert [path for path in fleet.sockets if path.exists()] == []
    fleet.start()
    for worker in (0, 1):
        crowd.leave(worker)
    crowd.insist(updates, (0, 1))
    crowd.repeat(updates[:40], (0, 1))
    assert_books(fleet, crowd)


def test_during_a_rolling_restart_somebody_answers_at_any_time(fleet: Fleet, crowd: Crowd) -> None:
    before = [fleet.told(worker)["worker_id"] for worker in (0, 1)]
    answered = 0
    os.kill(fleet.pid, signal.SIGHUP)
    while "rolling restart is done" not in fleet.log():
        updates = crowd.updates()
        ask_anyone(crowd, updates, (answered % 2, 1 - answered % 2))
        answered += len(updates)
    assert answered > 0
    assert [one for worker in (0, 1) if (one := fleet.told(worker)["worker_id"]) in before] == []
    assert len(fleet.worker_pids()) == 2
    assert_books(fleet, crowd)


def ask_anyone(crowd: Crowd, asked: Sequence[Asked], workers: Sequence[int]) -> None:
    """Ask as a gateway with two servers does: the one, and what it refuses or leaves unanswered, the other."""
    begun = time.monotonic()
    while missing := [one for one in asked if one.first is None]:
        for worker in workers:
            try:
                crowd.ask(missing, (worker,), again=any(one.errors for one in missing))
            except OSError:
                crowd.leave(worker)
                continue
            crowd.receive()
            missing = [one for one in asked if one.first is None]
            if not missing:
                break
        assert time.monotonic() - begun < ANSWERED_WITHIN_S, "nobody answers"


def test_workers_do_not_outlive_a_killed_supervisor(fleet: Fleet) -> None:
    pids = fleet.worker_pids()
    assert len(pids) == 2
    fleet.kill()
    fleet.wait(lambda: all(state_of(pid) == "X" for pid in pids), "a worker outlives its supervisor")
    # Nothing stands in the way of the next one.
    fleet.start()
    assert len(fleet.worker_pids()) == 2


def test_a_crash_loop_ends_with_a_status_and_a_reason(fleet: Fleet) -> None:
    spared = fleet.told(0)["pid"]
    while fleet.is_running():
        for pid in fleet.worker_pids():
            if pid != spared:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    assert fleet.stop_status() == 3
    last = fleet.log().splitlines()[-1]
    assert last == (
        "ocs: worker 1 is given up: it died 5 times in a row right after its start, at last with killed by SIGKILL"
    )
    assert state_of(spared) == "X"


def test_a_worker_that_hangs_is_passed_over_and_reported(fleet: Fleet) -> None:
    os.kill(fleet.told(0)["pid"], signal.SIGSTOP)
    try:
        found = fleet.ocs("account", "list", "--json")
        assert (found.returncode, found.stderr) == (0, "")
        status = fleet.ocs("status")
        assert (status.returncode, status.stdout.count("does not answer")) == (1, 1)
        doctor = fleet.ocs("doctor", "--json")
        assert doctor.returncode == 1
        assert json.loads(doctor.stdout)["problems"] == [f"worker 0 does not answer on {fleet.sockets[0]}"]
    finally:
        os.kill(next(pid for pid in fleet.worker_pids() if state_of(pid) == "T"), signal.SIGCONT)


def test_a_single_worker_tells_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with Server(tmp_path):
            assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"STOPPING=1"


# Starts that fail


def refused(home: Path, config: str, *arguments: str) -> tuple[int, list[str]]:
    """Exit status of `ocs serve`, and what it told people; no process is left."""
    (home / "ocs.toml").write_text(config)
    found = subprocess.run(
        [*DYING_WITH_THE_TEST, *OCS, "serve", *arguments],
        env={**os.environ, "OCS_HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [path for path in Path("/proc").glob("[0-9]*/cwd") if points_to(path, home)] == []
    return found.returncode, [line for line in found.stderr.splitlines() if line.startswith("ocs: ")]


def points_to(link: Path, folder: Path) -> bool:
    try:
        return link.readlink() == folder
    except OSError:
        return False


def test_several_workers_on_sqlite_are_refused(tmp_path: Path) -> None:
    status, told = refused(tmp_path, "[workers]\ncount = 2\n")
    reason = 'workers.count: 2: one process holds an SQLite store, expected 1, or store.engine = "redis"'
    assert (status, told) == (2, [f"ocs: {tmp_path}/ocs.toml:2: {reason}"])


def test_a_store_that_is_refused_is_told_once(tmp_path: Path) -> None:
    with RedisServer("safe", {"appendonly": "no"}) as server:
        config = f'[store]\nengine = "redis"\nurl = "{server.url}"\n[workers]\ncount = 2\n'
        status, told = refused(tmp_path, config)
    assert status == 3
    assert told[0].startswith("ocs: Redis does not give level safe: appendonly is 'no'")
    assert len(told) == len(set(told))


def test_a_port_that_is_taken_is_told_once_and_ends_the_others(tmp_path: Path, redis_server: RedisServer) -> None:
    port = adjacent_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        config = (
            f'[diameter]\nlisten = "127.0.0.1"\nport = {port}\n'
            f'[store]\nengine = "redis"\nurl = "{redis_server.url}"\n[workers]\ncount = 2\n'
        )
        status, told = refused(tmp_path, config)
    assert (status, len(told)) == (3, 1)
    assert str(port + 1) in told[0]


def test_a_worker_beyond_the_number_of_workers_is_refused(tmp_path: Path) -> None:
    told = "ocs: worker: 1, expected 0 to 0: workers.count is 1"
    assert refused(tmp_path, "", "--worker", "1") == (2, [told])
