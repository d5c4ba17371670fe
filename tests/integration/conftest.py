"""A running server for the tests that want one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gy_client import GyClient
from tests.support.server_process import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        running.prepare()
        yield running


@pytest.fixture
def gateway(server: Server) -> Iterator[GyClient]:
    with server.gateway() as client:
        yield client
