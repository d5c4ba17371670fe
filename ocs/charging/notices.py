"""Changes that a gateway must hear of: from the commit of the change to the worker that holds the gateway (LEDGER §10).

    change         commits, with itself, a notice of the account and its due item, a second from now
    sweeper        pages through the account's sessions: a notice for each that it concerns, due at once
    sweeper        hands a session's notice to a worker that holds a connection of its peer: through that worker's inbox
    that worker    delivers it through the port, and deletes it when the gateway has heard

Every step is compared by version and can be repeated, so a notice is delivered at least once. What is handed over and
not settled is handed over again; what nobody can deliver is tried again, ever more seldom, until its session ends. Changes
that follow each other within a second, or while a notice waits, make one notice; one that comes while it is
outstanding makes one more after it (CC-166).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from balance.account import Account
from balance.documents import VERSION_OCTETS, session_key
from balance.store import MAX_PAGE, Committed, Conflict, DueChange, IndexChange, Transaction, Write
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.notice_documents import (
    ACCOUNT_NOTICE_SCHEMA,
    SESSION_NOTICE_SCHEMA,
    AccountNotice,
    NoticeKind,
    SessionNotice,
    account_notice_key,
    session_notice_key,
)
from ocs.charging.registry import META_PARTITION, Registry, inbox_index, liked_best
from ocs.charging.saga import Commit, Read, Saga, Scan
from ocs.charging.session import SESSION_SCHEMA, Session
from ocs.charging.session_jobs import account_sessions_index
from ocs.charging.workspace import Workspace, decode_document, encode_document

COLLECT_US = 1_000_000
"""Changes of an account within this time make one notice."""

OUTSTANDING_US = 10_000_000
"""How long a notice that was handed over is waited for before it is handed over again."""

FIRST_RETRY_US = 1_000_000
LAST_RETRY_US = 300_000_000
"""Pauses between tries to find a worker that holds the peer: doubled from the first up to the last."""

SESSIONS_PER_TURN = 64

INBOX_PER_TURN = 64

SETTLE_DEADLINE_S = 10.0

Deliver = Callable[[str, NoticeKind, Callable[[bool], None]], None]
"""Tells a gateway: `deliver(session_id, kind, done)`; `done(heard)` is called once, then or later.

`heard` is true when nothing more is to be tried: the gateway has answered, whatever it said.
"""


class Wanted(NamedTuple):
    """Which notice goes with a change."""

    kind: NoticeKind
    subscriber: str = ""
    """Only this subscriber's sessions; empty: all of the account."""


def order_notice(workspace: Workspace, key: bytes, account: Account, wanted: Wanted, now_us: int) -> None:
    """Have the gateways told of the change that this commit makes; `key` is that of the account's notice.

    Nothing is written for an account without sessions, so such a change leaves nothing behind.
    """
    if not account.open_sessions:
        return
    notice = workspace.get(key, AccountNotice)
    if notice is None:
        notice = AccountNotice(account.id, wanted.kind, wanted.subscriber)
        workspace.due(key, now_us if wanted.kind is NoticeKind.ABORT else now_us + COLLECT_US)
    else:
        if notice.subscriber != wanted.subscriber:
            notice.subscriber = ""
        if wanted.kind is NoticeKind.ABORT and notice.kind != NoticeKind.ABORT:
            workspace.due(key, now_us)
        notice.kind = max(notice.kind, wanted.kind)
        notice.after = b""
    workspace.put(key, notice)


def retry_us(tries: int) -> int:
    """The pause after so many tries."""
    return min(FIRST_RETRY_US << min(tries, 20), LAST_RETRY_US)


