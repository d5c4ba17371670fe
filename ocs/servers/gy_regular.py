"""The short way of a CCR through Gy: regular requests and answers without the steps that only unusual ones need.

`gy` is the truth: `RegularGy.read` gives what `to_charging` would, `RegularGy.answer` what `from_outcome` would, or
`None`, and then those are asked: for an error, an AVP that stands twice, money, an event, units at command level, an
outcome that is more than quota. Nothing is refused here. With `OCS_PURE=1` everything goes the general way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ocs.charging.identity_text import normalise
from ocs.charging.requests import (
    ChargingRequest,
    FinalAction,
    Identity,
    Outcome,
    QuotaKey,
    Reason,
    RequestKind,
    Result,
    ServiceRequest,
    Units,
)
from ocs.charging.results import DIAMETER
from ocs.servers.gy import KIND_OF, KNOWN_REASONS, GySettings, PeerProfile, reason_of
from protocols.diameter import dictionary
from protocols.diameter.answers import Local, base_avps
from protocols.diameter.avp import Message, encode_avp
from protocols.diameter.credit_control import match_context
from protocols.diameter.errors import ResultCode
from protocols.diameter.header import APPLICATION_CREDIT_CONTROL
from protocols.diameter.service_information import RatingContext

PURE = os.environ.get("OCS_PURE") == "1"

if TYPE_CHECKING or not PURE:
    from cython_ext._credit import Asked, RegularCredit, Speaker

MAX_REMEMBERED = 1024
"""Origin-Hosts and Service-Context-Ids whose settings are remembered; those of others are found for each request."""

_TYPES = (ChargingRequest, ServiceRequest, Units, QuotaKey, Identity, RatingContext)
_KINDS = {int(kind): kind for kind in (RequestKind.INITIAL, RequestKind.UPDATE, RequestKind.TERMINATION)}
_DENIALS = {
    result: int(codes.service)
    for result, codes in DIAMETER.items()
    if result is not Result.SUCCESS and codes.service is not None and not codes.failed_avp
}
"""Codes of a key's results with which no Failed-AVP goes."""

_IDENTITY_KINDS = tuple(KIND_OF[kind] for kind in sorted(KIND_OF))


class RegularGy:
    """Translates the regular messages for one `GySettings`; made anew when the settings change."""

    def __init__(self, settings: GySettings, local: Local) -> None:
        self.settings = settings
        self.contexts: dict[str, str] = {}
        """The context that a Service-Context-Id names, as far as it is remembered."""
        self.speakers: dict[str, Speaker] = {}
        """By Origin-Host as received, as far as it is remembered."""
        self._heads = {number: _head(kind, local) for number, kind in _KINDS.items()}
        self.read: Callable[[Message], tuple[ChargingRequest, Asked] | None] = lambda _message: None
        """The engine's request for a regular CCR (CC-014, CC-061), and what its answer needs."""
        self.answer: Callable[[Message, Asked, Outcome], bytes | None] = lambda _message, _asked, _outcome: None
        """The CCA for a regular outcome: quota or denial of keys that the request named (CC-062, CC-068, CC-091)."""
        if PURE:
            return
        regular: Any = RegularCredit(
            _TYPES,
            _KINDS,
            _IDENTITY_KINDS,
            KNOWN_REASONS,
            Reason.NONE,
            normalise,
            reason_of,
            self.contexts,
            self._context_of,
            self.speakers,
            self._speaker_of,
            Result.SUCCESS,
            FinalAction.TERMINATE,
            _DENIALS,
        )
        self.read, self.answer = regular.read, regular.answer

    def _context_of(self, context_id: str) -> str | None:
        found = match_context(context_id, self.settings.service_contexts)
        if found is not None and len(self.contexts) < MAX_REMEMBERED:
            self.contexts[context_id] = found
        return found

    def _speaker_of(self, origin_host: str) -> Speaker:
        speaker = _speaker(self.settings.profile(origin_host), self._heads)
        if len(self.speakers) < MAX_REMEMBERED:
            self.speakers[origin_host] = speaker
        return speaker


def _speaker(profile: PeerProfile, heads: dict[int, bytes]) -> Speaker:
    """What a profile means for regular messages; what adds to answers leaves no regular ones."""
    opening = profile.session_failover is not None or profile.failure_handling is not None
    if profile.send_cost_information or profile.send_remaining_balance or profile.final_with_denial:
        heads = {}
    elif opening:
        heads = {number: head for number, head in heads.items() if number != RequestKind.INITIAL}
    order = profile.identity_order
    places = {kind: order.index(kind) for kind in order}
    tgpp = None if profile.form == "auto" else profile.form == "3gpp"
    failures_decide = profile.cmd_code_when_all_mscc_fail != "2001"
    return Speaker(profile.quota_key == "rg", profile.reduce_uris, tgpp, failures_decide, places, heads)


def _head(kind: RequestKind, local: Local) -> bytes:
    avps = base_avps(ResultCode.SUCCESS, local)
    avps += ((dictionary.AUTH_APPLICATION_ID, APPLICATION_CREDIT_CONTROL), (dictionary.CC_REQUEST_TYPE, int(kind)))
    return b"".join([encode_avp(*avp) for avp in avps])
