"""The regular CCR and CCA of a session: what nearly all messages of a gateway look like, each in one compiled pass.

Both functions return `None` for whatever is not wholly regular: an error, an AVP that stands twice, money, an event,
units at command level. Then `credit_control` and `credit_control_answers` do the work; they are the truth, and what is
read or written here equals what they would have read or written. With `OCS_PURE=1` they do all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from protocols.diameter.avp import Message

Units = tuple[int | None, int | None, int | None, int | None, int | None]
"""Total, input and output octets, seconds, service-specific units; `None`: absent."""

Service = tuple[int | None, tuple[int, ...], Units | None, list[Units], list[int]]
"""One MSCC: Rating-Group, Service-Identifiers, what is requested, what was used, reporting reasons (those in the group
before those in its used units)."""

Facts = tuple[
    str, str, str, str, int, int, int | None, int, list[tuple[int, str]], str | None, list[Service], list[Any], bool
]
"""Session-Id, Origin-Host, Origin-Realm, Service-Context-Id, CC-Request-Type, CC-Request-Number, Event-Timestamp,
Origin-State-Id (0: absent), Subscription-Ids (type, data), User-Name, services, the AVPs that the digest covers, and
whether an MSCC holds an AVP of 3GPP."""

ServiceFacts = tuple[int | None, tuple[int, ...], int, int | None, int | None, int | None, int, int | None]
"""One MSCC of an answer with 2001: Rating-Group, Service-Identifiers, code of the granted unit (0: none), the amount,
Validity-Time, Final-Unit-Action (never one with members of its own), code of the threshold (0: none), its amount."""

if TYPE_CHECKING or os.environ.get("OCS_PURE") == "1":

    def read_ccr(message: Message) -> Facts | None:
        """The facts of a regular CCR of a session, whose grammar is then right; its context is not yet judged."""
        return None

    def write_cca(
        message: Message, session_id: str, head: bytes, request_number: int, services: Iterable[ServiceFacts]
    ) -> bytes | None:
        """The CCA of a regular CCR; `head` are the ready AVPs from Result-Code to CC-Request-Type."""
        return None

else:
    from cython_ext._credit import read_ccr, write_cca

__all__ = ["Facts", "Service", "ServiceFacts", "Units", "read_ccr", "write_cca"]