class NoticeDesk:
    """One process's part in notices: the sweeper's items, and its inbox."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        utc_us: Callable[[], int],
        monotonic: Callable[[], float],
        deliver: Deliver,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._utc_us = utc_us
        self._monotonic = monotonic
        self.deliver = deliver
        """The port; the servers set their own."""
        self.delivered = 0
        self.unheard = 0
        """Deliveries that the gateway did not take."""
        self.homeless = 0
        """Tries that found no worker which holds the peer."""
        self.failures = 0
        self._delivering: set[bytes] = set()

    @property
    def delivering(self) -> int:
        """Notices that gateways have not answered yet."""
        return len(self._delivering)

    # The sweeper's items

    def handle(self, partition: int, key: bytes) -> Saga[bool]:
        """Act on a due notice; whether others have become due by it."""
        if key.split(b":", 3)[2] == b"a":
            return (yield from self._account(partition, key))
        yield from self._session(partition, key)
        return False

    def _account(self, partition: int, key: bytes) -> Saga[bool]:
        """Make a notice for each of the next sessions that are concerned."""
        documents = yield Read(((partition, key),))
        data = documents[key]
        if data is None or not self._engine.settings.notices:
            yield from self._forget(partition, key, data)
            return False
        notice = decode_document(data, AccountNotice, ACCOUNT_NOTICE_SCHEMA)
        index = account_sessions_index(notice.account)
        members: Sequence[bytes] = yield Scan(partition, index, notice.after, SESSIONS_PER_TURN)
        keys = [session_key(partition, member.decode()) for member in members]
        own = [session_notice_key(one) for one in keys]
        documents = yield Read(tuple((partition, one) for one in (*keys, *own)))
        writes: list[Write] = []
        due: list[DueChange] = []
        for place, one in zip(keys, own, strict=True):
            session = documents[place]
            if session is not None:
                decoded = decode_document(session, Session, SESSION_SCHEMA)
                if concerns(notice, decoded):
                    self._note(one, documents[one], decoded, notice.kind, writes, due)
        now_us = self._utc_us()
        if len(members) < SESSIONS_PER_TURN:
            writes.append(Write(key, data[:VERSION_OCTETS], None))
            due.append(DueChange(key, None))
        else:
            notice.after = members[-1]
            writes.append(self._write(key, data, ACCOUNT_NOTICE_SCHEMA, notice))
            due.append(DueChange(key, now_us))
        # In a conflict another sweeper did it, or another change came: the item is due as before, or gone.
        yield Commit(partition, Transaction(tuple(writes), due=tuple(due)))
        return True

    def _note(
        self,
        key: bytes,
        data: bytes | None,
        session: Session,
        kind: int,
        writes: list[Write],
        due: list[DueChange],
    ) -> None:
        now_us = self._utc_us()
        notice = SessionNotice(session.id, session.origin_host, kind, now_us)
        if data is not None:
            known = decode_document(data, SessionNotice, SESSION_NOTICE_SCHEMA)
            notice.kind = max(known.kind, kind)
            if now_us < known.handed_us + OUTSTANDING_US:
                # At most one is outstanding; when it is settled the next follows, since this one is of another version.
                notice.handed_us, notice.worker, notice.tries = known.handed_us, known.worker, known.tries
        writes.append(self._write(key, data, SESSION_NOTICE_SCHEMA, notice))
        if not notice.handed_us:
            due.append(DueChange(key, now_us))

    def _session(self, partition: int, key: bytes) -> Saga[None]:
        """Hand a session's notice to a worker that can deliver it."""
        documents = yield Read(((partition, key),))
        data = documents[key]
        if data is None or not self._engine.settings.notices:
            yield from self._forget(partition, key, data)
            return
        notice = decode_document(data, SessionNotice, SESSION_NOTICE_SCHEMA)
        if not (yield from self._is_open(partition, notice)):
            yield from self._forget(partition, key, data)
            return
        now_us = self._utc_us()
        holders = self._registry.holders(notice.origin_host)
        notice.tries += 1
        pause_us = retry_us(notice.tries)
        if holders:
            notice.worker, notice.handed_us = liked_best(notice.session_id, holders), now_us
            pause_us = max(pause_us, OUTSTANDING_US)
        else:
            self.homeless += 1
            notice.worker, notice.handed_us = "", 0
        write = self._write(key, data, SESSION_NOTICE_SCHEMA, notice)
        changes = (DueChange(key, now_us + pause_us),)
        verdict = yield Commit(partition, Transaction((write,), due=changes))
        if not isinstance(verdict, Committed) or not holders:
            return
        if notice.worker == self._registry.worker_id:
            assert write.data is not None
            self._take(partition, key, write.data, notice, is_from_inbox=False)
        else:
            handed = IndexChange(inbox_index(notice.worker), key, True)
            yield Commit(META_PARTITION, Transaction((), indexes=(handed,)))

    def _is_open(self, partition: int, notice: SessionNotice) -> Saga[bool]:
        place = session_key(partition, notice.session_id)
        documents = yield Read(((partition, place),))
        data = documents[place]
        return data is not None and not decode_document(data, Session, SESSION_SCHEMA).closed

    def _forget(self, partition: int, key: bytes, data: bytes | None) -> Saga[None]:
        writes = () if data is None else (Write(key, data[:VERSION_OCTETS], None),)
        yield Commit(partition, Transaction(writes, due=(DueChange(key, None),)))

    # The inbox

    def inbox_turn(self) -> Saga[None]:
        """Deliver what was handed to this worker."""
        if self._registry.alone or not self._engine.settings.notices:
            return
        inbox = inbox_index(self._registry.worker_id)
        limit = min(INBOX_PER_TURN + len(self._delivering), MAX_PAGE)
        members: Sequence[bytes] = yield Scan(META_PARTITION, inbox, b"", limit)
        fresh = [key for key in members if key not in self._delivering]
        if not fresh:
            return
        documents: Mapping[bytes, bytes | None] = yield Read(tuple((partition_of(key), key) for key in fresh))
        gone = []
        for key in fresh:
            data = documents[key]
            notice = None if data is None else decode_document(data, SessionNotice, SESSION_NOTICE_SCHEMA)
            if data is None or notice is None or notice.worker != self._registry.worker_id:
                gone.append(IndexChange(inbox, key, False))
            else:
                self._take(partition_of(key), key, data, notice, is_from_inbox=True)
        if gone:
            yield Commit(META_PARTITION, Transaction((), indexes=tuple(gone)))

    def _take(self, partition: int, key: bytes, data: bytes, notice: SessionNotice, *, is_from_inbox: bool) -> None:
        """Deliver; what is being delivered is not delivered beside it."""
        if key in self._delivering:
            return
        self._delivering.add(key)
        called = False

        def done(heard: bool) -> None:
            nonlocal called
            if called:
                return
            called = True
            self.delivered += heard
            self.unheard += not heard
            saga = self._settle(partition, key, data, heard, is_from_inbox)
            self._engine.run(saga, self._monotonic() + SETTLE_DEADLINE_S, ended)

        def ended(result: object) -> None:
            self._delivering.discard(key)
            # It is handed over again when its due item comes.
            self.failures += isinstance(result, ChargingError)

        try:
            self.deliver(notice.session_id, NoticeKind(notice.kind), done)
        except Exception as error:
            # Our bug in a server must not stop the sweep; the notice comes again.
            self._engine.conductor.report(self, error)
            done(False)

    def _settle(self, partition: int, key: bytes, data: bytes, heard: bool, is_from_inbox: bool) -> Saga[None]:
        if heard:
            gone = Transaction((Write(key, data[:VERSION_OCTETS], None),), due=(DueChange(key, None),))
            verdict = yield Commit(partition, gone)
            if isinstance(verdict, Conflict):
                yield from self._follow(partition, key, data, verdict.documents[key])
        if is_from_inbox:
            taken = IndexChange(inbox_index(self._registry.worker_id), key, False)
            yield Commit(META_PARTITION, Transaction((), indexes=(taken,)))

    def _follow(self, partition: int, key: bytes, delivered: bytes, present: bytes | None) -> Saga[None]:
        """Something changed while the notice was outstanding: one more is due. In a conflict it is due in any case."""
        if present is None:
            return
        known = decode_document(delivered, SessionNotice, SESSION_NOTICE_SCHEMA)
        notice = decode_document(present, SessionNotice, SESSION_NOTICE_SCHEMA)
        if notice.changed_us == known.changed_us and notice.kind == known.kind:
            # Handed over anew meanwhile, and heard already.
            yield from self._forget(partition, key, present)
            return
        notice.handed_us, notice.worker, notice.tries = 0, "", 0
        write = self._write(key, present, SESSION_NOTICE_SCHEMA, notice)
        yield Commit(partition, Transaction((write,), due=(DueChange(key, self._utc_us()),)))

    def _write(self, key: bytes, previous: bytes | None, schema: int, document: Any) -> Write:
        version = None if previous is None else previous[:VERSION_OCTETS]
        return Write(key, version, encode_document(version, self._engine.nonce(), schema, document))


def concerns(notice: AccountNotice, session: Session) -> bool:
    """Whether the gateway of a session must hear of a change."""
    if session.closed or (notice.subscriber and notice.subscriber != session.subscriber):
        return False
    if notice.kind == NoticeKind.TOPPED_UP:
        # Not where all quota is healthy (CC-161): who has a final unit, was denied, or has nothing left to report.
        return any(state.final >= 0 or not state.granted for state in session.keys)
    return notice.kind == NoticeKind.ABORT or bool(session.keys)


def partition_of(key: bytes) -> int:
    """The partition of a key."""
    return int(key[2 : key.index(b"}")])


def notice_keys(engine: Engine, partition: int, account: str, wanted: Wanted | None) -> tuple[bytes, ...]:
    """What a change reads beside its own documents, so that `order_notice` can be called."""
    return (account_notice_key(partition, account),) if wanted is not None and engine.settings.notices else ()
