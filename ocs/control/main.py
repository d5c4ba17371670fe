"""`ocs serve` with more than one worker: the supervisor over real workers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from ocs.config import Settings
from ocs.control.supervisor import Plan, Supervisor
from ocs.startup import PACKAGES, check_installation, common_root
from ocs.supervised import drain_limit_s
from ocs.telemetry import configure_logging


def run(settings: Settings, reload: Callable[[], Settings], config: str | None, test_clock: bool) -> int:
    """Supervise until SIGTERM or SIGINT; the exit status of `ocs serve`.

    `reload` reads the configuration again (`ConfigError`), `config` is the file that was named. `SupervisorFailed`,
    `StartupError`; a worker that cannot start says so itself, and its status is returned.
    """
    configure_logging(settings.log.level, settings.log.form)
    check_installation()
    supervisor = Supervisor(
        plan_of(settings),
        lambda worker: worker_command(worker, config, test_clock),
        lambda: plan_of(reload()),
        clock_start_us=int(time.time()) * 1_000_000 if test_clock else None,
    )
    return trio.run(supervisor.run)


def plan_of(settings: Settings) -> Plan:
    """What the supervisor has to know of the configuration; the workers read the rest."""
    return Plan(settings.workers.count, drain_limit_s(settings))


def worker_command(worker: int, config: str | None, test_clock: bool) -> Sequence[str]:
    """The command line of one worker, by the same interpreter and with the same packages as this process."""
    # `-m` would look into the working directory first, where strangers may lie; unless that is where we run from.
    isolated = [] if Path.cwd() == common_root(PACKAGES) else ["-P"]
    command = [sys.executable, *isolated, "-m", "ocs.cli.main", "serve", "--worker", str(worker)]
    if config is not None:
        command += ["--config", config]
    return [*command, "--test-clock"] if test_clock else command
