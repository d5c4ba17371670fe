"""Documents as a charging step writes and reads them: an account, and a session with one quota key and four outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from balance.account import ACCOUNT_SCHEMA, Account
from balance.documents import version_of
from balance.reservation import Accumulator, Hold, Reservation
from bench.micro.case import Case
from bench.micro.rules import NOW_S, QUOTA, account_with
from ocs.charging.requests import Outcome, QuotaKey, Result, ServiceOutcome, UnitKind
from ocs.charging.session import SESSION_SCHEMA, KeyState, Session
from ocs.charging.workspace import decode_document, encode_document

NONCE = b"\x07" * 8
KEY = QuotaKey(100)


def measured() -> Iterator[Case]:
    """Both documents, both ways."""
    account, session = account_with(0), example_session()
    for name, document, kind, schema in (
        ("account", account, Account, ACCOUNT_SCHEMA),
        ("session", session, Session, SESSION_SCHEMA),
    ):
        data = encode_document(None, NONCE, schema, document)
        write = partial(encode_document, version_of(data), NONCE, schema, document)
        read: Callable[[], object] = partial(decode_document, data, kind, schema)
        yield Case("documents", f"write a document: {name}", "", write, len(data))
        yield Case("documents", f"read a document: {name}", "", read, len(data))


def example_session() -> Session:
    """In the middle of its life."""
    reservation = Reservation([Hold(1, 130_000)], QUOTA, [Accumulator(1, 0, 12 * QUOTA, 12 * QUOTA)])
    state = KeyState(KEY, reservation, 1, 0, int(UnitKind.OCTETS), QUOTA, 3600, was_granted=True)
    session = Session(
        id="pgw01.bench.example.net;1772450000123;0000000001",
        account="bench-0000001",
        subscriber="bench-0000001",
        origin_host="pgw01.bench.example.net",
        realm="",
        service_context="32251@3gpp.org",
        plan="bench",
        version=1,
        opened_s=NOW_S,
        keys=[state],
        deadline_s=NOW_S + 7200,
        currency=978,
    )
    session.note(1, 0)
    service = ServiceOutcome(KEY, Result.SUCCESS, UnitKind.OCTETS, QUOTA, 3600, 1_000_000)
    for number in range(1, 13):
        session.note(2, number)
        at_us = (NOW_S + 600 * number) * 1_000_000
        session.keep(2, number, b"\x01\x02\x03\x04", at_us, Outcome(Result.SUCCESS, (service,), 130_000, 10**15, 978))
    return session
