"""What a Redis must be configured for, and what it is: pure functions over the replies of INFO and CONFIG GET.

DESIGN §5: `fast` survives a crash of the process, `safe` a power cut. Neither holds while keys may be evicted, while the
append-only file stands still during a rewrite, or on a replica.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Level = Literal["fast", "safe"]

MINIMUM_VERSION = (6,)

CONFIG_NAMES = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")


class Wanted(NamedTuple):
    """One line of redis.conf."""

    name: str
    values: tuple[str, ...]
    """The first is what we advise."""
    why: str


_ALWAYS = (
    Wanted("appendonly", ("yes",), "what is only in memory is lost with the process"),
    Wanted("no-appendfsync-on-rewrite", ("no",), "nothing would be synced while the file is rewritten"),
    Wanted("maxmemory-policy", ("noeviction",), "balances would be thrown away when memory is short"),
)
_FSYNC: Mapping[Level, Wanted] = {
    "fast": Wanted("appendfsync", ("everysec", "always"), "seconds of charging would be lost in a power cut"),
    "safe": Wanted("appendfsync", ("always",), "what was answered would be lost in a power cut"),
}


def wanted_lines(level: Level) -> list[str]:
    """The lines of redis.conf that give a level."""
    return [f"{one.name} {one.values[0]}" for one in _wanted(level)]


def _wanted(level: Level) -> Sequence[Wanted]:
    return (_ALWAYS[0], _FSYNC[level], *_ALWAYS[1:])


def is_rewriting(info: Mapping[str, str]) -> bool:
    """Whether the append-only file is being written anew, or is about to be."""
    return info.get("aof_rewrite_in_progress") == "1" or info.get("aof_rewrite_scheduled") == "1"


def level_problems(
    level: Level, info: Mapping[str, str], config: Mapping[str, str], was_off: bool = False
) -> list[str]:
    """What is wrong for a level, each with the line to set; empty: the level holds.

    `was_off`: the append-only file was off when it was last looked at. Switched on in a running Redis it keeps nothing
    before its first rewrite has ended, though INFO calls it enabled from the start.
    """
    problems = []
    for name, values, why in _wanted(level):
        found = config.get(name, "unknown")
        if found not in values:
            problems.append(f"{name} is {found!r} ({why}); set: {name} {values[0]}")
    is_new = was_off or (info.get("aof_base_size") == "0" and info.get("aof_current_size") == "0")
    is_off = info.get("aof_enabled") == "0" or (is_new and is_rewriting(info))
    if is_off and config.get("appendonly") == "yes":
        problems.append("the append-only file is not being written yet, though appendonly is 'yes'")
    if info.get("aof_last_write_status", "ok") != "ok":
        problems.append("the last write of the append-only file failed; look at the disk of Redis")
    return problems


def refusal(level: Level, problems: Sequence[str]) -> str:
    """One text for people: what is wrong, and the lines of redis.conf that make it right."""
    lines = "".join(f"\n    {line}" for line in wanted_lines(level))
    return f"Redis does not give level {level}: " + "; ".join(problems) + f"\n  lines of redis.conf for {level}:{lines}"


def version_of(info: Mapping[str, str]) -> tuple[int, ...]:
    """The version of the server; (0,) if it does not say."""
    parts = info.get("redis_version", "0").split(".")
    return tuple(int(part) for part in parts if part.isdigit())
