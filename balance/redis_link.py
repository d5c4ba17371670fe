"""One transport to Redis: calls go out in pipeline, replies come back in order, and no call is ever taken back.

Deviations from what clients usually do, each for the sake of the money: a timeout tells the caller and leaves the call's
slot in the queue, so that no reply is ever given to another call; a lost transport ends every call in it, and a commit
that may have been sent ends as unknown; nothing is sent twice. Callbacks, not futures: a future costs as much as the call.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from balance.resp import ErrorReply, Parser, encode_command
from balance.store import StoreFailure

MAX_PENDING = 8192
"""Calls that may be unanswered; more are refused at once."""

MAX_UNSENT_OCTETS = 16 * 1024 * 1024
"""What the transport may hold back for a Redis that does not read; beyond, calls are refused at once."""

TICKS_PER_TIMEOUT = 10
"""How often within one timeout the queue is looked through for calls that are late."""

GIVE_UP_TIMEOUTS = 3
"""After so many timeouts without any reply, while some are awaited, the transport counts as dead."""

KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))

Finish = Callable[[Any, Any], Any]
"""(reply, context) -> what the caller is told."""


class Numbers:
    """Counters since the start, for metrics; plain integers."""

    __slots__ = ("connects", "late_replies", "losses", "refused", "reloads", "retries", "sent", "timeouts")

    def __init__(self) -> None:
        self.connects = 0
        self.losses = 0
        """Transports that were lost or given up after they had been in use."""
        self.sent = 0
        """Calls."""
        self.timeouts = 0
        self.late_replies = 0
        """Replies to calls that had been told of their timeout."""
        self.refused = 0
        """Calls that were not sent: no connection, queue full, or Redis does not answer."""
        self.retries = 0
        self.reloads = 0
        """Times that the functions were missing and were loaded again."""


class Call:
    """One command on its way."""

    __slots__ = ("commits", "context", "deadline", "done", "finish", "payload", "tries")

    def __init__(
        self,
        payload: bytes,
        finish: Finish,
        context: Any,
        done: Callable[[Any], None],
        commits: bool,
        deadline: float,
    ) -> None:
        self.payload = payload
        self.finish = finish
        self.context = context
        self.done: Callable[[Any], None] | None = done
        """`None`: the caller was told already; the reply that comes is thrown away."""
        self.commits = commits
        """Whether a lost outcome leaves open what is in the store."""
        self.deadline = deadline
        self.tries = 0


class RedisLink(asyncio.Protocol):
    """A transport with its queue. `ready` turns true when its owner has checked what is at the other end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        numbers: Numbers,
        refused: Callable[[RedisLink, Call, str], None],
        lost: Callable[[RedisLink], None],
    ) -> None:
        """`refused(link, call, text)` decides about an error reply; `lost(link)` is called before the calls are told."""
        self._loop = loop
        self._timeout_s = timeout_s
        self._numbers = numbers
        self._refused = refused
        self._lost = lost
        self._parser = Parser(ErrorReply)
        self._pending: deque[Call] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._heard = 0.0
        self.stalled = False
        """The oldest call is late: new ones are refused, until a reply comes."""
        self.reason = "the connection to Redis was lost"
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the transport is lost."""

    @property
    def pending(self) -> int:
        """Calls without a reply."""
        return len(self._pending)

    # Calls

    def send(
        self, payload: bytes, finish: Finish, context: Any, done: Callable[[Any], None], commits: bool = False
    ) -> None:
        """Queue a command for this turn of the loop; `done(finish(reply, context))` or `done(StoreFailure)` follows."""
        pending = self._pending
        if self.stalled or self._full or len(pending) >= MAX_PENDING or self._transport is None:
            self._refuse(done)
            return
        call = Call(payload, finish, context, done, commits, self._loop.time() + self._timeout_s)
        self._queue(call)

    def resend(self, call: Call) -> None:
        """Send a call again that is known not to have been applied; its deadline stays what it was."""
        if self._transport is None or self._loop.time() >= call.deadline:
            self.tell(call, StoreFailure(self.reason if self._transport is None else "Redis refused in vain", False))
        else:
            self._queue(call)

    def ask(self, *arguments: bytes) -> asyncio.Future[Any]:
        """A command off the hot path: the reply, an `ErrorReply` or a `StoreFailure`, never an exception."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(reply: Any) -> None:
            if not future.done():
                future.set_result(reply)

        self.send(encode_command(arguments), as_it_is, None, done)
        return future

    def _queue(self, call: Call) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(call.payload)
        self._pending.append(call)
        if self._timer is None:
            self._heard = self._loop.time()
            self._timer = self._loop.call_later(self._timeout_s / TICKS_PER_TIMEOUT, self._tick)

    def _flush(self) -> None:
        out, transport = self._out, self._transport
        if not out or transport is None or transport.is_closing():
            return
        self._numbers.sent += len(out)
        # Forgotten first: what write() was given may have been sent, even if it raises.
        self._out = []
        transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _refuse(self, done: Callable[[Any], None]) -> None:
        self._numbers.refused += 1
        if self._transport is None:
            why = self.reason
        elif self.stalled:
            why = "Redis does not answer"
        else:
            why = "too many calls wait for Redis"
        self._loop.call_soon(done, StoreFailure(why, False))

    def tell(self, call: Call, outcome: Any) -> None:
        """Give a call its outcome, once; a callback that raises does not hurt its neighbours."""
        done, call.done = call.done, None
        if done is None:
            return
        try:
            done(outcome)
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a callback of the store raised", "exception": error})

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make sure that a dead peer is noticed and small calls leave at once."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT_OCTETS)
        found = transport.get_extra_info("socket")
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, seconds in KEEPALIVE:
                if hasattr(socket, name):
                    found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)

    def data_received(self, data: bytes) -> None:
        """Match replies with calls, in order."""
        try:
            replies = self._parser.feed(data)
        except ValueError as error:
            self.abort(f"Redis does not speak its protocol: {error}")
            return
        self.stalled = False
        self._heard = self._loop.time()
        pending = self._pending
        for reply in replies:
            if not pending:
                self.abort("Redis sent a reply that nobody asked for")
                return
            call = pending.popleft()
            done = call.done
            if done is None:
                self._numbers.late_replies += 1
            elif type(reply) is ErrorReply and call.finish is not as_it_is:
                self._refused(self, call, reply.text)
            else:
                try:
                    outcome = call.finish(reply, call.context)
                except Exception as error:
                    # The caller waits for an outcome, whatever Redis gave.
                    self._report(error)
                    outcome = StoreFailure(f"Redis gave a reply of another form: {error}", call.commits)
                try:
                    done(outcome)
                except Exception as error:
                    self._report(error)

    def pause_writing(self) -> None:
        """The transport holds back too much."""
        self._full = True

    def resume_writing(self) -> None:
        """It could send again."""
        self._full = False

    def connection_lost(self, error: Exception | None) -> None:
        """End every call; those that were never given to the transport are known not to be applied."""
        if self._transport is None:
            return
        self._transport = None
        if error is not None:
            self.reason = f"{self.reason}: {error}"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unsent = len(self._out)
        calls, self._pending, self._out = list(self._pending), deque(), []
        self._lost(self)
        for place, call in enumerate(calls):
            self.tell(call, StoreFailure(self.reason, call.commits and place < len(calls) - unsent))
        if not self.gone.done():
            self.gone.set_result(None)

    # Time

    def _tick(self) -> None:
        self._timer = None
        if not self._pending:
            return
        now = self._loop.time()
        self._timer = self._loop.call_later(self._timeout_s / TICKS_PER_TIMEOUT, self._tick)
        if now - self._heard > GIVE_UP_TIMEOUTS * self._timeout_s:
            self.abort("Redis did not answer for too long")
            return
        late = [call for call in self._pending if call.done is not None and call.deadline <= now]
        if late:
            self.stalled = now - self._heard >= self._timeout_s
            self._numbers.timeouts += len(late)
        for call in late:
            self.tell(call, StoreFailure("Redis did not answer in time", call.commits))

    def abort(self, reason: str) -> None:
        """Give the transport up; its calls end when the loop says so."""
        if self._transport is not None and not self._transport.is_closing():
            self.reason = reason
            self._transport.abort()


def as_it_is(reply: Any, context: Any) -> Any:
    """The `Finish` of a caller that looks at the reply itself, errors included."""
    return reply
