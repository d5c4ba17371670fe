"""What is written about notices: that an account's gateways must hear of a change, and how far each session has got."""

from __future__ import annotations

import enum

import msgspec

from balance.documents import partition_tag

ACCOUNT_NOTICE_SCHEMA = 25
SESSION_NOTICE_SCHEMA = 26


class NoticeKind(enum.IntEnum):
    """What the gateway is to do; when several changes meet, the greatest counts."""

    TOPPED_UP = 0
    """Ask again for what it has not, or no more, been granted (CC-115, CC-161)."""
    CHANGED = 1
    """Ask again for everything: what is granted, and at which price, has changed (CC-161)."""
    ABORT = 2
    """End the session (CC-165)."""


class AccountNotice(msgspec.Struct, array_like=True):
    """Changes of an account whose sessions have not been looked at yet; written in the commit of the first of them."""

    account: str
    kind: int
    subscriber: str = ""
    """Only this subscriber's sessions; empty: all."""
    after: bytes = b""
    """The last session that was looked at; sessions are taken page by page."""


class SessionNotice(msgspec.Struct, array_like=True):
    """One gateway has to hear of one session; gone when it has."""

    session_id: str
    origin_host: str
    kind: int
    changed_us: int
    """Of the last change."""
    handed_us: int = 0
    """When it was handed to a worker and is outstanding since; 0: not yet, or changed since."""
    worker: str = ""
    """To whom it was handed."""
    tries: int = 0


def account_notice_key(partition: int, account: str) -> bytes:
    """Key of an account's notice."""
    return partition_tag(partition) + b"n:a:" + account.encode()


def session_notice_key(session_key: bytes) -> bytes:
    """Key of the notice that belongs to the session of a key."""
    tag, _, name = session_key.split(b":", 2)
    return tag + b":n:s:" + name
