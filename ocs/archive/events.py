"""What the archive needs to know of an event without decoding all of it."""

from __future__ import annotations

import msgspec


class EventHead(msgspec.Struct, array_like=True):
    """The first fields of `balance.ledger.Event`; entries and usage are passed over undecoded."""

    schema: int
    account: str
    version: int
    n: int
    at_us: int
    kind: str
    entries: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    session_id: str = ""


_decoder = msgspec.msgpack.Decoder(EventHead)


def head_of(event: bytes) -> EventHead | None:
    """The head of an event as it stands in the outbox; `None` if its bytes are damaged."""
    try:
        return _decoder.decode(event)
    except msgspec.MsgspecError:
        return None
