"""Parts of the Redis store that need no Redis: names of functions, levels, refusals, a build without its extension."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from balance import redis_functions
from balance.redis_connection import RedisConnection
from balance.redis_functions import as_library, as_scripts
from balance.redis_level import Level, level_problems, version_of, wanted_lines
from balance.redis_link import Call, Numbers, RedisLink
from balance.redis_store import _due_items
from balance.store import DueItem, StoreFailure

ROOT = Path(__file__).resolve().parents[2]
SAFE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}


def test_another_text_of_a_function_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = as_library()
    texts = redis_functions._texts()
    monkeypatch.setattr(redis_functions, "_texts", lambda: {**texts, "trim": texts["trim"] + "-- changed\n"})
    after = as_library()
    assert set(before.calls.values()).isdisjoint(after.calls.values())
    assert as_library() == after


def test_the_library_registers_what_is_called() -> None:
    functions = as_library()
    [(_, _, text)] = functions.loading
    name = text.split(b"\n")[0].removeprefix(b"#!lua name=")
    assert name.startswith(b"tollgate_v1_")
    for command, function in functions.calls.values():
        assert command == b"FCALL"
        assert function.startswith(name + b"_")
        assert b"function_name='" + function + b"'" in text


def test_scripts_are_called_by_their_digest() -> None:
    functions = as_scripts()
    digests = [hashlib.sha1(text, usedforsecurity=False).hexdigest().encode() for _, _, text in functions.loading]
    assert list(functions.calls.values()) == [(b"EVALSHA", digest) for digest in digests]


@pytest.mark.parametrize(
    ("level", "changed", "info", "problems"),
    [
        ("safe", {}, {}, 0),
        ("fast", {}, {}, 0),
        ("fast", {"appendfsync": "everysec"}, {}, 0),
        ("safe", {"appendfsync": "everysec"}, {}, 1),
        ("fast", {"appendfsync": "no"}, {}, 1),
        ("safe", {"appendonly": "no", "maxmemory-policy": "volatile-ttl"}, {}, 2),
        ("fast", {"no-appendfsync-on-rewrite": "yes"}, {}, 1),
        ("safe", {}, {"aof_enabled": "0"}, 1),
        ("safe", {}, {"aof_enabled": "1", "aof_last_write_status": "err"}, 1),
    ],
)
def test_what_a_level_needs(level: Level, changed: dict[str, str], info: dict[str, str], problems: int) -> None:
    assert len(level_problems(level, info, {**SAFE, **changed})) == problems


REWRITING = {"aof_enabled": "1", "aof_rewrite_in_progress": "1", "aof_rewrite_scheduled": "0"}


@pytest.mark.parametrize(
    ("sizes", "was_off", "holds"),
    [
        pytest.param(("0", "0"), False, False, id="switched on in a running Redis: nothing is kept yet"),
        pytest.param(("88", "4096"), True, False, id="switched off and on again: nothing is kept yet"),
        pytest.param(("88", "4096"), False, True, id="a rewrite as every file has them"),
        pytest.param(("0", "67108864"), False, True, id="the first rewrite of a file of Redis 6"),
    ],
)
def test_an_append_only_file_that_is_only_beginning_keeps_nothing(
    sizes: tuple[str, str], was_off: bool, holds: bool
) -> None:
    info = {**REWRITING, "aof_base_size": sizes[0], "aof_current_size": sizes[1]}
    assert (level_problems("safe", info, SAFE, was_off) == []) is holds
    assert level_problems("safe", {**info, "aof_rewrite_in_progress": "0"}, SAFE, was_off) == []


def test_what_redis_does_not_tell_does_not_hold() -> None:
    assert len(level_problems("safe", {}, {})) == 4


def test_the_advised_lines_hold() -> None:
    levels: tuple[Level, ...] = ("safe", "fast")
    for level in levels:
        config = dict(line.split(" ") for line in wanted_lines(level))
        assert level_problems(level, {}, config) == []


def test_versions_are_compared_by_number() -> None:
    assert version_of({"redis_version": "7.0.15"}) == (7, 0, 15)
    assert version_of({"redis_version": "10.0.1"}) > version_of({"redis_version": "7.4.0"})
    assert version_of({}) == (0,)


class FakeLoop:
    """Time that stands, and timers that are only noted."""

    def __init__(self) -> None:
        self.now = 100.0
        self.later: list[float] = []

    def time(self) -> float:
        return self.now

    def call_later(self, pause_s: float, *_call: object) -> None:
        self.later.append(pause_s)


class FakeLink:
    """Notes what becomes of a call."""

    def __init__(self) -> None:
        self.told: list[StoreFailure] = []
        self.resent = 0
        self.aborted = False

    def tell(self, _call: Call, outcome: StoreFailure) -> None:
        self.told.append(outcome)

    def resend(self, _call: Call) -> None:
        self.resent += 1

    def abort(self, _reason: str) -> None:
        self.aborted = True


def refuse(text: str, commits: bool = True, tries: int = 0, left_s: float = 1.0) -> tuple[FakeLink, FakeLoop, int]:
    """An error reply to a call that has so much time left: the link, the loop, and how often functions were sent for."""

    async def never(_link: object) -> None:
        raise AssertionError("nobody connects")

    loop: Any = FakeLoop()
    link: Any = FakeLink()
    reloads: list[object] = []
    nothing: Any = lambda *_: None  # noqa: E731
    connection = RedisConnection(loop, "redis://h", 1.0, never, never, reloads.append, nothing, nothing)
    call = Call(b"", nothing, None, nothing, commits, loop.now + left_s)
    call.tries = tries
    connection._refused(link, call, text)
    return link, loop, len(reloads)


@pytest.mark.parametrize(
    ("text", "unknown", "aborted"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", False, False),
        ("MISCONF Errors writing to the AOF file: No space left on device", False, False),
        ("NOREPLICAS Not enough good replicas to write.", False, False),
        ("NOPERM this user has no permissions", False, False),
        ("READONLY You can't write against a read only replica.", False, True),
        ("NOAUTH Authentication required.", False, True),
        ("MOVED 3999 127.0.0.1:6381", False, True),
        ("ASK 3999 127.0.0.1:6381", False, True),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True, False),
        ("ERR user_function:1: Script attempted something", True, False),
        ("ERR anything else", True, False),
    ],
)
def test_a_refusal_is_unknown_unless_it_says_that_nothing_was_done(text: str, unknown: bool, aborted: bool) -> None:
    link, loop, reloads = refuse(text)
    assert link.told == [StoreFailure(f"Redis refused: {text}", unknown)]
    assert (link.resent, loop.later, reloads, link.aborted) == (0, [], 0, aborted)
    assert refuse(text, commits=False)[0].told == [StoreFailure(f"Redis refused: {text}", False)]


@pytest.mark.parametrize("word", ["LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"])
def test_a_refusal_for_a_moment_is_tried_again_until_the_deadline(word: str) -> None:
    text = f"{word} for a moment"
    link, loop, _ = refuse(text)
    assert (link.told, len(loop.later)) == ([], 1)
    assert 0 < loop.later[0] <= 0.1
    assert refuse(text, tries=1000)[1].later == [0.1]
    late, loop, _ = refuse(text, left_s=0.001)
    assert (late.told, loop.later) == ([StoreFailure(f"Redis refused: {text}", False)], [])


@pytest.mark.parametrize("text", ["NOSCRIPT No matching script.", "ERR Function not found"])
def test_missing_functions_are_sent_for_and_then_waited_for(text: str) -> None:
    link, loop, reloads = refuse(text)
    assert (link.resent, link.told, loop.later, reloads) == (1, [], [], 1)
    link, loop, reloads = refuse(text, tries=1)
    assert (link.resent, link.told, len(loop.later), reloads) == (0, [], 1, 1)
    assert refuse(text, tries=1, left_s=0.001)[0].told == [StoreFailure(f"Redis refused: {text}", False)]


@pytest.mark.parametrize(
    ("score", "at_us"),
    [
        (b"1772453600000000", 1_772_453_600_000_000),
        (b"1.7724536e+15", 1_772_453_600_000_000),
        (b"2e+15", 2_000_000_000_000_000),
        (b"-1.5e+3", -1500),
        (b"0", 0),
    ],
)
def test_due_times_are_read_however_redis_writes_them(score: bytes, at_us: int) -> None:
    # Redis 7.0 writes every score in full, 7.2 and later write round ones with an exponent.
    assert _due_items([b"{p001}:s:x", score], None) == [DueItem(b"{p001}:s:x", at_us)]


class Wire(asyncio.Transport):
    """A transport that sends nowhere."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False


