"""Where tariffs and balances meet: a tariff, seen by the rules of money as a `balance.rules.Pricing`."""

from __future__ import annotations

from collections.abc import Mapping

from balance.account import Account, BucketKind
from balance.money import MAX_MICROS
from tariffs.model import Catalogue, Tariff
from tariffs.rating import affordable_units, billed_units, cost_micros, max_units


class TariffPricing:
    """One tariff of one catalogue version."""

    __slots__ = ("_exact", "row", "step", "tariff", "unit", "version")

    def __init__(self, version: int, tariff: Tariff) -> None:
        self.version = version
        self.row = tariff.index
        self.unit = int(tariff.unit)
        self.step = tariff.step
        self.tariff = tariff
        self._exact = self.unit == BucketKind.OCTETS

    def billed(self, total: int) -> int:
        """Octets are taken exactly from unit buckets; seconds and events in billed steps (LEDGER §7.1)."""
        return total if self._exact else billed_units(self.tariff, total)

    def cost_micros(self, units: int) -> int:
        """Cumulative cost of units that money pays for."""
        return cost_micros(self.tariff, units)

    def affordable(self, before: int, money_micros: int, most: int) -> int:
        """What the money buys on top of `before`."""
        return affordable_units(self.tariff, before, money_micros, most)

    def accepts(self, total: int) -> bool:
        """Whether a cumulative total of units can be priced and stored."""
        return total <= max_units(self.tariff)


def can_debit(account: Account, pricing: TariffPricing, total: int) -> bool:
    """Whether a cumulative total of units can be priced, and its cost debited, within the integers of documents.

    Many such reports, each of which could be priced, must not add up to an account that cannot be stored any more.
    """
    if not pricing.accepts(total):
        return False
    spent = sum(bucket.debited for bucket in account.money())
    return spent + pricing.cost_micros(total) <= MAX_MICROS


class CatalogueNotLoaded(LookupError):
    """A document names a catalogue version that this process has not loaded (LEDGER §11)."""


class Catalogues:
    """The versions a process has loaded; the newest is current."""

    def __init__(self, versions: Mapping[int, Catalogue], current: int) -> None:
        self._versions = dict(versions)
        self.current = self.version(current)

    def version(self, number: int) -> Catalogue:
        """One version; `CatalogueNotLoaded` if it is not here."""
        catalogue = self._versions.get(number)
        if catalogue is None:
            raise CatalogueNotLoaded(f"catalogue version {number} is not loaded")
        return catalogue

    def pricing(self, version: int, row: int) -> TariffPricing:
        """The price that a document pinned."""
        return TariffPricing(version, self.version(version).tariff(row))
