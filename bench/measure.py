"""How a benchmark measures and what it says of the machine: CPU time, repeated, with its spread.

CPU time of this process and not wall time, because the machines are shared; minimum, median and maximum over the repeats,
because one number hides the drift.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

NS_PER_US = 1_000


class Spread(NamedTuple):
    """CPU time of one call, in microseconds, over the repeats; `calls` per repeat."""

    min_us: float
    median_us: float
    max_us: float
    repeats: int
    calls: int


def measure(call: Callable[[], object], repeats: int, repeat_s: float) -> Spread:
    """Return the CPU time of a call over `repeats` runs of about `repeat_s` seconds each, after one to warm up."""
    calls = _calls_in(call, repeat_s)
    _run_ns(call, calls)
    times_us = [_run_ns(call, calls) / calls / NS_PER_US for _ in range(repeats)]
    return Spread(min(times_us), statistics.median(times_us), max(times_us), repeats, calls)


def _calls_in(call: Callable[[], object], duration_s: float) -> int:
    calls = 1
    while (took_ns := _run_ns(call, calls)) < duration_s * 1e9 / 10:
        calls *= 2
    return max(1, int(calls * duration_s * 1e9 / took_ns))


def _run_ns(call: Callable[[], object], calls: int) -> int:
    started_ns = time.process_time_ns()
    for _ in range(calls):
        call()
    return max(1, time.process_time_ns() - started_ns)


def describe_machine() -> dict[str, str | int]:
    """Return what a figure depends on: processor, cores, kernel, Python, version of the product."""
    try:
        version = metadata.version("tollgate-ocs")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} {platform.python_compiler()}",
        "tollgate_ocs": version,
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
