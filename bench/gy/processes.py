"""CPU time and memory of other processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")


class ProcessUse(NamedTuple):
    """What a process took so far."""

    cpu_us: int
    rss_octets: int


def use_of(pid: int) -> ProcessUse | None:
    """User and system time of all threads, and resident memory; `None` if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # Fields 14, 15 and 24 of proc(5); the split begins with field 3.
    ticks = int(fields[11]) + int(fields[12])
    return ProcessUse(ticks * 1_000_000 // _TICKS_PER_S, int(fields[21]) * _PAGE_OCTETS)


def uses_of(processes: Mapping[str, int]) -> dict[str, ProcessUse]:
    """By name, those only that are there."""
    found = {name: use_of(pid) for name, pid in processes.items()}
    return {name: use for name, use in found.items() if use is not None}


def children_of(pid: int) -> list[int]:
    """Processes that a process started, and theirs."""
    found: list[int] = []
    for task in _tasks(pid):
        for child in _read(task / "children").split():
            found += [int(child), *children_of(int(child))]
    return found


def _tasks(pid: int) -> Iterable[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
