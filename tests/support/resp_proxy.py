"""A TCP proxy between a worker and its Redis: loses, holds or delays what the test says, at a chosen commit.

It speaks RESP, so that it knows which reply belongs to which command. A reply that is lost, held or delayed has come
from Redis: what the command did is done. The proxy runs in a thread of its own; its methods are for the test's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Self

from tests.support.resp import Command, Octets, Reply

COMMITS = frozenset({b"FCALL", b"EVALSHA", b"EVAL"})


class Lose(NamedTuple):
    """Redis does it; the reply is dropped and both connections are cut."""


class Tear(NamedTuple):
    """Redis does it; the first half of the reply arrives, then both connections are cut."""


class Cut(NamedTuple):
    """Redis never hears of it: the connections are cut before it is passed on."""


class Delay(NamedTuple):
    """Redis does it; this reply and those behind it come later."""

    seconds: float


class Hold(NamedTuple):
    """Redis does it; the reply waits until the test says `release` or `cut`."""


Fault = Lose | Tear | Cut | Delay | Hold
Plan = Callable[[int], Fault | None]
"""Fault of the n-th commit, from 1, counted over all connections; called in the proxy's thread."""


def no_fault(_number: int) -> Fault | None:
    return None


def at(number: int, fault: Fault) -> Plan:
    """One fault, at one commit."""
    return lambda seen: fault if seen == number else None


def at_random(proxy: RespProxy, seed: int, probability: float, limit: int, fault: Fault | None = None) -> Plan:
    """Faults with a probability, by a seed, until a number of them has happened at the proxy.

    What is planned for a commit behind one that cuts the connection does not happen, and does not count.
    """
    dice = random.Random(seed)
    chosen = fault or Lose()
    return lambda _number: chosen if dice.random() < probability and proxy.faults < limit else None


def is_commit(command: Command) -> bool:
    """Whether a command may write documents; of functions those are told by their names."""
    return command.name in COMMITS and not command.arguments[1].endswith((b"_outbox", b"_trim"))


class RespProxy:
    """`with RespProxy(server.address) as proxy:`; a worker connects to `proxy.url`."""

    def __init__(self, target: tuple[str, int], plan: Plan = no_fault) -> None:
        self.target = target
        self.plan = plan
        self.is_commit = is_commit
        self.commits = 0
        """Commits that came, whatever became of them."""
        self.replied = 0
        """Commits whose replies came back from Redis."""
        self.faults = 0
        """Faults that happened."""
        self.refusing = False
        """New connections are closed at once: as when the address is gone."""
        self.port = 0
        self._links: set[_Link] = set()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="resp-proxy", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        return len(self._links)

    @property
    def held(self) -> int:
        """Replies that wait for `release`."""
        return sum(link.is_held for link in list(self._links))

    def wait(self, condition: Callable[[Self], bool], seconds: float = 10.0) -> None:
        """Wait until something holds; `AssertionError` if it does not."""
        end = time.monotonic() + seconds
        with self._changed:
            while not condition(self):
                left = end - time.monotonic()
                assert left > 0, f"it did not happen: {self.commits} commits, {self.faults} faults, {self.held} held"
                self._changed.wait(min(left, 0.1))

    def wait_held(self, seconds: float = 10.0) -> None:
        """Wait until a reply is held: its commit is in the store, and nobody knows."""
        self.wait(lambda proxy: proxy.held > 0, seconds)

    def release(self) -> None:
        """Let held replies go."""
        self._call(lambda: self._each(_Link.release))

    def cut(self) -> None:
        """Cut all connections, with whatever is held."""
        self._call(lambda: self._each(_Link.cut))

    def stall(self) -> None:
        """Pass nothing on in either direction, as a network that swallows packets; `flow` ends it."""
        self._call(lambda: self._set_stalled(True))

    def flow(self) -> None:
        self._call(lambda: self._set_stalled(False))

    # In the proxy's thread

    stalled = False

    def fault_of(self, command: Command) -> Fault | None:
        """Count a command; the fault that it meets."""
        if not self.is_commit(command):
            return None
        self.commits += 1
        return self.plan(self.commits)

    def tell(self) -> None:
        """Wake the test's thread."""
        with self._changed:
            self._changed.notify_all()

    def _each(self, what: Callable[[_Link], None]) -> None:
        for link in list(self._links):
            what(link)

    def _set_stalled(self, stalled: bool) -> None:
        self.stalled = stalled
        self._each(_Link.obey)

    def _call(self, function: Callable[[], object]) -> None:
        async def run() -> None:
            done = function()
            if asyncio.iscoroutine(done):
                await done

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _open(self) -> None:
        self._server = await self._loop.create_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self) -> asyncio.Protocol:
        return _Link(self, self._links)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._each(_Link.cut)
        for _ in range(3):
            await asyncio.sleep(0)  # transports close in a later turn


