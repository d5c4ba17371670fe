"""Documents in Redis (standalone, 6.0 or later; keys and functions as Redis Cluster will need them).

Every commit of up to 64 transactions is one call of `lua/commit.lua`, which compares versions and writes (ADR 0004).
Keys of a partition, all behind its hash tag:

    {p042}:…            documents
    {p042}!outbox       list of events; {p042}!trimmed: how many were removed from its head
    {p042}!due          sorted set member -> UTC microseconds; {p042}!due-far: hash, for times that a double rounds
    {p042}!index:<name> sorted set in octet order
    {p042}!lease        there are leases; {p042}!lease:<root> -> holder, with the lease's time to live
    {ocs}:store         format, partitions and identity of the store

Whoever answers is checked at the start, on every new connection and every few seconds: a primary, our store, and
configured for the level. With a level that does not hold commits are refused, until it does; reads go on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from balance import redis_level
from balance.documents import DEFAULT_PARTITIONS, partition_tag
from balance.redis_connection import NotReachable, RedisConnection, accepted, info_fields
from balance.redis_functions import Functions, as_library, as_scripts
from balance.redis_level import CONFIG_NAMES, Level, level_problems
from balance.redis_link import Numbers, RedisLink, as_it_is
from balance.resp import ErrorReply, encode_command, encode_commit
from balance.store import (
    CommitOutcome,
    Committed,
    Conflict,
    DueItem,
    Leased,
    OutboxItem,
    ReadOutcome,
    StoreFailure,
    StoreFormatError,
    StoreUnusable,
    Transaction,
    check_page,
    check_partition,
    check_read,
    forget_nothing,
)

FORMAT = 1
"""Layout of the keys; a newer one is refused."""

META_KEY = b"{ocs}:store"
MAX_EXACT_US = 2**53
"""Due times from here on stand in the hash, since scores are doubles."""

OPEN_DEADLINE_S = 5.0
"""How long `open` tries to reach a Redis that is starting or loading."""

_COMMITTED = Committed()


def _no_line(text: str, is_problem: bool) -> None:
    """Where lines for the log go if nobody wants them."""


class RedisStore:
    """Made by `open`. All methods are called on its loop; every `done` is called there."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        url: str,
        level: Level,
        partitions: int,
        timeout_ms: int,
        note: Callable[[str, bool], None],
        evalsha: bool,
    ) -> None:
        """See `open`."""
        self.partitions = partitions
        self.level = level
        self.forget: Callable[[], None] = forget_nothing
        self._loop = loop
        self._note = note
        self._evalsha = evalsha
        self._functions: Functions = as_scripts()
        self._commit_opening = b""
        self._identity = b""
        self._info: dict[str, str] = {}
        self._config: dict[str, str] = {}
        self._refusal = ""
        self._was_off = False
        self._opened = False
        self._names = [_names(partition) for partition in range(partitions)]
        self._connection = RedisConnection(
            loop, url, timeout_ms / 1000, self._prepare, self._recheck, self._reload, self._lost, note
        )

    @classmethod
    async def open(
        cls,
        url: str,
        level: Level = "safe",
        partitions: int = DEFAULT_PARTITIONS,
        timeout_ms: int = 1000,
        note: Callable[[str, bool], None] = _no_line,
        evalsha: bool = False,
    ) -> RedisStore:
        """Connect to `url` (`redis://…` or `unix://…`), check what answers, make the store if the database is empty.

        `timeout_ms` bounds each call. `note(line, is_problem)` takes what belongs into the log. `evalsha`: scripts even
        where functions are to be had. Raises `StoreUnusable`, `StoreFormatError`; `ValueError` for the url.
        """
        store = cls(asyncio.get_running_loop(), url, level, partitions, timeout_ms, note, evalsha)
        await store._connection.start(OPEN_DEADLINE_S)
        store._opened = True
        return store

    async def close(self) -> None:
        """Wait for what is under way, at most one timeout, then disconnect; later calls fail."""
        await self._connection.close()

    # The contract

    def read(self, partition: int, keys: Sequence[bytes], done: Callable[[ReadOutcome], None]) -> None:
        """See `Store.read`."""
        check_read(self.partitions, partition, keys)
        if keys:
            self._connection.send(encode_command((b"MGET", *keys)), _documents, keys, done)
        else:
            self._loop.call_soon(done, {})

    def commit(
        self, partition: int, transactions: Sequence[Transaction], done: Callable[[CommitOutcome], None]
    ) -> None:
        """See `Store.commit`."""
        check_partition(self.partitions, partition)
        # Packing is checking: what breaks the contract raises here.
        packed = encode_commit(self._commit_opening, self._names[partition], transactions)
        if self._refusal:
            self._loop.call_soon(done, StoreFailure(self._refusal, False))
        else:
            self._connection.send(packed, _verdicts, transactions, done, True)

    def scan(
        self,
        partition: int,
        index: bytes,
        after: bytes,
        limit: int,
        done: Callable[[Sequence[bytes] | StoreFailure], None],
    ) -> None:
        """See `Store.scan`."""
        check_page(self.partitions, partition, limit)
        key = self._names[partition][5] + index
        start = b"(" + after if after else b"-"
        self._call((b"ZRANGEBYLEX", key, start, b"+", b"LIMIT", b"0", b"%d" % limit), done)

    def due(
        self, partition: int, now_us: int, limit: int, done: Callable[[Sequence[DueItem] | StoreFailure], None]
    ) -> None:
        """See `Store.due`."""
        check_page(self.partitions, partition, limit)
        _, _, _, near_key, far_key, _ = self._names[partition]

        def told_near(reply: Any) -> None:
            if isinstance(reply, StoreFailure) or now_us < MAX_EXACT_US:
                done(reply)
            else:
                self._call((b"HGETALL", far_key), lambda far: told_far(reply, far))

        def told_far(near: list[DueItem], reply: Any) -> None:
            if isinstance(reply, StoreFailure):
                done(reply)
                return
            far = [DueItem(member, int(at_us)) for member, at_us in zip(reply[::2], reply[1::2], strict=True)]
            ripe = sorted((item for item in far if item.at_us <= now_us), key=lambda item: (item.at_us, item.member))
            done([*near, *ripe][:limit])

        upto = b"%d" % min(now_us, MAX_EXACT_US)
        command = (b"ZRANGEBYSCORE", near_key, b"-inf", upto, b"WITHSCORES", b"LIMIT", b"0", b"%d" % limit)
        self._connection.send(encode_command(command), _due_items, None, told_near)

    def outbox(
        self, partition: int, after: int, limit: int, done: Callable[[Sequence[OutboxItem] | StoreFailure], None]
    ) -> None:
        """See `Store.outbox`."""
        check_page(self.partitions, partition, limit)
        call = (*self._functions.calls["outbox"], b"2", *self._outbox_keys(partition), b"%d" % after, b"%d" % limit)
        self._connection.send(encode_command(call), _outbox_items, None, done)

    def trim(self, partition: int, upto: int, done: Callable[[StoreFailure | None], None]) -> None:
        """See `Store.trim`."""
        check_partition(self.partitions, partition)
        if self._refusal:
            self._loop.call_soon(done, StoreFailure(self._refusal, False))
            return
        call = (*self._functions.calls["trim"], b"2", *self._outbox_keys(partition), b"%d" % upto)
        # Not a commit to those who read back, but a lost one may have been applied all the same.
        self._connection.send(encode_command(call), _nothing, None, done, True)

    def outbox_length(self, done: Callable[[int | StoreFailure], None]) -> None:
        """See `Store.outbox_length`."""
        self._sum([(b"LLEN", names[2]) for names in self._names], done)

    # For operators

    @property
    def numbers(self) -> Numbers:
        """Counters since the start."""
        return self._connection.numbers

    @property
    def pending(self) -> int:
        """Calls without a reply."""
        return self._connection.pending

    def counts(self) -> dict[str, int]:
        """The counters and the queue by name, for metrics."""
        return {"pending": self.pending, **{name: getattr(self.numbers, name) for name in Numbers.__slots__}}

    def problems(self) -> list[str]:
        """Why the store cannot be used as it should; empty when all is well."""
        return [text for text in (self._connection.problem, self._refusal) if text]

    def describe(self, done: Callable[[dict[str, Any] | StoreFailure], None]) -> None:
        """Facts for `ocs doctor`."""
        found: list[int] = []

        def told(number: int | StoreFailure) -> None:
            if isinstance(number, StoreFailure):
                done(number)
                return
            found.append(number)
            if len(found) == 1:
                self.outbox_length(told)
            elif len(found) == 2:
                self._sum([(b"ZCARD", names[3]) for names in self._names], told)
            else:
                done(self._facts(*found))

        self._sum([(b"DBSIZE",)], told)

    def _facts(self, keys: int, events: int, due: int) -> dict[str, Any]:
        return {
            "engine": "redis",
            "level": self.level,
            "url": self._connection.address.shown,
            "format": FORMAT,
            "partitions": self.partitions,
            "redis_version": self._info.get("redis_version", "unknown"),
            "calls": self._functions.kind,
            "appendonly": self._config.get("appendonly", "unknown"),
            "appendfsync": self._config.get("appendfsync", "unknown"),
            "octets": int(self._info.get("used_memory", "0")),
            "keys": keys,
            "events": events,
            "due": due,
            **self.counts(),
        }

    # Who answers

    async def _prepare(self, link: RedisLink) -> None:
        """Check a new link before it is used."""
        await self._ask_facts(link)
        self._settle_functions()
        await self._identify(link)
        problems = self._level_problems()
        if problems and not self._opened:
            raise StoreUnusable(redis_level.refusal(self.level, problems))
        for command in self._functions.loading:
            loaded = await link.ask(*command)
            # A full Redis takes no library, not even one that it has; who misses it will send for it again.
            if not (isinstance(loaded, ErrorReply) and loaded.text.startswith(("OOM", "ERR Library"))):
                accepted(loaded, " ".join(part.decode() for part in command[:2]))
        self._judge(problems)

    async def _recheck(self, link: RedisLink) -> None:
        """Check a link in use; a level that changed refuses or allows commits from now on."""
        await self._ask_facts(link)
        self._judge(self._level_problems())

    async def _ask_facts(self, link: RedisLink) -> None:
        info = info_fields(accepted(await link.ask(b"INFO"), "INFO"))
        config: dict[str, str] = {}
        for name in CONFIG_NAMES:
            reply = accepted(await link.ask(b"CONFIG", b"GET", name.encode()), "CONFIG GET")
            if reply:
                config[name] = reply[1].decode("utf-8", "replace")
        if info.get("loading") == "1":
            raise NotReachable("Redis is loading its data")
        if info.get("role") != "master":
            raise NotReachable(f"this Redis is no primary; its role is {info.get('role', 'not told')!r}")
        version = redis_level.version_of(info)
        if version < redis_level.MINIMUM_VERSION:
            raise StoreUnusable(f"Redis {info.get('redis_version')} is too old, 6.0 or later is needed")
        self._info, self._config = info, config

    def _settle_functions(self) -> None:
        functions = as_scripts() if self._evalsha or redis_level.version_of(self._info) < (7,) else as_library()
        self._functions = functions
        self._commit_opening = functions.openings["commit"]

    async def _identify(self, link: RedisLink) -> None:
        """Find our store, or make it in a database that is empty and only before the first use."""
        # Counted before, so that a store which another process makes in this moment is found and not taken for a stranger.
        keys = accepted(await link.ask(b"DBSIZE"), "DBSIZE")
        found = accepted(await link.ask(b"GET", META_KEY), "GET")
        if found is None:
            if self._opened:
                raise StoreFormatError("the store is gone: this Redis was emptied, or is another one")
            if keys:
                raise StoreFormatError(f"the database holds {keys} keys of something else, and no store")
            made = b"tollgate-ocs %d %d %s" % (FORMAT, self.partitions, os.urandom(8).hex().encode())
            accepted(await link.ask(b"SET", META_KEY, made, b"NX"), "SET")
            found = accepted(await link.ask(b"GET", META_KEY), "GET")
        fields = found.split(b" ")
        if len(fields) != 4 or fields[0] != b"tollgate-ocs" or not (fields[1] + fields[2]).isdigit():
            raise StoreFormatError(f"{META_KEY.decode()} is not ours: {found[:64]!r}")
        if int(fields[1]) != FORMAT:
            raise StoreFormatError(f"the store has format {int(fields[1])}, this release reads {FORMAT}")
        if int(fields[2]) != self.partitions:
            raise StoreFormatError(f"made with {int(fields[2])} partitions, {self.partitions} were asked for")
        if self._opened and found != self._identity:
            raise StoreFormatError("this is another store than the one that was opened")
        self._identity = found

    def _level_problems(self) -> list[str]:
        problems = level_problems(self.level, self._info, self._config, self._was_off)
        if self._config.get("appendonly") != "yes":
            self._was_off = True
        elif not redis_level.is_rewriting(self._info):
            self._was_off = False
        return problems

    def _judge(self, problems: Sequence[str]) -> None:
        refusal = redis_level.refusal(self.level, problems) if problems else ""
        if refusal != self._refusal:
            if refusal:
                self._note(f"commits are refused: {refusal}", True)
            else:
                self._note(f"Redis gives level {self.level}", False)
        self._refusal = refusal
        self._connection.wrong = bool(refusal)

    def _reload(self, link: RedisLink) -> None:
        """Send for the functions, ahead of the call that missed them."""
        self.numbers.reloads += 1
        for command in self._functions.loading:
            link.send(encode_command(command), as_it_is, None, _ignore)

    def _lost(self) -> None:
        self.forget()

    # Calls off the hot path

    def _call(self, command: Sequence[bytes], done: Callable[[Any], None]) -> None:
        self._connection.send(encode_command(command), _same, None, done)

    def _sum(self, commands: Sequence[Sequence[bytes]], done: Callable[[int | StoreFailure], None]) -> None:
        """Total of the numbers that the commands give, or the first failure."""
        missing, total = len(commands), 0

        def told(reply: int | StoreFailure) -> None:
            nonlocal missing, total
            if missing == 0:
                return
            if isinstance(reply, StoreFailure):
                missing = 0
                done(reply)
                return
            missing, total = missing - 1, total + reply
            if missing == 0:
                done(total)

        for command in commands:
            self._call(command, told)

    def _outbox_keys(self, partition: int) -> tuple[bytes, bytes]:
        return self._names[partition][2], b"{p%03d}!trimmed" % partition


