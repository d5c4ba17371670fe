"""What operators look at: accounts, subscribers, sessions, the ledger and the explanation of a session. Read only.

Lists come in pages with a cursor, so that no list stalls charging. A cursor is opaque to the caller: the partition and
the last member seen there, or how far archive and outbox were read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from balance.account import Account, BucketKind, Subscriber
from balance.documents import account_key, locator_key, session_key
from balance.ledger import Event, decode_event
from balance.store import MAX_PAGE
from ocs.charging.account_operations import ACCOUNTS_INDEX, describe_account
from ocs.charging.engine import Engine
from ocs.charging.history import HistoryPage
from ocs.charging.identities import find_account, find_subscriber
from ocs.charging.operations import OperationRefused
from ocs.charging.saga import Offload, Outbox, Read, Saga, Scan
from ocs.charging.session import LOCATOR_SCHEMA, SESSION_SCHEMA, Locator, Session
from ocs.charging.session_jobs import SESSIONS_INDEX, Target, account_sessions_index, peer_sessions_index
from ocs.charging.subscriber_operations import SUBSCRIBERS_INDEX, account_subscribers_index, describe_subscriber
from ocs.charging.workspace import SCHEMAS, decode_document

Page = dict[str, Any]
"""`{"items": [...], "next": cursor or None}`."""


def list_accounts(engine: Engine, cursor: str | None = None, limit: int = 100) -> Saga[Page]:
    """Accounts, each as `describe_account`."""
    members, following = yield from _members(engine, ACCOUNTS_INDEX, cursor, limit)
    items = []
    documents = yield Read(tuple((partition, account_key(partition, name)) for partition, name in members))
    for partition, name in members:
        data = documents[account_key(partition, name)]
        if data is not None:
            items.append(describe_account(decode_document(data, Account, SCHEMAS[Account])))
    return {"items": items, "next": following}


def show_account(engine: Engine, account: str) -> Saga[dict[str, Any]]:
    """One account with its subscribers' ids."""
    partition = yield from find_account(engine, account)
    found = yield from _account(partition, account)
    names = yield Scan(partition, account_subscribers_index(account), b"", MAX_PAGE)
    return {**describe_account(found), "subscribers": [name.decode() for name in names]}


def list_subscribers(engine: Engine, cursor: str | None = None, limit: int = 100) -> Saga[Page]:
    """Subscribers, each as `describe_subscriber`."""
    members, following = yield from _members(engine, SUBSCRIBERS_INDEX, cursor, limit)
    targets = [Target(partition, "", name) for partition, name in members]
    documents = yield Read(tuple((target.partition, target.subscriber_key) for target in targets))
    found = [documents[target.subscriber_key] for target in targets]
    items = [describe_subscriber(decode_document(d, Subscriber, SCHEMAS[Subscriber])) for d in found if d is not None]
    return {"items": items, "next": following}


def show_subscriber(engine: Engine, name: str) -> Saga[dict[str, Any]]:
    """One subscriber, by its id or any identity, with its account."""
    target = yield from find_subscriber(engine, name)
    documents = yield Read(((target.partition, target.subscriber_key),))
    data = documents[target.subscriber_key]
    if data is None:
        raise OperationRefused("not_found", "subscriber", f"no subscriber {name!r}")
    subscriber = describe_subscriber(decode_document(data, Subscriber, SCHEMAS[Subscriber]))
    account = yield from _account(target.partition, target.account)
    return {**subscriber, "balance": describe_account(account)}


def list_sessions(
    engine: Engine, account: str | None = None, peer: str | None = None, cursor: str | None = None, limit: int = 100
) -> Saga[Page]:
    """Open sessions: all, those of an account, or those of a peer (Origin-Host)."""
    index = SESSIONS_INDEX
    if account is not None:
        yield from find_account(engine, account)
        index = account_sessions_index(account)
    elif peer is not None:
        index = peer_sessions_index(peer)
    members, following = yield from _members(engine, index, cursor, limit)
    documents = yield Read(tuple((partition, session_key(partition, name)) for partition, name in members))
    items = []
    for partition, name in members:
        data = documents[session_key(partition, name)]
        if data is not None:
            items.append(describe_session(decode_document(data, Session, SESSION_SCHEMA)))
    return {"items": items, "next": following}


