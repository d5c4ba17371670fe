"""What a catalogue says, as frozen values: tariffs, final-unit policies, plans and their rules.

Everything is `int`: prices are micro-units (10^-6 of the currency's major unit, so one cent is 10,000), amounts are
octets, seconds or events.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

import msgspec

from tariffs.problems import Problem

MAX_UNITS = 2**63 - 1
"""Widest amount of units: what a document stores as a signed integer."""

MAX_COST_MICROS = 2**63 - 1
"""Widest cost, for the same reason."""

MAX_UNSIGNED32 = 2**32 - 1
"""Widest identifier, validity, threshold and quota of seconds: they travel as Unsigned32."""


RuleKey = tuple[str, int | None, int | None]
"""(Service context, rating group, service identifier) of a rule, `None` standing for any."""


class Unit(enum.IntEnum):
    """What a tariff counts; the numbers equal those of `ocs.charging.requests.UnitKind`."""

    OCTETS = 1
    SECONDS = 2
    EVENTS = 3


REQUIRED_UNITS: Mapping[Unit, int] = {Unit.OCTETS: 2**44, Unit.SECONDS: 2**32, Unit.EVENTS: 2**20}
"""Cumulative units (16 TiB, 136 years, a million events) whose cost must fit `MAX_COST_MICROS` in every tariff."""


class Rounding(enum.StrEnum):
    """How the money of a cumulative total becomes whole micro-units."""

    UP = "up"


class FinalUnitAction(enum.IntEnum):
    """What the client does when the final units are used (RFC 8506 §8.35)."""

    TERMINATE = 0
    REDIRECT = 1
    RESTRICT = 2


class RedirectType(enum.IntEnum):
    """Kind of a redirect address (RFC 8506 §8.38)."""

    IPV4 = 0
    IPV6 = 1
    URL = 2
    SIP = 3


class Action(enum.StrEnum):
    """What a rule does with the usage that it matches."""

    CHARGE = "charge"
    FREE = "free"
    """No quota control (CC-079)."""
    BAR = "bar"
    """Refused for now, may be asked for again (CC-076)."""
    DENY = "deny"
    """Refused, must not be asked for again (CC-077)."""


class FinalUnitPolicy(msgspec.Struct, frozen=True):
    """What happens when the money ends (CC-105…CC-113)."""

    name: str
    action: FinalUnitAction
    redirect_type: RedirectType | None = None
    """Only with REDIRECT, as is the address."""
    redirect_address: str | None = None
    filter_rules: tuple[str, ...] = ()
    """IPFilterRules that stay allowed; only with REDIRECT and RESTRICT, as are the ids."""
    filter_ids: tuple[str, ...] = ()
    validity_s: int = 300
    """How long the restricted state lasts before the client asks again (CC-110, CC-111)."""
    repeat: bool = False
    """Setting `repeat_final_action`: a later try without money gets the action again instead of a denial (CC-113)."""


TERMINATE = FinalUnitPolicy("terminate", FinalUnitAction.TERMINATE)
"""The policy that every catalogue has and every tariff uses unless it names another."""


class Tariff(msgspec.Struct, frozen=True):
    """One price row: how usage is priced and how large its grants are.

    Documents name it by (catalogue version, `index`), so sums of one row never mix with those of another (LEDGER §7.1).
    """

    index: int
    """Its place in the catalogue, from 0; never changes within a version."""
    name: str
    unit: Unit
    price_micros: int
    """Price of `per` units."""
    per: int
    step: int
    """Units are billed in started steps of this size."""
    default_quota: int
    """Units granted when the client leaves the choice to us."""
    min_grant: int
    """Smallest useful grant; less affordable than this counts as no money (CC-085)."""
    max_grant: int = 0
    """Largest grant, 0: no limit."""
    threshold: int = 0
    """Remaining units at which the client reports early (CC-091, CC-092), 0: none."""
    validity_s: int = 3600
    """Validity-Time of a grant (CC-090)."""
    final_unit: str = TERMINATE.name
    """Name of the final-unit policy."""
    rounding: Rounding = Rounding.UP
    currency: str = ""
    """ISO 4217 code of the price; equals that of every plan that uses it."""
    line: int = 0
    """Line of the catalogue's text where it begins."""


class Currency(msgspec.Struct, frozen=True):
    """A currency of ISO 4217; `exponent` is the number of decimals of its minor unit."""

    code: str
    numeric: int
    exponent: int