class _Waiting(NamedTuple):
    """A command that was passed on and not answered."""

    is_commit: bool
    fault: Fault | None


class _Link(asyncio.Protocol):
    """One connection of a worker and its twin to Redis."""

    def __init__(self, proxy: RespProxy, links: set[_Link]) -> None:
        self._proxy = proxy
        self._links = links
        self._commands = Octets()
        self._replies = Octets()
        self._waiting: deque[_Waiting] = deque()
        self._queue: deque[bytes] | None = None
        """Replies behind one that is held or delayed; `None`: replies pass."""
        self._worker: asyncio.Transport | None = None
        self._redis: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        """What came before Redis was reached: not every release of Python lets a new transport be paused."""
        self.is_held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._worker = transport
        if self._proxy.refusing:
            transport.abort()
            return
        self._links.add(self)
        transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(lambda: _Upstream(self), *self._proxy.target)
        except OSError:
            self.cut()
            return
        if self._worker is None or self._worker.is_closing():
            transport.abort()
            return
        self._redis = transport
        self.obey()
        for data in self._early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._redis is None:
            self._early.append(data)
            return
        self._commands.feed(data)
        for command in self._commands.commands():
            fault = self._proxy.fault_of(command)
            if isinstance(fault, Cut):
                self._proxy.faults += 1
                self.cut()
                return
            self._waiting.append(_Waiting(self._proxy.is_commit(command), fault))
            self._redis.write(command.octets)

    def replies_received(self, data: bytes) -> None:
        """Octets of Redis."""
        self._replies.feed(data)
        for reply in self._replies.replies():
            waiting = _Waiting(False, None) if reply.is_push else self._waiting.popleft()
            self._proxy.replied += waiting.is_commit
            if not self._pass(reply, waiting.fault):
                return
        self._proxy.tell()

    def _pass(self, reply: Reply, fault: Fault | None) -> bool:
        """Whether the connection still stands."""
        self._proxy.faults += fault is not None
        if isinstance(fault, Lose | Tear):
            if isinstance(fault, Tear):
                self._write(reply.octets[: len(reply.octets) // 2])
            self.cut(abort=isinstance(fault, Lose))
            return False
        if isinstance(fault, Hold):
            self.is_held = True
        elif isinstance(fault, Delay):
            asyncio.get_running_loop().call_later(fault.seconds, self._time_is_up)
        if fault is not None and self._queue is None:
            self._queue = deque()
        self._write(reply.octets)
        return True

    def _write(self, octets: bytes) -> None:
        if self._queue is not None:
            self._queue.append(octets)
        elif self._worker is not None and not self._worker.is_closing():
            self._worker.write(octets)

    def _time_is_up(self) -> None:
        if not self.is_held:
            self.release()

    def release(self) -> None:
        """Pass on what waits."""
        queue, self._queue = self._queue or (), None
        self.is_held = False
        for octets in queue:
            self._write(octets)

    def obey(self) -> None:
        """Read, or do not read, as the proxy says."""
        for transport in (self._worker, self._redis):
            if transport is not None and self._redis is not None and not transport.is_closing():
                with contextlib.suppress(RuntimeError):
                    (transport.pause_reading if self._proxy.stalled else transport.resume_reading)()

    def cut(self, abort: bool = True) -> None:
        """End both connections: with a reset and without what was not sent yet, or (`abort` false) in order."""
        self._links.discard(self)
        self._queue, self.is_held = deque(), False
        if self._redis is not None:
            self._redis.abort()
        if self._worker is not None:
            (self._worker.abort if abort else self._worker.close)()
        self._proxy.tell()

    def connection_lost(self, error: Exception | None) -> None:
        self.cut()


class _Upstream(asyncio.Protocol):
    """The side of Redis."""

    def __init__(self, link: _Link) -> None:
        self._link = link

    def data_received(self, data: bytes) -> None:
        self._link.replies_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        # Redis is gone, but replies that it sent may be held for the test.
        if not self._link.is_held:
            self._link.cut(abort=False)
