"""Two worker processes on one Redis: who they are, whom they hold, what they share, and a catalogue for both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocs.charging.registry import LEASE_S
from tests.support.gy_client import INITIAL, mscc
from tests.support.redis_server import RedisServer
from tests.support.server_process import CATALOGUE, Worker, Workers

TIMEOUT_S = 15.0
PARTITIONS = 64
OCS = (sys.executable, "-m", "ocs.cli.main")


@pytest.fixture
def workers(tmp_path: Path, redis_server: RedisServer) -> Iterator[Workers]:
    """Two, with notices, and the scenarios' catalogue."""
    with Workers(tmp_path, [redis_server.url] * 2, settings="[charging]\nnotices = true\n") as running:
        running.prepare()
        yield running


def wait(condition: Callable[[], object], seconds: float = TIMEOUT_S) -> float:
    """Seconds until something is so."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - start


def shares(workers: Workers) -> list[int]:
    return [server.numbers()["sweep_partitions"] for server in workers.servers]


def version_of(server: Worker) -> int:
    return int(server.get("/v1/catalogue")["version"])


def activate(server: Worker, text: str, **more: str) -> tuple[int, dict[str, object]]:
    body = {"text": text, "filename": "c.toml", "reason": "a test", **more}
    answer = server._client.post("/v1/catalogue/activate", json=body)
    return answer.status_code, answer.json()


def ocs(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command."""
    environment = {**os.environ, "OCS_HOME": str(home), "OCS_CONFIG": str(home / "worker0.toml")}
    found = subprocess.run((*OCS, *arguments), env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    return found


def test_workers_and_peers_are_known_to_all_and_share_the_sweep(workers: Workers, tmp_path: Path) -> None:
    one, two = workers.servers
    wait(lambda: shares(workers) == [PARTITIONS // 2] * 2)
    with two.gateway("GW7.example.net"):

        def holders(server: Worker) -> dict[str, list[int]]:
            return {
                peer["origin_host"]: [held["worker"] for held in peer["workers"]]
                for peer in server.get("/v1/workers")["peers"]
            }

        wait(lambda: holders(one) == holders(two) == {"gw7.example.net": [1]}, 3)
        found = one.get("/v1/workers")["workers"]
        assert [(entry["worker"], entry["pid"], entry["serving"]) for entry in found] == [
            (0, one.pid, True),
            (1, two.pid, True),
        ]
        listeners = {listener["name"]: listener["address"] for listener in found[1]["listeners"]}
        assert listeners["diameter"].endswith(f":{two.port}")
        shown = ocs(tmp_path, "workers")
        lines = [line.split() for line in shown.stdout.splitlines()]
        assert ["gw7.example.net", "1", "(1)"] in lines, shown
        assert [line[2] for line in lines if "serves" in line] == [str(one.pid), str(two.pid)]
        assert json.loads(ocs(tmp_path, "workers", "--json").stdout) == one.get("/v1/workers")
    wait(lambda: holders(one) == {}, 3)


def test_a_catalogue_is_loaded_by_both_and_current_in_both_when_it_is_said(workers: Workers, tmp_path: Path) -> None:
    one, two = workers.servers
    before = version_of(one)
    start = time.monotonic()
    status, answer = activate(one, CATALOGUE.read_text() + "\n# new\n", key="k1")
    assert (status, answer["version"], answer["changed"]) == (200, before + 1, True)
    ready = answer["ready"]
    assert isinstance(ready, list) and sorted(entry["worker"] for entry in ready) == [0, 1]
    assert time.monotonic() - start < 5
    wait(lambda: version_of(one) == version_of(two) == before + 1, 0.5)
    # The same under its key, through the other one.
    status, answer = activate(two, CATALOGUE.read_text() + "\n# new\n", key="k1")
    assert (status, answer["version"], answer["changed"], answer["repeated"]) == (200, before + 1, False, True)
    status, answer = activate(two, CATALOGUE.read_text(), key="k1")
    assert status == 409, answer
    # By the command line, which says who is ready.
    file = tmp_path / "next.toml"
    file.write_text(CATALOGUE.read_text() + "\n# next\n")
    told = ocs(tmp_path, "catalogue", "activate", str(file), "--reason", "prices")
    assert f"version {before + 2} is active in workers 0 " in told.stdout and ", 1 (" in told.stdout
    wait(lambda: version_of(one) == version_of(two) == before + 2, 0.5)


def test_a_worker_that_stands_still_is_waited_for_until_its_lease_ends_and_comes_back(workers: Workers) -> None:
    one, two = workers.servers
    before = version_of(one)
    wait(lambda: shares(workers) == [PARTITIONS // 2] * 2)
    os.kill(two.pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        status, answer = activate(one, CATALOGUE.read_text() + "\n# new\n")
        assert (status, answer["changed"]) == (200, True)
        assert LEASE_S - 3 < time.monotonic() - start < LEASE_S + 3
        wait(lambda: one.numbers()["sweep_partitions"] == PARTITIONS, LEASE_S)
        assert [entry["worker"] for entry in one.get("/v1/workers")["workers"]] == [0]
    finally:
        os.kill(two.pid, signal.SIGCONT)
    wait(lambda: version_of(two) == before + 1, 3)
    wait(lambda: shares(workers) == [PARTITIONS // 2] * 2, 5)
    assert two.get("/v1/doctor")["problems"] == []


def test_a_notice_reaches_the_worker_that_holds_the_gateway(workers: Workers) -> None:
    one, two = workers.servers
    one.subscriber(0, msisdn="447700900123")
    with two.gateway("gw7.example.net") as gateway:
        opened = gateway.ccr(INITIAL, 0, "gw7;1;1", mscc(100, requested=[]), msisdn="447700900123")
        assert opened.service.result_code == 4012
        wait(lambda: one.get("/v1/workers")["peers"], 3)
        # Its own view is at most a second old.
        time.sleep(1.2)
        for _ in range(10):
            one.top_up(1)
        one.advance(2)
        wait(lambda: two.numbers()["notices_delivered"] == 1)
        for server in workers.servers:
            server.advance(20)
        time.sleep(0.5)
        assert [server.numbers()["notices_delivered"] for server in workers.servers] == [0, 1]
        assert [server.numbers()["notices_homeless"] for server in workers.servers] == [0, 0]


def test_a_worker_that_leaves_is_gone_from_the_list_at_once(workers: Workers) -> None:
    one, two = workers.servers
    two.terminate()
    wait(lambda: len(one.get("/v1/workers")["workers"]) == 1, LEASE_S - 3)
    wait(lambda: one.numbers()["sweep_partitions"] == PARTITIONS, 3)
    assert json.loads(one._client.get("/v1/doctor").text)["problems"] == []
