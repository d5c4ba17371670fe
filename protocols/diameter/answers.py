"""What every answer has in common: header, Session-Id, origin and Proxy-Info (RFC 6733 §6.2, DB-070…DB-075)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from protocols.diameter import dictionary
from protocols.diameter.avp import Message, decode_message, encode_message, first
from protocols.diameter.errors import ResultCode
from protocols.diameter.header import FLAG_ERROR, FLAG_PROXIABLE, HEADER_OCTETS

Item = tuple[int, Any] | tuple[int, int, Any] | bytes
"""`(key, value)`, `(key, flags, value)` or the ready octets of an AVP."""


class Local(NamedTuple):
    """Who answers."""

    origin_host: str
    origin_realm: str
    origin_state_id: int | None = None
    """`None`: absent (DB-120)."""


def build_answer(request: Message, avps: Iterable[Item], *, error: bool = False) -> bytes:
    """The answer to a request: R and T clear, P and the identifiers copied, `error` sets E.

    Session-Id stands first if the request had a readable one; `avps` follow; every Proxy-Info of the request closes the
    message, octet by octet as it came (DB-073), unless its own lengths are wrong: that would break the answer.
    """
    flags = (request.flags & FLAG_PROXIABLE) | (FLAG_ERROR if error else 0)
    items: list[Item] = []
    session_id = first(request.avps, dictionary.SESSION_ID)
    if session_id is not None:
        items.append((dictionary.SESSION_ID, session_id))
    items.extend(avps)
    items.extend(_proxy_infos(request))
    answer: bytes = encode_message(
        request.command, request.application, flags, request.hop_by_hop, request.end_to_end, items
    )
    return answer


def _proxy_infos(request: Message) -> list[bytes]:
    if not request.errors:
        return request.proxy_infos
    header = request.data[:HEADER_OCTETS]
    return [one for one in request.proxy_infos if not _has_wrong_length(decode_message(header + one))]


def _has_wrong_length(message: Message) -> bool:
    return any(error.result_code == ResultCode.INVALID_AVP_LENGTH for error in message.errors)


def base_avps(result_code: int, local: Local) -> list[Item]:
    """Result-Code and origin (DB-071)."""
    return [
        (dictionary.RESULT_CODE, int(result_code)),
        (dictionary.ORIGIN_HOST, local.origin_host),
        (dictionary.ORIGIN_REALM, local.origin_realm),
    ]
