"""Outcomes in their compact form: what a session keeps of its last answers, so that a repeat is told the same.

Every octet here is written with every update, four times over and more. So a kept outcome is a plain array: results by
number, currency left out (the session has it), and whatever stands at its default at the end cut off. All but the newest
stand in one string of octets, which nobody takes apart before a repeat comes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from ocs.charging.requests import FinalAction, FinalUnit, Outcome, QuotaKey, Result, ServiceOutcome, UnitKind

RESULTS: tuple[Result, ...] = (
    Result.SUCCESS,
    Result.USER_UNKNOWN,
    Result.CONTRADICTING_IDENTITIES,
    Result.IDENTITY_MISSING,
    Result.SERVICE_DENIED,
    Result.NOT_APPLICABLE,
    Result.CREDIT_LIMIT_REACHED,
    Result.UNKNOWN_SESSION,
    Result.AUTHORIZATION_REJECTED,
    Result.INVALID_VALUE,
    Result.RATING_FAILED,
    Result.CONTEXT_UNSUPPORTED,
    Result.UNABLE_TO_COMPLY,
    Result.TOO_BUSY,
)
"""Numbers of results in documents: a place never changes its meaning; new ones are added at the end."""

_NUMBERS = {result: number for number, result in enumerate(RESULTS)}


_SERVICES, _COST, _BALANCE = 1, 2, 3
"""Places in a packed outcome."""

AS_NEXT = True
"""Stands in an older outcome for services that equal the next one's, and for a balance whose sum with the cost does."""


def pack(outcome: Outcome) -> list[Any]:
    """The compact form of an outcome."""
    return _trimmed(
        [
            _NUMBERS[outcome.result],
            [_pack_service(one) for one in outcome.services],
            outcome.cost_micros,
            outcome.balance_micros,
            outcome.enough_credit,
            outcome.detail,
        ],
        _DEFAULTS,
    )


_DEFAULTS: list[Any] = [None, [], None, None, None, None]


def shorten(older: list[Any], newer: list[Any]) -> None:
    """Leave out of an outcome what the next one says as well; both in compact form, the next one complete.

    Updates of a session mostly get the same grant, and what they cost is what the balance lost.
    """
    if len(older) <= _SERVICES or len(newer) <= _SERVICES:
        return
    if older[_SERVICES] and older[_SERVICES] == newer[_SERVICES]:
        older[_SERVICES] = AS_NEXT
    if len(older) > _BALANCE and len(newer) > _BALANCE and _total(older) is not None and _total(older) == _total(newer):
        older[_BALANCE] = AS_NEXT


def completed(packed: list[Any], newer: list[Any]) -> list[Any]:
    """An outcome with what `shorten` left out; `newer`: the next one, complete."""
    if len(packed) <= _SERVICES:
        return packed
    full = list(packed)
    if full[_SERVICES] is AS_NEXT:
        full[_SERVICES] = newer[_SERVICES]
    if len(full) > _BALANCE and full[_BALANCE] is AS_NEXT:
        full[_BALANCE] = newer[_COST] + newer[_BALANCE] - full[_COST]
    return full


def _total(packed: list[Any]) -> int | None:
    """What cost and balance add up to, which only top-ups and other sessions change."""
    cost, balance = packed[_COST], packed[_BALANCE]
    return None if cost is None or balance is None else cost + balance


def unpack(packed: Sequence[Any], currency: int, exponent: int) -> Outcome:
    """The outcome again; money is in the session's currency."""
    result, services, cost, balance, enough, detail = _filled(packed, _DEFAULTS)
    money = cost is not None or balance is not None
    return Outcome(
        RESULTS[result],
        tuple(_unpack_service(one) for one in services),
        cost_micros=cost,
        balance_micros=balance,
        currency=currency if money else None,
        exponent=exponent if money else 2,
        enough_credit=enough,
        detail=detail,
    )


_SERVICE_DEFAULTS: list[Any] = [None, [], 0, None, None, None, None, None, True, None, None]


def _pack_service(one: ServiceOutcome) -> list[Any]:
    return _trimmed(
        [
            one.key.rating_group,
            list(one.key.service_identifiers),
            _NUMBERS[one.result],
            None if one.unit is None else int(one.unit),
            one.granted,
            one.validity_s,
            one.threshold,
            None if one.final is None else list(msgspec.structs.astuple(one.final)),
            one.in_group,
            one.detail,
            one.refund_token,
        ],
        _SERVICE_DEFAULTS,
    )


