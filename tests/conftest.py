"""What holds for every test: a whole installation, no silent skip, hypothesis without a clock."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from ocs.startup import StartupError, check_installation

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
    allowed = {name.strip() for name in os.environ.get("ALLOW_MISSING", "").split(",")}
    for marker in item.iter_markers("needs"):
        if marker.args[0] in allowed:
            pytest.skip(f"ALLOW_MISSING={marker.args[0]}")


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