@pytest.mark.parametrize("commits", [False, True])
def test_a_reply_of_another_form_fails_its_call_alone(commits: bool) -> None:
    loop = asyncio.new_event_loop()
    raised: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
    link = RedisLink(loop, 1.0, Numbers(), lambda link, call, text: None, lambda link: None)
    link.connection_made(Wire())
    told: list[Any] = []
    link.send(b"", lambda reply, _context: int(reply), None, told.append, commits)
    link.send(b"", lambda reply, _context: int(reply), None, told.append, commits)
    link.data_received(b"$3\r\nfew\r\n$1\r\n7\r\n")
    link.connection_lost(None)
    loop.close()
    assert isinstance(told[0], StoreFailure) and told[0].unknown is commits
    assert told[1:] == [7] and [type(error) for error in raised] == [ValueError]


def test_a_missing_extension_is_an_error_that_says_what_to_do() -> None:
    code = "import sys; sys.modules['cython_ext._resp'] = None; import balance.resp as resp; print(resp.Parser)"

    def run(pure: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OCS_PURE": pure}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    failed = run("")
    assert failed.returncode == 1
    assert "the compiled Redis protocol cython_ext._resp is missing" in failed.stderr
    assert "OCS_PURE=1" in failed.stderr
    assert run("1").stdout.strip() == "<class 'balance._resp_reference.Parser'>"
