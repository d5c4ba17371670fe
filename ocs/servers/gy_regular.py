"""The short way of a CCR through Gy: regular requests and answers without the steps that only unusual ones need.

`gy` is the truth: `RegularGy.read` gives what `to_charging` would, `RegularGy.answer` what `from_outcome` would, or
`None`, and then those are asked. Nothing is refused here.
"""

from __future__ import annotations

import msgspec

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
    UnitKind,
    Units,
)
from ocs.servers.gy import KIND_OF, GySettings, PeerProfile, reason_of
from protocols.diameter import credit_control_regular as regular
from protocols.diameter import dictionary
from protocols.diameter.answers import Local, base_avps
from protocols.diameter.avp import Message, encode_avp
from protocols.diameter.credit_control import digest_of, match_context
from protocols.diameter.errors import ResultCode
from protocols.diameter.header import APPLICATION_CREDIT_CONTROL
from protocols.diameter.service_information import RatingContext

MAX_REMEMBERED = 1024
"""Origin-Hosts and Service-Context-Ids whose settings are remembered; those of others are found for each request."""

_DIGITS_MAX = 20
_DIGIT_TYPES = 1
"""The types of Subscription-Id up to this one are digits: E.164 and IMSI."""

_KINDS = {int(kind): kind for kind in (RequestKind.INITIAL, RequestKind.UPDATE, RequestKind.TERMINATION)}
_IDENTITY_KINDS = {int(number): kind for number, kind in KIND_OF.items()}

_UNIT_CODE = {UnitKind.SECONDS: dictionary.CC_TIME, UnitKind.EVENTS: dictionary.CC_SERVICE_SPECIFIC_UNITS}
_THRESHOLD_CODE = {
    UnitKind.OCTETS: dictionary.VOLUME_QUOTA_THRESHOLD & 0xFFFFFFFF,
    UnitKind.SECONDS: dictionary.TIME_QUOTA_THRESHOLD & 0xFFFFFFFF,
    UnitKind.EVENTS: dictionary.UNIT_QUOTA_THRESHOLD & 0xFFFFFFFF,
}


class Asked(msgspec.Struct):
    """What the answer to a regular request repeats."""

    session_id: str
    number: int
    head: bytes | None
    """Ready AVPs from Result-Code to CC-Request-Type; `None`: the peer's profile wants more in such an answer."""
    tgpp: bool
    """The client speaks the dialect of 3GPP."""
    keys: list[QuotaKey]
    services: list[regular.Service]
    """As many as `keys`."""


class _Speaker:
    """What is worked out from the profile of one gateway."""

    __slots__ = ("by_group", "heads", "places", "reduce_uris", "tgpp")

    def __init__(self, profile: PeerProfile, heads: dict[int, bytes]) -> None:
        self.by_group = profile.quota_key == "rg"
        self.reduce_uris = profile.reduce_uris
        self.places = {kind: place for place, kind in reversed(list(enumerate(profile.identity_order)))}
        self.tgpp = None if profile.form == "auto" else profile.form == "3gpp"
        opening = profile.session_failover is not None or profile.failure_handling is not None
        always = profile.send_cost_information or profile.send_remaining_balance or profile.final_with_denial
        self.heads = (
            {} if always else {kind: heads[kind] for kind in heads if kind != RequestKind.INITIAL or not opening}
        )