def show_session(engine: Engine, session_id: str) -> Saga[dict[str, Any]]:
    """One session, open or closed not long ago."""
    _, session = yield from _session(engine, session_id)
    if session is None:
        raise OperationRefused("not_found", "session", f"session {session_id!r} is no longer kept; see `explain`")
    return describe_session(session)


def explain(engine: Engine, session_id: str) -> Saga[dict[str, Any]]:
    """Every event of a session, oldest first: what was rated how, and what moved.

    Of a session that is no longer kept, the archive still tells.
    """
    found = yield from _find_session(engine, session_id)
    walk = _Walk(engine, found.partition, session=session_id)
    while (yield from walk.go_on(MAX_PAGE)):
        pass
    events = [describe_event(event) for event in walk.events]
    summary = None if found.session is None else describe_session(found.session)
    return {"session": session_id, "account": found.account, "summary": summary, "events": events}


def ledger(engine: Engine, account: str, cursor: str | None = None, limit: int = 100) -> Saga[Page]:
    """Events of an account in the order they were committed, with their entries: from the archive, then the outbox.

    One call looks through at most `SEARCH_MOST` events of the outbox; an empty page with a cursor means: go on. A
    cursor stays good while events move from the outbox into the archive.
    """
    partition = yield from find_account(engine, account)
    walk = _Walk(engine, partition, account=account, cursor=cursor)
    more = True
    while more and len(walk.events) < limit and walk.searched < SEARCH_MOST:
        more = yield from walk.go_on(limit - len(walk.events))
    items = [describe_event(event) for event in walk.events]
    return {"items": items, "next": walk.cursor if more else None}


SEARCH_MOST = 20_000

WALK_PAGE = 200
"""Events decoded in one turn of the loop: about a millisecond."""

_CURSOR = re.compile(r"(?:([0-9]{1,18})\.)?([0-9]{1,18})")


class _Walk:
    """Reads the events of an account or of a session: first those of the archive, then those still in the outbox.

    The archiver may move events between two steps. The outbox is read from the last archived number on; if what it
    gives begins later, the events between have moved, and the archive is read on first.
    """

    def __init__(
        self, engine: Engine, partition: int, account: str = "", session: str = "", cursor: str | None = None
    ) -> None:
        self._engine = engine
        self._partition = partition
        self._account = account
        self._session = session
        self._position, self._sequence = _place(cursor)
        """Everything archived up to the position was read, and what was in the outbox up to the sequence number."""
        self._archived = 0
        self._in_archive = engine.history is not None
        self.events: list[Event] = []
        self.searched = 0
        """Events of the outbox that were looked at."""

    @property
    def cursor(self) -> str:
        """Where the next page begins."""
        return f"{self._position}.{self._sequence}" if self._position else str(self._sequence)

    def go_on(self, most: int) -> Saga[bool]:
        """One step: at most `most` events more; whether there may be others."""
        return (yield from self._from_archive(most) if self._in_archive else self._from_outbox(most))

    def _from_archive(self, most: int) -> Saga[bool]:
        history, partition, after = self._engine.history, self._partition, self._position
        assert history is not None
        account, session = self._account, self._session

        def look() -> HistoryPage:
            if account:
                return history.of_account(partition, account, after, most)
            return history.of_session(partition, session, after, most)

        page: HistoryPage = yield Offload(look)
        for one in page.events:
            # What was read while it was in the outbox is not read again.
            if one.sequence > self._sequence:
                self.events.append(decode_event(one.event))
        self._position = page.upto
        self._archived = max(self._archived, page.archived)
        self._in_archive = page.more
        return True

    def _from_outbox(self, most: int) -> Saga[bool]:
        start = max(self._archived, self._sequence)
        page = yield Outbox(self._partition, start, WALK_PAGE)
        if (not page or page[0].sequence > start + 1) and (yield from self._has_moved(start)):
            self._in_archive = True
            return True
        for item in page:
            self._sequence = item.sequence
            self.searched += 1
            event = decode_event(item.event)
            if event.account == self._account or (self._session and event.session_id == self._session):
                self.events.append(event)
                most -= 1
                if most == 0:
                    return True
        return len(page) == WALK_PAGE

    def _has_moved(self, start: int) -> Saga[bool]:
        """Whether events after `start` went into the archive since it was read."""
        history, partition = self._engine.history, self._partition
        if history is None:
            return False
        archived: int = yield Offload(lambda: history.archived(partition))
        return archived > start


