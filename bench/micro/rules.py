"""The rules of money: a report is debited and the next quota reserved, in an account with one bucket and with eight."""

from __future__ import annotations

from collections.abc import Iterator

from balance import rules
from balance.account import Account, Bucket, BucketKind, new_account
from balance.posting import Posting
from balance.reservation import Reservation
from bench.gy.plan import PRICES, catalogue_text
from bench.micro.case import Case
from ocs.charging.pricing import TariffPricing
from tariffs.loader import load

NOW_S = 1_772_450_000
SCOPE = rules.Scope("32251@3gpp.org", PRICES[0].rating_group)
QUOTA = PRICES[0].quota
FUNDS_MICROS = 10**17


def measured() -> Iterator[Case]:
    """One update of one quota key."""
    for extra, case in ((0, "debit and reserve, one bucket"), (7, "debit and reserve, eight buckets")):
        yield Case("rules", case, "", Update(account_with(extra)).step)


def account_with(extra: int) -> Account:
    """A rich account with so many buckets of money that end, beside the main one."""
    account = new_account("bench", 978, 2, 0, NOW_S)
    account.buckets[0].credited = account.buckets[0].posted = FUNDS_MICROS
    for number in range(extra):
        bucket = Bucket(id=10 + number, kind=BucketKind.MONEY, priority=1, valid_until_s=NOW_S + 3600 + number)
        bucket.service_context = "32260@3gpp.org"
        account.buckets.append(bucket)
    return account


class Update:
    """A session that uses all that it is granted, again and again."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._reservation = Reservation()
        catalogue = load(catalogue_text(PRICES[:1], "bench"), "bench.toml", 1)
        self._pricing = TariffPricing(1, catalogue.tariffs[0])
        self.step()

    def step(self) -> None:
        """Settle what was used and reserve anew."""
        posting = Posting(self.account, NOW_S)
        if self._reservation.holds:
            rules.settle(posting, self._reservation, self._pricing, QUOTA, SCOPE)
        if rules.reserve(posting, self._reservation, self._pricing, QUOTA, QUOTA, SCOPE) is None:
            raise RuntimeError("the account of the benchmark is empty")
        self.account = posting.account