def _names(partition: int) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes]:
    """Keys of a partition; see `balance._resp_reference.Names`. No document's key looks like them."""
    tag = partition_tag(partition)
    base = tag.removesuffix(b":")
    return tag, base + b"!lease", base + b"!outbox", base + b"!due", base + b"!due-far", base + b"!index:"


def _same(reply: Any, context: object) -> Any:
    return reply


def _ignore(reply: Any) -> None:
    """A reply that decides nothing: the call behind it meets what went wrong."""


def _nothing(reply: Any, context: object) -> None:
    return None


def _documents(reply: list[bytes | None], keys: Sequence[bytes]) -> ReadOutcome:
    return dict(zip(keys, reply, strict=True))


def _due_items(reply: list[bytes], context: object) -> list[DueItem]:
    return [DueItem(member, _score(score)) for member, score in zip(reply[::2], reply[1::2], strict=True)]


def _score(text: bytes) -> int:
    """A score that is a whole number; from 7.2 on Redis writes 1772453600000000 as 1.7724536e+15."""
    mantissa, _, exponent = text.partition(b"e")
    if not exponent:
        return int(text)
    whole, _, fraction = mantissa.partition(b".")
    return int(whole + fraction.ljust(int(exponent), b"0"))


def _outbox_items(reply: list[Any], context: object) -> list[OutboxItem]:
    first, events = reply
    return [OutboxItem(number, event) for number, event in enumerate(events, first)]


def _verdicts(reply: Any, transactions: Sequence[Transaction]) -> CommitOutcome:
    """What commit.lua gave, in the contract's words."""
    if reply == 1:
        return [_COMMITTED] * len(transactions)
    return [_verdict(one, transaction) for one, transaction in zip(reply, transactions, strict=True)]


def _verdict(reply: Any, transaction: Transaction) -> Committed | Conflict | Leased:
    if isinstance(reply, list):
        keys = (write.key for write in transaction.writes)
        return Conflict(dict(zip(keys, reply, strict=True)))
    return _COMMITTED if reply == 1 else Leased(-reply)