class RegularGy:
    """Translates the regular messages for one `GySettings`; made anew when the settings change."""

    def __init__(self, settings: GySettings, local: Local) -> None:
        self.settings = settings
        self._heads = {number: _head(kind, local) for number, kind in _KINDS.items()}
        self._speakers: dict[str, _Speaker] = {}
        self._contexts: dict[str, str] = {}

    def read(self, message: Message) -> tuple[ChargingRequest, Asked] | None:
        """The engine's request for a regular CCR (CC-014, CC-061), and what its answer needs."""
        facts = regular.read_ccr(message)
        if facts is None:
            return None
        (
            session_id, origin_host, origin_realm, context_id, request_type, number, event_timestamp_s, origin_state_id,
            subscriptions, user_name, services, charged, vendor_members,
        ) = facts  # fmt: skip
        kind = _KINDS.get(request_type)
        context = self._contexts.get(context_id) or self._context(context_id)
        speaker = self._speakers.get(origin_host) or self._speaker(origin_host)
        if kind is None or not context:
            return None
        if kind is RequestKind.INITIAL and not subscriptions and not user_name:
            return None
        keys = []
        asked = []
        for rating_group, identifiers, requested, used, reasons in services:
            if speaker.by_group and rating_group is not None:
                key = QuotaKey(rating_group)
            else:
                key = QuotaKey(rating_group, tuple(sorted(set(identifiers))))
            keys.append(key)
            asked.append(
                ServiceRequest(
                    key,
                    None if requested is None else Units(*requested),
                    tuple([Units(*one) for one in used]),
                    reason_of(reasons) if reasons else Reason.NONE,
                )
            )
        if len(keys) > 1 and len(set(keys)) != len(keys):
            return None
        request = ChargingRequest(
            session_id,
            kind,
            number,
            origin_host,
            origin_realm,
            context,
            tuple(asked),
            _identities(subscriptions, user_name, speaker),
            None,
            None if event_timestamp_s is None else event_timestamp_s * 1_000_000,
            origin_state_id,
            RatingContext(message.avps),
            None,
            None,
            digest_of(charged),
        )
        tgpp = speaker.tgpp
        if tgpp is None:
            tgpp = vendor_members or context_id.lower().endswith("@3gpp.org")
        return request, Asked(session_id, number, speaker.heads.get(kind), tgpp, keys, services)

    def answer(self, message: Message, asked: Asked, outcome: Outcome) -> bytes | None:
        """The CCA for a regular outcome: quota for keys that the request named (CC-062, CC-068, CC-091)."""
        if asked.head is None or outcome.result is not Result.SUCCESS or outcome.enough_credit is not None:
            return None
        services: list[regular.ServiceFacts] = []
        for one in outcome.services:
            if one.result is not Result.SUCCESS or not one.in_group or one.refund_token is not None:
                return None
            final = one.final
            if final is not None and final.action is not FinalAction.TERMINATE:
                return None
            if one.key not in asked.keys:
                return None
            rating_group, identifiers, requested, _used, _reasons = asked.services[asked.keys.index(one.key)]
            if len(identifiers) > 1:
                identifiers = tuple(dict.fromkeys(identifiers))
            granted, unit = one.granted, one.unit
            code = threshold_code = 0
            if granted is not None and unit is not None:
                if unit is UnitKind.MONEY:
                    return None
                code = _octets_code(requested) if unit is UnitKind.OCTETS else _UNIT_CODE[unit]
                if asked.tgpp and one.threshold is not None and one.threshold < granted:
                    threshold_code = _THRESHOLD_CODE[unit]
            final_action = None if final is None else 0
            services.append(
                (rating_group, identifiers, code, granted, one.validity_s, final_action, threshold_code, one.threshold)
            )
        return regular.write_cca(message, asked.session_id, asked.head, asked.number, services)

    def _context(self, context_id: str) -> str:
        """Remember which context a Service-Context-Id names; empty: none of ours."""
        found = match_context(context_id, self.settings.service_contexts) or ""
        if found and len(self._contexts) < MAX_REMEMBERED:
            self._contexts[context_id] = found
        return found

    def _speaker(self, origin_host: str) -> _Speaker:
        speaker = _Speaker(self.settings.profile(origin_host), self._heads)
        if len(self._speakers) < MAX_REMEMBERED:
            self._speakers[origin_host] = speaker
        return speaker


def _head(kind: RequestKind, local: Local) -> bytes:
    avps = base_avps(ResultCode.SUCCESS, local)
    avps += ((dictionary.AUTH_APPLICATION_ID, APPLICATION_CREDIT_CONTROL), (dictionary.CC_REQUEST_TYPE, int(kind)))
    return b"".join([encode_avp(*avp) for avp in avps])


def _octets_code(requested: regular.Units | None) -> int:
    """CC-Total-Octets, unless the client asked for exactly one direction (CC-068)."""
    if requested is None:
        return dictionary.CC_TOTAL_OCTETS
    total, uplink, downlink, _time_s, _specific = requested
    if total is not None or (uplink is None) == (downlink is None):
        return dictionary.CC_TOTAL_OCTETS
    return dictionary.CC_OUTPUT_OCTETS if uplink is None else dictionary.CC_INPUT_OCTETS


def _identities(subscriptions: list[tuple[int, str]], user_name: str | None, speaker: _Speaker) -> tuple[Identity, ...]:
    """As `gy.to_charging` has them: usable ones, each once, in the profile's order (CC-014, CC-016)."""
    found: list[Identity] = []
    places = speaker.places
    last = -1
    sorted_already = True
    for number, data in subscriptions:
        kind = _IDENTITY_KINDS[number]
        identity: Identity | None
        if number <= _DIGIT_TYPES and data.isdigit() and data.isascii() and len(data) <= _DIGITS_MAX:
            identity = Identity(kind, data)  # nothing to normalise
        else:
            identity = normalise(kind, data, speaker.reduce_uris)
            if identity is None:
                continue
            kind = identity.kind
        place = places.get(kind)
        if place is not None:
            sorted_already = sorted_already and place > last
            last = place
            found.append(identity)
    if user_name:
        identity = normalise("username", user_name)
        place = places.get("username")
        if identity is not None and place is not None:
            sorted_already = sorted_already and place > last
            found.append(identity)
    if sorted_already:
        return tuple(found)
    return tuple(sorted(dict.fromkeys(found), key=lambda one: places[one.kind]))
