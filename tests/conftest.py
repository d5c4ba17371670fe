"""What holds for every test: a whole installation, no silent skip, hypothesis without a clock."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from ocs.startup import StartupError, check_installation
from tests.support.redis_server import RedisServer

# No deadline: the machines that run this are shared. CI looks at the same examples every time; `make soak` and a
# developer's runs look for new ones.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_sessionstart() -> None:
    """Refuse to test strangers' packages or a half-built installation."""
    try:
        check_installation()
    except StartupError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(tool): a tool of another project, which ALLOW_MISSING may name")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out a test whose tool is allowed to be missing; the summary names it."""
    for marker in item.iter_markers("needs"):
        _skip_if_allowed(marker.args[0])


def _skip_if_allowed(tool: str) -> None:
    if tool in {name.strip() for name in os.environ.get("ALLOW_MISSING", "").split(",")}:
        pytest.skip(f"ALLOW_MISSING={tool}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure, unless ALLOW_MISSING allows it: a test that does not run proves nothing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and "ALLOW_MISSING=" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into an error, likewise."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[RedisServer]:
    _skip_if_allowed("redis-server")
    with RedisServer("safe") as server:
        yield server


@pytest.fixture
def redis_server(_shared_redis: RedisServer) -> RedisServer:
    """The session's Redis of level `safe`, emptied; not to be killed, paused or configured: `private_redis` is."""
    with _shared_redis.client() as client:
        client.flushall()
    return _shared_redis


@pytest.fixture
def private_redis() -> Iterator[RedisServer]:
    """A Redis of level `safe` for one test, which may do with it what it likes."""
    _skip_if_allowed("redis-server")
    with RedisServer("safe") as server:
        yield server