class Rule(msgspec.Struct, frozen=True):
    """One line of a plan: which usage it matches and what happens to it."""

    service_context: str
    """Tail of the Service-Context-Id, e.g. `32251@3gpp.org` (CC-008)."""
    action: Action
    tariff: Tariff | None = None
    """With CHARGE, and only then."""
    rating_groups: frozenset[int] | None = None
    """`None`: any rating group, and none."""
    service_identifiers: frozenset[int] | None = None
    """`None`: any service identifiers, and none."""
    line: int = 0
    """Line of the catalogue's text where it begins."""

    def matches(self, service_context: str, rating_group: int | None, service_identifiers: tuple[int, ...]) -> bool:
        """Whether it applies. A rule that names service identifiers must hold every one of the usage's, at least one.

        Matching any of them instead would let one free identifier make the others of the same quota free too.
        """
        if service_context != self.service_context:
            return False
        if self.rating_groups is not None and rating_group not in self.rating_groups:
            return False
        if self.service_identifiers is None:
            return True
        return bool(service_identifiers) and self.service_identifiers.issuperset(service_identifiers)

    @property
    def combinations(self) -> int:
        """Number of its `named_keys`, without making them."""
        groups = 1 if self.rating_groups is None else len(self.rating_groups)
        return groups if self.service_identifiers is None else groups * len(self.service_identifiers)

    def named_keys(self) -> list[RuleKey]:
        """All (context, rating group, service identifier) that it names, `None` standing for any."""
        groups = [None] if self.rating_groups is None else sorted(self.rating_groups)
        identifiers = [None] if self.service_identifiers is None else sorted(self.service_identifiers)
        return [(self.service_context, group, identifier) for group in groups for identifier in identifiers]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """An ordered list of rules in one currency: what a subscriber's usage is charged by. The first match wins."""

    name: str
    currency: Currency
    rules: tuple[Rule, ...]
    line: int = 0
    has_priced_rule: bool = dataclasses.field(init=False)
    """Whether any rule charges (command-level 4011 is for plans without one, CC-081)."""
    _contexts: frozenset[str] = dataclasses.field(init=False, repr=False, compare=False)
    _places: dict[RuleKey, int] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the rules: each key that a rule names leads to the first rule that names it."""
        places: dict[RuleKey, int] = {}
        for place, rule in enumerate(self.rules):
            for key in rule.named_keys():
                places.setdefault(key, place)
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_contexts", frozenset(rule.service_context for rule in self.rules))
        object.__setattr__(self, "has_priced_rule", any(rule.action is Action.CHARGE for rule in self.rules))

    def supports(self, service_context: str) -> bool:
        """Whether any rule is for this service context."""
        return service_context in self._contexts

    def match(
        self, service_context: str, rating_group: int | None, service_identifiers: tuple[int, ...] = ()
    ) -> Rule | None:
        """Return the first rule that matches, `None` if none; constant time with at most one service identifier."""
        if len(service_identifiers) > 1:
            return self._scan(service_context, rating_group, service_identifiers)
        places = self._places
        none = len(self.rules)
        best = places.get((service_context, None, None), none)
        if rating_group is not None:
            best = min(best, places.get((service_context, rating_group, None), none))
        if service_identifiers:
            identifier = service_identifiers[0]
            best = min(best, places.get((service_context, None, identifier), none))
            if rating_group is not None:
                best = min(best, places.get((service_context, rating_group, identifier), none))
        return self.rules[best] if best < none else None

    def _scan(self, service_context: str, rating_group: int | None, identifiers: tuple[int, ...]) -> Rule | None:
        for rule in self.rules:
            if rule.matches(service_context, rating_group, identifiers):
                return rule
        return None


@dataclasses.dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that is sold, in one version."""

    version: int
    name: str
    tariffs: tuple[Tariff, ...]
    """By index."""
    plans: Mapping[str, Plan]
    final_units: Mapping[str, FinalUnitPolicy]
    """By name; always has `terminate`."""
    filename: str = ""
    warnings: tuple[Problem, ...] = ()
    """What looks wrong and yet does not forbid the catalogue's use."""

    def tariff(self, index: int) -> Tariff:
        """Return the tariff that a document names; `LookupError` if this version has none of that index."""
        if not 0 <= index < len(self.tariffs):
            raise LookupError(f"catalogue version {self.version} has no tariff of index {index}")
        return self.tariffs[index]

    def plan(self, name: str) -> Plan | None:
        """Return the plan of that name, `None` if there is none."""
        return self.plans.get(name)

    def final_unit_policy(self, tariff: Tariff) -> FinalUnitPolicy:
        """Return what happens when the money for this tariff ends."""
        return self.final_units[tariff.final_unit]