def _unpack_service(packed: Sequence[Any]) -> ServiceOutcome:
    group, identifiers, result, unit, granted, validity, threshold, final, in_group, detail, token = _filled(
        packed, _SERVICE_DEFAULTS
    )
    return ServiceOutcome(
        QuotaKey(group, tuple(identifiers)),
        RESULTS[result],
        unit=None if unit is None else UnitKind(unit),
        granted=granted,
        validity_s=validity,
        threshold=threshold,
        final=None if final is None else _unpack_final(*final),
        in_group=in_group,
        detail=detail,
        refund_token=token,
    )


def _unpack_final(
    action: int, kind: int | None, address: str | None, rules: Sequence[str], ids: Sequence[str]
) -> FinalUnit:
    return FinalUnit(FinalAction(action), kind, address, tuple(rules), tuple(ids))


def _trimmed(values: list[Any], defaults: Sequence[Any]) -> list[Any]:
    end = len(values)
    while end and values[end - 1] == defaults[end - 1]:
        end -= 1
    return values[:end]


def _filled(packed: Sequence[Any], defaults: Sequence[Any]) -> list[Any]:
    return [*packed, *defaults[len(packed) :]]


OUTCOMES_LAST = 4
OUTCOMES_YOUNG_CS = 6_000
OUTCOMES_MOST = 32
"""Kept outcomes: the last 4 and all younger than 60 s, at most 32 (LEDGER §4)."""

_US_PER_CS = 10_000
_CS_PER_S = 100
_LONGEST_CS = 2**31 - 1
_ENTRY = struct.Struct(">Hi")
"""Before each older outcome: its octets, and its hundredths of a second."""

_encode = msgspec.msgpack.Encoder().encode


class KeptOutcome(msgspec.Struct, array_like=True):
    """The outcome of one request, from which a repeat is answered."""

    kind: int
    number: int
    digest: bytes
    at_cs: int
    """Hundredths of a second after the session was opened; negative: of a session of that name before it."""
    packed: list[Any]


_decode = msgspec.msgpack.Decoder(tuple[int, int, bytes, list[Any]]).decode


def _entry(kept: KeptOutcome) -> bytes:
    body = _encode((kept.kind, kept.number, kept.digest, kept.packed))
    return _ENTRY.pack(len(body), kept.at_cs) + body


class KeptOutcomes(msgspec.Struct, array_like=True):
    """The last outcomes of a session."""

    newest: KeptOutcome | None = None
    older: bytes = b""
    """Each as `_ENTRY` and MessagePack, oldest first, shortened by what the one after it says as well."""
    count: int = 0
    """Outcomes in `older`."""

    def add(self, kind: int, number: int, digest: bytes, age_us: int, outcome: Outcome) -> None:
        """Keep an outcome, `age_us` after the opening, and forget those that are neither among the last nor young."""
        packed = pack(outcome)
        at_cs = max(-_LONGEST_CS, min(age_us // _US_PER_CS, _LONGEST_CS))
        last = self.newest
        if last is not None:
            shorten(last.packed, packed)
            self.older += _entry(last)
            self.count += 1
            self._forget(at_cs)
        self.newest = KeptOutcome(kind, number, digest, at_cs, packed)

    def _forget(self, now_cs: int) -> None:
        # Only the oldest go, since each may be told by what it has in common with the next.
        while self.count >= OUTCOMES_LAST:
            octets, at_cs = _ENTRY.unpack_from(self.older)
            if self.count < OUTCOMES_MOST and now_cs - at_cs < OUTCOMES_YOUNG_CS:
                return
            self.older = self.older[_ENTRY.size + octets :]
            self.count -= 1

    def all(self) -> list[KeptOutcome]:
        """All that are kept, oldest first, each complete."""
        if self.newest is None:
            return []
        found = []
        place = 0
        while place < len(self.older):
            octets, at_cs = _ENTRY.unpack_from(self.older, place)
            place += _ENTRY.size + octets
            kind, number, digest, packed = _decode(self.older[place - octets : place])
            found.append(KeptOutcome(kind, number, digest, at_cs, packed))
        newer = self.newest
        for kept in reversed(found):
            kept.packed = completed(kept.packed, newer.packed)
            newer = kept
        return [*found, self.newest]

    def find(self, kind: int, number: int) -> KeptOutcome | None:
        """The newest outcome of a request, `None` when it is not kept (any more)."""
        for kept in reversed(self.all()):
            if kept.kind == kind and kept.number == number:
                return kept
        return None

    def later(self, seconds: int) -> KeptOutcomes:
        """The same for a session that is opened anew so many seconds later."""
        moved = KeptOutcomes()
        entries = self.all()
        for place, kept in enumerate(entries):
            kept.at_cs = max(-_LONGEST_CS, kept.at_cs - seconds * _CS_PER_S)
            if place < len(entries) - 1:
                moved.older += _entry(kept)
                moved.count += 1
            else:
                moved.newest = kept
        return moved
