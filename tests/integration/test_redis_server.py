"""The tests' own Redis: what its faults do, and that it never outlives its test."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from tests.support.processes import state_of
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]


def test_what_was_acknowledged_outlives_kill_9(private_redis: RedisServer) -> None:
    port, first = private_redis.port, private_redis.pid
    with private_redis.client() as client:
        for number in range(100):
            client.set(f"k{number}", number)
    private_redis.kill()
    assert state_of(first) == "X"
    private_redis.restart()
    assert private_redis.port == port
    assert private_redis.pid != first
    with private_redis.client() as client:
        assert [int(value or -1) for value in client.mget([f"k{number}" for number in range(100)])] == list(range(100))


def test_a_paused_server_keeps_connections_and_answers_nothing(private_redis: RedisServer) -> None:
    with private_redis.client(timeout_s=0.2) as client:
        client.ping()
        private_redis.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        private_redis.resume()
        assert client.ping()


def test_a_paused_server_can_be_killed_and_restarted(private_redis: RedisServer) -> None:
    private_redis.pause()
    private_redis.kill()
    private_redis.restart()
    with private_redis.client() as client:
        assert client.ping()


@pytest.mark.parametrize(("level", "fsync"), [("safe", "always"), ("fast", "everysec")])
def test_a_level_is_a_configuration(level: str, fsync: str) -> None:
    with RedisServer("fast" if level == "fast" else "safe") as server, server.client() as client:
        assert client.config_get("append*")["appendonly"] == "yes"
        assert client.config_get("appendfsync") == {"appendfsync": fsync}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with server.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_setting_may_break_the_level() -> None:
    with RedisServer("safe", {"maxmemory-policy": "allkeys-lru"}) as server, server.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}


def test_a_server_that_cannot_start_says_why() -> None:
    server = RedisServer("safe", {"maxmemory-policy": "nonesuch"})
    with pytest.raises(OSError, match="redis-server did not start"), server:
        pass


@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), 9)", "raise RuntimeError", "os._exit(1)"])
def test_a_server_dies_with_its_test(ending: str) -> None:
    program = (
        "import os; from tests.support.redis_server import RedisServer; server = RedisServer(); server.start(); "
        f"print(server.pid, server.folder, flush=True); {ending}"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT, stdout=subprocess.PIPE, timeout=60)
    pid, folder = int(done.stdout.split()[0]), done.stdout.split()[1].decode()
    shutil.rmtree(folder, ignore_errors=True)  # the dying server may still be writing
    end = time.monotonic() + 5
    while state_of(pid) not in "XZ":
        assert time.monotonic() < end, "redis-server was left behind"
        time.sleep(0.01)


def test_each_test_finds_the_shared_server_empty(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        assert client.dbsize() == 0
        client.set("left", "behind")
    with redis_server.client() as client:
        assert client.dbsize() == 1


def test_and_so_does_the_next(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        assert client.dbsize() == 0
