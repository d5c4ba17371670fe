"""What every answer has in common: header, Session-Id, origin and Proxy-Info (RFC 6733 §6.2, DB-070…DB-075)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from protocols.diameter import dictionary
from protocols.diameter.avp import Message, decode_message, encode_message, first
from protocols.diameter.errors import RemoteProtocolError, ResultCode
from protocols.diameter.header import FLAG_ERROR, FLAG_PROXIABLE, HEADER_OCTETS, Header

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


def is_protocol_error(result_code: int) -> bool:
    """Whether a code belongs to the class that is only sent with the E bit (RFC 6733 §7.1.3)."""
    return 3000 <= result_code < 4000


def build_error_answer(
    request: Message, error: RemoteProtocolError, local: Local, *, extras: Iterable[Item] = ()
) -> bytes:
    """The answer that refuses a request with one Result-Code and its Failed-AVP (DB-071, DB-075, DB-076).

    With a 3xxx code the E bit is set and the order is that of RFC 6733 §7.2; with any other code it is clear. `extras`
    follow the base AVPs. The error's `detail` becomes Error-Message only with the E bit: it must hold no value of a
    subscriber's.
    """
    protocol_error = is_protocol_error(error.result_code)
    avps = _error_base(error.result_code, local) if protocol_error else base_avps(error.result_code, local)
    avps += extras
    if protocol_error and error.detail:
        avps.append((dictionary.ERROR_MESSAGE, error.detail))
    if error.failed_avp:
        avps.append((dictionary.FAILED_AVP, error.failed_avp))
    return build_answer(request, avps, error=protocol_error)


def build_header_error_answer(header: Header, result_code: int, local: Local) -> bytes:
    """The answer to a request of which only the header can be read (DB-006, DB-008).

    Its AVPs were not looked at, so that the grammar of RFC 6733 §7.2 and the E bit are the only choice (§7.1.5).
    """
    return _from_header(header, FLAG_ERROR, _error_base(result_code, local))


def _error_base(result_code: int, local: Local) -> list[Item]:
    result, host, realm = base_avps(result_code, local)
    return [host, realm, result]


def _from_header(header: Header, flags: int, avps: Iterable[Item]) -> bytes:
    flags |= header.flags & FLAG_PROXIABLE
    answer: bytes = encode_message(
        header.command, header.application, flags, header.hop_by_hop, header.end_to_end, avps
    )
    return answer
