"""Where tariffs and balances meet: a tariff, seen by the rules of money as a `balance.rules.Pricing`."""

from __future__ import annotations

from collections.abc import Mapping

from balance.account import Account, BucketKind
from balance.money import MAX_MICROS
from ocs.charging.conductor import ChargingError
from ocs.charging.requests import UnitKind
from tariffs.model import Catalogue, Tariff
from tariffs.rating import Price, max_units


class TariffPricing(Price):
    """One tariff of one catalogue version."""

    def __init__(self, version: int, tariff: Tariff) -> None:
        super().__init__(tariff.price_micros, tariff.per, tariff.step)
        self.version = version
        self.row = tariff.index
        self.unit = int(tariff.unit)
        self.kind = UnitKind(self.unit)
        self.tariff = tariff
        self.most = max_units(tariff)
        """Largest cumulative total that can be priced and stored."""

    def billed(self, total: int) -> int:
        """Octets are taken exactly from unit buckets; seconds and events in billed steps (LEDGER §7.1)."""
        return total if self.unit == BucketKind.OCTETS else self.billed_units(total)

    def affordable(self, before: int, money_micros: int, most: int) -> int:
        """What the money buys on top of `before`."""
        return self.affordable_units(before, money_micros, most)

    def accepts(self, total: int) -> bool:
        """Whether a cumulative total of units can be priced and stored."""
        return total <= self.most


def can_debit(account: Account, pricing: TariffPricing, total: int) -> bool:
    """Whether a cumulative total of units can be priced, and its cost debited, within the integers of documents.

    Many such reports, each of which could be priced, must not add up to an account that cannot be stored any more.
    """
    if not pricing.accepts(total):
        return False
    spent = pricing.cost_micros(total)
    for bucket in account.buckets:
        if bucket.kind == BucketKind.MONEY:
            spent += bucket.debited
    return spent <= MAX_MICROS


class CatalogueNotLoaded(ChargingError, LookupError):
    """A document names a catalogue version that this process has not loaded (LEDGER §11). Nothing was changed."""


class Catalogues:
    """The versions a process has loaded; the newest is current."""

    def __init__(self, versions: Mapping[int, Catalogue], current: int) -> None:
        self._versions = dict(versions)
        self._pricings: dict[tuple[int, int], TariffPricing] = {}
        self.current = self.version(current)

    def version(self, number: int) -> Catalogue:
        """One version; `CatalogueNotLoaded` if it is not here."""
        catalogue = self._versions.get(number)
        if catalogue is None:
            raise CatalogueNotLoaded(f"catalogue version {number} is not loaded")
        return catalogue

    def pricing(self, version: int, row: int) -> TariffPricing:
        """The price row that a document pins."""
        found = self._pricings.get((version, row))
        if found is None:
            found = self._pricings[(version, row)] = TariffPricing(version, self.version(version).tariff(row))
        return found