def _place(cursor: str | None) -> tuple[int, int]:
    """(position in the archive, sequence number in the outbox) of a cursor."""
    if cursor is None:
        return 0, 0
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise OperationRefused("invalid", "cursor", f"{cursor!r} is no cursor of this list")
    return int(found[1] or 0), int(found[2])


class _FoundSession(NamedTuple):
    """Where a session's events are."""

    partition: int
    account: str
    session: Session | None


def _find_session(engine: Engine, session_id: str) -> Saga[_FoundSession]:
    """By its locator; by the archive when that is gone."""
    try:
        locator, session = yield from _session(engine, session_id)
    except OperationRefused:
        history = engine.history
        if history is None:
            raise
        page: HistoryPage = yield Offload(lambda: history.of_session(None, session_id, 0, 1))
        if not page.events:
            raise
        event = decode_event(page.events[0].event)
        return _FoundSession(page.events[0].partition, event.account, None)
    return _FoundSession(locator.partition, locator.account, session)


def _number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise OperationRefused("invalid", "cursor", f"{cursor!r} is no cursor of this list")
    return int(cursor)


def _account(partition: int, account: str) -> Saga[Account]:
    key = account_key(partition, account)
    documents = yield Read(((partition, key),))
    data = documents[key]
    if data is None:
        raise OperationRefused("not_found", "account", f"no account {account!r}")
    return decode_document(data, Account, SCHEMAS[Account])


def _session(engine: Engine, session_id: str) -> Saga[tuple[Locator, Session | None]]:
    at = locator_key(session_id, engine.store.partitions)
    documents = yield Read((at,))
    data = documents[at[1]]
    if data is None:
        raise OperationRefused("not_found", "session", f"no session {session_id!r}")
    locator = decode_document(data, Locator, LOCATOR_SCHEMA)
    key = session_key(locator.partition, session_id)
    documents = yield Read(((locator.partition, key),))
    found = documents[key]
    return locator, None if found is None else decode_document(found, Session, SESSION_SCHEMA)


def _members(
    engine: Engine, index: bytes, cursor: str | None, limit: int
) -> Saga[tuple[list[tuple[int, str]], str | None]]:
    """A page of an index over all partitions, and the cursor of the next one."""
    if not 1 <= limit <= MAX_PAGE:
        raise OperationRefused("invalid", "limit", f"expected 1 to {MAX_PAGE}")
    start, _, after = ("0", "", "") if cursor is None else cursor.partition(":")
    members: list[tuple[int, str]] = []
    position = after.encode()
    for partition in range(_number(start), engine.store.partitions):
        names = yield Scan(partition, index, position, limit - len(members))
        members.extend((partition, name.decode()) for name in names)
        if len(members) == limit:
            return members, f"{partition}:{members[-1][1]}"
        position = b""
    return members, None


def describe_session(session: Session) -> dict[str, Any]:
    """A session as JSON."""
    return {
        "session": session.id,
        "state": "closed" if session.closed else "open",
        "close_cause": session.closed or None,
        "account": session.account,
        "subscriber": session.subscriber,
        "peer": session.origin_host,
        "service_context": session.service_context,
        "plan": session.plan,
        "catalogue_version": session.version,
        "opened_s": session.opened_s,
        "closed_s": session.closed_s or None,
        "deadline_s": session.deadline_s or None,
        "cost_micros": session.cost_micros,
        "keys": [
            {
                "rating_group": state.key.rating_group,
                "service_identifiers": list(state.key.service_identifiers),
                "unit": BucketKind(state.unit).name.lower(),
                "granted": state.granted,
                "validity_s": state.validity_s,
                "final": state.final >= 0,
                "holds": [{"bucket": hold.bucket, "amount": hold.amount} for hold in state.reservation.holds],
                "used": sum(one.used for one in state.reservation.accumulators),
            }
            for state in session.keys
        ],
    }


_to_builtins: Callable[[object], Any] = msgspec.to_builtins


def describe_event(event: Event) -> dict[str, Any]:
    """An event as JSON, every field by name."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name not in ("entries", "usage")}
    return {
        **fields,
        "entries": [
            {
                **{name: _to_builtins(getattr(entry, name)) for name in entry.__struct_fields__},
                "kind": BucketKind(entry.kind).name.lower(),
            }
            for entry in event.entries
        ],
        "usage": [
            {
                **{name: _to_builtins(getattr(line, name)) for name in line.__struct_fields__},
                "unit": BucketKind(line.unit).name.lower() if line.unit else None,
            }
            for line in event.usage
        ],
    }
