"""A decoded message as text for logs and traces, without what tells who the subscriber is (DB-143, CC-222).

Numbers and enumerations are shown. Texts, octets and addresses are masked unless the AVP is listed as plain, so that an
AVP of a later release is masked before anybody has thought of it: Subscription-Id and its kin, User-Name, equipment,
IMSI, parties, locations and addresses all are (RFC 8506 §15.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from protocols.diameter import dictionary as d
from protocols.diameter.avp import Message

TEXT_LIMIT = 200
"""Characters of one value that are shown."""

SHOWN_CHARACTERS = 3
"""Characters of a masked value that stay, so that two lines about one subscriber can be matched."""

PLAIN = frozenset(
    {
        d.AUTH_APPLICATION_ID,
        d.CHARGING_RULE_BASE_NAME,
        d.DESTINATION_HOST,
        d.DESTINATION_REALM,
        d.ERROR_MESSAGE,
        d.ERROR_REPORTING_HOST,
        d.EVENT_TIMESTAMP,
        d.HOST_IP_ADDRESS,
        d.ORIGIN_HOST,
        d.ORIGIN_REALM,
        d.PRODUCT_NAME,
        d.PROXY_HOST,
        d.REDIRECT_ADDRESS_IPADDRESS,
        d.REDIRECT_ADDRESS_SIP_URI,
        d.REDIRECT_ADDRESS_URL,
        d.REDIRECT_HOST,
        d.REDIRECT_SERVER_ADDRESS,
        d.ROUTE_RECORD,
        d.SERVICE_CONTEXT_ID,
        d.SESSION_ID,
        d.SIP_METHOD,
        d.CALLED_STATION_ID,
        d.TGPP_MS_TIMEZONE,
        d.TGPP_RAT_TYPE,
    }
)
"""Texts, octets and addresses that name machines and services, not people."""

# A subscriber's number inside a plain text: some gateways put the IMSI into the Session-Id. The numbers that RFC 6733
# §8.8 puts there have ten digits at most.
_LONG_NUMBER = re.compile(r"\d{11,}")


def mask(text: str) -> str:
    """Hide a text but for its last characters; a text of six characters or fewer is hidden whole."""
    return "***" + text[-SHOWN_CHARACTERS:] if len(text) > 2 * SHOWN_CHARACTERS else "***"


def describe(message: Message, masked: bool = True) -> str:
    """Render a message as lines: header, AVPs by name, errors; control characters are escaped."""
    kind = "request" if message.is_request else "error answer" if message.is_error else "answer"
    again = ", retransmitted" if message.is_retransmit else ""
    head = (
        f"command {message.command} {kind}{again}, application {message.application}, "
        f"hop-by-hop {message.hop_by_hop:#010x}, end-to-end {message.end_to_end:#010x}, {message.length} octets"
    )
    errors = (f"  error {error.result_code} {error.name}: {error.detail}" for error in message.errors)
    return "\n".join([head, *_lines(message.avps, masked, "  "), *errors])


def _lines(avps: Iterable[tuple[int, int, Any]], masked: bool, indent: str) -> Iterator[str]:
    for key, _, value in avps:
        name = d.name_of(key)
        if isinstance(value, list):
            yield f"{indent}{name}"
            yield from _lines(value, masked, indent + "  ")
        else:
            yield f"{indent}{name}: {_shown(key, value, masked)}"


def _shown(key: int, value: Any, masked: bool) -> str:
    if isinstance(value, (int, float)):
        return _number(key, value)
    if isinstance(value, tuple):
        value = value[1]
    text = value.hex() if isinstance(value, bytes) else value.encode("unicode_escape").decode("ascii")
    if masked and key not in PLAIN:
        return mask(text)
    if masked:
        text = _LONG_NUMBER.sub(lambda found: mask(found[0]), text)
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}… ({len(text)} characters)"


def _number(key: int, value: int | float) -> str:
    definition = d.DEFINITIONS.get(key)
    if definition is None:
        return str(value)
    if definition.kind == "Time":
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = definition.enums.get(int(value)) if definition.enums else None
    return f"{value} ({name})" if name else str(value)
