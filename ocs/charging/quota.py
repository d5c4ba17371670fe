"""How much to grant, until when, and whether these are the final units (credit-control.md §3 to §5)."""

from __future__ import annotations

from typing import NamedTuple

from balance import rules
from balance.account import BucketKind
from balance.posting import Posting
from ocs.charging.pricing import TariffPricing
from ocs.charging.requests import FinalAction, FinalUnit, Result, ServiceRequest, UnitKind
from ocs.charging.session import KeyState, Session
from ocs.charging.settings import ChargingSettings
from tariffs.model import FinalUnitAction, FinalUnitPolicy, Tariff

MAX_UNSIGNED32 = 2**32 - 1

NO_KINDS: frozenset[UnitKind] = frozenset()


class Refusal(NamedTuple):
    """Why no quota can be computed for a request."""

    result: Result
    detail: str
    why: str


class GrantDecision(NamedTuple):
    """What one key gets."""

    result: Result
    why: str = ""
    granted: int | None = None
    reserved_micros: int = 0
    validity_s: int | None = None
    threshold: int | None = None
    final: FinalUnit | None = None


def wanted_units(service: ServiceRequest, pricing: TariffPricing, messages: int | None) -> int | Refusal:
    """Units to try for: the server's size capped by what was asked and by the tariff's maximum (CC-064…CC-066, CC-010).

    Events are asked for by number and are not cut: n messages are granted whole or not at all.
    """
    unit, tariff = pricing.kind, pricing.tariff
    asked_for = service.requested
    kinds = asked_for.kinds() if asked_for is not None else NO_KINDS
    if UnitKind.MONEY in kinds:
        return Refusal(Result.INVALID_VALUE, "requested_money", "money was requested, the tariff grants units")
    if len(kinds) == 1 and unit not in kinds:
        (kind,) = kinds
        why = f"{kind.name.lower()} were requested, tariff {tariff.name} counts {unit.name.lower()}"
        return Refusal(Result.RATING_FAILED, "requested_unit", why)
    asked = (asked_for.of(unit) if asked_for is not None and kinds else None) or 0
    if unit is UnitKind.EVENTS:
        want = asked or messages or tariff.default_quota
    else:
        want = min(asked, tariff.default_quota) if asked else tariff.default_quota
    return min(want, tariff.max_grant) if tariff.max_grant else want


def decide(
    posting: Posting,
    session: Session,
    state: KeyState,
    pricing: TariffPricing,
    policy: FinalUnitPolicy,
    want: int,
    settings: ChargingSettings,
) -> GrantDecision:
    """Reserve for one key and say what to answer; the key's own reservation was settled or released before."""
    tariff = pricing.tariff
    scope = rules.Scope(session.service_context, state.key.rating_group)
    least = want if pricing.unit == BucketKind.EVENTS else min(tariff.min_grant, want)
    grant = rules.reserve(posting, state.reservation, pricing, want, least, scope)
    if grant is None:
        return _no_money(posting, state, pricing, policy, least, scope)
    validity_s = _validity_s(posting, tariff, grant)
    final: FinalUnit | None = None
    if _is_last(posting, state, pricing, scope):
        if settings.fui_only_if_no_other_reservations and rules.others_hold(
            posting.account, session.held(), pricing.unit, scope, posting.now_s
        ):
            validity_s = min(validity_s, settings.shared_validity_s)
        else:
            final = final_unit(policy)
    threshold = tariff.threshold if final is None and 0 < tariff.threshold < grant.units else None
    return GrantDecision(
        Result.SUCCESS,
        granted=grant.units,
        reserved_micros=grant.reserved_micros,
        validity_s=validity_s,
        threshold=None if threshold is None else min(threshold, MAX_UNSIGNED32),
        final=final,
    )


def final_unit(policy: FinalUnitPolicy) -> FinalUnit:
    """The indication that a policy asks for (CC-106…CC-108)."""
    return FinalUnit(
        FinalAction(int(policy.action)),
        None if policy.redirect_type is None else int(policy.redirect_type),
        policy.redirect_address,
        policy.filter_rules,
        policy.filter_ids,
    )


def _is_last(posting: Posting, state: KeyState, pricing: TariffPricing, scope: rules.Scope) -> bool:
    """First half of the final-unit rule; grants of events are never final (CC-086)."""
    if pricing.unit == BucketKind.EVENTS:
        return False
    least = pricing.tariff.min_grant
    return not rules.can_buy(posting.account, state.reservation, pricing, least, scope, posting.now_s)


def _validity_s(posting: Posting, tariff: Tariff, grant: rules.Grant) -> int:
    """Validity-Time, cut where a held bucket or the account ends (CC-090); at least one second."""
    validity_s = tariff.validity_s
    if grant.valid_until_s:
        validity_s = min(validity_s, grant.valid_until_s - posting.now_s)
    if posting.account.expires_s:
        validity_s = min(validity_s, posting.account.expires_s - posting.now_s)
    return max(1, validity_s)


def _no_money(
    posting: Posting,
    state: KeyState,
    pricing: TariffPricing,
    policy: FinalUnitPolicy,
    least: int,
    scope: rules.Scope,
) -> GrantDecision:
    """No money: the final action at once for the first try of a key, else a denial (CC-078, CC-113)."""
    why = _shortage(posting, state, pricing, least, scope)
    first = not state.was_granted or policy.repeat
    if first and policy.action is not FinalUnitAction.TERMINATE and pricing.unit != BucketKind.EVENTS:
        return GrantDecision(Result.SUCCESS, why, validity_s=policy.validity_s, final=final_unit(policy))
    return GrantDecision(Result.CREDIT_LIMIT_REACHED, why)


def _shortage(posting: Posting, state: KeyState, pricing: TariffPricing, least: int, scope: rules.Scope) -> str:
    accumulator = state.reservation.accumulator(pricing.version, pricing.row)
    stock = rules.free_units(posting.account, pricing.unit, scope, posting.now_s)
    need = max(0, least - stock)
    price = pricing.cost_micros(accumulator.paid + need) - pricing.cost_micros(accumulator.paid)
    money = rules.free_money(posting.account, scope, posting.now_s)
    return f"the smallest grant of {least} costs {price} micro-units, {money} are free (limit included)"
