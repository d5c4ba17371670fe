"""The connection to Redis that mends itself: connects, checks who answers, and connects again without a restart.

While there is no connection, calls fail at once: their callers retry until their own deadline, and nothing queues up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from balance.redis_address import parse_url
from balance.redis_link import Call, Finish, Numbers, RedisLink
from balance.resp import ErrorReply
from balance.store import StoreError, StoreFailure, StoreUnusable

BACKOFF_S = (0.02, 1.0)
"""First and longest pause before connecting again; each has a jitter of half of it."""

RECHECK_S = 5.0
"""How often the other end of a connection in use is checked."""

RECHECK_WRONG_S = 0.5
"""The same while it is not as it must be."""

RETRY_S = (0.005, 0.1)
"""First and longest pause before a call is sent again that Redis refused for a moment."""

CLIENT_NAME = b"tollgate-ocs"

MAX_CLIENT_IDS = 16
"""Connections of ours that are ended for good when a new one is made; older ones were ended by one before."""

FOR_A_MOMENT = frozenset({"LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"})
"""Refusals that pass: the command was not applied, and is sent again until its deadline."""

NOT_APPLIED = frozenset(
    {"OOM", "MISCONF", "READONLY", "NOREPLICAS", "NOPERM", "NOAUTH", "WRONGPASS", "MOVED", "ASK", "CROSSSLOT"}
)
"""Refusals before anything was done, which do not pass by themselves."""

ANOTHER_END = frozenset({"READONLY", "NOAUTH", "MOVED", "ASK"})
"""Refusals after which whoever answers must be checked anew."""


class NotReachable(StoreError):
    """Redis could not be reached or is not ready yet; trying again may help."""


Check = Callable[[RedisLink], Awaitable[None]]


class RedisConnection:
    """Owns the link in use. `send` never raises and never waits."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        url: str,
        timeout_s: float,
        prepare: Check,
        recheck: Check,
        reload: Callable[[RedisLink], None],
        lost: Callable[[], None],
        note: Callable[[str, bool], None],
    ) -> None:
        """`prepare` decides about each new link and `recheck` about one in use, by raising `StoreError`; `reload` sends
        for missing functions; `lost` is told of each loss before the calls in it are; `note(line, is_problem)` takes
        what belongs into the log.
        """
        self.address = parse_url(url)
        self.numbers = Numbers()
        self.problem = "not connected to Redis yet"
        """Why there is no connection; empty while there is one."""
        self.wrong = False
        """Set by `prepare` and `recheck` when the other end is looked at more often."""
        self._loop = loop
        self._timeout_s = timeout_s
        self._prepare = prepare
        self._recheck = recheck
        self._reload = reload
        self._on_lost = lost
        self._note = note
        self._link: RedisLink | None = None
        self._run_id = ""
        self._reload_after = 0.0
        self._client_ids: list[bytes] = []
        """Of this run of Redis, the connections that we made."""
        self._task: asyncio.Task[None] | None = None

    @property
    def link(self) -> RedisLink | None:
        """The link in use."""
        return self._link

    @property
    def pending(self) -> int:
        """Calls without a reply."""
        return 0 if self._link is None else self._link.pending

    def send(
        self, payload: bytes, finish: Finish, context: Any, done: Callable[[Any], None], commits: bool = False
    ) -> None:
        """Send over the link in use; without one the call fails at once."""
        link = self._link
        if link is None:
            self.numbers.refused += 1
            self._loop.call_soon(done, StoreFailure(self.problem, False))
        else:
            link.send(payload, finish, context, done, commits)

    # Life

    async def start(self, deadline_s: float) -> None:
        """Connect for the first time, then watch in the background; raises `StoreError` when it cannot be used."""
        end = self._loop.time() + deadline_s
        pause_s = BACKOFF_S[0]
        while True:
            try:
                link = await self._connect()
                break
            except NotReachable as error:
                if self._loop.time() + pause_s > end:
                    raise StoreUnusable(f"{self.address.shown}: {error}") from None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_S[1])
        self._use(link)
        self._task = self._loop.create_task(self._live(link))

    async def close(self) -> None:
        """Wait for what is under way, at most one timeout, then disconnect."""
        link = self._link
        if link is not None:
            # Replies come in order: with this one everything before it is told.
            await asyncio.wait([link.ask(b"PING")], timeout=self._timeout_s)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._link = None
        self.problem = "the store is closed"
        if link is not None:
            link.abort("the store is closed")
            await link.gone

    async def _live(self, link: RedisLink) -> None:
        """Keep a link in use until the store is closed."""
        while True:
            await self._watch(link)
            link = await self._connect_again()
            self._use(link)

    async def _watch(self, link: RedisLink) -> None:
        while not link.gone.done():
            await asyncio.wait([link.gone], timeout=RECHECK_WRONG_S if self.wrong else RECHECK_S)
            if link.gone.done() or link.stalled:
                continue
            try:
                await self._recheck(link)
            except NotReachable:
                continue
            except Exception as error:
                link.abort(str(error))
                await link.gone

    async def _connect_again(self) -> RedisLink:
        pause_s = BACKOFF_S[0]
        while True:
            await asyncio.sleep(pause_s * (0.5 + random.random()))
            try:
                return await self._connect()
            except Exception as error:
                # Whatever it is: the task must live, since nothing else connects again.
                text = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
                if text != self.problem:
                    self.problem = text
                    self._note(f"Redis cannot be used: {text}", True)
            pause_s = min(2 * pause_s, BACKOFF_S[1])

    def _use(self, link: RedisLink) -> None:
        if link.gone.done():
            return
        self.numbers.connects += 1
        self.problem = ""
        self._link = link
        self._note(f"connected to Redis at {self.address.shown}", False)

    async def _connect(self) -> RedisLink:
        """A link whose other end was checked; raises `StoreError`."""
        link = RedisLink(self._loop, self._timeout_s, self.numbers, self._refused, self._lost)
        try:
            async with asyncio.timeout(self._timeout_s):
                if self.address.host:
                    await self._loop.create_connection(lambda: link, self.address.host, self.address.port)
                else:
                    await self._loop.create_unix_connection(lambda: link, self.address.path)
        except TimeoutError:
            raise NotReachable("Redis does not take the connection in time") from None
        except OSError as error:
            raise NotReachable(f"Redis cannot be reached: {error.strerror or error}") from None
        try:
            await self._greet(link)
            await self._prepare(link)
        except BaseException as error:
            link.abort(str(error))
            raise
        return link

    async def _greet(self, link: RedisLink) -> None:
        address = self.address
        if address.password:
            credentials = [address.user, address.password] if address.user else [address.password]
            accepted(await link.ask(b"AUTH", *(part.encode() for part in credentials)), "AUTH")
        if address.database:
            accepted(await link.ask(b"SELECT", b"%d" % address.database), "SELECT")
        accepted(await link.ask(b"CLIENT", b"SETNAME", CLIENT_NAME), "CLIENT SETNAME")
        client_id = accepted(await link.ask(b"CLIENT", b"ID"), "CLIENT ID")
        run_id = info_fields(accepted(await link.ask(b"INFO", b"server"), "INFO")).get("run_id", "")
        # Commits of a connection that was given up may still lie unread in the buffers of Redis' sockets. They must not
        # be applied after a read-back over the new connection said that they were not: end the old connections first.
        # Another run of Redis numbers its clients anew, and has no buffers of ours.
        if run_id == self._run_id:
            for old in self._client_ids:
                ended = await link.ask(b"CLIENT", b"KILL", b"ID", old)
                if isinstance(ended, StoreFailure):
                    raise NotReachable(ended.detail)
        else:
            self._client_ids.clear()
        self._run_id = run_id
        self._client_ids.append(b"%d" % client_id)
        del self._client_ids[:-MAX_CLIENT_IDS]

    # What goes wrong

    def _lost(self, link: RedisLink) -> None:
        if link is not self._link:
            return
        self._link = None
        self.problem = link.reason
        self.numbers.losses += 1
        self._note(link.reason, True)
        self._on_lost()

    def _refused(self, link: RedisLink, call: Call, text: str) -> None:
        """Decide about an error reply: send again only what is known not to have been applied."""
        word = text.split(" ", 1)[0]
        missing = word == "NOSCRIPT" or text.startswith("ERR Function not found")
        if missing or word in FOR_A_MOMENT:
            call.tries += 1
            self.numbers.retries += 1
            if missing and self._loop.time() >= self._reload_after:
                # Calls that missed them too are sent again behind this.
                self._reload_after = self._loop.time() + RETRY_S[1]
                self._reload(link)
            if missing and call.tries == 1:
                link.resend(call)
                return
            pause_s = min(RETRY_S[0] * 2 ** min(call.tries, 10), RETRY_S[1])
            if self._loop.time() + pause_s < call.deadline:
                self._loop.call_later(pause_s, link.resend, call)
                return
        known = missing or word in FOR_A_MOMENT or word in NOT_APPLIED
        link.tell(call, StoreFailure(f"Redis refused: {text}", call.commits and not known))
        if word in ANOTHER_END:
            link.abort(f"Redis refused: {text}")


def accepted(reply: Any, what: str) -> Any:
    """The reply; `NotReachable` if none came or Redis is still loading, `StoreUnusable` if it refuses."""
    if isinstance(reply, StoreFailure):
        raise NotReachable(reply.detail)
    if isinstance(reply, ErrorReply):
        if reply.text.split(" ", 1)[0] in FOR_A_MOMENT:
            raise NotReachable(f"{what}: {reply.text}")
        raise StoreUnusable(f"Redis refuses {what}: {reply.text}")
    return reply


def info_fields(reply: Any) -> dict[str, str]:
    """The fields of an INFO reply."""
    lines = reply.decode("utf-8", "replace").splitlines()
    return {line.partition(":")[0]: line.partition(":")[2] for line in lines if ":" in line}
