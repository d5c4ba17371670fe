"""Running servers for the tests that want one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gy_client import GyClient
from tests.support.redis_server import RedisServer
from tests.support.server_process import Gateway, Server, Workers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        running.prepare()
        yield running


@pytest.fixture
def gateway(server: Server) -> Iterator[GyClient]:
    with server.gateway() as client:
        yield client


@pytest.fixture
def workers(tmp_path: Path, redis_server: RedisServer) -> Iterator[Workers]:
    """Two workers on one Redis."""
    with Workers(tmp_path, [redis_server.url] * 2) as running:
        running.prepare()
        yield running


@pytest.fixture(params=["sqlite-one-worker", "redis-two-workers"])
def system(request: pytest.FixtureRequest) -> Server | Workers:
    """One worker on SQLite, and two on Redis that are asked alternately."""
    name = "server" if request.param == "sqlite-one-worker" else "workers"
    running: Server | Workers = request.getfixturevalue(name)
    return running


@pytest.fixture
def alternating(system: Server | Workers) -> Iterator[Gateway]:
    """A gateway of `system`."""
    with system.gateway() as client:
        yield client
